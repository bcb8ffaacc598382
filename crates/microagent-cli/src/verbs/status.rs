//! `microagent status`

use super::{Action, DONE};
use crate::completion;
use crate::context::{Context, workspace_name};
use crate::error::Error;
use crate::output::{Text, labelled};
use clap_complete::ArgValueCandidates;
use microagent::WorkspaceStatus;
use std::io::{self, Write};

const EXAMPLES: &str = "\
Examples:
  microagent status research
  microagent --json status research";

/// Show everything known of a workspace
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Name of the workspace
    #[arg(value_name = "NAME", add = ArgValueCandidates::new(completion::workspaces))]
    name: String,
}

impl Action for Args {
    fn run(self, context: &Context) -> Result<u8, Error> {
        let name = workspace_name(&self.name)?;
        context.show(&context.client()?.status(&name)?)?;
        Ok(DONE)
    }
}

impl Text for WorkspaceStatus {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        let record = &self.record;
        let size = record.resources;
        labelled(
            out,
            &[
                ("Workspace", record.name.to_string()),
                ("State", record.phase.to_string()),
                ("Image", record.image.clone()),
                ("Digest", record.image_digest.clone()),
                ("Command", format!("{:?}", record.command)),
                ("Profile", record.profile.clone()),
                ("Network", record.network.clone()),
                ("Resources", resources(size)),
                ("Restart", record.restart.clone()),
                ("Backend", format!("{} ({})", record.backend, record.engine)),
                ("Created", record.created_at.to_string()),
                ("Changed", record.updated_at.to_string()),
                ("Path", self.path.display().to_string()),
            ],
        )?;
        if let Some(result) = &self.result {
            writeln!(out, "Exit code: {}", result.exit_code)?;
        }
        if let Some(error) = &record.error {
            writeln!(out, "Error: {}", error.message)?;
        }
        Ok(())
    }
}

/// The size of a machine on one line.
pub(super) fn resources(size: microagent::Resources) -> String {
    format!("memory={}MiB cpus={} disk={}MiB", size.memory_mib, size.cpu_count, size.size_mib)
}
