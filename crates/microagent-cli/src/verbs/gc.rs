//! `microagent gc`

use super::{Action, DONE};
use crate::context::Context;
use crate::error::Error;
use crate::output::Text;
use crate::quantity;
use microagent::{Collected, Garbage};
use std::io::{self, Write};

const EXAMPLES: &str = "\
Examples:
  microagent gc
  microagent --json gc";

/// Clear what interrupted processes left behind
///
/// Removes disposable workspaces whose process died, unfinished downloads and snapshots, and what no snapshot needs any more, and records the
/// end of workspaces that were to be kept.
/// What is running is left alone.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {}

impl Action for Args {
    fn run(self, context: &Context) -> Result<u8, Error> {
        context.show(&context.client()?.collect_garbage()?)?;
        Ok(DONE)
    }
}

impl Text for Garbage {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        if self.is_empty() {
            return writeln!(out, "Nothing to clear.");
        }
        let Collected { removed, failed, skipped } = &self.workspaces;
        for (what, names) in [("Removed", removed), ("Marked as failed", failed), ("Left alone", skipped)] {
            names.iter().try_for_each(|name| writeln!(out, "{what}: {name}"))?;
        }
        if self.image_bytes > 0 {
            writeln!(out, "Freed in images: {}", quantity::bytes(self.image_bytes))?;
        }
        if self.template_bytes > 0 {
            writeln!(out, "Freed in templates: {}", quantity::bytes(self.template_bytes))?;
        }
        if self.capture_bytes > 0 {
            writeln!(out, "Freed in snapshots: {}", quantity::bytes(self.capture_bytes))?;
        }
        self.kernels.iter().try_for_each(|path| writeln!(out, "Removed: {}", path.display()))?;
        Ok(())
    }
}
