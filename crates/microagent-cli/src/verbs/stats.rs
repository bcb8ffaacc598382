//! `microagent stats`

use super::{Action, DONE};
use crate::completion;
use crate::context::{Context, workspace_name};
use crate::error::Error;
use crate::output::{self, Format, Text, labelled};
use crate::quantity;
use clap_complete::ArgValueCandidates;
use microagent::WorkspaceStats;
use std::io::{self, Write};
use std::time::Duration;

const EXAMPLES: &str = "\
Examples:
  microagent stats research
  microagent stats research --follow
  microagent --json stats research";

/// How often a sample is taken with `--follow`, unless it is said.
const INTERVAL: &str = "1s";

/// Show what a workspace that runs uses
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Name of the workspace
    #[arg(value_name = "NAME", add = ArgValueCandidates::new(completion::workspaces))]
    name: String,
    /// Take samples until the workspace ends
    #[arg(long, short)]
    follow: bool,
    /// Time between two samples
    #[arg(long, value_name = "TIME", default_value = INTERVAL, value_parser = quantity::parse_duration, requires = "follow")]
    interval: Duration,
}

impl Action for Args {
    fn run(self, context: &Context) -> Result<u8, Error> {
        let name = workspace_name(&self.name)?;
        let client = context.client()?;
        if !self.follow {
            context.show(&client.stats(&name)?)?;
            return Ok(DONE);
        }
        client.follow_stats(&name, self.interval, |sample| match context.format() {
            Format::Text => {
                // A reader who has seen enough ends it.
                sample.text(&mut io::stdout().lock()).is_ok() && writeln!(io::stdout()).is_ok()
            }
            _ => output::show_line(sample).is_ok(),
        })?;
        Ok(DONE)
    }
}

impl Text for WorkspaceStats {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        let guest = &self.guest;
        let used = guest.memory_total.saturating_sub(guest.memory_available);
        let disk = guest.disk;
        let mut lines = vec![
            ("Workspace", self.workspace.to_string()),
            ("Engine", format!("pid {}, {} of host memory", self.pid, quantity::bytes(self.memory_bytes))),
        ];
        if let Some(percent) = self.cpu_percent {
            lines.push(("CPU", format!("{percent:.1} %")));
        }
        lines.extend([
            ("Memory", format!("{} of {}", quantity::bytes(used), quantity::bytes(guest.memory_total))),
            (
                "Disk",
                format!(
                    "{} of {}",
                    quantity::bytes(disk.size_bytes.saturating_sub(disk.free_bytes)),
                    quantity::bytes(disk.size_bytes)
                ),
            ),
            ("Processes", guest.processes.to_string()),
        ]);
        labelled(out, &lines)
    }
}
