//! `microagent completions`

use super::{Action, DONE};
use crate::context::Context;
use crate::error::Error;
use clap::builder::PossibleValuesParser;
use clap_complete::env::Shells;
use std::io::Write;

const EXAMPLES: &str = "\
Examples:
  microagent completions bash >> ~/.bashrc
  microagent completions zsh >> ~/.zshrc
  microagent completions fish > ~/.config/fish/completions/microagent.fish";

/// Print what makes a shell complete this command's arguments
///
/// Verbs, flags, and the names of workspaces, images and kernels that exist at that moment.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The shell
    #[arg(value_name = "SHELL", value_parser = PossibleValuesParser::new(SHELLS))]
    shell: String,
}

const SHELLS: [&str; 5] = ["bash", "elvish", "fish", "powershell", "zsh"];

/// The variable by which the shell's script asks this program.
const VARIABLE: &str = "COMPLETE";

impl Action for Args {
    fn run(self, _context: &Context) -> Result<u8, Error> {
        let shells = Shells::builtins();
        let Some(shell) = shells.completer(&self.shell) else {
            return Err(Error::usage(format!("cannot write completions for `{}`", self.shell), "see `--help`"));
        };
        let mut out = std::io::stdout().lock();
        shell.write_registration(VARIABLE, "microagent", "microagent", "microagent", &mut out)?;
        out.flush()?;
        Ok(DONE)
    }
}
