//! `microagent secret audit`

use crate::completion;
use crate::context::{Context, workspace_name};
use crate::error::Error;
use crate::output::Text;
use crate::verbs::{Action, DONE};
use clap_complete::ArgValueCandidates;
use microagent::{SecretAccess, SecretOutcome};
use std::io::{self, Write};

const EXAMPLES: &str = "\
Examples:
  microagent secret audit research
  microagent --json secret audit research";

/// Show each access to a secret of a workspace that was made with `--secrets-audit`
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Name of the workspace
    #[arg(value_name = "NAME", add = ArgValueCandidates::new(completion::workspaces))]
    name: String,
}

impl Action for Args {
    fn run(self, context: &Context) -> Result<u8, Error> {
        let accesses = context.client()?.audit_secrets(&workspace_name(&self.name)?)?;
        context.show(&accesses)?;
        Ok(DONE)
    }
}

impl Text for Vec<SecretAccess> {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        self.iter().try_for_each(|access| {
            access.left_out.iter().try_for_each(|count| writeln!(out, "{count} accesses are not in the record"))?;
            let outcome = match access.outcome {
                SecretOutcome::Delivered => "delivered",
                SecretOutcome::Fetched => "fetched",
                SecretOutcome::Denied => "denied",
                SecretOutcome::Failed => "failed",
            };
            write!(out, "{:.3} {outcome:<9} {}", access.at, access.secret)?;
            access.detail.iter().try_for_each(|detail| write!(out, " ({detail})"))?;
            writeln!(out)
        })
    }
}
