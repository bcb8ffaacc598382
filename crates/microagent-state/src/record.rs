//! Records: the JSON files of the state directory.
//!
//! A record is written beside its place and renamed over it, so that a reader sees the old one or the new one and never half of one. Each
//! carries the version of its shape; a version or a field this program does not know is refused rather than guessed at.

mod disk;
mod network;
mod result;
mod volume;
mod workspace;

pub use disk::{DiskRecord, DiskSource, MountMode};
pub use network::{ForwardRecord, MediationRecord, SecretsRecord};
pub use result::ResultRecord;
pub use volume::VolumeRecord;
pub use workspace::{DEFAULT_ROLE, FileRecord, Health, HttpGet, Resources, Verification, WorkspaceRecord};

use crate::Error;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Largest record that is read. Ours are a few kilobytes, apart from the two outputs of a result: 10 MiB each, of which every byte may
/// become six when escaped.
const MAX_BYTES: u64 = (2 * 6 * 10 + 1) << 20;

/// A record of one kind, at a fixed file name in a directory.
pub trait Record: Serialize + DeserializeOwned {
    /// Version of the record's shape; raised whenever an older program would misread a newer record.
    const VERSION: u32;
    /// The oldest version that reads as the newest does.
    const OLDEST: u32 = Self::VERSION;
    /// Its file name.
    const FILE: &'static str;

    /// Reads the record in `dir`; `None` when there is none.
    fn load(dir: &Path) -> Result<Option<Self>, Error> {
        let path = dir.join(Self::FILE);
        let bad = |reason: String| Error::BadRecord { path: path.clone(), reason };
        // It may be removed at any moment, and is opened once.
        let opened = File::open(&path).and_then(|file| Ok((file.metadata()?.len(), file)));
        let mut file = match opened {
            Ok((length, _)) if length > MAX_BYTES => return Err(bad(format!("it has {length} bytes"))),
            Ok((_, file)) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(Error::io("read", &path)(source)),
        };
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(Error::io("read", &path))?;
        let Versioned { version, .. } = serde_json::from_slice::<Versioned<serde::de::IgnoredAny>>(&bytes)
            .map_err(|error| bad(error.to_string()))?;
        if !(Self::OLDEST..=Self::VERSION).contains(&version) {
            return Err(bad(format!("it has version {version}, this program reads version {}", Self::VERSION)));
        }
        let record: Versioned<Self> = serde_json::from_slice(&bytes).map_err(|error| bad(error.to_string()))?;
        Ok(Some(record.record))
    }

    /// Writes the record into `dir`.
    fn store(&self, dir: &Path) -> Result<(), Error> {
        let path = dir.join(Self::FILE);
        let mut bytes = serde_json::to_vec_pretty(&Versioned { version: Self::VERSION, record: self })
            .expect("records have only string keys");
        bytes.push(b'\n');
        let doing = Error::io("write", &path);
        // One name for the unfinished record: whoever holds the lease is its only writer, and what a crash leaves the next one overwrites.
        let unfinished = dir.join(format!(".{}.new", Self::FILE));
        let write = || {
            let mut options = std::fs::OpenOptions::new();
            options.create(true).truncate(true).write(true).mode(0o600).open(&unfinished)?.write_all(&bytes)?;
            std::fs::rename(&unfinished, &path)
        };
        write().map_err(doing)
    }
}

/// A record as it is on disk.
#[derive(Serialize, Deserialize)]
struct Versioned<T> {
    version: u32,
    record: T,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Sample {
        value: u32,
    }

    impl Record for Sample {
        const VERSION: u32 = 3;
        const FILE: &'static str = "sample.json";
    }

    #[test]
    fn a_record_reads_as_it_was_written_and_leaves_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Sample::load(dir.path()).unwrap(), None);
        Sample { value: 1 }.store(dir.path()).unwrap();
        Sample { value: 2 }.store(dir.path()).unwrap();
        assert_eq!(Sample::load(dir.path()).unwrap(), Some(Sample { value: 2 }));
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn truncated_newer_and_unknown_records_are_refused_with_the_reason() {
        let dir = tempfile::tempdir().unwrap();
        for (text, reason) in [
            (r#"{"version":3,"rec"#, "EOF"),
            (r#"{"version":4,"record":{"value":1}}"#, "version 4"),
            (r#"{"version":3,"record":{"value":1,"other":2}}"#, "other"),
            ("", "EOF"),
        ] {
            std::fs::write(dir.path().join("sample.json"), text).unwrap();
            let error = Sample::load(dir.path()).unwrap_err().to_string();
            assert!(error.contains(reason), "{error}");
        }
    }
}
