//! `microagent snapshot inspect`

use super::create::takes;
use super::target::Target;
use super::{Action, DONE, kind};
use crate::context::Context;
use crate::error::Error;
use crate::output::{Text, labelled};
use crate::quantity;
use crate::verbs::status::resources;
use microagent::SnapshotDetails;
use std::io::{self, Write};

const EXAMPLES: &str = "\
Examples:
  microagent snapshot inspect research before-upgrade
  microagent --json snapshot inspect research:before-upgrade";

/// Show everything about a snapshot
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    #[command(flatten)]
    target: Target,
}

impl Action for Args {
    fn run(self, context: &Context) -> Result<u8, Error> {
        let reference = self.target.reference()?;
        context.show(&context.client()?.inspect_snapshot(&reference)?)?;
        Ok(DONE)
    }
}

impl Text for SnapshotDetails {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        let manifest = &self.manifest;
        labelled(
            out,
            &[
                ("Snapshot", format!("{}:{}", manifest.workspace, manifest.tag)),
                ("Kind", kind(manifest.kind).to_owned()),
                ("Created", manifest.created_at.to_string()),
                ("Image", manifest.record.image.clone()),
                ("Resources", resources(manifest.record.resources)),
                ("Takes", takes(self.bytes, self.shared_bytes)),
                ("Path", self.path.display().to_string()),
            ],
        )?;
        manifest.comment.iter().try_for_each(|comment| writeln!(out, "Comment: {comment}"))?;
        manifest.pause_ms.iter().try_for_each(|pause| writeln!(out, "Paused for: {pause:.0} ms"))?;
        manifest.ancestry.iter().try_for_each(|from| writeln!(out, "From: {from}"))?;
        if let Some(machine) = &manifest.machine {
            let secrets = if manifest.secrets_purged { "" } else { ", with the secrets that were in it" };
            writeln!(out, "Memory: {}{secrets}", quantity::bytes(machine.memory_bytes))?;
            machine.processes.iter().try_for_each(|process| writeln!(out, "Process: {:?}", process.argv))?;
        }
        let disk = |disk: &microagent::SnapshotDisk| format!("{} ({})", disk.name, quantity::bytes(disk.bytes));
        manifest.disks.iter().try_for_each(|part| writeln!(out, "Disk: {}", disk(part)))
    }
}
