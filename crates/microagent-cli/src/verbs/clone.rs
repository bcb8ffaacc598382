//! `microagent clone`

use super::{Action, DONE};
use crate::completion;
use crate::context::{Context, workspace_name};
use crate::error::Error;
use crate::output::{Text, labelled};
use crate::quantity;
use clap_complete::ArgValueCandidates;
use microagent::Cloned;
use std::io::{self, Write};

const EXAMPLES: &str = "\
Examples:
  microagent clone research research-2
  microagent --json clone research research-2";

/// Copy a workspace that is at rest
///
/// The copy has the same disk, settings and set-up, and a history of its own. Disks made of tar archives are copied; named volumes and
/// disks of the host are the same ones, and only one workspace at a time can write to them.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Name of the workspace to copy
    #[arg(value_name = "SRC", add = ArgValueCandidates::new(completion::workspaces))]
    source: String,
    /// Name of the copy
    #[arg(value_name = "DST")]
    name: String,
}

impl Action for Args {
    fn run(self, context: &Context) -> Result<u8, Error> {
        let (source, name) = (workspace_name(&self.source)?, workspace_name(&self.name)?);
        context.show(&context.client()?.clone_workspace(&source, &name)?)?;
        Ok(DONE)
    }
}

impl Text for Cloned {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        labelled(
            out,
            &[
                ("Workspace", self.workspace.to_string()),
                ("State", self.state.to_string()),
                ("Copy of", self.source.to_string()),
                ("Takes", quantity::bytes(self.bytes)),
            ],
        )
    }
}
