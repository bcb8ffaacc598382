//! `microagent status`

use super::{Action, DONE};
use crate::completion;
use crate::context::{Context, workspace_name};
use crate::error::Error;
use crate::output::{Text, labelled};
use crate::quantity;
use clap_complete::ArgValueCandidates;
use microagent::{DiskSource, Divergence, Readiness, Verified, WorkspaceStatus};
use std::io::{self, Write};

const EXAMPLES: &str = "\
Examples:
  microagent status research
  microagent --json status research";

/// Show everything known of a workspace, and whether it is still made of what it was made of
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
        labelled(
            out,
            &[
                ("Workspace", record.name.to_string()),
                ("State", record.phase.to_string()),
                ("Image", record.image.clone()),
                ("Digest", record.image_digest.clone()),
                ("Profile", record.profile.clone()),
                ("Network", record.network.clone()),
                ("Resources", resources(record.resources)),
                ("Disk usage", quantity::bytes(self.rootfs_usage.host_allocated_bytes)),
                ("Restart", record.restart.clone()),
                ("Backend", format!("{} ({})", record.backend, record.engine)),
                ("Created", record.created_at.to_string()),
                ("Changed", record.updated_at.to_string()),
                ("Path", self.path.display().to_string()),
            ],
        )?;
        record.origin.iter().try_for_each(|origin| writeln!(out, "From: {origin}"))?;
        if !record.command.is_empty() {
            writeln!(out, "Command: {:?}", record.command)?;
        }
        record.service.iter().try_for_each(|service| writeln!(out, "Service: {service:?}"))?;
        if !record.setup_complete {
            writeln!(out, "Setup: not complete; it is run again at the next start")?;
        }
        for disk in &record.disks {
            let source = match &disk.source {
                DiskSource::Disk { path } | DiskSource::Bundle { source: path, .. } => path.display().to_string(),
                DiskSource::Volume { name } => format!("volume {name}"),
            };
            writeln!(out, "Disk: {} at {} ({}, {source})", disk.name, disk.mountpoint, disk.mode.name())?;
        }
        record.outputs.iter().try_for_each(|(name, path)| writeln!(out, "Output: {name}={path}"))?;
        self.readiness.iter().try_for_each(|readiness| tell_readiness(readiness, out))?;
        tell_verification(&self.verification, out)?;
        if let Some(result) = &self.result {
            writeln!(out, "Exit code: {}", result.exit_code)?;
        }
        record.error.iter().try_for_each(|error| writeln!(out, "Error: {}", error.message))
    }
}

fn tell_readiness(readiness: &Readiness, out: &mut dyn Write) -> io::Result<()> {
    let error = [&readiness.guest_ready, &readiness.exec_ready].into_iter().find_map(|ready| ready.error.as_ref());
    match error {
        None => writeln!(out, "Ready: yes"),
        Some(error) => writeln!(out, "Ready: no: {}", error.message),
    }
}

fn tell_verification(verified: &Verified, out: &mut dyn Write) -> io::Result<()> {
    if verified.ok {
        return writeln!(out, "Verification: ok");
    }
    verified.divergence.iter().try_for_each(|Divergence { artifact, expected, actual, error }| {
        let is = actual.as_deref().or(error.as_deref()).unwrap_or_default();
        writeln!(out, "Verification: {artifact} was `{expected}`, and now: {is}")
    })
}

/// The size of a machine on one line.
pub(super) fn resources(size: microagent::Resources) -> String {
    format!("memory={}MiB cpus={} disk={}MiB", size.memory_mib, size.cpu_count, size.size_mib)
}
