//! Workspaces as files: `microagent.yaml`.
//!
//! | file | idea |
//! |---|---|
//! | `keys` | what a file may say, key by key, with the JSON Schema made of the same types |
//! | `health` | what tells whether a workspace is well, which may be written in two ways |
//! | `setup` | set-up steps, which may be written in three ways |
//! | `placed` | values that know where in the file they stand |
//! | `parse` | from text to types, and from a mistake to its line, column and the way out |
//! | `unbuilt` | keys that are understood and whose part is not built yet |
//! | `apply` | from a file to the options of a call |
//!
//! A file says what somebody wants to differ from the defaults: every key may be left out. What it holds is applied to options as flags
//! are, so that whatever is applied later overrides it. Paths in it are relative to the file.

mod apply;
mod health;
mod keys;
mod parse;
mod placed;
mod setup;
mod unbuilt;

#[cfg(test)]
mod tests;

pub use health::HealthKeys;
pub use keys::{
    AttachedDisk, AttachedMode, AttachedVolume, EgressKeys, EgressMode, Forward, InjectedFile, MediatedService,
    Mediations, NetworkKeys, NetworkMode, OutputPath, ResourceKeys, RestartPolicy, Ttl, WorkspaceSpec,
};
pub use parse::parse_duration;
pub use placed::{NotBuilt, Placed};
pub use setup::{Setup, SetupStep};

use crate::Error;
use std::path::{Path, PathBuf};

/// Names under which a file is found without being named.
const FILES: [&str; 2] = ["microagent.yaml", "microagent.yml"];

/// Largest file that is read: a thousand times what anybody writes by hand.
const MAX_BYTES: u64 = 4 << 20;

impl WorkspaceSpec {
    /// Reads a file. What is not understood is an error that says where it is, and so is what is not built yet.
    pub fn load(path: &Path) -> Result<WorkspaceSpec, Error> {
        let unreadable = |source| Error::SpecUnreadable { path: path.to_owned(), source };
        let length = std::fs::metadata(path).map_err(unreadable)?.len();
        if length > MAX_BYTES {
            return Err(unreadable(std::io::Error::other(format!("it has {length} bytes, more than {MAX_BYTES}"))));
        }
        let text = std::fs::read_to_string(path).map_err(unreadable)?;
        let absolute = std::path::absolute(path).map_err(unreadable)?;
        let base = absolute.parent().unwrap_or(Path::new("/"));
        WorkspaceSpec::parse(&text, path, base)
    }

    /// Understands the text of a file called `path`. Relative paths in it start at `base`.
    pub fn parse(text: &str, path: &Path, base: &Path) -> Result<WorkspaceSpec, Error> {
        let mut spec: WorkspaceSpec = parse::yaml(text, path)?;
        unbuilt::refuse(&spec, path)?;
        base.clone_into(&mut spec.base);
        Ok(spec)
    }

    /// Understands a request: the same keys, written as one JSON object. Relative paths in it start at `base`.
    pub fn parse_json(text: &str, path: &Path, base: &Path) -> Result<WorkspaceSpec, Error> {
        parse::check_json(text, path)?;
        WorkspaceSpec::parse(text, path, base)
    }

    /// The file in `directory` that is read without being named, if there is one. Two of them are an error: neither is meant more than
    /// the other.
    pub fn find(directory: &Path) -> Result<Option<PathBuf>, Error> {
        let mut found = FILES.map(|name| directory.join(name)).into_iter().filter(|path| path.is_file());
        match (found.next(), found.next()) {
            (Some(_), Some(_)) => Err(Error::SpecAmbiguous { directory: directory.to_owned() }),
            (first, _) => Ok(first),
        }
    }

    /// The JSON Schema of a file.
    pub fn schema() -> serde_json::Value {
        let settings = schemars::generate::SchemaSettings::draft2020_12();
        settings.into_generator().into_root_schema_for::<WorkspaceSpec>().to_value()
    }
}
