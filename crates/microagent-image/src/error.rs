//! The one error type of this crate.

use std::io;
use std::path::{Path, PathBuf};

use microagent_protocol::{Fault, FaultKind};

use crate::Digest;

/// Everything that can go wrong with an image, from its name to its base.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The text is not an image reference.
    #[error("image reference `{text}` is invalid at character {position}: {reason}")]
    InvalidReference {
        /// The text, shortened and with control characters escaped.
        text: String,
        /// Position of the first wrong character, counted from 1.
        position: usize,
        /// What is wrong there.
        reason: &'static str,
    },
    /// The text is not a platform a guest can run.
    #[error("platform `{text}` is not supported: guests run `linux/amd64` or `linux/arm64`")]
    InvalidPlatform {
        /// The text.
        text: String,
    },
    /// The text is not a digest.
    #[error("`{text}` is not a digest: expected `sha256:` and 64 lower-case hexadecimal digits")]
    InvalidDigest {
        /// The text.
        text: String,
    },
    /// The image is not in the local store, and the registry was not to be asked.
    #[error("image `{name}` is not in the local store")]
    NotLocal {
        /// The reference or digest prefix asked for.
        name: String,
    },
    /// A digest prefix fits several images.
    #[error("`{prefix}` is ambiguous: it fits {matches}")]
    AmbiguousPrefix {
        /// The prefix.
        prefix: String,
        /// The digests it fits.
        matches: String,
    },
    /// An operation that must be repeatable was given a name whose content can change.
    #[error("image reference `{reference}` is mutable: its tag can be moved to other content")]
    MutableReference {
        /// The reference.
        reference: String,
        /// The same image, pinned, when it is known.
        pinned: Option<String>,
    },
    /// The name of the registry does not resolve.
    #[error("the name of registry `{host}` does not resolve")]
    NameNotResolved {
        /// The registry or the server it referred to.
        host: String,
        /// What the resolver said.
        #[source]
        source: io::Error,
    },
    /// No connection to the registry, or it broke.
    #[error("registry `{host}` cannot be reached while {action}")]
    Unreachable {
        /// The registry or the server it referred to.
        host: String,
        /// What was being done.
        action: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The registry is reachable but no trusted TLS connection can be made.
    #[error("no trusted TLS connection to registry `{host}`")]
    Tls {
        /// The registry.
        host: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The registry has no such repository, tag or digest.
    #[error("registry `{host}` has no image `{reference}`")]
    NotFound {
        /// The registry.
        host: String,
        /// The image.
        reference: String,
    },
    /// The registry wants a login, or the login does not allow it.
    #[error("registry `{host}` denies access to `{reference}`: {reason}")]
    LoginRequired {
        /// The registry.
        host: String,
        /// The image.
        reference: String,
        /// Whether credentials were sent, and what the registry said.
        reason: String,
    },
    /// The registry does not take images, or not in this repository.
    #[error("registry `{host}` is read-only: it does not take `{reference}`{}", if message.is_empty() { String::new() } else { format!(" ({message})") })]
    RegistryReadOnly {
        /// The registry.
        host: String,
        /// The image.
        reference: String,
        /// What the registry said, shortened.
        message: String,
    },
    /// The registry wants a repository to be made before something is pushed to it.
    #[error("registry `{host}` has no repository `{repository}` to push to")]
    RepositoryMissing {
        /// The registry.
        host: String,
        /// The repository.
        repository: String,
    },
    /// The registry limits how often it may be asked.
    #[error("registry `{host}` is limiting requests{}", retry_after.map(|seconds| format!(" for another {seconds} s")).unwrap_or_default())]
    RateLimited {
        /// The registry.
        host: String,
        /// Seconds after which it may be asked again, if it said so.
        retry_after: Option<u64>,
    },
    /// The registry answered with something that is neither success nor a known refusal.
    #[error("registry `{host}` answered {status} while {action}{}", if message.is_empty() { String::new() } else { format!(": {message}") })]
    RegistryStatus {
        /// The registry or the server it referred to.
        host: String,
        /// HTTP status code.
        status: u16,
        /// What was being done.
        action: String,
        /// What the registry said, shortened.
        message: String,
    },
    /// The registry answered in a way the distribution specification does not allow.
    #[error("registry `{host}` broke the protocol while {action}: {reason}")]
    RegistryProtocol {
        /// The registry or the server it referred to.
        host: String,
        /// What was being done.
        action: String,
        /// What was wrong.
        reason: String,
    },
    /// A file that lists certificates could not be used.
    #[error("the certificates in `{path}` cannot be used: {reason}")]
    InvalidCertificate {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The Docker configuration file could not be read.
    #[error("the registry credentials in `{path}` cannot be read: {reason}")]
    InvalidCredentials {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A credential helper failed.
    #[error("credential helper `{helper}` failed for registry `{host}`: {reason}")]
    CredentialHelper {
        /// Name of the program.
        helper: String,
        /// The registry.
        host: String,
        /// What it said.
        reason: String,
    },
    /// Content does not have the digest it is named by.
    #[error("{what} has digest `{found}` instead of `{expected}`")]
    DigestMismatch {
        /// The content.
        what: String,
        /// The digest it should have.
        expected: Digest,
        /// The digest it has.
        found: Digest,
    },
    /// Content does not have the size it was announced with.
    #[error("{what} has {found} bytes instead of {expected}")]
    SizeMismatch {
        /// The content.
        what: String,
        /// Bytes announced.
        expected: u64,
        /// Bytes found, or found before giving up.
        found: u64,
    },
    /// The image is not built for the wanted platform.
    #[error("{what} is not available for `{wanted}`: it is for {available}")]
    NoMatchingPlatform {
        /// The image.
        what: String,
        /// The platform asked for.
        wanted: String,
        /// The platforms on offer.
        available: String,
    },
    /// A document or layer is of a kind this program does not read.
    #[error("{what} has the unsupported media type `{media_type}`")]
    UnsupportedMediaType {
        /// The content.
        what: String,
        /// Its media type.
        media_type: String,
    },
    /// A manifest, index or config is not what the specification says.
    #[error("{what} is malformed")]
    InvalidManifest {
        /// The document.
        what: String,
        /// What the parser says.
        #[source]
        source: serde_json::Error,
    },
    /// A document can be read both as an index and as a manifest.
    #[error("{what} is both an index and a manifest, and so means different images to different programs")]
    AmbiguousManifest {
        /// The document.
        what: String,
    },
    /// Parts of an image contradict each other.
    #[error("{what} is inconsistent: {reason}")]
    InconsistentImage {
        /// The image.
        what: String,
        /// The contradiction.
        reason: String,
    },
    /// Something from outside is larger or more numerous than is ever legitimate.
    #[error("too many {what}: {found}, and the limit is {limit}")]
    LimitExceeded {
        /// What was counted.
        what: String,
        /// The limit.
        limit: u64,
        /// How many there are, or how many were found before giving up.
        found: u64,
    },
    /// A file or directory to import is none of the known formats.
    #[error("cannot import `{path}`: {reason}")]
    InvalidImport {
        /// The file or directory.
        path: PathBuf,
        /// What was expected.
        reason: String,
    },
    /// A file or directory to import holds several images and none was chosen.
    #[error("cannot import `{path}`: it holds several images: {names}")]
    AmbiguousImport {
        /// The file or directory.
        path: PathBuf,
        /// The names of the images.
        names: String,
    },
    /// An import neither was given a name nor records one.
    #[error("cannot import `{path}`: it records no image name")]
    UnnamedImport {
        /// The file or directory.
        path: PathBuf,
    },
    /// A record of the image store cannot be understood.
    #[error("the record `{path}` cannot be used")]
    InvalidRecord {
        /// The file.
        path: PathBuf,
        /// What the parser says.
        #[source]
        source: serde_json::Error,
    },
    /// A record of the image store was written by another version of this program.
    #[error("the record `{path}` has version {found}, and this program reads version {supported}")]
    RecordVersion {
        /// The file.
        path: PathBuf,
        /// The version in the file.
        found: u32,
        /// The version this program reads and writes.
        supported: u32,
    },
    /// The file system said no.
    #[error("{action} `{path}` failed")]
    Io {
        /// What was being done, as in `writing`.
        action: &'static str,
        /// To what.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The caller asked for the operation to stop.
    #[error("the operation was cancelled")]
    Cancelled,
    /// A layer could not be applied, or the base could not be written.
    #[error(transparent)]
    Rootfs(crate::rootfs::Error),
}

impl From<crate::rootfs::Error> for Error {
    fn from(error: crate::rootfs::Error) -> Error {
        match error {
            crate::rootfs::Error::Cancelled => Error::Cancelled,
            error => Error::Rootfs(error),
        }
    }
}

impl Error {
    /// A layer or config in the store that is not what its name says, or is not there.
    pub(crate) fn damaged_blob(digest: &Digest) -> Error {
        let reason = "its stored copy is damaged or gone; pull the image again".to_owned();
        Error::InconsistentImage { what: format!("`{}`", digest.short()), reason }
    }

    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
        let path = path.to_owned();
        move |source| Error::Io { action, path, source }
    }
}

impl Fault for Error {
    fn code(&self) -> &str {
        match self {
            Error::InvalidReference { .. } => "invalid_image_reference",
            Error::InvalidPlatform { .. } => "invalid_platform",
            Error::InvalidDigest { .. } => "invalid_digest",
            Error::NotLocal { .. } => "image_not_local",
            Error::AmbiguousPrefix { .. } => "ambiguous_image",
            Error::MutableReference { .. } => "mutable_image_reference",
            Error::NameNotResolved { .. } => "registry_name_not_resolved",
            Error::Unreachable { .. } => "registry_unreachable",
            Error::Tls { .. } => "registry_tls_failed",
            Error::NotFound { .. } => "image_not_found",
            Error::LoginRequired { .. } => "registry_login_required",
            Error::RegistryReadOnly { .. } => "registry_read_only",
            Error::RepositoryMissing { .. } => "registry_repository_missing",
            Error::RateLimited { .. } => "registry_rate_limited",
            Error::RegistryStatus { .. } => "registry_error",
            Error::RegistryProtocol { .. } => "registry_protocol_error",
            Error::InvalidCertificate { .. } => "invalid_certificate",
            Error::InvalidCredentials { .. } => "invalid_registry_credentials",
            Error::CredentialHelper { .. } => "credential_helper_failed",
            Error::DigestMismatch { .. } => "image_digest_mismatch",
            Error::SizeMismatch { .. } => "image_size_mismatch",
            Error::NoMatchingPlatform { .. } => "no_matching_platform",
            Error::UnsupportedMediaType { .. } => "unsupported_media_type",
            Error::InvalidManifest { .. } => "invalid_manifest",
            Error::AmbiguousManifest { .. } => "ambiguous_manifest",
            Error::InconsistentImage { .. } => "inconsistent_image",
            Error::LimitExceeded { .. } => "image_limit_exceeded",
            Error::InvalidImport { .. } => "invalid_image_import",
            Error::AmbiguousImport { .. } => "ambiguous_image_import",
            Error::UnnamedImport { .. } => "unnamed_image_import",
            Error::InvalidRecord { .. } => "invalid_image_record",
            Error::RecordVersion { .. } => "image_record_version",
            Error::Io { source, .. } if is_out_of_space(source) => "no_space",
            Error::Io { .. } => "image_store_io",
            Error::Cancelled => "cancelled",
            Error::Rootfs(error) => error.code(),
        }
    }

    fn kind(&self) -> FaultKind {
        match self {
            Error::InvalidReference { .. }
            | Error::InvalidPlatform { .. }
            | Error::InvalidDigest { .. }
            | Error::AmbiguousPrefix { .. }
            | Error::MutableReference { .. }
            | Error::AmbiguousImport { .. }
            | Error::UnnamedImport { .. } => FaultKind::Usage,
            Error::NotLocal { .. } | Error::NotFound { .. } | Error::RepositoryMissing { .. } => FaultKind::NotFound,
            Error::NameNotResolved { .. } | Error::Unreachable { .. } | Error::RateLimited { .. } => {
                FaultKind::Transient
            }
            Error::RegistryStatus { status, .. } if *status >= 500 || *status == 408 => FaultKind::Transient,
            Error::Tls { .. } | Error::LoginRequired { .. } | Error::RegistryReadOnly { .. } => FaultKind::Denied,
            Error::NoMatchingPlatform { .. } | Error::UnsupportedMediaType { .. } | Error::RecordVersion { .. } => {
                FaultKind::Unsupported
            }
            Error::InvalidCertificate { .. }
            | Error::InvalidCredentials { .. }
            | Error::RegistryProtocol { .. }
            | Error::DigestMismatch { .. }
            | Error::SizeMismatch { .. }
            | Error::InvalidManifest { .. }
            | Error::AmbiguousManifest { .. }
            | Error::InconsistentImage { .. }
            | Error::LimitExceeded { .. }
            | Error::InvalidImport { .. }
            | Error::InvalidRecord { .. } => FaultKind::Invalid,
            Error::Io { source, .. } => match source.kind() {
                _ if is_out_of_space(source) => FaultKind::ResourceExhausted,
                io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => FaultKind::Denied,
                io::ErrorKind::NotFound => FaultKind::NotFound,
                _ => FaultKind::Permanent,
            },
            Error::RegistryStatus { .. } | Error::CredentialHelper { .. } | Error::Cancelled => FaultKind::Permanent,
            Error::Rootfs(error) => error.kind(),
        }
    }

    fn hint(&self) -> Option<String> {
        let hint = match self {
            Error::InvalidReference { .. } => {
                "write it as `name`, `name:tag`, `registry:port/name:tag` or `name@sha256:...`".to_owned()
            }
            Error::NotLocal { name } => {
                format!("list what is there with `microagent image list`, or fetch it with `microagent image pull {name}`")
            }
            Error::AmbiguousPrefix { .. } => "give more digits of the digest".to_owned(),
            Error::MutableReference { pinned: Some(pinned), .. } => format!("use `{pinned}`, or allow it with `--allow-mutable`"),
            Error::MutableReference { pinned: None, .. } => {
                "pin it as `name@sha256:...` (`microagent image inspect` shows the digest), or allow it with `--allow-mutable`".to_owned()
            }
            Error::NameNotResolved { .. } => "check the spelling of the registry, and the network with `microagent doctor`".to_owned(),
            Error::Unreachable { .. } => "check the network and `HTTPS_PROXY`; a pull continues where it stopped when repeated".to_owned(),
            Error::Tls { host, .. } => format!(
                "put the registry's CA certificate in `/etc/docker/certs.d/{host}/ca.crt` or `~/.config/containers/certs.d/{host}/ca.crt`, or name it in `SSL_CERT_FILE`; `--insecure` does without"
            ),
            Error::NotFound { .. } => "check the repository and the tag; a private image also looks missing without a login".to_owned(),
            Error::LoginRequired { host, .. } => format!(
                "check the name, or log in with `docker login {host}`; credentials are read from `$DOCKER_CONFIG/config.json` or `~/.docker/config.json` and the helpers it names"
            ),
            Error::RegistryReadOnly { .. } => "push to another registry with `--to`".to_owned(),
            Error::RepositoryMissing { .. } => {
                "check its spelling, or make the repository at the registry: not every registry makes one by itself".to_owned()
            }
            Error::RateLimited { host, .. } => format!("wait, or log in with `docker login {host}` for a higher limit"),
            Error::InvalidCredentials { path, .. } => format!("repair or remove `{}`", path.display()),
            Error::CredentialHelper { .. } => {
                "install the helper, or remove it from `credsStore` and `credHelpers` in `~/.docker/config.json`".to_owned()
            }
            Error::DigestMismatch { .. } | Error::SizeMismatch { .. } => {
                "the copy is damaged at its source: pull it from another registry or push it again".to_owned()
            }
            Error::NoMatchingPlatform { .. } => "ask for a platform it has with `--arch`".to_owned(),
            Error::AmbiguousImport { .. } => "choose one with `oci:DIR:NAME`, `oci-archive:FILE:NAME` or `docker-archive:FILE:NAME`".to_owned(),
            Error::UnnamedImport { .. } => "give it one: `microagent image import PATH NAME`".to_owned(),
            Error::InvalidImport { .. } => {
                "import an OCI layout directory, an OCI archive, a `docker save` archive, or a tar of a root filesystem".to_owned()
            }
            Error::InvalidRecord { path, .. } => format!("remove `{}`; images can be pulled again", path.display()),
            Error::RecordVersion { .. } => "use the newer version of this program, or another `--state-dir`".to_owned(),
            Error::Io { source, .. } if is_out_of_space(source) => "free space with `microagent image prune --all`".to_owned(),
            Error::Rootfs(error) => return error.hint(),
            _ => return None,
        };
        Some(hint)
    }

    fn retryable(&self) -> bool {
        match self {
            Error::Rootfs(error) => error.retryable(),
            _ => self.kind() == FaultKind::Transient,
        }
    }
}

fn is_out_of_space(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Text from outside, fit for one line of an error message: control characters escaped, length bounded.
pub(crate) fn quoted(text: &str) -> String {
    const SHOWN: usize = 200;
    let mut shown: String = text
        .chars()
        .take(SHOWN)
        .flat_map(|c| {
            let escaped = c.is_control().then(|| c.escape_default());
            let plain = (!c.is_control()).then_some(c);
            escaped.into_iter().flatten().chain(plain)
        })
        .collect();
    if text.chars().nth(SHOWN).is_some() {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_from_outside_cannot_break_out_of_its_line() {
        assert_eq!(quoted("a\n\u{1b}[31mb"), "a\\n\\u{1b}[31mb");
        assert_eq!(quoted(&"x".repeat(300)).chars().count(), 201);
    }

    #[test]
    fn full_disk_is_told_apart_from_other_failures() {
        let full = Error::io("writing", Path::new("/x"))(io::Error::from(io::ErrorKind::StorageFull));
        assert_eq!((full.code(), full.kind()), ("no_space", FaultKind::ResourceExhausted));
        let denied = Error::io("writing", Path::new("/x"))(io::Error::from(io::ErrorKind::PermissionDenied));
        assert_eq!((denied.code(), denied.kind()), ("image_store_io", FaultKind::Denied));
    }
}
