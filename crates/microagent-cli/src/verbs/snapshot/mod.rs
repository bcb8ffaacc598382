//! `microagent snapshot`

mod create;
mod delete;
mod fork;
mod inspect;
mod list;
pub(in crate::verbs) mod origin;
mod restore;
mod target;

pub(in crate::verbs) use target::reference;

use super::{Action, DONE, FOUND_WRONG};
use crate::context::Context;
use crate::error::Error;
use clap::Subcommand;
use microagent::{SnapshotKind, Tag};

const EXAMPLES: &str = "\
Examples:
  microagent snapshot create research before-upgrade
  microagent snapshot list research
  microagent snapshot restore research before-upgrade
  microagent snapshot fork research:before-upgrade --count 3";

/// Keep what a workspace is at one moment, return to it, and go on from it more than once
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES, arg_required_else_help = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Create(create::Args),
    #[command(visible_alias = "ls")]
    List(list::Args),
    #[command(visible_alias = "status")]
    Inspect(inspect::Args),
    Restore(restore::Args),
    Fork(fork::Args),
    #[command(visible_alias = "rm")]
    Delete(delete::Args),
}

impl Action for Args {
    fn run(self, context: &Context) -> Result<u8, Error> {
        match self.verb {
            Verb::Create(args) => args.run(context),
            Verb::List(args) => args.run(context),
            Verb::Inspect(args) => args.run(context),
            Verb::Restore(args) => args.run(context),
            Verb::Fork(args) => args.run(context),
            Verb::Delete(args) => args.run(context),
        }
    }
}

/// A tag from the command line.
pub(in crate::verbs) fn tag(text: &str) -> Result<Tag, Error> {
    Ok(Tag::new(text).map_err(microagent::Error::from)?)
}

/// What a snapshot is good for, in one word.
fn kind(kind: SnapshotKind) -> &'static str {
    match kind {
        SnapshotKind::Full => "full",
        SnapshotKind::Disk => "disk",
        SnapshotKind::Forensic => "forensic",
    }
}
