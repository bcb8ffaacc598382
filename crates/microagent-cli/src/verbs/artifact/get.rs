//! `microagent artifact get`

use crate::completion;
use crate::context::{Context, workspace_name};
use crate::error::Error;
use crate::verbs::{Action, DONE};
use clap_complete::ArgValueCandidates;
use microagent::CopyOptions;
use std::path::PathBuf;

const EXAMPLES: &str = "\
Examples:
  microagent artifact get report-run report ./report.txt";

/// Copy a result of a workspace to the host
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Name of the workspace
    #[arg(value_name = "NAME", add = ArgValueCandidates::new(completion::workspaces))]
    name: String,
    /// Name of the artifact
    #[arg(value_name = "ARTIFACT")]
    artifact: String,
    /// Where to
    #[arg(value_name = "TARGET")]
    target: PathBuf,
}

impl Action for Args {
    fn run(self, context: &Context) -> Result<u8, Error> {
        let name = workspace_name(&self.name)?;
        let copied = context.client()?.get_artifact(&name, &self.artifact, &self.target, &CopyOptions::default())?;
        context.show(&copied)?;
        Ok(DONE)
    }
}
