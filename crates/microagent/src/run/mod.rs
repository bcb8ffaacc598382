//! The one-shot path: image, machine, command, result, and nothing left.
//!
//! [`run`] goes through it in order. What can be checked offline is checked first ([`Plan`]). Then the parts are found or made: kernel,
//! initramfs, image, base. A workspace is made for the writable disk and the records; its lease is held to the end. The machine is booted
//! and given its disks ([`session`]), set-up lines and the command run in it ([`command`]), and the machine is killed: what a disposable
//! run wrote has no reader, so there is nothing to shut down. A kept workspace is unmounted first.

mod report;

pub(crate) use report::result;
pub use report::{ImageSummary, Response, RunReport};

use crate::boot::session::Session;
use crate::boot::{BringUp, Parts, Stopwatch};
use crate::commands::Commands;
use crate::commands::streams::Streams;
use crate::network::Purpose;
use crate::progress::Event;
use crate::{Client, Error, Plan, RunIo, RunOptions, attach, describe, inject};
use microagent_egress::{Log, Summary};
use microagent_protocol::Exit;
use microagent_state::{ForwardRecord, Phase, Record, Workspace, WorkspaceRecord};
use std::fs::File;
use std::path::Path;
use std::time::Instant;

/// A run whose parts are all there.
struct Run<'a> {
    client: &'a Client,
    options: &'a RunOptions,
    boot: BringUp<'a>,
    egress: Option<Summary>,
    ports: Vec<ForwardRecord>,
}

pub(crate) fn run(client: &Client, options: &RunOptions, io: RunIo) -> Result<RunReport, Error> {
    let mut watch = Stopwatch::start();
    let plan = Plan::of_run(options)?;
    if let Some(path) = &options.learn {
        // What cannot be written is told before anything runs, and nothing is before there is something to write.
        let is_new = path.symlink_metadata().is_err();
        let failed = |source| microagent_egress::Error::File { doing: "write", path: path.clone(), source };
        if path.metadata().is_ok_and(|there| !there.is_file()) {
            return Err(failed(std::io::Error::other("it is not a regular file")).into());
        }
        File::options().create(true).append(true).open(path).map_err(failed)?;
        if is_new {
            let _ = std::fs::remove_file(path);
        }
    }
    let wanted = &options.workspace;
    let (kernel, guest_init) = (wanted.kernel.as_deref(), wanted.guest_init.as_deref());
    let parts = Parts::gather(client, plan.backend.as_deref(), kernel, guest_init, &mut watch)?;
    let base = describe::Base::find(client, &plan, wanted)?;
    watch.lap(|timing| &mut timing.image_ms);
    let mut record = describe::workspace(&plan, wanted, &parts, &base)?;
    record.disposable = !options.keep;
    record.phase = Phase::Starting;
    let workspace = client.state().create(&plan.workspace)?;
    let mut streams = Streams::new(io);
    let boot = BringUp::new(client, parts, wanted.templates, wanted.interrupt.clone(), watch, Purpose::Work);
    let mut run = Run { client, options, boot, egress: None, ports: Vec::new() };
    let outcome =
        run.prepare(&workspace, &mut record).and_then(|()| run.execute(&workspace, &mut record, &mut streams));
    run.boot.finish_template();
    match outcome {
        Ok(exit) => run.complete(workspace, record, &exit, &streams),
        Err(error) => Err(fail(workspace, record, options, error, &streams)),
    }
}

