//! The workspace: the root file system commands run in.
//!
//! From the top down it is stacked from the directory `upper` of the workspace's disk, the machine's own layer
//! ([`crate::layer`]) and the image's base, in a mount namespace of its own. The agent stays in the namespace it booted in
//! and holds the other one by a descriptor: a command enters it, the agent never does, so nothing that is mounted, unmounted
//! or renamed in there is seen by the agent.

use crate::boot_id::BootId;
use crate::mounts::{self, Mounted};
use crate::private::{self, Private};
use crate::refusal::{quoted, refusal};
use crate::{disks, ext4, identity, layer, network, sys, trust};
use microagent_protocol::{Boot, Disk, Refusal, RefusalCode, Wake};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags};
use rustix::mount::{mount, mount_change, mount_move, mount_remount, unmount};
use rustix::process::{chdir, chroot};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::ffi::CStr;
use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

/// Where the image's base is mounted.
pub(crate) const BASE: &str = "/mnt/base";
/// Where the workspace's disk is mounted.
pub(crate) const DISK: &str = "/mnt/workspace";
/// Where the layers are stacked.
pub(crate) const ROOT: &str = "/mnt/root";
/// The machine's own layer.
pub(crate) const LAYER: &str = "/run/machine";

/// Commit, clone and diff read `upper` as it lies on the disk, so every change must be there whole: no redirected
/// directories, no data left below. `xino` gives all files of the root one device number, as tools that stay on one file
/// system expect.
const OVERLAY: &CStr = c"lowerdir=/run/machine:/mnt/base,upperdir=/mnt/workspace/upper,workdir=/mnt/workspace/work,\
    redirect_dir=off,metacopy=off,index=off,xino=on";

const NAMESPACE: &str = "/proc/self/ns/mnt";

/// The assembled workspace.
pub(crate) struct Workspace {
    namespace: OwnedFd,
    terminals: OwnedFd,
    boot_id: BootId,
    /// More disks, in the order in which they were mounted.
    mounted: Vec<Mounted>,
    /// Its files in memory.
    pub(crate) private: Private,
    /// Its address, where it has a network.
    pub(crate) address: Option<Ipv4Addr>,
}

impl Workspace {
    /// Makes this machine the one of the request, which has passed [`identity::check`].
    pub(crate) fn assemble(boot: &Boot) -> Result<Workspace, Refusal> {
        identity::assume(boot)?;
        disks::bind()?;
        mount_disk(&boot.base, BASE, MountFlags::RDONLY)?;
        let device = mount_disk(&boot.workspace, DISK, MountFlags::NOATIME)?;
        if boot.workspace.filesystem == "ext4" {
            ext4::grow_to_device(&device, DISK)?;
        }
        let mounted = mounts::mount_disks(&boot.mounts)?;
        let in_layers =
            |error| refusal(RefusalCode::MountFailed, format!("cannot prepare the layers of the workspace: {error}"));
        prepare_layers(boot).map_err(in_layers)?;
        if !mounted.is_empty() {
            mounts::prepare_targets(&mounted).map_err(in_layers)?;
        }
        let bundle = match &boot.trust[..] {
            [] => Vec::new(),
            ours => trust::bundle(BASE.as_ref(), &boot.roots, ours).map_err(in_layers)?,
        };
        let Built { namespace, terminals, boot_id, private } = build_namespace(boot, &mounted, &bundle)?;
        if let Some(network) = &boot.network {
            network::bring_up(network)?;
        }
        let address = boot.network.map(|network| network.address);
        Ok(Workspace { namespace, terminals, boot_id, mounted, private, address })
    }

    /// Makes it another machine's, under a name and ids that have passed [`identity::check`].
    pub(crate) fn rename(&mut self, wake: &Wake) -> Result<(), Refusal> {
        identity::set_clock(wake.epoch_ns)?;
        identity::set_hostname(&wake.hostname)?;
        layer::rename(LAYER.as_ref(), &wake.hostname, &wake.machine_id)
            .map_err(|error| refusal(RefusalCode::System, format!("cannot rename the machine: {error}")))?;
        let namespace = self.namespace.as_fd();
        self.boot_id
            .change(&wake.boot_id, |act| inside(namespace, act))
            .map_err(|error| refusal(RefusalCode::System, format!("cannot change the boot id: {error}")))
    }

