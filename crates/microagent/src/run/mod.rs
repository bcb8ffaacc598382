//! The one-shot path: image, machine, command, result, and nothing left.
//!
//! [`run`] goes through it in order. What can be checked offline is checked first ([`Plan`]). Then the parts are found or made: kernel,
//! initramfs, image, base. A workspace is made for the writable disk and the records; its lease is held to the end. The machine is booted
//! and given its disks ([`session`]), set-up lines and the command run in it ([`command`]), and the machine is killed: what a disposable
//! run wrote has no reader, so there is nothing to shut down. A kept workspace is unmounted first.

mod bring_up;
mod command;
mod output;
mod report;
pub(crate) mod session;

pub use report::{ImageSummary, Response, RunReport, Start, Timing};

use crate::progress::{Event, ImageEvents};
use crate::{Client, Error, Plan, RunIo, RunOptions};
use command::Commands;
use microagent_image::{BaseImage, Image, rootfs};
use microagent_machine::engine::Engine;
use microagent_machine::initramfs::Initramfs;
use microagent_machine::kernel::Kernel;
use microagent_protocol::Exit;
use microagent_state::{Phase, Record, Workspace, WorkspaceRecord};
use output::Streams;
use report::Stopwatch;
use session::Session;
use std::thread::JoinHandle;
use std::time::Instant;

/// Everything a machine is made of.
struct Parts {
    engine: Box<dyn Engine>,
    kernel: Kernel,
    initramfs: Initramfs,
    image: Image,
    base: BaseImage,
}

/// A run whose parts are all there.
struct Run<'a> {
    client: &'a Client,
    options: &'a RunOptions,
    plan: Plan,
    parts: Parts,
    watch: Stopwatch,
    start: Start,
    /// Whether the machine went on from an engine that had rehearsed.
    rehearsed: bool,
    /// Whether there can be such an engine.
    can_rehearse: bool,
    template_note: Option<String>,
    /// A template of this run that is being written down.
    publishing: Option<JoinHandle<Result<(), microagent_machine::Error>>>,
}

pub(crate) fn run(client: &Client, options: &RunOptions, io: RunIo) -> Result<RunReport, Error> {
    let mut watch = Stopwatch::start();
    let plan = Plan::new(options)?;
    let parts = gather(client, options, &plan, &mut watch)?;
    let can_rehearse = parts.engine.capabilities().rehearse;
    let mut run = Run {
        client,
        options,
        plan,
        parts,
        watch,
        start: Start::Cold,
        rehearsed: false,
        can_rehearse,
        template_note: None,
        publishing: None,
    };
    let mut record = run.describe()?;
    let workspace = client.state().create(&run.plan.workspace)?;
    let mut streams = Streams::new(io);
    let outcome = run.prepare(&workspace, &record).and_then(|()| run.execute(&workspace, &mut record, &mut streams));
    run.finish_template();
    match outcome {
        Ok(exit) => run.complete(workspace, record, &exit, &streams),
        Err(error) => Err(fail(workspace, record, options, error, &streams)),
    }
}

fn gather(client: &Client, options: &RunOptions, plan: &Plan, watch: &mut Stopwatch) -> Result<Parts, Error> {
    let engine = client.engine(plan.backend.as_deref())?;
    let kernel = client.kernel(options.kernel.as_deref())?;
    let initramfs = client.initramfs(options.guest_init.as_deref(), &kernel)?;
    watch.lap(|timing| &mut timing.kernel_ms);
    let (image, base) =
        client.images().ensure(&plan.image, &options.pull_options(), &ImageEvents(client.progress()))?;
    watch.lap(|timing| &mut timing.image_ms);
    Ok(Parts { engine, kernel, initramfs, image, base })
}

impl Run<'_> {
    fn describe(&self) -> Result<WorkspaceRecord, Error> {
        let Run { options, plan, parts, .. } = self;
        let now = jiff::Timestamp::now();
        let config = &parts.image.config;
        let or_image = |given: &Option<String>, images: &str| given.clone().unwrap_or_else(|| images.to_owned());
        let workdir = or_image(&options.workdir, &config.working_dir);
        Ok(WorkspaceRecord {
            name: plan.workspace.clone(),
            created_at: now,
            updated_at: now,
            phase: Phase::Starting,
            disposable: !options.keep,
            error: None,
            image: plan.image.to_string(),
            image_digest: parts.image.manifest_digest.to_string(),
            base_path: parts.base.path.clone(),
            kernel_path: parts.kernel.image.clone(),
            backend: parts.engine.accelerator().backend().to_owned(),
            engine: parts.engine.name().to_owned(),
            profile: plan.profile.to_owned(),
            resources: plan.resources,
            network: plan.network.to_owned(),
            restart: plan.restart.clone(),
            hostname: plan.hostname.clone(),
            shell: options.shell.clone(),
            env: plan.env.clone(),
            setup: plan.setup.clone(),
            command: plan.argv(config)?,
            workdir: if workdir.is_empty() { "/".to_owned() } else { workdir },
            user: or_image(&options.user, &config.user),
        })
    }

    /// Makes the writable disk and writes the record: from here on the workspace can be listed.
    fn prepare(&mut self, workspace: &Workspace, record: &WorkspaceRecord) -> Result<(), Error> {
        let size = record.resources.size_mib << 20;
        let formatted = match &self.options.mke2fs {
            None => rootfs::format_blank_ext4(&workspace.disk(), size),
            Some(program) => rootfs::format_with_mke2fs(program, &workspace.disk(), size),
        };
        formatted.map_err(microagent_image::Error::from)?;
        workspace.store(record)?;
        self.watch.lap(|timing| &mut timing.workspace_ms);
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
        let mut session = self.bring_up(workspace, record, limit)?;
        let outcome = self.work(&session, workspace, record, streams, deadline);
        self.watch.lap(|timing| &mut timing.command_ms);
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
        self.watch.lap(|timing| &mut timing.teardown_ms);
        if self.options.interrupt.is_stopped() { Err(Error::Interrupted) } else { outcome }
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
        let env = self.plan.environment(&self.parts.image.config);
        let starting = record.clone();
        let commands = Commands::new(session.machine(), &starting, env, &self.options.interrupt, deadline);
        progress.event(Event::Booted);
        record.phase = Phase::Running;
        record.updated_at = jiff::Timestamp::now();
        workspace.store(record)?;
        commands.setup(streams, progress)?;
        self.watch.lap(|timing| &mut timing.setup_ms);
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
        let result = report::result(exit, streams.capture());
        let rootfs_path = workspace.disk();
        if self.options.keep {
            result.store(workspace.path())?;
            workspace.store_output(&result.stdout, &result.stderr)?;
            workspace.store(&record)?;
        } else {
            workspace.remove()?;
        }
        self.watch.lap(|timing| &mut timing.teardown_ms);
        let root = self.client.state().root();
        Ok(RunReport::new(
            root,
            &record,
            rootfs_path,
            result,
            (self.start, self.rehearsed, self.can_rehearse, self.template_note),
            self.watch.timing(),
        ))
    }
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
