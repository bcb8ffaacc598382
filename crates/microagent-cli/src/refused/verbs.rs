//! Verbs that are refused.

use super::Refusal;
use crate::error::Error;
use clap::{Arg, ArgAction, ArgMatches, Command};

/// A verb the parser knows in order to refuse it.
#[derive(Debug)]
struct Entry {
    name: &'static str,
    refusal: Refusal,
}

const fn later(name: &'static str) -> Entry {
    Entry { name, refusal: Refusal::NotYet }
}

const fn container(name: &'static str, reason: &'static str, advice: &'static str) -> Entry {
    Entry { name, refusal: Refusal::Container { reason, advice } }
}

const ONE_MACHINE: &str = "every microVM is on its own, and nothing here groups them";

const VERBS: &[Entry] = &[
    later("serve"),
    container("compose", ONE_MACHINE, "start each service with `microagent run`"),
    container("pod", ONE_MACHINE, "start each machine with `microagent run`"),
    container(
        "build",
        "microagent runs images, and other tools make them",
        "build with `buildah build` or `docker build`, then `microagent image import` the archive",
    ),
    container(
        "attach",
        "a running command belongs to the `run` that started it",
        "use `microagent logs` for its output",
    ),
    container("pull", "images have verbs of their own", "use `microagent image pull`"),
    container("push", "images have verbs of their own", "use `microagent image push`"),
    container("rmi", "images have verbs of their own", "use `microagent image rm`"),
    container("load", "images have verbs of their own", "use `microagent image import`"),
    container(
        "login",
        "registry logins are shared with other tools",
        "log in with `docker login` or `skopeo login`; credentials are read from `$DOCKER_CONFIG/config.json` or `~/.docker/config.json`",
    ),
];

/// A verb of [`VERBS`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct RefusedVerb(&'static Entry);

impl RefusedVerb {
    /// Why it is refused.
    pub(crate) fn explain(self) -> Error {
        self.0.refusal.explain(format!("microagent {}", self.0.name))
    }
}

impl clap::FromArgMatches for RefusedVerb {
    fn from_arg_matches(matches: &ArgMatches) -> Result<RefusedVerb, clap::Error> {
        let entry = matches.subcommand_name().and_then(|given| VERBS.iter().find(|entry| entry.name == given));
        entry.map(RefusedVerb).ok_or_else(|| clap::Error::new(clap::error::ErrorKind::InvalidSubcommand))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = RefusedVerb::from_arg_matches(matches)?;
        Ok(())
    }
}

impl clap::Subcommand for RefusedVerb {
    fn augment_subcommands(command: Command) -> Command {
        // Whatever follows the verb, `--help` included, the answer is the same.
        let rest = || {
            Arg::new("rest").num_args(0..).action(ArgAction::Append).trailing_var_arg(true).allow_hyphen_values(true)
        };
        command.subcommands(VERBS.iter().map(|entry| {
            let about = match entry.refusal {
                Refusal::NotYet => "Not supported yet",
                Refusal::Container { reason, .. } => reason,
            };
            Command::new(entry.name).about(about).hide(true).disable_help_flag(true).arg(rest())
        }))
    }

    fn augment_subcommands_for_update(command: Command) -> Command {
        RefusedVerb::augment_subcommands(command)
    }

    fn has_subcommand(name: &str) -> bool {
        VERBS.iter().any(|entry| entry.name == name)
    }
}
