//! `--file`, and the files that are read without it.

use crate::error::Error;
use microagent::WorkspaceSpec;
use std::path::{Path, PathBuf};

/// Where else the workspace is described.
#[derive(clap::Args, Clone, Debug)]
pub(in crate::verbs) struct SpecArgs {
    /// Workspace file to read; flags override what it says
    #[arg(long, value_name = "PATH", value_hint = clap::ValueHint::FilePath)]
    file: Option<PathBuf>,
}

impl SpecArgs {
    /// The file that is named, if one is.
    pub(in crate::verbs) fn named(&self) -> Result<Option<WorkspaceSpec>, Error> {
        Ok(self.file.as_deref().map(WorkspaceSpec::load).transpose()?)
    }

    /// The file that is named, else the one in the current directory. The latter is told: nobody asked for it by name.
    pub(in crate::verbs) fn named_or_found(&self) -> Result<Option<WorkspaceSpec>, Error> {
        if self.file.is_some() {
            return self.named();
        }
        let Some(found) = WorkspaceSpec::find(Path::new("."))? else { return Ok(None) };
        let found = found.strip_prefix(".").unwrap_or(&found).to_owned();
        let spec = WorkspaceSpec::load(&found)?;
        crate::output::note(&format!("read `{}`; `--no-file` leaves it alone", found.display()));
        Ok(Some(spec))
    }
}