    /// The namespace commands enter.
    pub(crate) fn namespace(&self) -> BorrowedFd<'_> {
        self.namespace.as_fd()
    }

    /// The file system that terminals of commands are of.
    pub(crate) fn terminals(&self) -> BorrowedFd<'_> {
        self.terminals.as_fd()
    }

    /// Takes the workspace apart, when no process is left in it. On success its disks are consistent and at rest.
    pub(crate) fn dismantle(self) -> Result<(), Refusal> {
        // The namespace goes with the last reference to it, and all its mounts with it.
        drop((self.namespace, self.terminals, self.boot_id, self.private));
        // One that fails keeps no other from being put to rest.
        let mounted = self.mounted.iter().rev().map(Mounted::put_to_rest).fold(Ok(()), Result::and);
        put_to_rest(DISK)
            .map_err(|error| refusal(RefusalCode::System, format!("cannot unmount the workspace's disk: {error}")))
            .and(mounted)
    }
}

/// Lets go of what is left of a dismantled workspace: its base, its layer, and the disks.
pub(crate) fn let_go() -> Result<(), Refusal> {
    unmount(BASE, UnmountFlags::empty())
        .map_err(|error| refusal(RefusalCode::System, format!("cannot unmount the workspace's base: {error}")))?;
    fs::remove_dir_all(LAYER)
        .map_err(|error| refusal(RefusalCode::System, format!("cannot remove the workspace's layer: {error}")))?;
    network::take_down()?;
    disks::unbind()
}

/// Unmounts a file system that may have been written to. Unmounting alone would succeed while something still holds it; making it
/// read-only does not.
pub(crate) fn put_to_rest(mounted: &str) -> rustix::io::Result<()> {
    mount_remount(mounted, MountFlags::RDONLY | MountFlags::NOATIME, c"")?;
    unmount(mounted, UnmountFlags::empty())
}

/// Mounts a disk for the agent. Returns its device.
pub(crate) fn mount_disk(disk: &Disk, target: &str, flags: MountFlags) -> Result<PathBuf, Refusal> {
    let device = disks::find(&disk.serial)?;
    let options = match (disk.filesystem.as_str(), flags.contains(MountFlags::RDONLY)) {
        // A base shared by many machines has no journal to replay, and nothing can be replayed on a disk that is not to be written.
        ("ext4", true) => c"noload",
        // Zeroing unused inode tables in the background would only make the sparse image on the host grow.
        ("ext4", false) => c"noinit_itable",
        _ => c"",
    };
    fs::create_dir_all(target)
        .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))
        .and_then(|()| mount(device.as_path(), target, disk.filesystem.as_str(), flags, options))
        .map(|()| device)
        .map_err(|error| {
            let what = format!("cannot mount disk {} as {}: {error}", quoted(&disk.serial), quoted(&disk.filesystem));
            refusal(RefusalCode::MountFailed, what)
        })
}

fn prepare_layers(boot: &Boot) -> std::io::Result<()> {
    let (base, disk) = (Path::new(BASE), Path::new(DISK));
    layer::write(Path::new(LAYER), base, boot)?;
    let (upper, work) = (disk.join("upper"), disk.join("work"));
    // Of a disk that is being used for the first time they may be there or not; what shows of `upper` is the image's either way.
    if !work.join("work").exists() {
        fs::create_dir_all(&work)?;
        fs::create_dir_all(&upper)?;
        layer::copy_owner_and_mode(base, &upper)?;
    }
    fs::create_dir_all(ROOT)
}

