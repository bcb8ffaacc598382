//! `--setup` and `--setup-file`.

use crate::error::Error;
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use std::path::PathBuf;

const LINE: &str = "setup";
const FILE: &str = "setup_file";

/// Set-up steps in the order they were given, whichever of the two flags gave them.
#[derive(Clone, Debug, Default)]
pub(in crate::verbs) struct SetupSteps(Vec<SetupStep>);

#[derive(Clone, Debug)]
enum SetupStep {
    Line(String),
    File(PathBuf),
}

impl SetupSteps {
    /// The steps as lines for the guest's shell, files read.
    pub(in crate::verbs) fn lines(&self) -> Result<Vec<String>, Error> {
        let read = |step: &SetupStep| match step {
            SetupStep::Line(line) => Ok(line.clone()),
            SetupStep::File(path) => Ok(std::fs::read_to_string(path).map_err(|source| {
                microagent::Error::ReadFile { option: "--setup-file", path: path.clone(), source }
            })?),
        };
        self.0.iter().map(read).collect()
    }
}

/// The values of one flag with their places on the command line.
fn placed<T: Clone + Send + Sync + 'static>(
    matches: &ArgMatches,
    id: &'static str,
    step: fn(T) -> SetupStep,
) -> Vec<(usize, SetupStep)> {
    let places = matches.indices_of(id).into_iter().flatten();
    let values = matches.get_many::<T>(id).into_iter().flatten();
    places.zip(values.cloned().map(step)).collect()
}

impl clap::FromArgMatches for SetupSteps {
    fn from_arg_matches(matches: &ArgMatches) -> Result<SetupSteps, clap::Error> {
        let mut steps = placed(matches, LINE, SetupStep::Line);
        steps.extend(placed(matches, FILE, SetupStep::File));
        steps.sort_by_key(|(place, _)| *place);
        Ok(SetupSteps(steps.into_iter().map(|(_, step)| step).collect()))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = SetupSteps::from_arg_matches(matches)?;
        Ok(())
    }
}

impl clap::Args for SetupSteps {
    fn augment_args(command: Command) -> Command {
        command
            .arg(
                Arg::new(LINE)
                    .long("setup")
                    .value_name("COMMAND")
                    .action(ArgAction::Append)
                    .allow_hyphen_values(true)
                    .help("Shell command line to run as root before anything else, once; repeatable"),
            )
            .arg(
                Arg::new(FILE)
                    .long("setup-file")
                    .value_name("PATH")
                    .action(ArgAction::Append)
                    .value_parser(value_parser!(PathBuf))
                    .help("Shell script to run in the same way; repeatable, in order with `--setup`"),
            )
    }

    fn augment_args_for_update(command: Command) -> Command {
        SetupSteps::augment_args(command)
    }
}
