//! `microagent template list`

use super::{Action, DONE, short};
use crate::context::Context;
use crate::error::Error;
use crate::output::Text;
use crate::{quantity, table};
use microagent::{MemoryPlace, TemplateSummary};
use serde::Serialize;
use std::io::{self, Write};

const EXAMPLES: &str = "\
Examples:
  microagent template list
  microagent --json template list";

/// List the templates on this host, the one used last first
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {}

impl Action for Args {
    fn run(self, context: &Context) -> Result<u8, Error> {
        context.show(&Templates { templates: context.client()?.templates()? })?;
        Ok(DONE)
    }
}

#[derive(Serialize)]
struct Templates {
    templates: Vec<TemplateSummary>,
}

impl Text for Templates {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        if self.templates.is_empty() {
            return writeln!(out, "No templates.");
        }
        let header = ["KEY", "ENGINE", "BACKEND", "KERNEL", "MEMORY", "CPUS", "RAM", "DISK", "USED", "STATE"];
        table::write(out, &header, self.templates.iter().map(cells).collect())
    }
}

fn cells(template: &TemplateSummary) -> Vec<String> {
    let place = match template.memory {
        MemoryPlace::Tmpfs => "tmpfs",
        MemoryPlace::Disk => "disk",
    };
    vec![
        short(&template.key).to_owned(),
        format!("{} {}", template.engine, template.engine_version),
        template.backend.clone(),
        template.kernel.clone(),
        format!("{} MiB", template.memory_mib),
        template.cpus.to_string(),
        format!("{} ({place})", quantity::bytes(template.memory_bytes)),
        quantity::bytes(template.disk_bytes),
        quantity::ago(template.used_at),
        state(template),
    ]
}

fn state(template: &TemplateSummary) -> String {
    match (&template.stale, &template.rehearsal_failed) {
        (Some(why), _) => format!("stale: {why}"),
        (None, _) if template.rehearsed => "rehearsed".to_owned(),
        (None, Some(why)) => format!("ready; could not rehearse: {why}"),
        (None, None) => "ready".to_owned(),
    }
}
