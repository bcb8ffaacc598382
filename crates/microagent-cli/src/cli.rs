//! The command line as a whole: global flags and the list of verbs.

use crate::context::Context;
use crate::error::Error;
use crate::output::Format;
use crate::refused::RefusedVerb;
use crate::settings::{Mode, OutputFormat, ProgressMode};
use crate::verbs::{self, Action};
use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;

const EXAMPLES: &str = "\
Examples:
  microagent doctor
  microagent run docker.io/library/ubuntu:24.04 uname -a
  microagent run --image docker.io/library/alpine:3.20 --exec 'echo hello from $(hostname)'
  microagent --json run docker.io/library/alpine:3.20 cat /etc/alpine-release

Exit status:
  0   done (`run`: the command ran to its end, whatever its own exit code)
  1   failed
  2   the command line or the configuration is wrong
  70  a bug in microagent
  75  failed, and trying again may help
  130 interrupted (128 plus the number of the signal)";

/// Run any OCI image in its own Linux microVM: no root, no daemon
#[derive(Debug, Parser)]
#[command(
    name = "microagent",
    bin_name = "microagent",
    version,
    after_help = EXAMPLES,
    max_term_width = 100,
    subcommand_value_name = "VERB",
    subcommand_help_heading = "Verbs",
    disable_help_subcommand = false
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: GlobalArgs,
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

/// Flags that stand before the verb.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Global options")]
pub(crate) struct GlobalArgs {
    /// Print the result as one JSON document
    #[arg(long, conflicts_with_all = ["text", "output"])]
    pub(crate) json: bool,
    /// Print the result as text (the default)
    #[arg(long, conflicts_with = "output")]
    pub(crate) text: bool,
    /// Print the result as `text` or `json` [env: MICROAGENT_OUTPUT]
    #[arg(long, value_name = "FORMAT", hide_possible_values = true)]
    pub(crate) output: Option<OutputFormat>,
    /// Who reads: `ux` is a person, `ax` a program that gets one JSON envelope on success and failure alike
    #[arg(long, value_name = "MODE", default_value = "ux", hide_possible_values = true)]
    pub(crate) mode: Mode,
    /// State directory [env: MICROAGENT_STATE_DIR] [default: ~/.microagent]
    #[arg(long, value_name = "DIR", global = true)]
    pub(crate) state_dir: Option<PathBuf>,
    /// Show what takes long: `auto` (on a terminal), `plain` (line by line) or `off` [env: MICROAGENT_PROGRESS]
    #[arg(long, value_name = "HOW", hide_possible_values = true)]
    pub(crate) progress: Option<ProgressMode>,
    /// Print without colours [env: NO_COLOR]
    #[arg(long)]
    pub(crate) no_color: bool,
    /// Program that runs workspaces, instead of this one [env: MICROAGENT_SUPERVISOR]; `run` does it itself
    #[arg(long, value_name = "PATH")]
    pub(crate) supervisor: Option<PathBuf>,
}

impl GlobalArgs {
    /// The format these flags ask for on their own, for failures on the way to the settings.
    pub(crate) fn format(&self) -> Format {
        match (self.mode, self.json || self.output == Some(OutputFormat::Json)) {
            (Mode::Ax, _) => Format::Envelope,
            (Mode::Ux, true) => Format::Json,
            (Mode::Ux, false) => Format::Text,
        }
    }
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    Run(Box<verbs::run::Args>),
    Create(Box<verbs::create::Args>),
    Start(verbs::start::Args),
    #[command(visible_alias = "stop")]
    Halt(verbs::halt::Args),
    Kill(verbs::kill::Args),
    Pause(verbs::pause::Args),
    Resume(verbs::resume::Args),
    Quarantine(verbs::quarantine::Args),
    Wait(verbs::wait::Args),
    Supervise(verbs::supervise::Args),
    Apply(verbs::apply::Args),
    Clone(verbs::clone::Args),
    #[command(visible_alias = "snapshots")]
    Snapshot(verbs::snapshot::Args),
    Exec(verbs::exec::Args),
    Connect(verbs::connect::Args),
    Cp(verbs::cp::Args),
    #[command(visible_alias = "artifacts")]
    Artifact(verbs::artifact::Args),
    Diff(verbs::diff::Args),
    Commit(verbs::commit::Args),
    Resize(verbs::resize::Args),
    Stats(verbs::stats::Args),
    Doctor(verbs::doctor::Args),
    Kernel(verbs::kernel::Args),
    #[command(visible_alias = "images")]
    Image(verbs::image::Args),
    Rootfs(verbs::rootfs::Args),
    Volume(verbs::volume::Args),
    #[command(visible_alias = "ls")]
    List(verbs::list::Args),
    Ps(verbs::ps::Args),
    #[command(visible_alias = "inspect")]
    Status(verbs::status::Args),
    Logs(verbs::logs::Args),
    Events(verbs::events::Args),
    Egress(verbs::egress::Args),
    Network(verbs::network::Args),
    Secret(verbs::secret::Args),
    Result(verbs::result::Args),
    #[command(visible_alias = "rm")]
    Delete(verbs::delete::Args),
    Template(verbs::template::Args),
    Df(verbs::df::Args),
    Gc(verbs::gc::Args),
    Perf(verbs::perf::Args),
    Profiles(verbs::profiles::Args),
    Schema(verbs::schema::Args),
    Version(verbs::version::Args),
    Completions(verbs::completions::Args),
    #[command(hide = true)]
    Man(verbs::man::Args),
    #[command(flatten)]
    Refused(RefusedVerb),
}

