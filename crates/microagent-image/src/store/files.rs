//! Small things done to files, each with an error that says what failed and where.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::Error;

/// Largest record of the store that is read; an index of ten thousand images is a tenth of it.
const MAX_RECORD: u64 = 32 * 1024 * 1024;

/// Creates `path` and its parents, private to the user.
pub(crate) fn create_directory(path: &Path) -> Result<(), Error> {
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(Error::io("creating the directory", path))
}

/// Creates a file that must not exist yet, private to the user.
pub(crate) fn create_file(path: &Path) -> Result<File, Error> {
    let options = File::options().read(true).write(true).create_new(true).mode(0o600).open(path);
    options.map_err(Error::io("creating", path))
}

/// Makes `path` hold `bytes`, durably. `path` must be new or nobody else's.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let options = File::options().write(true).create(true).truncate(true).mode(0o600).open(path);
    let mut file = options.map_err(Error::io("creating", path))?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(Error::io("writing", path))
}

/// Moves a finished file or directory to its place.
pub(crate) fn rename(from: &Path, to: &Path) -> Result<(), Error> {
    fs::rename(from, to).map_err(Error::io("moving a finished file to", to))
}

/// Makes the names in a directory durable.
pub(crate) fn sync_directory(path: &Path) -> Result<(), Error> {
    File::open(path).and_then(|directory| directory.sync_all()).map_err(Error::io("flushing the directory", path))
}

/// Reads a file of at most `limit` bytes; `None` if it does not exist.
pub(crate) fn read(path: &Path, limit: u64) -> Result<Option<Vec<u8>>, Error> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::io("opening", path)(error)),
    };
    let mut bytes = Vec::new();
    file.take(limit + 1).read_to_end(&mut bytes).map_err(Error::io("reading", path))?;
    let found = bytes.len() as u64;
    if found > limit {
        return Err(Error::LimitExceeded { what: format!("bytes in `{}`", path.display()), limit, found });
    }
    Ok(Some(bytes))
}

/// Reads a JSON record of version `supported`; `None` if it does not exist.
pub(crate) fn read_record<T: DeserializeOwned>(path: &Path, supported: u32) -> Result<Option<T>, Error> {
    #[derive(serde::Deserialize)]
    struct Version {
        version: u32,
    }
    let Some(bytes) = read(path, MAX_RECORD)? else { return Ok(None) };
    let invalid = |source| Error::InvalidRecord { path: path.to_owned(), source };
    let Version { version: found } = serde_json::from_slice(&bytes).map_err(invalid)?;
    if found != supported {
        return Err(Error::RecordVersion { path: path.to_owned(), found, supported });
    }
    serde_json::from_slice(&bytes).map(Some).map_err(invalid)
}

/// Writes a JSON record to a file that must be new or nobody else's.
pub(crate) fn write_record<T: Serialize>(path: &Path, record: &T) -> Result<(), Error> {
    let invalid = |source| Error::InvalidRecord { path: path.to_owned(), source };
    let mut bytes = serde_json::to_vec_pretty(record).map_err(invalid)?;
    bytes.push(b'\n');
    write(path, &bytes)
}

/// What is in a directory; nothing if it does not exist.
pub(crate) fn entries(directory: &Path) -> Result<Vec<PathBuf>, Error> {
    let failed = || Error::io("listing", directory);
    match fs::read_dir(directory) {
        Ok(entries) => entries.map(|entry| Ok(entry.map_err(failed())?.path())).collect(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(failed()(error)),
    }
}

/// Bytes that `path`, a file or a directory of files, takes on disk. What vanishes meanwhile takes none.
pub(crate) fn disk_usage(path: &Path) -> u64 {
    const BLOCK: u64 = 512;
    let Ok(metadata) = path.symlink_metadata() else { return 0 };
    let own = metadata.blocks() * BLOCK;
    if !metadata.is_dir() {
        return own;
    }
    own + entries(path).unwrap_or_default().iter().map(|entry| disk_usage(entry)).sum::<u64>()
}

/// Removes a file or directory; one that is gone already is as good.
pub(crate) fn remove(path: &Path) -> Result<(), Error> {
    let is_directory = path.symlink_metadata().is_ok_and(|metadata| metadata.is_dir());
    let removed = if is_directory { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Error::io("removing", path)(error)),
        _ => Ok(()),
    }
}
