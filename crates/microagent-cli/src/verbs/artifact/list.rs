//! `microagent artifact list`

use crate::completion;
use crate::context::{Context, workspace_name};
use crate::error::Error;
use crate::output::Text;
use crate::verbs::{Action, DONE};
use crate::{quantity, table};
use clap_complete::ArgValueCandidates;
use microagent::{ArtifactList, CopyOptions, FileKind};
use std::io::{self, Write};

const EXAMPLES: &str = "\
Examples:
  microagent artifact list report-run
  microagent --json artifact list report-run";

/// List the results a workspace declares, and whether they are there
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Name of the workspace
    #[arg(value_name = "NAME", add = ArgValueCandidates::new(completion::workspaces))]
    pub(super) name: String,
}

impl Action for Args {
    fn run(self, context: &Context) -> Result<u8, Error> {
        let artifacts = context.client()?.artifacts(&workspace_name(&self.name)?, &CopyOptions::default())?;
        context.show(&artifacts)?;
        Ok(DONE)
    }
}

impl Text for ArtifactList {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        if self.egress.is_empty() {
            return writeln!(out, "No artifacts.");
        }
        let rows = self.egress.iter().map(|artifact| {
            let what = match (artifact.kind, artifact.size) {
                (_, Some(size)) => quantity::bytes(size),
                (Some(FileKind::Directory), None) => "directory".to_owned(),
                (Some(_), None) => "no file".to_owned(),
                (None, None) => "not there".to_owned(),
            };
            vec![artifact.name.clone(), what, artifact.path.clone()]
        });
        table::write(out, &["NAME", "SIZE", "PATH"], rows.collect())
    }
}
