//! `microagent apply`

use super::{Action, DONE};
use crate::completion;
use crate::context::{Context, workspace_name};
use crate::error::Error;
use crate::output::{Text, labelled};
use clap_complete::ArgValueCandidates;
use microagent::{Applied, AppliedChange, WorkspaceSpec};
use std::io::{self, Write};
use std::path::PathBuf;

const EXAMPLES: &str = "\
Examples:
  microagent apply --file microagent.yaml
  microagent apply research --file microagent.yaml --dry-run
  microagent --json apply --file microagent.yaml";

/// Make a workspace what its file says now
///
/// What the file does not give stays as it is; environment and outputs are added to, by key. While the workspace runs, only restart
/// policy, health and outputs can change; at rest also what takes effect at the next start. Image, set-up, files, disks and the size of
/// the disk are decided when a workspace is made: a file that wants them different is an error, and nothing is changed.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Name of the workspace [default: the file's]
    #[arg(value_name = "NAME", add = ArgValueCandidates::new(completion::workspaces))]
    name: Option<String>,
    /// Workspace file to read
    #[arg(long, value_name = "PATH", value_hint = clap::ValueHint::FilePath)]
    file: PathBuf,
    /// Show what would change, and change nothing
    #[arg(long)]
    dry_run: bool,
}

impl Action for Args {
    fn run(self, context: &Context) -> Result<u8, Error> {
        let spec = WorkspaceSpec::load(&self.file)?;
        let name = match (self.name.as_deref(), spec.name()?) {
            (Some(given), Some(named)) if given != named => {
                return Err(Error::usage(
                    format!("two names are given: `{given}`, and `{named}` by `{}`", self.file.display()),
                    "keep one of them",
                ));
            }
            (given, named) => given.or(named).ok_or_else(|| {
                Error::usage(
                    "no workspace is named, here or in the file",
                    "name it: `microagent apply NAME --file PATH`",
                )
            })?,
        };
        context.show(&context.client()?.apply(&workspace_name(name)?, &spec, self.dry_run)?)?;
        Ok(DONE)
    }
}

impl Text for Applied {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        labelled(out, &[("Workspace", self.workspace.to_string()), ("State", self.state.to_string())])?;
        for AppliedChange { field, from, to } in &self.changes {
            writeln!(out, "{field}: {from} -> {to}")?;
        }
        match (self.changes.is_empty(), self.applied) {
            (true, _) => writeln!(out, "Nothing is different."),
            (false, true) => Ok(()),
            (false, false) => writeln!(out, "Nothing was changed: this is what `apply` would change."),
        }
    }
}
