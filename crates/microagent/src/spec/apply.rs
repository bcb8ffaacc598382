//! From a file to the options of a call.

use super::{AttachedDisk, AttachedMode, Forward, InjectedFile, MediatedService, Mediations, SetupStep, WorkspaceSpec};
use crate::network::{NetworkOptions, SecretOptions, parse_forward, parse_mediation, rooted};
use crate::{Command, CreateOptions, Disks, Error, FileSpec, RunOptions, Service, WorkspaceOptions};
use microagent_secret::Binding;
use microagent_state::{DiskRecord, DiskSource, ForwardRecord, MediationRecord, MountMode, VolumeName};
use std::path::{Path, PathBuf};

/// The bits of a mode that are kept where none is given: everybody's but for others' right to write, and none that gives authority.
const KEPT_MODE: u32 = 0o755;

impl WorkspaceSpec {
    /// Overrides what the file gives. Environment and outputs are added to, by key; everything else is replaced.
    pub fn apply(&self, options: &mut CreateOptions) -> Result<(), Error> {
        if let Some(service) = self.service_of_starts()? {
            options.service = service;
        }
        self.apply_to_workspace(&mut options.workspace)
    }

    /// The same for a run, whose command is the file's where there is none yet.
    pub fn apply_to_run(&self, options: &mut RunOptions) -> Result<(), Error> {
        if let (Command::Image, Some(Service::Shell(line))) = (&options.command, self.service_of_starts()?) {
            options.command = Command::Shell(line);
        }
        self.apply_to_workspace(&mut options.workspace)
    }

    /// The name the file gives.
    pub fn name(&self) -> Result<Option<&str>, Error> {
        match (&self.name, &self.id) {
            (Some(name), Some(id)) if name != id => Err(Error::BadOption {
                option: "id",
                value: id.clone(),
                reason: format!("`name` says `{name}`, and both name the workspace"),
            }),
            (name, id) => Ok(name.as_deref().or(id.as_deref())),
        }
    }

    fn service_of_starts(&self) -> Result<Option<Service>, Error> {
        match (&self.service, self.image_command, &self.entrypoint) {
            (Some(service), Some(true), _) => Err(Error::BadOption {
                option: "service",
                value: service.clone(),
                reason: "`imageCommand` says that every start runs the image's own command".to_owned(),
            }),
            (Some(service), _, Some(_)) => Err(Error::BadOption {
                option: "service",
                value: service.clone(),
                reason: "a shell line is run past any `entrypoint`".to_owned(),
            }),
            (Some(line), _, None) => Ok(Some(Service::Shell(line.clone()))),
            (None, Some(true), _) => Ok(Some(Service::Image)),
            (None, _, _) => Ok(None),
        }
    }

    fn apply_to_workspace(&self, options: &mut WorkspaceOptions) -> Result<(), Error> {
        if let Some(name) = self.name()? {
            options.name = Some(name.to_owned());
        }
        set(&mut options.image, self.image.as_ref());
        if let Some(rootfs) = &self.rootfs {
            options.rootfs = Some(self.base.join(rootfs));
        }
        if let Some(kernel) = &self.kernel {
            options.kernel = Some(self.base.join(kernel));
        }
        set(&mut options.profile, self.profile.as_ref());
        if let Some(restart) = self.restart {
            restart.name().clone_into(&mut options.restart);
        }
        or(&mut options.entrypoint, self.entrypoint.as_ref());
        set(&mut options.shell, self.shell.as_ref());
        or(&mut options.hostname, self.hostname.as_ref());
        set(&mut options.role, self.role.as_ref());
        or(&mut options.workdir, self.workdir.as_ref());
        or(&mut options.user, self.user.as_ref());
        if self.setup.is_some() || !self.setup_files.is_empty() {
            options.setup = self.setup_lines()?;
        }
        if !self.files.is_empty() {
            options.files = self.files.iter().map(|file| self.file(file)).collect::<Result<_, _>>()?;
        }
        options.env.extend(self.env.clone());
        or(&mut options.memory_mib, self.resources.memory_mib.as_ref());
        or(&mut options.cpus, self.resources.cpu_count.as_ref());
        or(&mut options.size_mib, self.resources.size_mib.as_ref());
        or(&mut options.headroom_mib, self.resources.headroom_mib.as_ref());
        self.connect(&mut options.network)?;
        self.entrust(&mut options.secrets)?;
        options.disks = self.disks(std::mem::take(&mut options.disks))?;
        options.outputs.extend(self.outputs.iter().map(|output| (output.name.clone(), output.path.clone())));
        or(&mut options.ttl, self.ttl.map(|ttl| ttl.0).as_ref());
        or(&mut options.health, self.health.as_ref().map(Into::into).as_ref());
        Ok(())
    }

