//! Templates made ahead of the runs that use them.

use crate::boot::session;
use crate::rehearsal;
use crate::spec::NetworkMode;
use crate::{Client, Error, Interrupt, Profile};
use microagent_machine::engine::{DiskMode, Engine, Machine, MachineSpec};
use microagent_machine::initramfs::Initramfs;
use microagent_machine::kernel::Kernel;
use microagent_machine::template::{Claim, Found, Making, Shape, Template};
use microagent_protocol::Hello;
use serde::Serialize;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// How long a machine may take until it is frozen. It is meant to be made when nothing else is to be done, so it may take its time.
const LIMIT: Duration = Duration::from_mins(10);

/// Options of [`Client::prepare_template`]. They are those of a run as far as its machine goes.
#[derive(Clone, Debug)]
pub struct TemplateOptions {
    /// Name of the resource profile.
    pub profile: String,
    /// RAM in MiB, instead of the profile's.
    pub memory_mib: Option<u32>,
    /// Virtual processors, instead of the profile's.
    pub cpus: Option<u32>,
    /// How it is connected: whether it has a network interface.
    pub network: NetworkMode,
    /// `linux-kvm` or `linux-tcg`; the best this host has when absent.
    pub backend: Option<String>,
    /// Kernel image; the installed default when absent.
    pub kernel: Option<PathBuf>,
    /// Guest agent binary, instead of the embedded one.
    pub guest_init: Option<PathBuf>,
    /// Stops it from another thread.
    pub interrupt: Interrupt,
}

impl Default for TemplateOptions {
    fn default() -> TemplateOptions {
        TemplateOptions {
            profile: Profile::DEFAULT.name.to_owned(),
            memory_mib: None,
            cpus: None,
            network: NetworkMode::default(),
            backend: None,
            kernel: None,
            guest_init: None,
            interrupt: Interrupt::default(),
        }
    }
}

/// What [`Client::prepare_template`] did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Prepared {
    /// It made the template.
    pub made: bool,
    /// It had the template's machine rehearse what machines do.
    pub rehearsed: bool,
    /// Somebody else is at it, so this call did nothing more.
    pub busy: bool,
    /// What is less than it could be about the template.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// A machine of which there is to be a template.
struct Preparation<'a> {
    client: &'a Client,
    engine: Box<dyn Engine>,
    kernel: Kernel,
    initramfs: Initramfs,
    resources: microagent_state::Resources,
    network: bool,
    interrupt: Interrupt,
    prepared: Prepared,
}

impl Client {
    /// Makes sure that there is a template for the machine of `options`, and that it is as good as this host can make it: where guests are
    /// emulated, one that has rehearsed. A run makes a template by itself when there is none, but not one that has rehearsed.
    pub fn prepare_template(&self, options: &TemplateOptions) -> Result<Prepared, Error> {
        let profile = Profile::named(&options.profile)?;
        let resources = crate::plan::check_resources(profile, options.memory_mib, options.cpus, None)?;
        let engine = self.engine(options.backend.as_deref())?;
        let kernel = self.kernel(options.kernel.as_deref())?;
        let initramfs = self.initramfs(options.guest_init.as_deref(), &kernel)?;
        let (interrupt, prepared) = (options.interrupt.clone(), Prepared::default());
        let network = options.network == NetworkMode::User;
        let mut preparation =
            Preparation { client: self, engine, kernel, initramfs, resources, network, interrupt, prepared };
        match preparation.prepare() {
            Err(_) if options.interrupt.is_stopped() => Err(Error::Interrupted),
            Err(error) => Err(error),
            Ok(()) => Ok(preparation.prepared),
        }
    }
}

