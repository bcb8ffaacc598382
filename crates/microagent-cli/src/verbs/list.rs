//! `microagent list`

use super::{Action, DONE};
use crate::context::Context;
use crate::error::Error;
use crate::output::Text;
use crate::table;
use microagent::WorkspaceRow;
use serde::Serialize;
use std::io::{self, Write};

const EXAMPLES: &str = "\
Examples:
  microagent list
  microagent --json list";

/// List workspaces: running, kept, or left by a failed run
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {}

impl Action for Args {
    fn run(self, context: &Context) -> Result<u8, Error> {
        context.show(&Workspaces { workspaces: context.client()?.list()? })?;
        Ok(DONE)
    }
}

#[derive(Serialize)]
pub(super) struct Workspaces {
    pub(super) workspaces: Vec<WorkspaceRow>,
}

impl Text for Workspaces {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        if self.workspaces.is_empty() {
            return writeln!(out, "No workspaces.");
        }
        let cells = |row: &WorkspaceRow| {
            vec![
                row.name.to_string(),
                row.state.to_string(),
                row.backend.clone(),
                row.profile.clone(),
                row.network.clone(),
                row.restart.clone(),
                row.image.clone(),
            ]
        };
        let header = ["NAME", "STATE", "BACKEND", "PROFILE", "NETWORK", "RESTART", "IMAGE"];
        table::write(out, &header, self.workspaces.iter().map(cells).collect())
    }
}
