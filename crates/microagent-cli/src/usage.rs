//! Command lines that cannot be understood, and requests for help.

use crate::cli::GlobalArgs;
use crate::error::Error;
use crate::failure;
use crate::output::Format;
use crate::settings::Settings;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Command, FromArgMatches};
use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;

/// Flags that are understood before the verb only.
const BEFORE_THE_VERB: [&str; 6] = ["--json", "--text", "--output", "--mode", "--progress", "--no-color"];

/// Ends an invocation that the parser did not let through.
pub(crate) fn finish(error: &clap::Error, arguments: &[OsString]) -> ExitCode {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            // A closed pipe is a reader who has seen enough.
            let _ = write!(anstream::stdout(), "{}", error.render().ansi());
            ExitCode::SUCCESS
        }
        _ => failure::finish(&explain(error), format_of(arguments), false),
    }
}

/// The parser's complaint in the shape of every other error.
fn explain(error: &clap::Error) -> Error {
    let text = error.render().to_string();
    let text = text.strip_prefix("error: ").unwrap_or(&text);
    let mut paragraphs = text.split("\n\n");
    let message = paragraphs.next().unwrap_or_default().lines().map(str::trim).collect::<Vec<_>>().join(" ");
    let mut hints = Vec::new();
    let mut verb = None;
    for line in paragraphs.flat_map(str::lines).map(str::trim) {
        match (line.strip_prefix("tip: "), line.strip_prefix("Usage: ")) {
            // Advice on passing it through as a value fits no verb here.
            (Some(tip), _) if !tip.starts_with("to pass ") => hints.push(tip.to_owned()),
            (_, Some(usage)) => verb = Some(verb_of(usage)),
            _ => {}
        }
    }
    if let Some(ContextValue::String(flag)) = error.get(ContextKind::InvalidArg)
        && BEFORE_THE_VERB.contains(&flag.as_str())
    {
        hints = vec![format!("global flags stand before the verb: `microagent {flag} VERB ...`")];
    }
    hints.extend(verb.map(|verb| format!("`{verb} --help` shows what it takes")));
    let hint = (!hints.is_empty()).then(|| quote(&hints.join("\n")));
    Error::Usage { message: quote(&message), hint }
}

/// The verb a usage line is about: its words up to the first placeholder.
fn verb_of(usage: &str) -> String {
    usage.split(' ').take_while(|word| !word.starts_with(['[', '<', '-'])).collect::<Vec<_>>().join(" ")
}

/// The parser writes 'x' where this project writes `x`.
fn quote(text: &str) -> String {
    text.replace('\'', "`")
}

/// How to write the failure of a command line that as a whole makes no sense: the global flags in it may still.
fn format_of(arguments: &[OsString]) -> Format {
    let flags = global_flags(arguments.to_vec());
    Settings::resolve(&flags).map_or_else(|_| flags.format(), |settings| settings.format)
}

/// The global flags, whatever else is wrong.
fn global_flags(mut arguments: Vec<OsString>) -> GlobalArgs {
    let globals = <GlobalArgs as clap::Args>::augment_args(Command::new("microagent"));
    let globals = globals.disable_help_flag(true).allow_external_subcommands(true);
    loop {
        let error = match globals.clone().try_get_matches_from(&arguments) {
            Ok(matches) => return GlobalArgs::from_arg_matches(&matches).unwrap_or_default(),
            Err(error) => error,
        };
        let Some(ContextValue::String(unknown)) = error.get(ContextKind::InvalidArg) else { break };
        let before = arguments.len();
        arguments.retain(|argument| argument != unknown.as_str());
        if arguments.len() == before {
            break;
        }
    }
    let matches = globals.ignore_errors(true).try_get_matches_from(arguments);
    matches.and_then(|matches| GlobalArgs::from_arg_matches(&matches)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Cli;
    use clap::Parser;

    fn explained(line: &str) -> (String, String) {
        let error = Cli::try_parse_from(line.split(' ')).expect_err(line);
        match explain(&error) {
            Error::Usage { message, hint } => (message, hint.unwrap_or_default()),
            other => panic!("{other}"),
        }
    }

    #[test]
    fn a_slip_of_the_keyboard_gets_a_suggestion() {
        let (message, hint) = explained("microagent runn alpine");
        assert!(message.contains("`runn`") && hint.contains("`run`"), "{message} {hint}");
        let (message, hint) = explained("microagent run --memroy 5 alpine");
        assert!(message.contains("`--memroy`") && hint.contains("`--memory`"), "{message} {hint}");
    }

    #[test]
    fn a_global_flag_after_the_verb_is_told_its_place() {
        let (_, hint) = explained("microagent list --json");
        assert!(hint.contains("before the verb: `microagent --json VERB"), "{hint}");
        assert!(hint.ends_with("`microagent list --help` shows what it takes"), "{hint}");
    }

    #[test]
    fn messages_are_one_line() {
        for line in ["microagent list extra", "microagent --output xml list", "microagent status"] {
            let (message, _) = explained(line);
            assert!(!message.contains('\n') && !message.is_empty(), "{message}");
        }
    }

    #[test]
    fn a_wrong_command_line_still_says_how_its_failure_is_read() {
        let format = |line: &str| format_of(&line.split(' ').map(OsString::from).collect::<Vec<_>>());
        assert_eq!(format("microagent --json run --wrong"), Format::Json);
        assert_eq!(format("microagent --wrong --mode ax run"), Format::Envelope);
        assert_eq!(format("microagent --output json --mode ux frob"), Format::Json);
        assert_eq!(format("microagent run --json"), Format::Text);
    }
}
