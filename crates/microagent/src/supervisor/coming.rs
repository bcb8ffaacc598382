//! How the machine of a workspace comes up: it boots, with its set-up steps if they are still to be run, or goes on from a snapshot.

use super::process::{Adopted, Process, Processes};
use super::service_logs;
use crate::boot::session::Session;
use crate::boot::{Arrival, BringUp, Parts, Start, Stopwatch};
use crate::commands::Commands;
use crate::commands::streams::Streams;
use crate::network::Purpose;
use crate::progress::Event;
use crate::snapshot::{RestoredDisks, Restoring};
use crate::{Client, Error, RunIo, StartOptions, inject};
use microagent_machine::log::BoundedLog;
use microagent_state::{Workspace, WorkspaceRecord};
use std::sync::Arc;

/// A machine that is up, with its set-up behind it.
pub(super) struct Up {
    pub(super) session: Session,
    pub(super) parts: Parts,
    /// The processes that go on in it, with the service among them, where it goes on from a snapshot.
    pub(super) processes: Option<GoingOn>,
    pub(super) start: Start,
    pub(super) rehearsed: bool,
    pub(super) template_note: Option<String>,
    pub(super) ready_ms: u64,
}

/// All processes of a machine, and the service among them.
type GoingOn = (Arc<Processes>, Option<Arc<Process>>);

impl Up {
    fn new(session: Session, boot: BringUp, processes: Option<GoingOn>) -> Up {
        let Arrival { start, rehearsed, template_note, .. } = boot.arrival();
        Up { session, parts: boot.parts, processes, start, rehearsed, template_note, ready_ms: 0 }
    }
}

/// Has the machine of the workspace come up, on `disks` if they are to take the place of its own.
pub(super) fn bring_up(
    client: &Client,
    workspace: &Workspace,
    record: &WorkspaceRecord,
    options: &StartOptions,
    disks: Option<&RestoredDisks>,
) -> Result<Up, Error> {
    let mut watch = Stopwatch::start();
    let (kernel, guest_init) = (Some(record.kernel_path.as_path()), record.guest_init.as_deref());
    let parts = Parts::gather(client, Some(&record.backend), kernel, guest_init, &mut watch)?;
    if !record.base_path.exists() {
        return Err(Error::BaseMissing { name: record.name.to_string(), image: record.image.clone() });
    }
    client.progress().event(Event::Booting);
    let mut boot = BringUp::new(client, parts, options.templates, options.interrupt.clone(), watch, Purpose::Work);
    let session = boot.bring_up(workspace, record, disks, None);
    boot.finish_template();
    let session = session?;
    client.progress().event(Event::Booted);
    Ok(Up::new(session, boot, None))
}

/// Has the machine of a snapshot go on as that of the workspace. One without a machine gives its disks, and the workspace starts anew. When
/// this fails, the workspace is what it was.
pub(super) fn bring_back(
    client: &Client,
    workspace: &Workspace,
    record: &mut WorkspaceRecord,
    options: &StartOptions,
    restoring: &Restoring,
) -> Result<Up, Error> {
    let is_fork = restoring.reference().workspace != record.name;
    let wanted =
        if is_fork { WorkspaceRecord { disposable: false, ..record.clone() } } else { restoring.record(record) };
    // A fork was made with its disks.
    let disks = if is_fork { None } else { Some(restoring.disks(workspace, &wanted)?) };
    let up = if restoring.has_machine() {
        go_on(client, workspace, &wanted, options, restoring, disks.as_ref())
    } else {
        bring_up(client, workspace, &wanted, options, disks.as_ref())
    }?;
    if options.interrupt.is_stopped() {
        return Err(Error::Interrupted);
    }
    disks.map_or(Ok(()), |disks| disks.commit(workspace))?;
    *record = wanted;
    // It has the disks of then, and with them what has been done to them. A fork is recorded when it runs.
    if !is_fork {
        workspace.store(record)?;
    }
    let what = format!("snapshot `{}`", restoring.reference());
    // What it was is gone by now, so that a history that cannot be written changes nothing.
    let _ = workspace.note(record, "restored", client.cause(Some(what)));
    Ok(up)
}

fn go_on(
    client: &Client,
    workspace: &Workspace,
    record: &WorkspaceRecord,
    options: &StartOptions,
    restoring: &Restoring,
    disks: Option<&RestoredDisks>,
) -> Result<Up, Error> {
    let mut watch = Stopwatch::start();
    let (kernel, guest_init) = (Some(record.kernel_path.as_path()), record.guest_init.as_deref());
    let parts = Parts::gather(client, Some(&record.backend), kernel, guest_init, &mut watch)?;
    let mut boot = BringUp::new(client, parts, options.templates, options.interrupt.clone(), watch, Purpose::Work);
    let mut adopted = None;
    let session = boot.bring_back(workspace, record, restoring, disks, |channel| {
        let processes = Arc::new(Processes::new(channel.clone()));
        let logs = service_logs(workspace, BoundedLog::open).unwrap_or_default();
        let going_on = processes.adopt(restoring.processes(), logs);
        let requests = going_on.iter().map(Adopted::request).collect();
        adopted = Some((processes, going_on));
        requests
    })?;
    let processes = adopted.map(|(processes, going_on)| {
        let service = processes.go_on(going_on);
        (processes, service)
    });
    Ok(Up::new(session, boot, processes))
}

/// Runs the set-up steps of a workspace in its machine. What they print is kept with the workspace, and goes to `io`.
pub(crate) fn set_up(
    client: &Client,
    session: &mut Session,
    workspace: &Workspace,
    record: &mut WorkspaceRecord,
    interrupt: &crate::Interrupt,
    io: RunIo,
) -> Result<(), Error> {
    let streams = Streams::new(io);
    let during = record.clone();
    let commands = Commands::new(session.machine(), &during, interrupt, None);
    let injected = inject::inject(session.machine().channel(), workspace, None);
    let outcome = injected.and_then(|()| commands.setup(&streams, client.progress()));
    drop(commands);
    let (stdout, stderr) = streams.capture();
    workspace.store_output(&stdout.text, &stderr.text)?;
    outcome.map_err(|error| session.explain(error, None, &during))?;
    record.setup_complete = true;
    workspace.store(record)?;
    inject::forget(workspace);
    session.entrust(record)
}
