//! `microagent volume`

mod create;
mod inspect;
mod list;
mod prune;
mod resize;
mod rm;

use super::{Action, DONE};
use crate::context::Context;
use crate::error::Error;
use crate::output::{Text, labelled};
use crate::quantity;
use clap::Subcommand;
use microagent::{Name, VolumeName, VolumeStatus};
use std::io::{self, Write};

const EXAMPLES: &str = "\
Examples:
  microagent volume create data
  microagent volume list
  microagent volume rm data";

/// Make and manage volumes: disks that outlive the workspaces that use them
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
    Resize(resize::Args),
    #[command(visible_alias = "delete")]
    Rm(rm::Args),
    Prune(prune::Args),
}

impl Action for Args {
    fn run(self, context: &Context) -> Result<u8, Error> {
        match self.verb {
            Verb::Create(args) => args.run(context),
            Verb::List(args) => args.run(context),
            Verb::Inspect(args) => args.run(context),
            Verb::Resize(args) => args.run(context),
            Verb::Rm(args) => args.run(context),
            Verb::Prune(args) => args.run(context),
        }
    }
}

/// A volume name from the command line.
fn volume_name(text: &str) -> Result<VolumeName, Error> {
    Ok(VolumeName::new(text).map_err(microagent::Error::from)?)
}

/// Names of workspaces for people: `none` where there are none.
fn workspaces(names: &[Name]) -> String {
    let names: Vec<String> = names.iter().map(Name::to_string).collect();
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

impl Text for VolumeStatus {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        labelled(
            out,
            &[
                ("Volume", self.name.to_string()),
                ("Size", format!("{} MiB ({} used)", self.size_mib, quantity::bytes(self.used_bytes))),
                ("Created", self.created_at.to_string()),
                ("Attached to", workspaces(&self.attached_to)),
                ("Declared by", workspaces(&self.declared_by)),
                ("Disk", self.path.display().to_string()),
            ],
        )
    }
}
