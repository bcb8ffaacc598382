//! `microagent resize`

use super::{Action, DONE};
use crate::completion;
use crate::context::{Context, workspace_name};
use crate::error::Error;
use crate::output::{Text, labelled};
use crate::quantity;
use clap_complete::ArgValueCandidates;
use microagent::{Interrupt, Resized};
use std::io::{self, Write};

const EXAMPLES: &str = "\
Examples:
  microagent resize research --size-mib 4096
  microagent resize research --size-mib 8g";

/// Make the disk of a workspace at rest larger
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Name of the workspace
    #[arg(value_name = "NAME", add = ArgValueCandidates::new(completion::workspaces))]
    name: String,
    /// New size in MiB, or a size as in `8g`; a disk cannot be made smaller
    #[arg(long, value_name = "MIB", value_parser = quantity::parse_mib)]
    size_mib: u64,
}

impl Action for Args {
    fn run(self, context: &Context) -> Result<u8, Error> {
        let name = workspace_name(&self.name)?;
        context.show(&context.client()?.resize(&name, self.size_mib, &Interrupt::new())?)?;
        Ok(DONE)
    }
}

impl Text for Resized {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        let free = quantity::bytes(self.usage.free_bytes);
        labelled(
            out,
            &[
                ("Workspace", self.workspace.to_string()),
                ("Disk", format!("{} MiB, was {} MiB", self.to_size_mib, self.from_size_mib)),
                ("Free", free),
            ],
        )
    }
}
