//! Where kernels come from: what a caller asks for, what is remembered of it, and what is said while it is fetched.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Where to install a kernel from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// The kernel package this host's package manager offers for virtual machines. It is downloaded, never installed,
    /// and that needs no root.
    Package,
    /// A file or directory on this host: a `.deb` or `.rpm` package, a `vmlinuz`, a `vmlinux`, or a directory that
    /// holds one kernel (an unpacked package, a copy of `/boot`, an image with `modules/` beside it).
    Path(PathBuf),
    /// Any such file, downloaded. It must have this digest: that is what makes it trustworthy, whatever the transport.
    Url {
        /// An `https`, `http` or `file` URL.
        url: String,
        /// What `sha256sum` prints for the file.
        sha256: String,
    },
}

/// Where an installed kernel came from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Origin {
    /// A package of the host's distribution.
    Package {
        /// The package manager.
        manager: String,
        /// The package with the image.
        package: String,
        /// Its version.
        version: String,
    },
    /// A file of this host.
    File {
        /// Its path.
        path: PathBuf,
        /// Its digest when it was read.
        sha256: String,
    },
    /// A directory of this host.
    Directory {
        /// Its path.
        path: PathBuf,
    },
    /// A download.
    Url {
        /// The URL.
        url: String,
        /// The digest of what was downloaded.
        sha256: String,
    },
}

impl Origin {
    /// Whether a kernel from here is the same as one from `other`, as far as can be told without reading it.
    pub(super) fn is_same_content(&self, other: &Origin) -> bool {
        match (self, other) {
            (Origin::Directory { .. }, _) => false,
            (Origin::File { sha256: one, .. }, Origin::File { sha256: two, .. })
            | (Origin::Url { sha256: one, .. }, Origin::Url { sha256: two, .. }) => one == two,
            _ => self == other,
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Package { manager, package, version } => write!(f, "{manager} package {package} {version}"),
            Origin::File { path, .. } | Origin::Directory { path } => write!(f, "{}", path.display()),
            Origin::Url { url, .. } => f.write_str(url),
        }
    }
}

/// What an installation is doing, for whoever shows progress.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Progress {
    /// Another process is installing a kernel; waiting for it.
    Waiting,
    /// The package manager is asked for the kernel package; lists may be downloaded.
    Resolving,
    /// Bytes are coming in.
    Downloading {
        /// A package or URL.
        what: String,
        /// Bytes received.
        received: u64,
        /// Bytes expected, where known.
        total: Option<u64>,
    },
    /// The package or image is being unpacked and the modules chosen.
    Unpacking {
        /// A package, URL or path.
        what: String,
    },
}
