//! `microagent df`

use super::{Action, DONE};
use crate::context::Context;
use crate::error::Error;
use crate::output::Text;
use crate::{quantity, table};
use microagent::{DiskUsage, Usage};
use std::io::{self, Write};

const EXAMPLES: &str = "\
Examples:
  microagent df
  microagent --json df";

/// Show what images, kernels, templates, workspaces, snapshots and volumes take
///
/// Counted are the blocks in use, not the lengths of files. The RAM of templates, and that of snapshots which machines
/// go on from, is kept in memory where there is room.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {}

impl Action for Args {
    fn run(self, context: &Context) -> Result<u8, Error> {
        context.show(&context.client()?.disk_usage()?)?;
        Ok(DONE)
    }
}

impl Text for DiskUsage {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        let rows = [
            ("images", "disk", self.images),
            ("kernels", "disk", self.kernels),
            ("templates", "disk", self.templates),
            ("templates", "memory", self.template_memory),
            ("workspaces", "disk", self.workspaces),
            ("snapshots", "disk", self.snapshots),
            ("snapshots", "memory", self.snapshot_memory),
            ("volumes", "disk", self.volumes),
        ];
        let cells = |(what, place, Usage { count, bytes }): (&str, &str, Usage)| {
            vec![what.to_owned(), place.to_owned(), count.to_string(), quantity::bytes(bytes)]
        };
        table::write(out, &["WHAT", "WHERE", "COUNT", "SIZE"], rows.map(cells).to_vec())
    }
}