impl Verb {
    /// Runs the verb and returns the exit status.
    pub(crate) fn run(self, context: &Context) -> Result<u8, Error> {
        match self {
            Verb::Run(args) => args.run(context),
            Verb::Create(args) => args.run(context),
            Verb::Start(args) => args.run(context),
            Verb::Halt(args) => args.run(context),
            Verb::Kill(args) => args.run(context),
            Verb::Pause(args) => args.run(context),
            Verb::Resume(args) => args.run(context),
            Verb::Quarantine(args) => args.run(context),
            Verb::Wait(args) => args.run(context),
            Verb::Supervise(args) => args.run(context),
            Verb::Apply(args) => args.run(context),
            Verb::Clone(args) => args.run(context),
            Verb::Snapshot(args) => args.run(context),
            Verb::Exec(args) => args.run(context),
            Verb::Connect(args) => args.run(context),
            Verb::Cp(args) => args.run(context),
            Verb::Artifact(args) => args.run(context),
            Verb::Diff(args) => args.run(context),
            Verb::Commit(args) => args.run(context),
            Verb::Resize(args) => args.run(context),
            Verb::Stats(args) => args.run(context),
            Verb::Doctor(args) => args.run(context),
            Verb::Kernel(args) => args.run(context),
            Verb::Image(args) => args.run(context),
            Verb::Rootfs(args) => args.run(context),
            Verb::Volume(args) => args.run(context),
            Verb::List(args) => args.run(context),
            Verb::Ps(args) => args.run(context),
            Verb::Status(args) => args.run(context),
            Verb::Logs(args) => args.run(context),
            Verb::Events(args) => args.run(context),
            Verb::Egress(args) => args.run(context),
            Verb::Network(args) => args.run(context),
            Verb::Secret(args) => args.run(context),
            Verb::Result(args) => args.run(context),
            Verb::Delete(args) => args.run(context),
            Verb::Template(args) => args.run(context),
            Verb::Df(args) => args.run(context),
            Verb::Gc(args) => args.run(context),
            Verb::Perf(args) => args.run(context),
            Verb::Profiles(args) => args.run(context),
            Verb::Schema(args) => args.run(context),
            Verb::Version(args) => args.run(context),
            Verb::Completions(args) => args.run(context),
            Verb::Man(args) => args.run(context),
            Verb::Refused(verb) => Err(verb.explain()),
        }
    }

    /// Whether the exit status is the guest's, so that failures of our own must stay out of its way.
    pub(crate) fn propagates_exit_code(&self, context: &Context) -> bool {
        match self {
            Verb::Run(args) => args.propagates_exit_code(context),
            Verb::Exec(args) => args.propagates_exit_code(context),
            Verb::Connect(_) => verbs::connect::Args::propagates_exit_code(context),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    fn visit(command: &clap::Command, path: &str, visit_one: &mut dyn FnMut(&clap::Command, &str)) {
        for sub in command.get_subcommands().filter(|sub| !sub.is_hide_set()) {
            let path = format!("{path} {}", sub.get_name());
            visit_one(sub, &path);
            visit(sub, &path, visit_one);
        }
    }

    #[test]
    fn every_verb_shows_examples_that_parse() {
        visit(&Cli::command(), "microagent", &mut |verb, path| {
            let help = verb.get_after_help().unwrap_or_else(|| panic!("`{path}` has no examples")).to_string();
            let examples = help.lines().filter_map(|line| line.strip_prefix("  microagent"));
            for example in examples.map(|rest| rest.split_once(['>', '<', '|']).map_or(rest, |(command, _)| command)) {
                let words = shell_words::split(&format!("microagent{example}")).unwrap();
                Cli::try_parse_from(words).unwrap_or_else(|error| panic!("`{path}`: `{example}`: {error}"));
            }
            assert!(help.starts_with("Examples:\n  microagent "), "{path}: {help}");
        });
    }
}
