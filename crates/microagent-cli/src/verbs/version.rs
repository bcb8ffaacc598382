//! `microagent version`

use super::{Action, DONE};
use crate::context::Context;
use crate::error::Error;
use crate::output::Text;
use microagent::image::Platform;
use serde::Serialize;
use std::io::{self, Write};

const EXAMPLES: &str = "\
Examples:
  microagent version
  microagent --json version";

/// Show the version of this program
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {}

impl Action for Args {
    fn run(self, context: &Context) -> Result<u8, Error> {
        context.show(&Program {
            name: "microagent",
            version: env!("CARGO_PKG_VERSION"),
            guest_platform: Platform::host(),
        })?;
        Ok(DONE)
    }
}

#[derive(Serialize)]
struct Program {
    name: &'static str,
    version: &'static str,
    /// What guests of this host are built for.
    guest_platform: Platform,
}

impl Text for Program {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "{} {} ({})", self.name, self.version, self.guest_platform)
    }
}
