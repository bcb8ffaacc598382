//! `microagent volume list`

use super::{Action, DONE, workspaces};
use crate::context::Context;
use crate::error::Error;
use crate::output::Text;
use crate::{quantity, table};
use microagent::VolumeStatus;
use serde::Serialize;
use std::io::{self, Write};

const EXAMPLES: &str = "\
Examples:
  microagent volume list
  microagent --json volume ls";

/// List the volumes on this host
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {}

impl Action for Args {
    fn run(self, context: &Context) -> Result<u8, Error> {
        context.show(&Volumes { volumes: context.client()?.volumes()? })?;
        Ok(DONE)
    }
}

#[derive(Serialize)]
struct Volumes {
    volumes: Vec<VolumeStatus>,
}

impl Text for Volumes {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        if self.volumes.is_empty() {
            return writeln!(out, "No volumes.");
        }
        let cells = |volume: &VolumeStatus| {
            vec![
                volume.name.to_string(),
                format!("{} MiB", volume.size_mib),
                quantity::bytes(volume.used_bytes),
                workspaces(&volume.attached_to),
                workspaces(&volume.declared_by),
            ]
        };
        let header = ["VOLUME", "SIZE", "USED", "ATTACHED TO", "DECLARED BY"];
        table::write(out, &header, self.volumes.iter().map(cells).collect())
    }
}
