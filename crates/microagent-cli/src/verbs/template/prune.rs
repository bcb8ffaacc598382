//! `microagent template prune`

use super::{Action, DONE, short};
use crate::context::Context;
use crate::error::Error;
use crate::output::Text;
use crate::quantity;
use microagent::{TemplatePrune, TemplatesPruned};
use std::io::{self, Write};

const EXAMPLES: &str = "\
Examples:
  microagent template prune
  microagent template prune --all";

/// Remove the templates that no run will be restored from any more
///
/// Those are the templates of a kernel, an engine or a version of this program that is gone.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Remove every template, and what snapshots are restored from at once; both are made again when they are wanted
    #[arg(long, short)]
    all: bool,
}

impl Action for Args {
    fn run(self, context: &Context) -> Result<u8, Error> {
        let which = if self.all { TemplatePrune::All } else { TemplatePrune::Stale };
        context.show(&context.client()?.prune_templates(which)?)?;
        Ok(DONE)
    }
}

impl Text for TemplatesPruned {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        self.removed.iter().try_for_each(|key| writeln!(out, "Removed: {}", short(key)))?;
        writeln!(out, "Freed: {}", quantity::bytes(self.bytes))
    }
}
