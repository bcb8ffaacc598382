//! Everything that can go wrong with a machine.

use crate::engine::{POWER_OFF, kind_of};
use microagent_protocol::{Fault, FaultKind, Refusal, RefusalCode};
use std::io;
use std::path::PathBuf;

/// The error of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No engine program on this host, or one that does not serve.
    #[error("{why}")]
    EngineUnusable {
        /// What is wrong with it.
        why: String,
        /// What to do about it.
        hint: String,
    },
    /// The backend asked for does not work on this host.
    #[error("backend `{backend}` does not work on this host: {why}")]
    BackendUnusable {
        /// The backend.
        backend: &'static str,
        /// Why not.
        why: String,
    },
    /// `--backend` names none we have.
    #[error("unknown backend `{name}`")]
    UnknownBackend {
        /// The name given.
        name: String,
    },
    /// The engine program did not start.
    #[error("cannot start `{}`", program.display())]
    Launch {
        /// The program.
        program: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The engine's log cannot be made.
    #[error("cannot write the engine's log `{}`", path.display())]
    EngineLog {
        /// The log.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// A disk image cannot be opened.
    #[error("cannot open the disk image `{}`", path.display())]
    OpenDisk {
        /// The image.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// RAM of a machine cannot be made, or written to a file.
    #[error("cannot keep the memory of a machine: {source}")]
    Memory {
        /// What the kernel said.
        source: io::Error,
    },
    /// A rehearsed machine's engine cannot be checkpointed.
    #[error(transparent)]
    Checkpoint(#[from] microagent_checkpoint::Error),
    /// The engine process cannot be waited for.
    #[error("cannot wait for the engine process")]
    EngineWait {
        /// What the kernel said.
        source: io::Error,
    },
    /// The engine ended on its own.
    #[error("the machine ended unexpectedly with {how}{}", log_suffix(log))]
    EngineExited {
        /// Exit status or signal.
        how: String,
        /// The last lines of what it printed.
        log: String,
    },
    /// The byte stream to the guest cannot be set up.
    #[error("cannot set up the channel to the guest")]
    Channel {
        /// What the kernel said.
        source: io::Error,
    },
    /// The engine refused a command, or answered what it should not.
    #[error("the engine could not `{command}`: {said}")]
    EngineCommand {
        /// What it was told.
        command: &'static str,
        /// What it answered.
        said: String,
    },
    /// The guest is gone.
    #[error("the guest went away")]
    GuestLost,
    /// The guest broke the protocol.
    #[error("the guest broke the protocol: {what}")]
    ProtocolViolation {
        /// How.
        what: String,
    },
    /// The guest speaks another version.
    #[error("the guest agent speaks protocol version {guests}, this program version {ours}")]
    ProtocolVersion {
        /// Our version.
        ours: u32,
        /// The guest's.
        guests: u32,
    },
    /// A request does not fit a frame.
    #[error("the request has {bytes} bytes, more than the {limit} the guest takes")]
    RequestTooLong {
        /// Its size.
        bytes: usize,
        /// The most allowed.
        limit: usize,
    },
    /// A deadline given by the caller passed.
    #[error("the guest did not answer in time")]
    DeadlinePassed,
    /// The guest refused a request.
    #[error(transparent)]
    Refused(Refusal),
    /// See [`crate::kernel::Error`].
    #[error(transparent)]
    Kernel(#[from] crate::kernel::Error),
    /// See [`crate::initramfs::Error`].
    #[error(transparent)]
    Initramfs(#[from] crate::initramfs::Error),
    /// See [`crate::template::Error`].
    #[error(transparent)]
    Template(#[from] crate::template::Error),
}

fn log_suffix(log: &str) -> String {
    if log.is_empty() { String::new() } else { format!(": {log}") }
}

impl Error {
    /// Whether the machine ended because its guest restarted or powered off. So does one that panics.
    pub fn is_power_off(&self) -> bool {
        matches!(self, Error::EngineExited { how, .. } if how == POWER_OFF)
    }
}

impl Fault for Error {
    fn code(&self) -> &str {
        match self {
            Error::EngineUnusable { .. } => "engine_unusable",
            Error::BackendUnusable { .. } => "backend_unusable",
            Error::UnknownBackend { .. } => "backend_unknown",
            Error::Launch { .. } => "engine_launch_failed",
            Error::EngineLog { .. } => "engine_log_failed",
            Error::OpenDisk { .. } => "disk_open_failed",
            Error::Memory { .. } => "machine_memory_failed",
            Error::Checkpoint(_) => "checkpoint_failed",
            Error::EngineWait { .. } => "engine_wait_failed",
            Error::EngineExited { .. } => "engine_exited",
            Error::EngineCommand { .. } => "engine_command_failed",
            Error::Channel { .. } => "channel_failed",
            Error::GuestLost => "guest_lost",
            Error::ProtocolViolation { .. } => "guest_protocol_violation",
            Error::ProtocolVersion { .. } => "guest_protocol_version",
            Error::RequestTooLong { .. } => "request_too_long",
            Error::DeadlinePassed => "guest_deadline_passed",
            Error::Refused(refusal) => refusal_code(refusal.code),
            Error::Kernel(error) => error.code(),
            Error::Initramfs(error) => error.code(),
            Error::Template(error) => error.code(),
        }
    }

    fn kind(&self) -> FaultKind {
        match self {
            Error::EngineUnusable { .. } => FaultKind::NotFound,
            Error::BackendUnusable { .. } | Error::Checkpoint(_) => FaultKind::Unsupported,
            Error::UnknownBackend { .. } | Error::RequestTooLong { .. } => FaultKind::Usage,
            Error::Launch { source, .. }
            | Error::EngineLog { source, .. }
            | Error::OpenDisk { source, .. }
            | Error::Memory { source }
            | Error::EngineWait { source }
            | Error::Channel { source } => kind_of(source),
            Error::EngineExited { .. } | Error::EngineCommand { .. } | Error::GuestLost | Error::DeadlinePassed => {
                FaultKind::Permanent
            }
            Error::ProtocolViolation { .. } => FaultKind::Invalid,
            Error::ProtocolVersion { .. } => FaultKind::Internal,
            Error::Refused(refusal) => refusal_kind(refusal.code),
            Error::Kernel(error) => error.kind(),
            Error::Initramfs(error) => error.kind(),
            Error::Template(error) => error.kind(),
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Error::EngineUnusable { hint, .. } => Some(hint.clone()),
            Error::BackendUnusable { .. } => {
                Some("leave `--backend` out to use what works; `microagent doctor` tells more".to_owned())
            }
            Error::UnknownBackend { .. } => Some("this version has `linux-kvm` and `linux-tcg`".to_owned()),
            Error::Refused(refusal) => refusal_hint(refusal.code),
            Error::Kernel(error) => error.hint(),
            Error::Initramfs(error) => error.hint(),
            Error::Template(error) => error.hint(),
            _ => None,
        }
    }
}

fn refusal_code(code: RefusalCode) -> &'static str {
    match code {
        RefusalCode::BadRequest => "guest_bad_request",
        RefusalCode::UnknownVerb => "guest_unknown_verb",
        RefusalCode::WrongState => "guest_wrong_state",
        RefusalCode::DiskMissing => "guest_disk_missing",
        RefusalCode::MountFailed => "guest_mount_failed",
        RefusalCode::CommandNotFound => "command_not_found",
        RefusalCode::CommandNotExecutable => "command_not_executable",
        RefusalCode::UserUnknown => "user_unknown",
        RefusalCode::WorkingDirectory => "working_directory",
        RefusalCode::NoSuchProcess => "no_such_process",
        RefusalCode::ConnectionRefused => "connection_refused",
        RefusalCode::FileMissing => "file_missing",
        RefusalCode::FileAccess => "file_access",
        RefusalCode::FileConflict => "file_conflict",
        RefusalCode::BadArchive => "bad_archive",
        RefusalCode::DiskFull => "guest_disk_full",
        RefusalCode::Cancelled => "cancelled",
        RefusalCode::System => "guest_system",
    }
}

fn refusal_kind(code: RefusalCode) -> FaultKind {
    match code {
        RefusalCode::BadRequest => FaultKind::Usage,
        RefusalCode::ConnectionRefused => FaultKind::Transient,
        RefusalCode::WorkingDirectory | RefusalCode::CommandNotExecutable | RefusalCode::Cancelled => {
            FaultKind::Permanent
        }
        RefusalCode::UnknownVerb | RefusalCode::WrongState | RefusalCode::DiskMissing => FaultKind::Internal,
        RefusalCode::MountFailed | RefusalCode::BadArchive => FaultKind::Invalid,
        RefusalCode::CommandNotFound
        | RefusalCode::UserUnknown
        | RefusalCode::NoSuchProcess
        | RefusalCode::FileMissing => FaultKind::NotFound,
        RefusalCode::FileAccess => FaultKind::Denied,
        RefusalCode::FileConflict => FaultKind::Conflict,
        RefusalCode::System | RefusalCode::DiskFull => FaultKind::ResourceExhausted,
    }
}

fn refusal_hint(code: RefusalCode) -> Option<String> {
    let hint = match code {
        RefusalCode::CommandNotFound => {
            "check its spelling and that the image contains it; shell lines need a `/bin/sh` in the image"
        }
        RefusalCode::UserUnknown => "use a name from the image's /etc/passwd and /etc/group, or numbers",
        RefusalCode::CommandNotExecutable => "the file needs execute permission and a format the guest can run",
        RefusalCode::FileConflict => "remove what is in the way, or name another destination",
        RefusalCode::DiskFull => "make room in the workspace, or make its disk larger",
        _ => return None,
    };
    Some(hint.to_owned())
}