impl Preparation<'_> {
    fn prepare(&mut self) -> Result<(), Error> {
        if !self.engine.capabilities().warm {
            return Ok(());
        }
        let hardware = self.engine.hardware(&self.spec(PathBuf::new(), PathBuf::new()));
        let shape = Shape::new(&self.kernel, &self.initramfs, hardware);
        let Some(template) = self.template(&shape)? else {
            self.prepared.busy = true;
            return Ok(());
        };
        if template.is_rehearsed() || !self.engine.capabilities().rehearse {
            return Ok(());
        }
        let store = self.client.template_store();
        let making = store.claim_rehearsal(&shape, &template).map_err(microagent_machine::Error::from)?;
        self.prepared.busy = making.is_none();
        let rehearsed = making.map_or(Ok(()), |making| self.rehearse(&template, making));
        if let Err(error) = &rehearsed
            && !self.interrupt.is_stopped()
        {
            store.note_failed_rehearsal(&template, &error.to_string());
        }
        rehearsed
    }

    /// The template that there is, or is made; `None` when somebody else makes it.
    fn template(&mut self, shape: &Shape) -> Result<Option<Template>, Error> {
        let store = self.client.template_store();
        match store.find(shape) {
            Found::Template(template) => return Ok(Some(template)),
            Found::Unusable(why) => {
                self.prepared.note = Some(why);
                return Ok(None);
            }
            Found::Absent | Found::Distrusted(_) => {}
        }
        match store.claim(shape).map_err(microagent_machine::Error::from)? {
            Claim::Made(template) => Ok(Some(template)),
            Claim::Busy => Ok(None),
            Claim::Making(making) => {
                self.make(*making)?;
                match store.find(shape) {
                    Found::Template(template) => Ok(Some(template)),
                    Found::Absent | Found::Unusable(_) | Found::Distrusted(_) => Ok(None),
                }
            }
        }
    }

    fn make(&mut self, making: Making) -> Result<(), Error> {
        self.prepared.note = making.note().map(str::to_owned);
        let limit = Instant::now() + LIMIT;
        let spec = self.spec(making.scratch("serial.log"), making.scratch("engine.log"));
        let mut machine = self.engine.launch_template(&spec, making.memory())?;
        let _killed = self.interrupt.kills(&machine);
        let hello = machine.engine_up(limit).and_then(|()| machine.freeze(making.state(), limit));
        let hello = hello.map_err(|error| machine.explain(error))?;
        machine.kill()?;
        let disks = rehearsal::make_disks(&making)?;
        let copy = self.engine.restore(&MachineSpec { disks, ..spec }, &making.restore())?;
        self.publish(making, copy, &hello, limit)?;
        self.prepared.made = true;
        Ok(())
    }

    fn rehearse(&mut self, template: &Template, making: Making) -> Result<(), Error> {
        let limit = Instant::now() + LIMIT;
        let spec = self.spec(making.scratch("serial.log"), making.scratch("engine.log"));
        let disks = rehearsal::make_disks(&making)?;
        let mut machine = self.engine.launch_rehearsal(&spec, &template.restore(), making.memory())?;
        let _killed = self.interrupt.kills(&machine);
        let Some(checkpoint) = making.checkpoint() else { return Ok(()) };
        let rehearsed = rehearsal::perform(&mut machine, &disks, self.network, limit)
            .and_then(|()| Ok(self.engine.freeze_rehearsed(&mut machine, making.memory(), checkpoint, limit)?));
        let hello = rehearsed.map_err(|error| explain(&mut machine, error))?;
        machine.kill()?;
        let copy = self.engine.restore(&MachineSpec { disks, ..spec }, &making.restore_rehearsed())?;
        self.publish(making, copy, &hello, limit)?;
        self.prepared.rehearsed = true;
        Ok(())
    }

    /// Publishes a template of which a machine has been seen to come up.
    fn publish(&self, making: Making, mut copy: Machine, hello: &Hello, limit: Instant) -> Result<(), Error> {
        let _killed = self.interrupt.kills(&copy);
        let seen = copy.load(hello).map_err(Error::from).and_then(|()| rehearsal::boot(&mut copy, self.network, limit));
        seen.map_err(|error| explain(&mut copy, error))?;
        let frozen = copy.frozen();
        copy.kill()?;
        match frozen {
            Some(frozen) => Ok(making.publish(frozen).map_err(microagent_machine::Error::from)?),
            None => Ok(()),
        }
    }

    /// The machine, with disks of no content.
    fn spec(&self, serial_log: PathBuf, engine_log: PathBuf) -> MachineSpec {
        MachineSpec {
            kernel: self.kernel.image.clone(),
            initramfs: self.initramfs.path.clone(),
            memory_mib: self.resources.memory_mib,
            cpus: self.resources.cpu_count,
            disks: session::disks(PathBuf::new(), PathBuf::new(), DiskMode::Scratch),
            wipes: false,
            network: self.network,
            serial_log,
            engine_log,
        }
    }
}

/// An error of `machine`, and what is behind it.
fn explain(machine: &mut Machine, error: Error) -> Error {
    match error {
        Error::Machine(error) => machine.explain(error).into(),
        other => other,
    }
}
