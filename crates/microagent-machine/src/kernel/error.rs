//! What can go wrong with a kernel, said so that the reader knows which file or package it was and what to do next.

use std::io;
use std::path::{Path, PathBuf};

use microagent_protocol::{Fault, FaultKind};

/// A failure of the kernel store or of one of its sources.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No default kernel has been chosen, or it is gone.
    #[error("no kernel is installed in `{store}`")]
    NoDefault {
        /// The folder that was looked into.
        store: PathBuf,
    },
    /// The store has no kernel of that name.
    #[error("no kernel named `{name}` is installed")]
    NotInstalled {
        /// The name asked for.
        name: String,
    },
    /// The operating system refused.
    #[error("could not {doing} `{path}`")]
    Io {
        /// What was being done.
        doing: &'static str,
        /// To what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A record is not JSON of the shape this version writes.
    #[error("could not read the kernel record `{path}`")]
    Record {
        /// The record.
        path: PathBuf,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// A record was written by a version this one does not know.
    #[error("kernel record `{path}` has version {found}, this program reads version {known}")]
    RecordVersion {
        /// The record.
        path: PathBuf,
        /// The version it carries.
        found: u32,
        /// The version that can be read.
        known: u32,
    },
    /// The file is not a kernel, or not one for this architecture.
    #[error("`{path}` is not a kernel that can be booted here: {problem}")]
    NotAKernel {
        /// The file.
        path: PathBuf,
        /// What was expected and what was found.
        problem: String,
    },
    /// A package, archive or module is damaged.
    #[error("`{path}` is damaged: {problem}")]
    Damaged {
        /// The file, or the archive and the member in it.
        path: PathBuf,
        /// What was expected and what was found.
        problem: String,
    },
    /// The file uses a format this program knows of and does not read.
    #[error("`{path}` is {format}, which is not supported")]
    UnsupportedFormat {
        /// The file.
        path: PathBuf,
        /// The format.
        format: &'static str,
    },
    /// Something from outside is larger than any honest kernel.
    #[error("`{path}` exceeds the limit of {limit} {unit}")]
    TooLarge {
        /// The file, or the archive and the member in it.
        path: PathBuf,
        /// The limit.
        limit: u64,
        /// What the limit counts.
        unit: &'static str,
    },
    /// Modules of another release lie beside the image.
    #[error("module `{path}` is for kernel `{found}`, the image is `{expected}`")]
    ReleaseMismatch {
        /// The module.
        path: PathBuf,
        /// The release of the image.
        expected: String,
        /// The release the module was built for.
        found: String,
    },
    /// Several images lie in one directory.
    #[error("`{path}` holds {count} kernels, for instance `{first}` and `{second}`")]
    Ambiguous {
        /// The directory.
        path: PathBuf,
        /// How many.
        count: usize,
        /// One of them.
        first: String,
        /// Another.
        second: String,
    },
    /// A download has another content than promised.
    #[error("`{url}` has sha256 `{found}`, expected `{expected}`")]
    WrongDigest {
        /// What was downloaded.
        url: String,
        /// The digest asked for.
        expected: String,
        /// The digest received.
        found: String,
    },
    /// The digest given for a download is not a sha256.
    #[error("`{given}` is not a sha256 digest: 64 hexadecimal digits are needed")]
    MalformedDigest {
        /// What was given.
        given: String,
    },
    /// The URL cannot be fetched by this program.
    #[error("could not download `{url}`: only https, http and file URLs are supported")]
    UnsupportedUrl {
        /// The URL.
        url: String,
    },
    /// The download did not finish.
    #[error("could not download `{url}`")]
    Download {
        /// What was being downloaded.
        url: String,
        /// Why it stopped.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// This host has no package manager a kernel can be taken from.
    #[error("this host has neither `apt-get` nor `dnf`, so no kernel package can be downloaded")]
    NoPackageManager,
    /// The package manager lists no kernel package.
    #[error("`{manager}` knows no kernel package; looked for {looked_for}")]
    NoPackage {
        /// The package manager.
        manager: &'static str,
        /// The names tried.
        looked_for: String,
    },
    /// The package manager failed.
    #[error("`{command}` failed with {status}: {message}")]
    PackageManager {
        /// The command line.
        command: String,
        /// How it ended.
        status: String,
        /// The last line it wrote to standard error.
        message: String,
    },
}

impl Error {
    pub(super) fn io<'a>(doing: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> Error + use<'a> {
        move |source| Error::Io { doing, path: path.to_owned(), source }
    }

    /// A failure to read the content of `path`: what a decoder or archive reader found wrong is damage, the rest is I/O.
    pub(super) fn reading(path: &Path) -> impl FnOnce(io::Error) -> Error + use<'_> {
        move |source| match source.kind() {
            io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput | io::ErrorKind::Other => {
                Error::Damaged { path: path.to_owned(), problem: source.to_string() }
            }
            io::ErrorKind::UnexpectedEof => {
                Error::Damaged { path: path.to_owned(), problem: "it ends too early".to_owned() }
            }
            _ => Error::Io { doing: "read", path: path.to_owned(), source },
        }
    }

    pub(super) fn damaged(path: &Path, problem: impl Into<String>) -> Error {
        Error::Damaged { path: path.to_owned(), problem: problem.into() }
    }
}

impl Fault for Error {
    fn code(&self) -> &'static str {
        match self {
            Error::NoDefault { .. } => "kernel_missing",
            Error::NotInstalled { .. } => "kernel_not_found",
            Error::Io { .. } => "kernel_io",
            Error::Record { .. } => "kernel_record_invalid",
            Error::RecordVersion { .. } => "kernel_record_version",
            Error::NotAKernel { .. } => "kernel_invalid",
            Error::Damaged { .. } => "kernel_damaged",
            Error::UnsupportedFormat { .. } => "kernel_format_unsupported",
            Error::TooLarge { .. } => "kernel_too_large",
            Error::ReleaseMismatch { .. } => "kernel_release_mismatch",
            Error::Ambiguous { .. } => "kernel_ambiguous",
            Error::WrongDigest { .. } => "kernel_digest_mismatch",
            Error::MalformedDigest { .. } => "kernel_digest_malformed",
            Error::UnsupportedUrl { .. } => "kernel_url_unsupported",
            Error::Download { .. } => "kernel_download_failed",
            Error::NoPackageManager => "kernel_no_package_manager",
            Error::NoPackage { .. } => "kernel_no_package",
            Error::PackageManager { .. } => "kernel_package_manager_failed",
        }
    }

    fn kind(&self) -> FaultKind {
        match self {
            Error::NoDefault { .. } | Error::NotInstalled { .. } | Error::NoPackage { .. } => FaultKind::NotFound,
            Error::Io { source, .. } => match source.kind() {
                io::ErrorKind::NotFound => FaultKind::NotFound,
                io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => FaultKind::Denied,
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => FaultKind::ResourceExhausted,
                _ => FaultKind::Permanent,
            },
            Error::Record { .. }
            | Error::NotAKernel { .. }
            | Error::Damaged { .. }
            | Error::TooLarge { .. }
            | Error::ReleaseMismatch { .. }
            | Error::WrongDigest { .. } => FaultKind::Invalid,
            Error::Ambiguous { .. } | Error::MalformedDigest { .. } => FaultKind::Usage,
            Error::RecordVersion { .. }
            | Error::UnsupportedFormat { .. }
            | Error::UnsupportedUrl { .. }
            | Error::NoPackageManager => FaultKind::Unsupported,
            Error::Download { .. } | Error::PackageManager { .. } => FaultKind::Transient,
        }
    }

    fn hint(&self) -> Option<String> {
        let hint = match self {
            Error::NoDefault { .. } => "run `microagent kernel install`",
            Error::NotInstalled { .. } => "run `microagent kernel list` to see what is installed",
            Error::Record { .. } | Error::RecordVersion { .. } => {
                "run `microagent kernel install` to install the kernel again"
            }
            Error::NotAKernel { .. } | Error::UnsupportedFormat { .. } => {
                "give a `vmlinux` or `vmlinuz`, a `.deb` or `.rpm` kernel package, or a directory with one kernel"
            }
            Error::Damaged { .. } | Error::TooLarge { .. } => "get the file again from where it came from",
            Error::ReleaseMismatch { .. } => "put the modules of the same release beside the image, or none",
            Error::Ambiguous { .. } => "name one image file instead of the directory",
            Error::WrongDigest { .. } => "check the digest with its publisher; do not use the file",
            Error::MalformedDigest { .. } => "pass what `sha256sum` prints for the file",
            Error::UnsupportedUrl { .. } => "download the file yourself and pass it with `--from`",
            Error::Download { .. } => "check the network and proxy settings, or pass a local file with `--from`",
            Error::NoPackageManager | Error::NoPackage { .. } | Error::PackageManager { .. } => {
                "pass a kernel with `--from FILE`, or with `--url URL --sha256 DIGEST`"
            }
            Error::Io { source, .. } if source.kind() == io::ErrorKind::StorageFull => {
                "free some space, or choose another `--state-dir`"
            }
            Error::Io { .. } => return None,
        };
        Some(hint.to_owned())
    }
}