    fn connect(&self, options: &mut NetworkOptions) -> Result<(), Error> {
        if let Some(mode) = self.network.mode {
            options.mode = mode.value;
        }
        if let Some(forwards) = &self.network.forwards {
            options.forwards = forwards.iter().map(mapping).collect::<Result<_, _>>()?;
        }
        let egress = &self.egress;
        if let Some(mode) = egress.mode {
            options.egress.mode = mode.into();
        }
        for (listed, list) in
            [(&egress.allow, &mut options.egress.allow), (&egress.passthrough, &mut options.egress.passthrough)]
        {
            for host in listed {
                list.push(host.parse()?);
            }
        }
        egress.policy.iter().try_for_each(|path| options.add_policy(&self.base.join(path)))?;
        if let Some(path) = &egress.swap_config {
            options.add_swaps(&self.base.join(path))?;
        }
        egress.cred_swap.iter().try_for_each(|provider| options.add_provider(provider, &self.base))?;
        let services: &[MediatedService] = match &self.mediation {
            None => &[],
            Some(Mediations::One(service)) => std::slice::from_ref(service),
            Some(Mediations::Several(services)) => services,
        };
        for service in services.iter().filter(|service| service.enabled != Some(false)) {
            let mediation = parse_mediation(&format!("{}={}", service.port, service.target))?;
            let optional = service.required.or(service.fail_closed) == Some(false);
            options.mediations.push(MediationRecord { optional, ..mediation });
        }
        Ok(())
    }

    fn entrust(&self, options: &mut SecretOptions) -> Result<(), Error> {
        for (given, bindings) in
            [(&self.secrets, &mut options.files), (&self.secrets_on_demand, &mut options.on_demand)]
        {
            for (name, reference) in given {
                let binding: Binding = format!("{name}={reference}").parse()?;
                bindings.push(rooted(&binding, &self.base)?);
            }
        }
        options.env_files.extend(self.secrets_env_files.iter().map(|path| self.base.join(path)));
        options.audit |= self.secrets_audit == Some(true);
        Ok(())
    }

    fn setup_lines(&self) -> Result<Vec<String>, Error> {
        let steps = self.setup.iter().flat_map(|setup| &setup.0).map(|step| match step {
            SetupStep::Line(line) => Ok(line.clone()),
            SetupStep::File(path) => self.script("setup", path),
        });
        steps.chain(self.setup_files.iter().map(|path| self.script("setupFiles", path))).collect()
    }

    fn script(&self, option: &'static str, path: &Path) -> Result<String, Error> {
        let path = self.base.join(path);
        std::fs::read_to_string(&path).map_err(|source| Error::ReadFile { option, path, source })
    }

    fn file(&self, file: &InjectedFile) -> Result<FileSpec, Error> {
        let source = self.base.join(&file.src);
        let unreadable = |error| Error::ReadFile { option: "files", path: source.clone(), source: error };
        let metadata = std::fs::metadata(&source).map_err(unreadable)?;
        if !metadata.is_file() {
            return Err(unreadable(std::io::Error::other("it is not a file")));
        }
        let mode = match &file.mode {
            None => std::os::unix::fs::PermissionsExt::mode(&metadata.permissions()) & KEPT_MODE,
            Some(text) => {
                let mode = u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o7777);
                mode.ok_or_else(|| Error::BadOption {
                    option: "files.mode",
                    value: text.clone(),
                    reason: "a mode is octal, as in `\"0755\"`".to_owned(),
                })?
            }
        };
        Ok(FileSpec { source, destination: file.dst.clone(), mode })
    }

    fn disks(&self, before: Vec<DiskRecord>) -> Result<Vec<DiskRecord>, Error> {
        let mut disks = Disks::new(&self.base);
        before.into_iter().try_for_each(|disk| disks.add(disk))?;
        let record = |disk: &AttachedDisk, source, usual| DiskRecord {
            name: disk.name.clone(),
            source,
            mountpoint: disk.mountpoint.clone(),
            mode: mode(disk.mode, usual),
        };
        for disk in &self.disks {
            disks.add(record(disk, DiskSource::Disk { path: disk.path.clone() }, MountMode::ReadWrite))?;
        }
        for bundle in &self.bundles {
            let source: PathBuf = bundle.path.clone();
            disks.add(record(bundle, DiskSource::Bundle { source, path: None }, MountMode::ReadOnly))?;
        }
        for volume in &self.volumes {
            disks.add(DiskRecord {
                name: volume.name.clone(),
                source: DiskSource::Volume { name: VolumeName::new(volume.name.as_str())? },
                mountpoint: volume.mountpoint.clone(),
                mode: mode(volume.mode, MountMode::ReadWrite),
            })?;
        }
        Ok(disks.into_records())
    }
}

fn mapping(forward: &Forward) -> Result<ForwardRecord, Error> {
    let host = forward.host.as_deref().unwrap_or("127.0.0.1");
    let host = if host.contains(':') && !host.starts_with('[') { format!("[{host}]") } else { host.to_owned() };
    let protocol = forward.protocol.as_deref().unwrap_or("tcp");
    parse_forward(&format!("{host}:{}:{}/{protocol}", forward.host_port, forward.guest_port))
}

fn mode(given: Option<AttachedMode>, usual: MountMode) -> MountMode {
    given.map_or(usual, Into::into)
}

fn set<T: Clone>(field: &mut T, given: Option<&T>) {
    if let Some(given) = given {
        field.clone_from(given);
    }
}

fn or<T: Clone>(field: &mut Option<T>, given: Option<&T>) {
    if given.is_some() {
        *field = given.cloned();
    }
}
