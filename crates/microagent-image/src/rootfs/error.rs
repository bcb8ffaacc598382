//! What can go wrong between a layer and an image.

use microagent_protocol::{Fault, FaultKind};
use std::io;
use std::path::PathBuf;

use super::Compression;
use microagent_tar::ArchiveError;

pub(super) use microagent_tar::printable;

/// An error of unpacking layers or writing a root filesystem.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The layer's bytes could not be read: the disk, the network or a cancelled download, not the layer's content.
    #[error("cannot read the layer")]
    ReadLayer(#[source] io::Error),
    /// The image or the unpacked layer could not be written.
    #[error("cannot write {what}")]
    Write {
        /// What was being written.
        what: &'static str,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The layer is compressed in a way OCI does not define.
    #[error("the layer is compressed with {found}, and only gzip and zstd layers can be unpacked")]
    UnsupportedCompression {
        /// The format its first bytes name.
        found: &'static str,
    },
    /// The compressed stream contradicts itself.
    #[error("the {compression} stream of the layer is corrupt after {unpacked} unpacked bytes")]
    CorruptCompression {
        /// How the layer is compressed.
        compression: Compression,
        /// Bytes that came out before.
        unpacked: u64,
        /// What the decoder said.
        #[source]
        source: io::Error,
    },
    /// The compressed stream ends in the middle.
    #[error("the {compression} stream of the layer is truncated after {unpacked} unpacked bytes")]
    TruncatedCompression {
        /// How the layer is compressed.
        compression: Compression,
        /// Bytes that came out before.
        unpacked: u64,
    },
    /// The archive ends inside a header or inside the data of an entry.
    #[error("the layer's tar archive is truncated: byte {needed} is needed and it has {length}")]
    TruncatedArchive {
        /// First byte past what was expected.
        needed: u64,
        /// Length of the archive.
        length: u64,
    },
    /// A block that should be a tar header is none.
    #[error("the layer's tar archive has a bad header at byte {offset}: {reason}")]
    BadHeader {
        /// Where the header starts.
        offset: u64,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// One entry of the archive makes no sense.
    #[error("entry `{path}` of the layer is invalid: {reason}")]
    BadEntry {
        /// The entry's name.
        path: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// An entry is of a kind no root filesystem holds.
    #[error("entry `{path}` of the layer has the unsupported tar type `{type_flag}`")]
    UnsupportedEntry {
        /// The entry's name.
        path: String,
        /// The tar type flag.
        type_flag: char,
    },
    /// A hard link that cannot be made.
    #[error("cannot link `{path}` of the layer to `{target}`: {reason}")]
    BadLink {
        /// The new name.
        path: String,
        /// What it should be another name of.
        target: String,
        /// Why it cannot.
        reason: &'static str,
    },
    /// A layer asked for more than [`Limits`](super::Limits) allows.
    #[error("the layer exceeds the limit `{what}` of {limit}: it has {found}")]
    Limit {
        /// The limit: a field of [`Limits`](super::Limits), or a fixed bound of Linux filesystems.
        what: &'static str,
        /// The bound.
        limit: u64,
        /// What the layer asked for, as far as it was read.
        found: u64,
    },
    /// The filesystem format has no way to store an entry.
    #[error("cannot store `{path}` in {format}: {reason}")]
    Unrepresentable {
        /// The entry's path in the image.
        path: String,
        /// The format of the image.
        format: &'static str,
        /// What the format lacks.
        reason: &'static str,
    },
    /// The disk is too small for what should go on it.
    #[error("{size} bytes are too few for this {format} image: it needs at least {needed}")]
    TooSmall {
        /// The format of the image.
        format: &'static str,
        /// The size asked for.
        size: u64,
        /// The least that would do.
        needed: u64,
    },
    /// The disk is larger than the format, as written here, can address.
    #[error("{size} bytes are too many for one {format} image: the most is {limit}")]
    TooLarge {
        /// The format of the image.
        format: &'static str,
        /// The size asked for.
        size: u64,
        /// The most that can be addressed.
        limit: u64,
    },
    /// The `mke2fs` program could not be started.
    #[error("cannot run `{}` to format `{}`", program.display(), path.display())]
    RunMke2fs {
        /// The program.
        program: PathBuf,
        /// The disk.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The `mke2fs` program failed.
    #[error("`{}` failed to format `{}` ({status}): {stderr}", program.display(), path.display())]
    Mke2fsFailed {
        /// The program.
        program: PathBuf,
        /// The disk.
        path: PathBuf,
        /// How it ended.
        status: std::process::ExitStatus,
        /// What it printed, on one line.
        stderr: String,
    },
    /// An archive that should become a disk cannot be read.
    #[error("cannot read the archive `{}`", path.display())]
    ReadArchive {
        /// The archive.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A file that should be a disk cannot be opened or read.
    #[error("cannot read the disk `{}`", path.display())]
    ReadDisk {
        /// The disk.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A file is no disk that a guest could mount.
    #[error("`{}` is no usable ext4 disk: {reason}", path.display())]
    NotADisk {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The disk is in use on this host.
    #[error("the disk `{}` is in use: {reason}", path.display())]
    DiskInUse {
        /// The disk.
        path: PathBuf,
        /// By what.
        reason: &'static str,
    },
    /// An [`Observer`](super::Observer) asked to stop.
    #[error("writing the image was cancelled")]
    Cancelled,
}

impl Error {
    pub(super) fn entry(path: &[u8], reason: &'static str) -> Self {
        Error::BadEntry { path: printable(path), reason }
    }

    pub(super) fn link(path: &[u8], target: &[u8], reason: &'static str) -> Self {
        Error::BadLink { path: printable(path), target: printable(target), reason }
    }
}

/// An archive that is a layer.
impl From<ArchiveError> for Error {
    fn from(error: ArchiveError) -> Self {
        match error {
            ArchiveError::Truncated { needed, length } => Error::TruncatedArchive { needed, length },
            ArchiveError::BadHeader { offset, reason } => Error::BadHeader { offset, reason },
            ArchiveError::BadEntry { path, reason } => Error::BadEntry { path, reason },
            ArchiveError::UnsupportedEntry { path, type_flag } => Error::UnsupportedEntry { path, type_flag },
            ArchiveError::Limit { what, limit, found } => Error::Limit { what, limit, found },
            ArchiveError::Read(source) => Error::ReadLayer(source),
            other => Error::ReadLayer(io::Error::other(other)),
        }
    }
}

impl Fault for Error {
    fn code(&self) -> &'static str {
        match self {
            Error::ReadLayer(_) => "layer_read_failed",
            Error::Write { .. } => "rootfs_write_failed",
            Error::UnsupportedCompression { .. } => "layer_compression_unsupported",
            Error::CorruptCompression { .. } => "layer_corrupt",
            Error::TruncatedCompression { .. } | Error::TruncatedArchive { .. } => "layer_truncated",
            Error::BadHeader { .. } => "layer_archive_invalid",
            Error::BadEntry { .. } => "layer_entry_invalid",
            Error::UnsupportedEntry { .. } => "layer_entry_unsupported",
            Error::BadLink { .. } => "layer_link_invalid",
            Error::Limit { .. } => "layer_limit_exceeded",
            Error::Unrepresentable { .. } => "rootfs_entry_unrepresentable",
            Error::TooSmall { .. } => "rootfs_size_too_small",
            Error::TooLarge { .. } => "rootfs_size_too_large",
            Error::RunMke2fs { .. } => "mke2fs_not_runnable",
            Error::Mke2fsFailed { .. } => "mke2fs_failed",
            Error::ReadArchive { .. } => "archive_unreadable",
            Error::ReadDisk { .. } => "disk_unreadable",
            Error::NotADisk { .. } => "disk_invalid",
            Error::DiskInUse { .. } => "disk_in_use",
            Error::Cancelled => "rootfs_cancelled",
        }
    }

    fn kind(&self) -> FaultKind {
        match self {
            Error::UnsupportedCompression { .. } | Error::UnsupportedEntry { .. } | Error::Unrepresentable { .. } => {
                FaultKind::Unsupported
            }
            Error::CorruptCompression { .. }
            | Error::TruncatedCompression { .. }
            | Error::TruncatedArchive { .. }
            | Error::BadHeader { .. }
            | Error::BadEntry { .. }
            | Error::BadLink { .. } => FaultKind::Invalid,
            Error::Limit { .. } => FaultKind::ResourceExhausted,
            Error::TooSmall { .. } | Error::TooLarge { .. } | Error::NotADisk { .. } => FaultKind::Usage,
            Error::ReadArchive { source, .. } | Error::ReadDisk { source, .. }
                if source.kind() == io::ErrorKind::NotFound =>
            {
                FaultKind::NotFound
            }
            Error::ReadLayer(source)
            | Error::Write { source, .. }
            | Error::ReadArchive { source, .. }
            | Error::ReadDisk { source, .. } => kind_of(source),
            Error::DiskInUse { .. } => FaultKind::Conflict,
            Error::RunMke2fs { .. } => FaultKind::NotFound,
            Error::Mke2fsFailed { .. } | Error::Cancelled => FaultKind::Permanent,
        }
    }

    fn hint(&self) -> Option<String> {
        let hint = match self {
            Error::Write { source, .. } if kind_of(source) == FaultKind::ResourceExhausted => {
                "free some space where the image is written".to_owned()
            }
            Error::UnsupportedCompression { .. } => {
                "rebuild the image with gzip or zstd layers, for example with `skopeo copy --dest-compress-format gzip`"
                    .to_owned()
            }
            Error::CorruptCompression { .. } | Error::TruncatedCompression { .. } | Error::TruncatedArchive { .. } => {
                "pull the image again; if it fails the same way, push it again from its source".to_owned()
            }
            Error::Limit { .. } => "use a smaller image: a layer this large is usually damaged or malicious".to_owned(),
            Error::TooSmall { needed, .. } => format!("ask for {needed} bytes or more"),
            Error::TooLarge { limit, .. } => format!("ask for {limit} bytes or fewer"),
            Error::Unrepresentable { format: "ext4", .. } => "write the image as EROFS instead".to_owned(),
            Error::RunMke2fs { .. } => {
                "install e2fsprogs, or leave the program out to use the built-in writer".to_owned()
            }
            Error::ReadArchive { .. } | Error::ReadDisk { .. } => "check its path and permissions".to_owned(),
            Error::NotADisk { path, .. } => {
                format!("make one with `mkfs.ext4 {0}`, or see what it is with `file -s {0}`", path.display())
            }
            Error::DiskInUse { .. } => "unmount it, or halt the workspace that has it".to_owned(),
            _ => return None,
        };
        Some(hint)
    }
}

fn kind_of(source: &io::Error) -> FaultKind {
    match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
            FaultKind::ResourceExhausted
        }
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => FaultKind::Denied,
        _ => FaultKind::Permanent,
    }
}
