//! Everything a call of this library can fail with.

use microagent_protocol::{Fault, FaultKind, FaultReport};
use std::io;
use std::path::PathBuf;

/// The error of this library.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// See [`microagent_image::Error`].
    #[error(transparent)]
    Image(#[from] microagent_image::Error),
    /// See [`microagent_machine::Error`].
    #[error(transparent)]
    Machine(#[from] microagent_machine::Error),
    /// See [`microagent_state::Error`].
    #[error(transparent)]
    State(#[from] microagent_state::Error),
    /// See [`microagent_egress::Error`].
    #[error(transparent)]
    Egress(#[from] microagent_egress::Error),
    /// See [`microagent_gateway::Error`].
    #[error(transparent)]
    Gateway(#[from] microagent_gateway::Error),
    /// See [`microagent_gateway::proxy::ProxyError`].
    #[error(transparent)]
    Proxy(#[from] microagent_gateway::proxy::ProxyError),
    /// See [`microagent_intercept::Error`].
    #[error(transparent)]
    Intercept(#[from] microagent_intercept::Error),
    /// See [`microagent_secret::Error`].
    #[error(transparent)]
    Secret(#[from] microagent_secret::Error),
    /// A network mode that there is not.
    #[error("network mode `{mode}` is not supported")]
    NetworkUnsupported {
        /// The mode.
        mode: &'static str,
    },
    /// Which addresses are the host's cannot be found out.
    #[error("cannot read the addresses of this host")]
    OwnAddresses {
        /// What the kernel said.
        source: io::Error,
    },
    /// A port of the host cannot be had.
    #[error("cannot listen on `{address}`")]
    PortUnavailable {
        /// Where.
        address: std::net::SocketAddr,
        /// What the kernel said.
        source: io::Error,
    },
    /// A service that a workspace needs does not answer.
    #[error("the service `{target}` of mediation {port} cannot be reached")]
    MediationUnreachable {
        /// Its number.
        port: u16,
        /// Where it should be.
        target: String,
        /// Why not.
        source: io::Error,
    },
    /// No profile has that name.
    #[error("unknown profile `{name}`")]
    ProfileUnknown {
        /// The name given.
        name: String,
    },
    /// A number is outside of what a machine can have.
    #[error("`{option}` is {value}, and must be from {min} to {max}")]
    OutOfRange {
        /// The option.
        option: &'static str,
        /// What was given.
        value: u64,
        /// The least allowed.
        min: u64,
        /// The most allowed.
        max: u64,
    },
    /// An option has a value it cannot have.
    #[error("`{option}` cannot be `{value}`: {reason}")]
    BadOption {
        /// The option.
        option: &'static str,
        /// What was given.
        value: String,
        /// Why not.
        reason: String,
    },
    /// A directory of the host is to be mounted.
    #[error("`--volume {value}` is not supported: directories of the host cannot be mounted in a microVM")]
    HostDirectory {
        /// What was given.
        value: String,
    },
    /// Neither the caller nor the image names a command.
    #[error("image `{image}` has no command of its own and none was given")]
    NoCommand {
        /// The image.
        image: String,
    },
    /// The image is for another architecture than this host.
    #[error("cannot run a `{platform}` guest on this host")]
    ForeignPlatform {
        /// The platform asked for.
        platform: String,
    },
    /// A file named by an option cannot be read.
    #[error("cannot read `{}`, given as `{option}`", path.display())]
    ReadFile {
        /// The option.
        option: &'static str,
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// A set-up step failed, and with it the run.
    #[error("set-up step {step} of {steps} failed with exit code {exit_code}: `{line}`")]
    SetupFailed {
        /// Which, from 1.
        step: usize,
        /// Of how many.
        steps: usize,
        /// Its exit status, or 128 plus the signal that killed it.
        exit_code: i32,
        /// The line.
        line: String,
    },
    /// A set-up step could not be started.
    #[error("cannot start set-up step {step} of {steps}: {source}")]
    SetupNotStarted {
        /// Which, from 1.
        step: usize,
        /// Of how many.
        steps: usize,
        /// Why.
        source: microagent_machine::Error,
    },
    /// The command could not be started.
    #[error("cannot start the command: {source}")]
    NotStarted {
        /// Why.
        source: microagent_machine::Error,
    },
    /// The run took longer than it was given.
    #[error("{run} timeout={timeout:?}): signal: killed")]
    TimedOut {
        /// Which run.
        run: Box<FailedRun>,
        /// The time it was given.
        timeout: std::time::Duration,
    },
    /// The machine did not come up, or ended before its command did.
    #[error("{run}){}", console_suffix(console.as_deref()))]
    MachineFailed {
        /// Which run.
        run: Box<FailedRun>,
        /// What went wrong.
        source: Box<microagent_machine::Error>,
        /// What the guest kernel said last, when that tells why.
        console: Option<String>,
    },
    /// The workspace is not in a state in which that can be done.
    #[error("cannot {doing} workspace `{name}`: it is {state}")]
    WrongState {
        /// The workspace.
        name: String,
        /// Its state.
        state: microagent_state::Phase,
        /// What was to be done, as in "cannot ... workspace".
        doing: &'static str,
    },
    /// A snapshot cannot have a disk that the workspace writes to.
    #[error(
        "cannot take a snapshot of workspace `{name}` while it runs: it writes to disk `{disk}`, which is not its own"
    )]
    SnapshotDisk {
        /// The workspace.
        name: String,
        /// The disk.
        disk: String,
    },
    /// A snapshot was taken to be looked at.
    #[error("snapshot `{snapshot}` cannot be started: it was kept as evidence, with whatever secrets were in it")]
    SnapshotForensic {
        /// The snapshot.
        snapshot: String,
    },
    /// No machine of this host and this program can go on from a snapshot.
    #[error("no machine can go on from snapshot `{snapshot}`: {why}")]
    SnapshotIncompatible {
        /// The snapshot.
        snapshot: String,
        /// What is different.
        why: String,
    },
    /// What a workspace was made from is not here any more.
    #[error("cannot start workspace `{name}`: the base of its image `{image}` is gone")]
    BaseMissing {
        /// The workspace.
        name: String,
        /// The image.
        image: String,
    },
    /// The command of a workspace ended as it should not.
    #[error("the service of workspace `{name}` ended with exit code {exit_code}")]
    ServiceFailed {
        /// The workspace.
        name: String,
        /// Its exit status, or 128 plus the signal that killed it.
        exit_code: i32,
    },
    /// A workspace came to an end other than the one asked for.
    #[error("workspace `{name}` failed: {}", reason.message)]
    EndedBadly {
        /// The workspace.
        name: String,
        /// What went wrong.
        reason: Box<FaultReport>,
    },
    /// The socket of a supervisor cannot be made or reached.
    #[error("cannot use the supervisor's socket")]
    Socket {
        /// What the kernel said.
        source: io::Error,
    },
    /// There is no program to run a workspace.
    #[error("no supervisor program: neither `microagent-supervisor` nor `microagent` was found")]
    SupervisorMissing,
    /// The supervisor cannot be started.
    #[error("cannot run the supervisor `{}`", program.display())]
    SupervisorNotRun {
        /// The program.
        program: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The supervisor ended without a word.
    #[error("the supervisor of workspace `{name}` ended without an answer{}", said_suffix(said))]
    SupervisorLost {
        /// The workspace.
        name: String,
        /// What it said last.
        said: String,
    },
    /// The supervisor speaks another version.
    #[error("the supervisor of workspace `{name}` speaks protocol version {theirs}, this program version {ours}")]
    SupervisorVersion {
        /// The workspace.
        name: String,
        /// Our version.
        ours: u32,
        /// The supervisor's.
        theirs: u32,
    },
    /// The supervisor did not do as asked.
    #[error("{}", .0.message)]
    Supervisor(Box<FaultReport>),
    /// What is to be copied cannot be read.
    #[error("cannot copy `{}`", path.display())]
    CopySource {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The place where something is to be copied to cannot be opened.
    #[error("cannot copy to `{}`", path.display())]
    CopyDestination {
        /// The directory.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// Nothing can be copied there.
    #[error("cannot copy to `{path}`: {reason}")]
    BadDestination {
        /// What was given.
        path: String,
        /// Why not.
        reason: String,
    },
    /// A stream that is copied from or to failed.
    #[error("cannot pass the archive on")]
    CopyStream {
        /// What the kernel said.
        source: io::Error,
    },
    /// See [`microagent_tar::Error`].
    #[error(transparent)]
    Archive(#[from] microagent_tar::Error),
    /// A workspace declares no such artifact.
    #[error("workspace `{name}` declares no artifact called `{artifact}`")]
    ArtifactUnknown {
        /// The workspace.
        name: String,
        /// What was asked for.
        artifact: String,
        /// Those there are.
        known: Vec<String>,
    },
    /// A workspace that was not made from an image cannot become one.
    #[error("workspace `{name}` was made from a root file system, not from an image")]
    NoImage {
        /// The workspace.
        name: String,
    },
    /// A disk cannot be made smaller.
    #[error("cannot resize workspace `{name}` from {from} MiB to {to} MiB: a disk only grows")]
    CannotShrink {
        /// The workspace.
        name: String,
        /// Its size in MiB.
        from: u64,
        /// The size asked for.
        to: u64,
    },
    /// A request to a supervisor makes no sense.
    #[error("the request cannot be read: {reason}")]
    BadRequest {
        /// Why.
        reason: String,
    },
    /// A server in the workspace did not answer as one of HTTP does.
    #[error("the server at port {port} of the workspace was asked for a page, and {reason}")]
    NoHttpAnswer {
        /// Its port in the guest.
        port: u16,
        /// What it did instead.
        reason: String,
    },
    /// The supervisor knows no such process.
    #[error("no process of the workspace has the id `{process}`")]
    ProcessUnknown {
        /// What was asked for.
        process: String,
    },
    /// A workspace cannot become what its file says.
    #[error("cannot apply `{field}` to workspace `{name}`: it is `{from}`, and cannot become `{to}`: {reason}")]
    CannotApply {
        /// The workspace.
        name: String,
        /// The key.
        field: &'static str,
        /// What it is.
        from: String,
        /// What it was to be.
        to: String,
        /// Why it cannot.
        reason: &'static str,
    },
    /// A workspace that is supervised was started again as often as it may be.
    #[error("workspace `{name}` ended again after {restarts} restarts")]
    TooManyRestarts {
        /// The workspace.
        name: String,
        /// How often it was.
        restarts: u32,
    },
    /// A workspace file or request is wrong.
    #[error("`{}`, line {line}, column {column}: {reason}", path.display())]
    SpecInvalid {
        /// The file.
        path: PathBuf,
        /// Where, from 1.
        line: u64,
        /// Where, from 1.
        column: u64,
        /// What is wrong.
        reason: String,
        /// What may have been meant.
        suggestion: Option<String>,
    },
    /// A workspace file asks for something that is not built yet.
    #[error("`{}`, line {line}, column {column}: `{key}` is not supported yet", path.display())]
    SpecNotBuilt {
        /// The file.
        path: PathBuf,
        /// Where, from 1.
        line: u64,
        /// Where, from 1.
        column: u64,
        /// The key.
        key: String,
        /// What to do without it.
        hint: &'static str,
    },
    /// A workspace file cannot be read.
    #[error("cannot read the workspace file `{}`", path.display())]
    SpecUnreadable {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// Two workspace files are found where one is looked for.
    #[error("`{}` holds both `microagent.yaml` and `microagent.yml`", directory.display())]
    SpecAmbiguous {
        /// Where.
        directory: PathBuf,
    },
    /// The caller stopped it.
    #[error("interrupted")]
    Interrupted,
    /// The kernel's random number generator cannot be read.
    #[error("cannot read entropy from the host kernel")]
    Entropy,
}

/// A run whose machine failed.
#[derive(Clone, Debug)]
pub struct FailedRun {
    /// The workspace, which is still there.
    pub workspace: microagent_state::Name,
    /// What the processors ran on.
    pub backend: String,
    /// The engine program.
    pub engine: String,
}

/// The beginning of a message that goes on inside the parenthesis.
impl std::fmt::Display for FailedRun {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "run workspace \"{}\" failed (backend={} engine={}", self.workspace, self.backend, self.engine)
    }
}

fn said_suffix(said: &str) -> String {
    if said.is_empty() { String::new() } else { format!("; it said `{said}`") }
}

fn console_suffix(console: Option<&str>) -> String {
    console.map(|line| format!(", the guest kernel said `{line}`")).unwrap_or_default()
}

impl Fault for Error {
    fn code(&self) -> &str {
        match self {
            Error::Image(error) => error.code(),
            Error::Machine(error) => error.code(),
            Error::State(error) => error.code(),
            Error::ProfileUnknown { .. } => "profile_unknown",
            Error::OutOfRange { .. } => "option_out_of_range",
            Error::Egress(error) => error.code(),
            Error::Gateway(error) => error.code(),
            Error::Proxy(error) => error.code(),
            Error::Intercept(error) => error.code(),
            Error::Secret(error) => error.code(),
            Error::NetworkUnsupported { .. } => "network_mode_unsupported",
            Error::OwnAddresses { .. } => "host_addresses",
            Error::PortUnavailable { .. } => "port_unavailable",
            Error::MediationUnreachable { .. } => "mediation_unreachable",
            Error::BadOption { .. } => "option_invalid",
            Error::HostDirectory { .. } => "unsupported_container_option",
            Error::NoCommand { .. } => "command_missing",
            Error::ForeignPlatform { .. } => "platform_foreign",
            Error::ReadFile { .. } => "file_unreadable",
            Error::SetupFailed { .. } => "setup_failed",
            Error::SetupNotStarted { .. } => "setup_not_started",
            Error::NotStarted { source } => source.code(),
            Error::TimedOut { .. } => "run_timed_out",
            Error::MachineFailed { .. } => "machine_failed",
            Error::WrongState { .. } => "workspace_state",
            Error::SnapshotDisk { .. } => "snapshot_disk",
            Error::SnapshotForensic { .. } => "snapshot_forensic",
            Error::SnapshotIncompatible { .. } => "snapshot_incompatible",
            Error::BaseMissing { .. } => "base_missing",
            Error::ServiceFailed { .. } => "service_failed",
            Error::EndedBadly { reason, .. } => &reason.code,
            Error::Socket { .. } => "supervisor_unreachable",
            Error::SupervisorMissing => "supervisor_missing",
            Error::SupervisorNotRun { .. } => "supervisor_not_run",
            Error::SupervisorLost { .. } => "supervisor_lost",
            Error::SupervisorVersion { .. } => "supervisor_version",
            Error::Supervisor(report) => &report.code,
            Error::CopySource { .. } => "copy_source_unreadable",
            Error::CopyDestination { .. } => "copy_destination_unusable",
            Error::BadDestination { .. } => "copy_destination_invalid",
            Error::CopyStream { .. } => "copy_stream_failed",
            Error::Archive(error) => error.code(),
            Error::ArtifactUnknown { .. } => "artifact_unknown",
            Error::NoImage { .. } => "image_missing",
            Error::CannotShrink { .. } => "resize_cannot_shrink",
            Error::BadRequest { .. } => "bad_request",
            Error::NoHttpAnswer { .. } => "no_http_answer",
            Error::ProcessUnknown { .. } => "process_unknown",
            Error::CannotApply { .. } => "apply_impossible",
            Error::TooManyRestarts { .. } => "too_many_restarts",
            Error::SpecInvalid { .. } => "spec_invalid",
            Error::SpecNotBuilt { .. } => "not_supported_yet",
            Error::SpecUnreadable { .. } => "spec_unreadable",
            Error::SpecAmbiguous { .. } => "spec_ambiguous",
            Error::Interrupted => "interrupted",
            Error::Entropy => "entropy_unavailable",
        }
    }

    fn kind(&self) -> FaultKind {
        match self {
            Error::Image(error) => error.kind(),
            Error::Machine(error) => error.kind(),
            Error::State(error) => error.kind(),
            Error::Egress(error) => error.kind(),
            Error::Gateway(error) => error.kind(),
            Error::Proxy(error) => error.kind(),
            Error::Intercept(error) => error.kind(),
            Error::Secret(error) => error.kind(),
            Error::PortUnavailable { source, .. } => match source.kind() {
                io::ErrorKind::AddrInUse => FaultKind::Conflict,
                io::ErrorKind::PermissionDenied => FaultKind::Denied,
                _ => FaultKind::Usage,
            },
            Error::MediationUnreachable { .. } | Error::NoHttpAnswer { .. } => FaultKind::Transient,
            Error::NotStarted { source } | Error::SetupNotStarted { source, .. } => source.kind(),
            Error::Archive(error) => error.kind(),
            Error::EndedBadly { reason, .. } => reason.kind,
            Error::Supervisor(report) => report.kind,
            Error::CopySource { source, .. } | Error::CopyDestination { source, .. } => match source.kind() {
                io::ErrorKind::NotFound => FaultKind::NotFound,
                io::ErrorKind::PermissionDenied => FaultKind::Denied,
                _ => FaultKind::Permanent,
            },
            Error::ProfileUnknown { .. }
            | Error::NetworkUnsupported { .. }
            | Error::OutOfRange { .. }
            | Error::BadOption { .. }
            | Error::NoCommand { .. }
            | Error::ReadFile { .. }
            | Error::BadRequest { .. }
            | Error::BadDestination { .. }
            | Error::SpecInvalid { .. }
            | Error::SpecUnreadable { .. }
            | Error::SpecAmbiguous { .. } => FaultKind::Usage,
            Error::ForeignPlatform { .. }
            | Error::HostDirectory { .. }
            | Error::SupervisorVersion { .. }
            | Error::CannotShrink { .. }
            | Error::NoImage { .. }
            | Error::CannotApply { .. }
            | Error::SnapshotIncompatible { .. }
            | Error::SpecNotBuilt { .. } => FaultKind::Unsupported,
            Error::BaseMissing { .. }
            | Error::SupervisorMissing
            | Error::ProcessUnknown { .. }
            | Error::ArtifactUnknown { .. } => FaultKind::NotFound,
            Error::WrongState { .. } | Error::SnapshotDisk { .. } => FaultKind::Conflict,
            Error::SnapshotForensic { .. } => FaultKind::Denied,
            Error::SetupFailed { .. }
            | Error::TimedOut { .. }
            | Error::MachineFailed { .. }
            | Error::Interrupted
            | Error::ServiceFailed { .. }
            | Error::OwnAddresses { .. }
            | Error::Socket { .. }
            | Error::SupervisorNotRun { .. }
            | Error::SupervisorLost { .. }
            | Error::CopyStream { .. }
            | Error::TooManyRestarts { .. } => FaultKind::Permanent,
            Error::Entropy => FaultKind::Internal,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Error::Image(error) => error.hint(),
            Error::Machine(error) => error.hint(),
            Error::State(error) => error.hint(),
            Error::Egress(error) => error.hint(),
            Error::Gateway(error) => error.hint(),
            Error::Proxy(error) => error.hint(),
            Error::Intercept(error) => error.hint(),
            Error::Secret(error) => error.hint(),
            Error::NetworkUnsupported { .. } => Some(
                "`user` gives it the host's network through a gateway, without privileges; `isolated` gives it none".to_owned(),
            ),
            Error::PortUnavailable { source, .. } if source.kind() == io::ErrorKind::AddrInUse => {
                Some("another program listens there: name another port of the host, or 0 for one that is free".to_owned())
            }
            Error::MediationUnreachable { .. } => {
                Some("start the service, or let the workspace run without it: `--mediation-optional`".to_owned())
            }
            Error::ProfileUnknown { .. } => Some("`microagent profiles` lists them".to_owned()),
            Error::HostDirectory { .. } => Some(
                "pack the directory as a tar archive (`-v files.tar:/path`), attach an ext4 disk (`-v disk.ext4:/path`) or a named volume \
                 (`-v data:/path`); `microagent cp` and `--output` bring files back"
                    .to_owned(),
            ),
            Error::NoCommand { .. } => Some("give one after the image, or a shell line with `--exec`".to_owned()),
            Error::ForeignPlatform { .. } => {
                Some(format!("this host runs `{}` guests", microagent_image::Platform::host()))
            }
            Error::NotStarted { source } | Error::SetupNotStarted { source, .. } => source.hint(),
            Error::TimedOut { run, .. } | Error::MachineFailed { run, .. } => {
                let name = &run.workspace;
                Some(format!("see `microagent logs {name}`; remove it with `microagent delete {name} --yes`"))
            }
            Error::WrongState { name, state, doing } => Some(match state {
                microagent_state::Phase::Quarantined if *doing == "delete" => {
                    format!("delete it all the same with `microagent delete {name} --force`")
                }
                _ if *doing == "delete" => {
                    format!("`microagent delete {name} --yes` halts it first, `--force` kills it")
                }
                state if matches!(*doing, "clone" | "restore") && state.is_live() => {
                    format!("halt it with `microagent halt {name}`")
                }
                microagent_state::Phase::Paused => format!("resume it with `microagent resume {name}`"),
                state if state.can_start() => format!("start it with `microagent start {name}`"),
                _ => format!("see its history with `microagent events {name}`"),
            }),
            Error::SnapshotDisk { name, .. } => {
                Some(format!("halt it with `microagent halt {name}` for a snapshot of its disks alone, or mount that one read-only"))
            }
            Error::SnapshotIncompatible { snapshot, .. } => Some(format!(
                "start anew with its disks: `microagent create NAME --from-snapshot {snapshot} --disk-only`"
            )),
            Error::BaseMissing { image, .. } => Some(format!("bring it back with `microagent image pull {image}`")),
            Error::ServiceFailed { name, .. } => Some(format!("see what it said with `microagent logs {name}`")),
            Error::EndedBadly { name, .. } => Some(format!("see `microagent status {name}` and `microagent logs {name}`")),
            Error::SupervisorMissing => Some("name one with `--supervisor PATH`".to_owned()),
            Error::SupervisorVersion { name, .. } => {
                Some(format!("halt and start it with this version: `microagent halt {name} && microagent start {name}`"))
            }
            Error::Archive(error) => error.hint(),
            Error::ArtifactUnknown { known, .. } if known.is_empty() => {
                Some("declare one with `--output NAME=/path` when the workspace is made".to_owned())
            }
            Error::ArtifactUnknown { known, .. } => Some(format!("it declares {}", known.join(", "))),
            Error::CannotShrink { .. } => {
                Some("make a smaller workspace, and copy what it needs with `microagent cp`".to_owned())
            }
            Error::CannotApply { name, .. } => Some(format!(
                "nothing was changed; take it out of the file, or make another workspace: `microagent clone {name} NAME` keeps the disk"
            )),
            Error::TooManyRestarts { name, .. } => {
                Some(format!("see `microagent events {name}` and `microagent logs {name}`"))
            }
            Error::SpecInvalid { suggestion, .. } => suggestion.clone(),
            Error::SpecNotBuilt { hint, .. } => Some((*hint).to_owned()),
            Error::SpecAmbiguous { .. } => Some("remove one of them, or name one with `--file PATH`".to_owned()),
            Error::Supervisor(report) => report.remediation.clone(),
            Error::ProcessUnknown { .. } => Some("`microagent exec NAME --list` shows those there are".to_owned()),
            _ => None,
        }
    }

    fn retryable(&self) -> bool {
        match self {
            Error::Supervisor(report) => report.retryable,
            other => other.kind() == FaultKind::Transient,
        }
    }
}

impl From<microagent_machine::channel::StreamTaken> for Error {
    fn from(taken: microagent_machine::channel::StreamTaken) -> Error {
        Error::BadRequest { reason: taken.to_string() }
    }
}

impl Error {
    /// Whether a guest that powered off is all that is behind it.
    pub(crate) fn is_power_off(&self) -> bool {
        matches!(self, Error::MachineFailed { source, console: None, .. } if source.is_power_off())
    }

    /// The error written down, for JSON output and records.
    pub fn report(&self) -> FaultReport {
        FaultReport::new(self)
    }
}
