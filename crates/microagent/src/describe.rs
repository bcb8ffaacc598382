//! A workspace from its options: what it is made of, its record, its disk.

use crate::boot::Parts;
use crate::progress::ImageEvents;
use crate::{Client, Error, FileSpec, Plan, WorkspaceOptions};
use microagent_image::{BaseFormat, ImageConfig, rootfs};
use microagent_state::{Phase, Verification, Workspace, WorkspaceRecord};
use serde_json::Value;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Where the superblocks of both kinds of base are, and so how much of one has to be read.
const SUPERBLOCK_END: usize = 2048;
/// Offset and value of what tells an EROFS (`EROFS_SUPER_MAGIC_V1`, little-endian).
const EROFS_MAGIC: (usize, [u8; 4]) = (1024, [0xe2, 0xe1, 0xf5, 0xe0]);
/// The same for ext4 (`s_magic`).
const EXT4_MAGIC: (usize, [u8; 2]) = (1024 + 0x38, [0x53, 0xef]);
/// Offset of an ext4's UUID (`s_uuid`).
const EXT4_UUID: usize = 1024 + 0x68;

/// The read-only base of a workspace, and the configuration that comes with it.
pub(crate) struct Base {
    path: PathBuf,
    filesystem: &'static str,
    /// The image in full, and the digest of its manifest; a path and nothing for a root file system.
    image: (String, String),
    config: ImageConfig,
}

impl Base {
    /// Finds the image, pulls it if need be, and builds its base; or looks at the root file system that takes its place.
    pub(crate) fn find(client: &Client, plan: &Plan, options: &WorkspaceOptions) -> Result<Base, Error> {
        let Some(reference) = &plan.image else {
            return Base::given(plan.rootfs.as_deref().unwrap_or(Path::new("")));
        };
        let events = ImageEvents(client.progress());
        let (image, base) = client.images().ensure(reference, &options.pull_options(), &events)?;
        let filesystem = match base.format {
            BaseFormat::Erofs => "erofs",
            BaseFormat::Ext4 => "ext4",
        };
        let name = (reference.to_string(), image.manifest_digest.to_string());
        Ok(Base { path: base.path, filesystem, image: name, config: image.config })
    }

    fn given(path: &Path) -> Result<Base, Error> {
        let unreadable = |source| Error::ReadFile { option: "--rootfs", path: path.to_owned(), source };
        let path_in_full = path.canonicalize().map_err(unreadable)?;
        let head = superblock(&path_in_full).map_err(unreadable)?;
        let filesystem = match head.as_deref() {
            Some(head) if head[EROFS_MAGIC.0..].starts_with(&EROFS_MAGIC.1) => "erofs",
            Some(head) if head[EXT4_MAGIC.0..].starts_with(&EXT4_MAGIC.1) => "ext4",
            _ => {
                return Err(Error::BadOption {
                    option: "--rootfs",
                    value: path.display().to_string(),
                    reason: "it is neither an ext4 nor an EROFS file system; `microagent rootfs build` makes either"
                        .to_owned(),
                });
            }
        };
        let image = (path_in_full.display().to_string(), String::new());
        Ok(Base { path: path_in_full, filesystem, image, config: ImageConfig::default() })
    }
}

/// The record of a workspace that is about to be made.
pub(crate) fn workspace(
    plan: &Plan,
    options: &WorkspaceOptions,
    parts: &Parts,
    base: &Base,
) -> Result<WorkspaceRecord, Error> {
    let now = jiff::Timestamp::now();
    let config = &base.config;
    let or_image = |given: &Option<String>, images: &str| given.clone().unwrap_or_else(|| images.to_owned());
    let workdir = or_image(&options.workdir, &config.working_dir);
    let command = plan.command.as_ref().map(|command| plan.argv(command, config)).transpose()?;
    let service = plan.service.as_ref().map(|service| plan.argv(service, config)).transpose()?;
    let (image, image_digest) = base.image.clone();
    Ok(WorkspaceRecord {
        name: plan.workspace.clone(),
        created_at: now,
        updated_at: now,
        phase: Phase::Prepared,
        disposable: false,
        error: None,
        verification: Verification {
            kernel: Some(parts.kernel.digest.clone()),
            agent: Some(parts.initramfs.key.clone()),
            base: Some(image_digest.clone()).filter(|digest| !digest.is_empty()),
            disk: None,
        },
        image,
        image_digest,
        base_path: base.path.clone(),
        base_filesystem: base.filesystem.to_owned(),
        kernel_path: parts.kernel.image.clone(),
        guest_init: options.guest_init.clone(),
        backend: parts.engine.accelerator().backend().to_owned(),
        engine: parts.engine.name().to_owned(),
        profile: plan.profile.to_owned(),
        resources: plan.resources,
        network: plan.network.to_owned(),
        forwards: plan.forwards.clone(),
        egress: plan.egress.clone().unwrap_or_default(),
        swaps: swaps(plan),
        mediations: plan.mediations.clone(),
        secrets: plan.secrets.clone(),
        restart: plan.restart.clone(),
        hostname: plan.hostname.clone(),
        shell: options.shell.clone(),
        env: plan.env.clone(),
        setup: plan.setup.clone(),
        setup_complete: plan.setup.is_empty() && plan.files.is_empty(),
        // What a restart policy can start again is a service.
        service: service.or_else(|| command.clone().filter(|_| plan.restart != "never")),
        command: command.unwrap_or_default(),
        workdir: if workdir.is_empty() { "/".to_owned() } else { workdir },
        user: or_image(&options.user, &config.user),
        stop_signal: config.stop_signal.clone(),
        image_env: config.env.clone(),
        role: plan.role.clone(),
        disks: plan.disks.clone(),
        outputs: plan.outputs.clone(),
        files: plan.files.iter().map(FileSpec::record).collect(),
        ttl_seconds: options.ttl.map(|ttl| ttl.as_secs().max(1)),
        health: options.health.clone(),
        session: None,
        origin: None,
    })
}

/// The credentials of a plan, as they are recorded.
pub(crate) fn swaps(plan: &Plan) -> Value {
    if plan.swaps.is_empty() { Value::Null } else { serde_json::json!(plan.swaps) }
}

/// Makes the writable disk of a workspace, a sparse file.
pub(crate) fn format_disk(workspace: &Workspace, record: &WorkspaceRecord, mke2fs: Option<&Path>) -> Result<(), Error> {
    let size = record.resources.size_mib << 20;
    let formatted = match mke2fs {
        None => rootfs::format_blank_ext4(&workspace.disk(), size),
        Some(program) => rootfs::format_with_mke2fs(program, &workspace.disk(), size),
    };
    Ok(formatted.map_err(microagent_image::Error::from)?)
}

/// The UUID of the ext4 in `disk`, if there is one. The disk is its guest's to write, so it may say anything.
pub(crate) fn disk_uuid(disk: &Path) -> Option<String> {
    let head = superblock(disk).ok()??;
    let bytes: [u8; 16] = head[EXT4_UUID..EXT4_UUID + 16].try_into().ok()?;
    head[EXT4_MAGIC.0..].starts_with(&EXT4_MAGIC.1).then(|| format!("{:032x}", u128::from_be_bytes(bytes)))
}

/// The beginning of a file; `None` when it is too short to be a file system.
fn superblock(path: &Path) -> std::io::Result<Option<Vec<u8>>> {
    let mut head = vec![0; SUPERBLOCK_END];
    match std::fs::File::open(path)?.read_exact(&mut head) {
        Ok(()) => Ok(Some(head)),
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => Ok(None),
        Err(error) => Err(error),
    }
}