type MountError = (&'static str, Errno);

/// Builds the workspace's mounts in a copy of our namespace, and comes back without it. No fork is needed: a descriptor
/// keeps the copy alive, and another the terminals in it.
fn build_namespace(boot: &Boot, mounted: &[Mounted], bundle: &[u8]) -> Result<Built, Refusal> {
    let failed = |(what, error): MountError| {
        refusal(RefusalCode::MountFailed, format!("cannot mount {what} of the workspace: {error}"))
    };
    let namespace = |error| failed(("the namespace", error));
    let ours = open_namespace().map_err(namespace)?;
    let views = mounts::views(mounted)?;
    sys::unshare_mounts().map_err(namespace)?;
    let built = mount_root().map_err(failed).and_then(|()| mounts::show(mounted, &views)).and_then(|()| {
        let private = private::prepare(boot, bundle)?;
        let terminals = rustix::fs::open("/dev/pts", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .map_err(|error| failed(("devpts", error)))?;
        Ok(Built { namespace: open_namespace().map_err(namespace)?, terminals, boot_id: BootId::find(), private })
    });
    move_into_link_name_space(ours.as_fd(), Some(LinkNameSpaceType::Mount)).map_err(namespace)?;
    built
}

/// What is held of a namespace.
struct Built {
    namespace: OwnedFd,
    terminals: OwnedFd,
    boot_id: BootId,
    private: Private,
}

/// Acts in a namespace, and comes back. What is done in there looks up no path: the workspace decides what that would lead to, and how long
/// it would take.
fn inside<T>(namespace: BorrowedFd<'_>, act: impl FnOnce() -> rustix::io::Result<T>) -> rustix::io::Result<T> {
    let ours = open_namespace()?;
    move_into_link_name_space(namespace, Some(LinkNameSpaceType::Mount))?;
    let done = act();
    move_into_link_name_space(ours.as_fd(), Some(LinkNameSpaceType::Mount))?;
    done
}

fn open_namespace() -> rustix::io::Result<OwnedFd> {
    rustix::fs::open(NAMESPACE, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
}

/// Stacks the layers.
pub(crate) fn mount_layers() -> rustix::io::Result<()> {
    mount("overlay", ROOT, "overlay", MountFlags::NOATIME, OVERLAY)
}

fn mount_root() -> Result<(), MountError> {
    let root = |error| ("the root", error);
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC).map_err(root)?;
    mount_layers().map_err(root)?;
    chdir(ROOT).map_err(root)?;
    mount_kernel_file_systems()?;
    // The initramfs is the root of every namespace and cannot be pivoted away; a root moved over it hides it for good.
    mount_move(".", "/").and_then(|()| chroot(".")).and_then(|()| chdir("/")).map_err(root)
}

/// Mounts what programs expect to find, below the working directory.
fn mount_kernel_file_systems() -> Result<(), MountError> {
    let plain = MountFlags::NOSUID | MountFlags::NOEXEC | MountFlags::NODEV;
    let device = MountFlags::NOSUID | MountFlags::NOEXEC;
    let shared = MountFlags::NOSUID | MountFlags::NODEV;
    required("proc", "proc", plain, c"")?;
    required("sys", "sysfs", plain, c"")?;
    required("dev", "devtmpfs", MountFlags::NOSUID, c"mode=755")?;
    prepare_devices().map_err(|error| ("`/dev`", Errno::from_io_error(&error).unwrap_or(Errno::IO)))?;
    required("dev/pts", "devpts", device, c"gid=5,mode=620,ptmxmode=666")?;
    required("dev/shm", "tmpfs", shared, c"mode=1777")?;
    optional("dev/mqueue", "mqueue", plain)?;
    optional("sys/fs/cgroup", "cgroup2", plain)
}

fn required(target: &'static str, kind: &'static str, flags: MountFlags, options: &CStr) -> Result<(), MountError> {
    mount(kind, target, kind, flags, options).map_err(|error| (kind, error))
}

/// A kernel may be built without it.
fn optional(target: &'static str, kind: &'static str, flags: MountFlags) -> Result<(), MountError> {
    match mount(kind, target, kind, flags, c"") {
        Ok(()) | Err(Errno::NODEV | Errno::NOENT) => Ok(()),
        Err(error) => Err((kind, error)),
    }
}

/// What a device daemon would add to the kernel's own device files. Shell scripts rely on the links. The device files are the machine's,
/// so those of a workspace before this one are still there.
fn prepare_devices() -> std::io::Result<()> {
    for directory in ["dev/pts", "dev/shm", "dev/mqueue"] {
        fs::create_dir_all(directory)?;
    }
    for (link, target) in [("fd", ""), ("stdin", "/0"), ("stdout", "/1"), ("stderr", "/2")] {
        match symlink(format!("/proc/self/fd{target}"), Path::new("dev").join(link)) {
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            made => made?,
        }
    }
    Ok(())
}
