//! The way in: one state directory, and everything that can be done with it.

use crate::progress::{Event, Progress, Silent};
use crate::{Doctor, Error, Plan, RunIo, RunOptions, RunReport, doctor, run};
use microagent_image::{Digest, ImageStore};
use microagent_machine::agent;
use microagent_machine::engine::{self, Engine};
use microagent_machine::initramfs::Initramfs;
use microagent_machine::kernel::{Kernel, KernelStore, Source};
use microagent_machine::probe::Host;
use microagent_machine::template::{MemoryPlace, TemplateStore};
use microagent_state::{Cause, StateDir};
use std::path::Path;
use std::sync::Arc;

/// Environment variable that says where the RAM of new templates is kept: `tmpfs`, which is the default, or `disk`.
const TEMPLATE_MEMORY_VARIABLE: &str = "MICROAGENT_TEMPLATE_MEMORY";

/// One state directory. Opening it touches nothing; calls may come from several threads, and from several processes at once.
#[derive(Clone)]
pub struct Client {
    state: StateDir,
    images: ImageStore,
    kernels: KernelStore,
    templates: TemplateStore,
    captures: TemplateStore,
    progress: Arc<dyn Progress>,
    origin: Cause,
}

impl Client {
    /// Opens `state_dir`, or the one `$MICROAGENT_STATE_DIR` names, or `~/.microagent`. It is made when something is put into it.
    pub fn open(state_dir: Option<&Path>) -> Result<Client, Error> {
        let root = match state_dir {
            Some(given) => given.to_owned(),
            None => StateDir::default_path()?,
        };
        let state = StateDir::open(root)?;
        Ok(Client {
            images: ImageStore::open(state.root().join("images")),
            kernels: KernelStore::open(&state.root().join("kernels")),
            templates: TemplateStore::open(state.root().join("templates"), template_memory()?),
            captures: TemplateStore::open(state.root().join("captures"), template_memory()?),
            state,
            progress: Arc::new(Silent),
            origin: Cause::of("library"),
        })
    }

    /// Tells `progress` what happens from now on.
    #[must_use]
    pub fn with_progress(mut self, progress: Arc<dyn Progress>) -> Client {
        self.progress = progress;
        self
    }

    /// Names who acts through this client, and what joins its acts to the caller's own records: both end up in the events of workspaces.
    #[must_use]
    pub fn acting_as(mut self, actor: impl Into<String>, correlation_id: Option<String>) -> Client {
        self.origin = Cause { actor: actor.into(), reason: None, correlation_id };
        self
    }

    /// What is written into events about something that this client does.
    pub(crate) fn cause(&self, reason: Option<String>) -> Cause {
        Cause { reason, ..self.origin.clone() }
    }

    /// The same, as flags of a supervisor.
    pub(crate) fn origin_flags(&self, reason: Option<&str>) -> Vec<(&'static str, String)> {
        let reason = reason.map(|reason| ("--reason", reason.to_owned()));
        let correlation = self.origin.correlation_id.clone().map(|id| ("--correlation-id", id));
        [("--actor", self.origin.actor.clone())].into_iter().chain(reason).chain(correlation).collect()
    }

    /// The state directory.
    pub fn state(&self) -> &StateDir {
        &self.state
    }

    /// The images on this host.
    pub fn images(&self) -> &ImageStore {
        &self.images
    }

    /// The guest kernels on this host.
    pub fn kernels(&self) -> &KernelStore {
        &self.kernels
    }

    /// What machines that go on from snapshots are restored from.
    pub(crate) fn capture_store(&self) -> &TemplateStore {
        &self.captures
    }

    pub(crate) fn template_store(&self) -> &TemplateStore {
        &self.templates
    }

    /// Checks what a run would do, without doing any of it and without the network.
    pub fn plan(&self, options: &RunOptions) -> Result<Plan, Error> {
        Plan::of_run(options)
    }

    /// Boots an image in a machine of its own, runs its command, and removes the machine.
    ///
    /// A command that ends, with whatever exit code, is a run that completed. An error means that it could not be: then nothing is left,
    /// unless the machine failed or was killed for taking too long; that leaves its workspace for its logs to be read.
    ///
    /// The machine ends with the calling thread, and so with its process, however either ends.
    pub fn run(&self, options: &RunOptions, io: RunIo) -> Result<RunReport, Error> {
        run::run(self, options, io)
    }

    /// Finds out whether this host can run machines, and how.
    pub fn doctor(&self) -> Doctor {
        doctor::examine(self)
    }

    /// Installs a kernel and makes it the default.
    pub fn install_kernel(&self, source: &Source) -> Result<Kernel, Error> {
        let installed = self.kernels.install(source, &mut |progress| self.progress.event(Event::Kernel(progress)));
        Ok(installed.map_err(microagent_machine::Error::from)?)
    }

    pub(crate) fn progress(&self) -> &dyn Progress {
        &*self.progress
    }

    /// The kernel a machine boots: the one given, else the installed default, which is installed when there is none.
    pub(crate) fn kernel(&self, given: Option<&Path>) -> Result<Kernel, Error> {
        let found = match given {
            Some(path) => self.kernels.resolve(path),
            None => self.kernels.ensure_default(&mut |progress| self.progress.event(Event::Kernel(progress))),
        };
        Ok(found.map_err(microagent_machine::Error::from)?)
    }

    /// The initramfs that starts `kernel` with the embedded agent, or with the binary at `given`.
    pub(crate) fn initramfs(&self, given: Option<&Path>, kernel: &Kernel) -> Result<Initramfs, Error> {
        let cache = self.templates.path().join("initramfs");
        let initramfs = match given {
            None => Initramfs::ensure(&cache, agent::BYTES, agent::digest(), kernel),
            Some(path) => {
                let bytes = std::fs::read(path).map_err(|source| Error::ReadFile {
                    option: "--guest-init",
                    path: path.to_owned(),
                    source,
                })?;
                Initramfs::ensure(&cache, &bytes, Digest::of(&bytes).hex(), kernel)
            }
        };
        Ok(initramfs.map_err(microagent_machine::Error::from)?)
    }

    /// The engine for `backend`, or the best this host has.
    pub(crate) fn engine(&self, backend: Option<&str>) -> Result<Box<dyn Engine>, Error> {
        Ok(engine::choose(&Host::open(self.state.root()), backend)?)
    }
}

/// Where new templates have their RAM.
fn template_memory() -> Result<MemoryPlace, Error> {
    match std::env::var(TEMPLATE_MEMORY_VARIABLE).as_deref() {
        Err(_) | Ok("" | "tmpfs") => Ok(MemoryPlace::Tmpfs),
        Ok("disk") => Ok(MemoryPlace::Disk),
        Ok(other) => Err(Error::BadOption {
            option: TEMPLATE_MEMORY_VARIABLE,
            value: other.to_owned(),
            reason: "it is `tmpfs` or `disk`".to_owned(),
        }),
    }
}
