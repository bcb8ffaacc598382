//! The `microagent` command: a thin shell over the `microagent` library.
//!
//! Every invocation takes the same road. The arguments are parsed ([`cli`]); flags, environment and configuration file become
//! [`settings`]; the verb, one file under [`verbs`], makes one library call; and its typed result is shown as text or JSON
//! ([`output`]). A failure of any step is an [`Error`](error::Error) and ends in [`failure`], which decides how it looks and what the
//! exit status is. What takes long is told by [`progress`]; Ctrl-C arrives through [`signals`].
//!
//! Nothing is decided here that a program using the library would want to decide too.

#![allow(clippy::doc_markdown, reason = "doc comments of flags are help texts, shown as they are written")]

mod cli;
mod completion;
mod context;
mod environment;
mod error;
mod failure;
mod internal_error;
mod lines;
mod output;
mod progress;
mod quantity;
mod refused;
mod settings;
mod signals;
mod supervisor;
mod table;
mod terminal;
mod usage;
mod verbs;

use clap::Parser;
use cli::Cli;
use context::Context;
use settings::Settings;
use std::process::ExitCode;

fn main() -> ExitCode {
    internal_error::install_hook();
    completion::answer_shell();
    let arguments: Vec<_> = std::env::args_os().collect();
    if supervisor::is_called_for(&arguments) {
        return supervisor::main(&arguments);
    }
    let cli = match Cli::try_parse_from(&arguments) {
        Ok(cli) => cli,
        Err(error) => return usage::finish(&error, &arguments),
    };
    let settings = match Settings::resolve(&cli.global) {
        Ok(settings) => settings,
        Err(error) => return failure::finish(&error, cli.global.format(), false),
    };
    let context = Context::new(settings, cli.global.supervisor.clone());
    internal_error::remember(context.format());
    let propagate = cli.verb.propagates_exit_code(&context);
    match cli.verb.run(&context) {
        Ok(status) => ExitCode::from(status),
        Err(error) => failure::finish(&error, context.format(), propagate),
    }
}
