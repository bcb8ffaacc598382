//! `microagent kernel remove`

use super::super::{Action, DONE};
use crate::completion;
use crate::context::Context;
use crate::error::Error;
use crate::output::Text;
use clap_complete::ArgValueCandidates;
use serde::Serialize;
use std::io::{self, Write};

const EXAMPLES: &str = "\
Examples:
  microagent kernel remove 6.1.0-56-cloud-amd64";

/// Remove an installed kernel
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Name of the kernel
    #[arg(value_name = "NAME", add = ArgValueCandidates::new(completion::kernels))]
    name: String,
}

impl Action for Args {
    fn run(self, context: &Context) -> Result<u8, Error> {
        context.client()?.kernels().remove(&self.name)?;
        context.show(&Removed { kernel: self.name, removed: true })?;
        Ok(DONE)
    }
}

#[derive(Serialize)]
struct Removed {
    kernel: String,
    removed: bool,
}

impl Text for Removed {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "Removed: {}", self.kernel)
    }
}
