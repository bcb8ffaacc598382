//! Starting the process that runs a workspace.

use super::StartOptions;
use crate::supervisor::StartReport;
use crate::{Client, Error};
use microagent_machine::engine::leave_behind;
use microagent_protocol::FaultReport;
use microagent_state::{Name, Phase, Workspace};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The name by which the program knows that it is to run a workspace.
pub(crate) const PROGRAM: &str = "microagent-supervisor";

/// The program that can be called by that name.
const COMMAND: &str = "microagent";

/// Environment variable that names the supervisor program.
const VARIABLE: &str = "MICROAGENT_SUPERVISOR";

/// Most bytes of the supervisor's own log that go into an error.
const LOG_TAIL: usize = 1000;

/// What a supervisor says on its standard output, on one line, when it knows what has become of the start.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(untagged)]
pub enum StartOutcome {
    /// The workspace runs.
    Started(StartReport),
    /// It does not.
    Failed {
        /// Why.
        error: FaultReport,
    },
}

pub(super) fn start(client: &Client, name: &Name, options: &StartOptions) -> Result<StartReport, Error> {
    let workspace = client.state().find(name)?;
    let state = workspace.status()?.phase;
    if !state.can_start() {
        return Err(Error::WrongState { name: name.to_string(), state, doing: "start" });
    }
    let of_another = options.from_snapshot.as_ref().filter(|from| from.workspace != *name);
    if let Some(from) = of_another.filter(|_| workspace.record().is_ok_and(|record| !record.disposable)) {
        // Its memory knows of disks that this one does not have, unless it was just made with them.
        let reason =
            format!("it is not a snapshot of `{name}`; `microagent snapshot fork {from}` makes workspaces of it");
        return Err(Error::BadOption { option: "from-snapshot", value: from.to_string(), reason });
    }
    let program = program(options.supervisor.as_deref())?;
    let log_path = workspace.supervisor_log();
    let log = File::create(&log_path).map_err(microagent_state::Error::io("write", &log_path))?;
    let mut command = Command::new(&program);
    command.arg0(PROGRAM).arg("--state-dir").arg(client.state().root());
    for (flag, value) in client.origin_flags(options.reason.as_deref()) {
        command.arg(flag).arg(value);
    }
    if options.templates == crate::Templates::Off {
        command.arg("--cold");
    }
    if let Some(snapshot) = &options.from_snapshot {
        command.arg("--from-snapshot").arg(snapshot.to_string());
    }
    command.arg(name.as_str()).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log);
    leave_behind(&mut command);
    let mut supervisor =
        command.spawn().map_err(|source| Error::SupervisorNotRun { program: program.clone(), source })?;
    let pid = Pid::from_child(&supervisor);
    // It is not reaped before this is dropped, so the id is its own. At the second signal it does not wait for its guest to come to rest.
    let giving_up = options.interrupt.listen(move |_| {
        let _ = kill_process(pid, Signal::TERM);
    });
    let mut line = String::new();
    let answered = supervisor.stdout.take().map(|said| BufReader::new(said).read_line(&mut line));
    let interrupted = || options.interrupt.is_stopped();
    let verdict = match answered {
        Some(Ok(1..)) => serde_json::from_str(&line).ok(),
        _ => None,
    };
    match verdict {
        // It had come up when it was told that it need not.
        Some(StartOutcome::Started(_)) if interrupted() => {
            let _ = waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT);
            drop(giving_up);
            let _ = supervisor.wait();
            Err(Error::Interrupted)
        }
        Some(StartOutcome::Started(report)) => Ok(report),
        _ if interrupted() => Err(Error::Interrupted),
        Some(StartOutcome::Failed { error }) => {
            drop(giving_up);
            let _ = supervisor.wait();
            Err(Error::Supervisor(Box::new(error)))
        }
        None => {
            drop(giving_up);
            let _ = supervisor.wait();
            Err(Error::SupervisorLost { name: name.to_string(), said: last_words(&workspace) })
        }
    }
}

/// The program that runs workspaces: the one that is named, else one beside this program or on `PATH`.
fn program(named: Option<&Path>) -> Result<PathBuf, Error> {
    if let Some(named) = named {
        return Ok(named.to_owned());
    }
    if let Some(named) = std::env::var_os(VARIABLE).filter(|named| !named.is_empty()) {
        return Ok(named.into());
    }
    let this = std::env::current_exe().ok();
    let beside = this.as_deref().and_then(Path::parent).map(Path::to_owned);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let directories: Vec<PathBuf> = beside.into_iter().chain(std::env::split_paths(&path)).collect();
    let found = |name: &str| directories.iter().map(|directory| directory.join(name)).find(|file| file.is_file());
    let this = this.filter(|this| this.file_name().is_some_and(|name| name == COMMAND));
    this.or_else(|| found(PROGRAM)).or_else(|| found(COMMAND)).ok_or(Error::SupervisorMissing)
}

/// What the supervisor said before it ended, on one line; or what is on record of it.
fn last_words(workspace: &Workspace) -> String {
    let bytes = std::fs::read(workspace.supervisor_log()).unwrap_or_default();
    let tail = String::from_utf8_lossy(&bytes[bytes.len().saturating_sub(LOG_TAIL)..]).into_owned();
    let said = tail.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join("; ");
    if !said.is_empty() {
        return said;
    }
    match workspace.record() {
        Ok(record) if record.phase == Phase::Failed => record.error.map(|error| error.message).unwrap_or_default(),
        _ => String::new(),
    }
}
