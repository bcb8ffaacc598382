//! `microagent schema`

use super::{Action, DONE};
use crate::context::Context;
use crate::error::Error;
use microagent::WorkspaceSpec;
use std::io::{self, Write};

const EXAMPLES: &str = "\
Examples:
  microagent schema > microagent.schema.json";

/// Print the JSON Schema of workspace files and of the requests of `create --json`
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {}

impl Action for Args {
    fn run(self, _: &Context) -> Result<u8, Error> {
        // A schema is a document by itself, whatever the format of results.
        let schema = serde_json::to_string_pretty(&WorkspaceSpec::schema()).map_err(io::Error::from)?;
        let mut out = io::stdout().lock();
        writeln!(out, "{schema}")?;
        out.flush()?;
        Ok(DONE)
    }
}
