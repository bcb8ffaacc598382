//! The processes that were started in a workspace.

use crate::output::Text;
use crate::table;
use microagent::protocol::ProcessInfo;
use serde::Serialize;
use std::io::{self, Write};

#[derive(Serialize)]
pub(super) struct Processes {
    pub(super) processes: Vec<ProcessInfo>,
}

impl Text for Processes {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        if self.processes.is_empty() {
            return writeln!(out, "No processes.");
        }
        let row = |process: &ProcessInfo| {
            let state = match &process.ending {
                None => "running".to_owned(),
                Some(ending) => match (&ending.exit, &ending.refused) {
                    (Some(exit), _) => format!("exited {}", exit.status()),
                    (None, Some(_)) => "never ran".to_owned(),
                    (None, None) => "killed".to_owned(),
                },
            };
            vec![process.process.clone(), state, process.argv.join(" ")]
        };
        table::write(out, &["ID", "STATE", "COMMAND"], self.processes.iter().map(row).collect())
    }
}