impl Run<'_> {
    /// Makes the writable disk and writes the record: from here on the workspace can be listed.
    fn prepare(&mut self, workspace: &Workspace, record: &mut WorkspaceRecord) -> Result<(), Error> {
        describe::format_disk(workspace, record, self.options.workspace.mke2fs.as_deref())?;
        attach::prepare(self.client, workspace, &mut record.disks)?;
        inject::capture(workspace, &self.options.workspace.files)?;
        workspace.store(record)?;
        self.boot.watch.lap(|timing| &mut timing.workspace_ms);
        Ok(())
    }

    /// From power-on to the end of the machine.
    fn execute(
        &mut self,
        workspace: &Workspace,
        record: &mut WorkspaceRecord,
        streams: &mut Streams,
    ) -> Result<Exit, Error> {
        // A timeout beyond what a clock can hold is none.
        let limit = self.options.timeout.and_then(|timeout| Some((Instant::now().checked_add(timeout)?, timeout)));
        let deadline = limit.map(|(deadline, _)| deadline);
        self.client.progress().event(Event::Booting);
        let mut session = self.boot.bring_up(workspace, record, None, limit)?;
        self.ports.clone_from(&session.lines().mappings);
        // Onlookers see the ports that are open, also where any would do.
        record.forwards.clone_from(&self.ports);
        let outcome = self.work(&session, workspace, record, streams, deadline);
        self.boot.watch.lap(|timing| &mut timing.command_ms);
        let outcome = match outcome {
            Ok(exit) => {
                if self.options.keep {
                    // The command has ended and its result stands; what may be lost is what it wrote last.
                    record.error = session.shut_down().err().map(|error| error.report());
                }
                Ok(exit)
            }
            Err(error) => Err(session.explain(error, limit, record)),
        };
        session.kill();
        self.egress = session.egress();
        self.boot.watch.lap(|timing| &mut timing.teardown_ms);
        if self.options.workspace.interrupt.is_stopped() { Err(Error::Interrupted) } else { outcome }
    }

    fn work(
        &mut self,
        session: &Session,
        workspace: &Workspace,
        record: &mut WorkspaceRecord,
        streams: &mut Streams,
        deadline: Option<Instant>,
    ) -> Result<Exit, Error> {
        let progress = self.client.progress();
        let starting = record.clone();
        let commands = Commands::new(session.machine(), &starting, &self.options.workspace.interrupt, deadline);
        progress.event(Event::Booted);
        record.phase = Phase::Running;
        record.updated_at = jiff::Timestamp::now();
        workspace.store(record)?;
        inject::inject(session.machine().channel(), workspace, deadline)?;
        commands.setup(streams, progress)?;
        if !record.setup_complete {
            // A kept workspace does not go through it again at its next start.
            record.setup_complete = true;
            inject::forget(workspace);
            session.entrust(record)?;
        }
        self.boot.watch.lap(|timing| &mut timing.setup_ms);
        progress.event(Event::Running);
        commands.main(streams)
    }

    fn complete(
        mut self,
        workspace: Workspace,
        mut record: WorkspaceRecord,
        exit: &Exit,
        streams: &Streams,
    ) -> Result<RunReport, Error> {
        record.phase = Phase::Stopped;
        record.updated_at = jiff::Timestamp::now();
        // Where any port would do, it is another at the next start.
        record.forwards.clone_from(&self.options.workspace.network.forwards);
        let result = report::result(exit, streams.capture());
        let rootfs_path = workspace.disk();
        let learned = self.options.learn.as_deref().map(|path| learn(&workspace, self.options, path, false));
        if self.options.keep {
            result.store(workspace.path())?;
            workspace.store_output(&result.stdout, &result.stderr)?;
            workspace.store(&record)?;
        } else {
            workspace.remove()?;
        }
        self.boot.watch.lap(|timing| &mut timing.teardown_ms);
        let root = self.client.state().root();
        let report = RunReport::new(root, &record, rootfs_path, result, self.boot.arrival(), self.boot.watch.timing());
        let learn_note =
            learned.and_then(Result::err).map(|error| format!("nothing was learned: {}", error.report().message));
        Ok(RunReport { egress: self.egress, ports: self.ports, learn_note, ..report })
    }
}

/// Writes the smallest policy that would have allowed what was attempted, if that is anything or `must_be_something` is false.
fn learn(workspace: &Workspace, options: &RunOptions, path: &Path, must_be_something: bool) -> Result<(), Error> {
    let (events, _) = Log::read(&workspace.egress_log(), 0)?;
    if must_be_something && events.is_empty() {
        return Ok(());
    }
    let swapped = options.workspace.network.swaps.hosts();
    let failed = |source| microagent_egress::Error::File { doing: "write", path: path.to_owned(), source };
    Ok(std::fs::write(path, microagent_egress::suggest(&events, &swapped)).map_err(failed)?)
}

/// What stays of a run that did not complete: a machine that failed or was killed leaves its workspace, so that its logs can be read;
/// everything else leaves nothing unless it was to be kept.
fn fail(
    workspace: Workspace,
    mut record: WorkspaceRecord,
    options: &RunOptions,
    error: Error,
    streams: &Streams,
) -> Error {
    if let Some(path) = &options.learn {
        // What it attempted until then may be why it failed; where that is nothing, a policy that is there stays.
        let _ = learn(&workspace, options, path, true);
    }
    let telling = matches!(error, Error::TimedOut { .. } | Error::MachineFailed { .. });
    let settled = if options.keep || telling {
        record.phase = Phase::Failed;
        record.disposable = false;
        record.error = Some(error.report());
        record.updated_at = jiff::Timestamp::now();
        let (stdout, stderr) = streams.capture();
        workspace.store_output(&stdout.text, &stderr.text).and_then(|()| workspace.store(&record))
    } else {
        workspace.remove()
    };
    // The first failure is the one to report; what could not be tidied up, `gc` will.
    drop(settled);
    error
}
