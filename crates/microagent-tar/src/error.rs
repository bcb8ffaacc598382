//! What can go wrong with an archive, and with the files it is made of or made into.

use microagent_protocol::{Fault, FaultKind};
use std::io;

/// An archive that cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ArchiveError {
    /// Its bytes did not come: the disk or the connection, not the archive.
    #[error("cannot read the archive")]
    Read(#[source] io::Error),
    /// It ends inside a header, inside the data of an entry, or without the mark that ends an archive.
    #[error("the tar archive is truncated: byte {needed} is needed and it has {length}")]
    Truncated {
        /// First byte past what was expected.
        needed: u64,
        /// Length of the archive.
        length: u64,
    },
    /// A block that should be a tar header is none.
    #[error("the tar archive has a bad header at byte {offset}: {reason}")]
    BadHeader {
        /// Where the header starts.
        offset: u64,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// One entry makes no sense.
    #[error("entry `{path}` of the archive is invalid: {reason}")]
    BadEntry {
        /// The entry's name.
        path: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// An entry is of a kind no file system holds.
    #[error("entry `{path}` of the archive has the unsupported tar type `{type_flag}`")]
    UnsupportedEntry {
        /// The entry's name.
        path: String,
        /// The tar type flag.
        type_flag: char,
    },
    /// It asks for more than [`Limits`](crate::Limits) allows.
    #[error("the archive exceeds the limit `{what}` of {limit}: it has {found}")]
    Limit {
        /// The limit: a field of [`Limits`](crate::Limits), or a fixed bound of Linux file systems.
        what: &'static str,
        /// The bound.
        limit: u64,
        /// What the archive asked for, as far as it was read.
        found: u64,
    },
}

impl ArchiveError {
    pub(crate) fn entry(path: &[u8], reason: &'static str) -> Self {
        ArchiveError::BadEntry { path: printable(path), reason }
    }
}

/// An archive that cannot be unpacked, or files that cannot be packed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The archive itself is at fault.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// Something of another kind is in the place of an entry.
    #[error("cannot unpack `{path}`: {reason}")]
    Conflict {
        /// The entry's name.
        path: String,
        /// What is in its place.
        reason: &'static str,
    },
    /// The system refused something to do with a file.
    #[error("cannot {action} `{path}`")]
    File {
        /// What was to be done.
        action: &'static str,
        /// The file: its name in the archive, or the path given.
        path: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Something that is never put into an archive was asked for.
    #[error("cannot pack `{path}`: {reason}")]
    Unpackable {
        /// The path given.
        path: String,
        /// Why not.
        reason: &'static str,
    },
    /// Nobody takes the archive.
    #[error("cannot write the archive")]
    Write(#[source] io::Error),
}

impl Error {
    /// The same as `cannot ACTION PATH`.
    pub(crate) fn file(action: &'static str, path: &[u8], source: impl Into<io::Error>) -> Self {
        Error::File { action, path: printable(path), source: source.into() }
    }

    /// What the system said, if it is the system that is at fault.
    pub fn system(&self) -> Option<&io::Error> {
        match self {
            Error::Archive(ArchiveError::Read(source)) | Error::File { source, .. } | Error::Write(source) => {
                Some(source)
            }
            Error::Archive(_) | Error::Conflict { .. } | Error::Unpackable { .. } => None,
        }
    }
}

impl Fault for Error {
    fn code(&self) -> &'static str {
        match self {
            Error::Archive(ArchiveError::Read(_)) => "archive_read_failed",
            Error::Archive(ArchiveError::Truncated { .. }) => "archive_truncated",
            Error::Archive(ArchiveError::BadHeader { .. }) => "archive_invalid",
            Error::Archive(ArchiveError::BadEntry { .. }) => "archive_entry_invalid",
            Error::Archive(ArchiveError::UnsupportedEntry { .. }) => "archive_entry_unsupported",
            Error::Archive(ArchiveError::Limit { .. }) => "archive_limit_exceeded",
            Error::Conflict { .. } => "unpack_conflict",
            Error::File { .. } => "copy_file_failed",
            Error::Unpackable { .. } => "pack_refused",
            Error::Write(_) => "archive_write_failed",
        }
    }

    fn kind(&self) -> FaultKind {
        match self {
            Error::Archive(ArchiveError::Read(source)) | Error::File { source, .. } | Error::Write(source) => {
                kind_of(source)
            }
            Error::Archive(ArchiveError::Limit { .. }) => FaultKind::ResourceExhausted,
            Error::Archive(ArchiveError::UnsupportedEntry { .. }) | Error::Unpackable { .. } => FaultKind::Unsupported,
            Error::Archive(_) => FaultKind::Invalid,
            Error::Conflict { .. } => FaultKind::Conflict,
        }
    }

    fn hint(&self) -> Option<String> {
        let hint = match self {
            Error::Conflict { .. } => "remove what is in the way, or name another destination",
            Error::Archive(ArchiveError::Truncated { .. }) => "what made the archive did not finish: see its own error",
            Error::Archive(ArchiveError::Limit { .. }) => "copy less at a time",
            Error::File { source, .. } if kind_of(source) == FaultKind::ResourceExhausted => {
                "make room on the file system that is written to"
            }
            _ => return None,
        };
        Some(hint.to_owned())
    }
}

fn kind_of(source: &io::Error) -> FaultKind {
    match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
            FaultKind::ResourceExhausted
        }
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => FaultKind::Denied,
        io::ErrorKind::NotFound => FaultKind::NotFound,
        _ => FaultKind::Permanent,
    }
}

/// A name from an archive, fit for one line on a terminal: control characters escaped, length bounded.
pub fn printable(name: &[u8]) -> String {
    const SHOWN: usize = 200;
    let mut text = String::new();
    for c in String::from_utf8_lossy(&name[..name.len().min(SHOWN)]).chars() {
        if c.is_control() {
            text.extend(c.escape_default());
        } else {
            text.push(c);
        }
    }
    if name.len() > SHOWN {
        text.push('…');
    }
    text
}
