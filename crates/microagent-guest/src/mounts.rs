//! More disks of a workspace, each at a directory of its own.
//!
//! They are mounted for the agent first and shown to the workspace from there, so that the agent can put them to rest whatever has become
//! of the workspace's view of them. A directory that the image lacks for one is made in the machine's own layer, so that the workspace
//! does not differ from its image for having the disk.
//!
//! A read-only disk is mounted without its journal (`noload`): it may be shared by machines, none of which may replay it. Where it was left
//! by a machine that was killed it shows what lay on the disk then.

use crate::ext4;
use crate::refusal::{quoted, refusal};
use crate::workspace::{LAYER, ROOT, mount_disk, mount_layers, put_to_rest};
use microagent_protocol::{Mount, Refusal, RefusalCode};
use rustix::fd::{AsFd, AsRawFd, OwnedFd};
use rustix::fs::{AtFlags, CWD, Mode, OFlags, ResolveFlags, Stat, mkdirat, openat, openat2, statat};
use rustix::io::Errno;
use rustix::mount::{MountFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags, move_mount, open_tree, unmount};
use std::ffi::OsString;
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::PathBuf;

/// Most disks besides the workspace's own: more than an engine attaches.
const MOST: usize = 64;

/// A disk that is mounted for the agent.
pub(crate) struct Mounted {
    mount: Mount,
    place: String,
}

/// Mounts the disks for the agent.
pub(crate) fn mount_disks(mounts: &[Mount]) -> Result<Vec<Mounted>, Refusal> {
    if mounts.len() > MOST {
        return Err(refusal(RefusalCode::BadRequest, format!("{} disks are more than {MOST}", mounts.len())));
    }
    let mounted = mounts.iter().enumerate().map(|(number, mount)| {
        check(mount)?;
        let place = format!("/mnt/disks/{number}");
        let access = if mount.read_only { MountFlags::RDONLY } else { MountFlags::NOATIME };
        let failed = |error: Refusal| refused(mount, error.code, error.message);
        let device = mount_disk(&mount.disk, &place, access).map_err(failed)?;
        if !mount.read_only {
            ext4::grow_to_device(&device, &place).map_err(failed)?;
        }
        Ok(Mounted { mount: mount.clone(), place })
    });
    mounted.collect()
}

/// A target is plain names below the root: `..` would mean another directory to whoever reads it than to the kernel.
fn check(mount: &Mount) -> Result<(), Refusal> {
    let plain = names_of(&mount.target).all(|name| name != ".." && name.len() <= 255) && !mount.target.contains('\0');
    if !mount.target.starts_with('/') || mount.target.len() > 4095 || !plain || names_of(&mount.target).next().is_none()
    {
        let what = "its target is not an absolute path of a directory below the root, without `..`";
        return Err(refused(mount, RefusalCode::BadRequest, what));
    }
    Ok(())
}

fn refused(mount: &Mount, code: RefusalCode, why: impl std::fmt::Display) -> Refusal {
    let (disk, target) = (quoted(&mount.disk.serial), quoted(&mount.target));
    refusal(code, format!("cannot mount disk {disk} at {target}: {why}"))
}

/// Makes the directories that are missing, in the machine's own layer. The layers are stacked for a look and taken apart again: a layer must
/// not be changed while it is part of a stack.
pub(crate) fn prepare_targets(mounted: &[Mounted]) -> io::Result<()> {
    mount_layers()?;
    let missing: io::Result<Vec<_>> = mounted.iter().map(|mounted| missing(&mounted.mount.target)).collect();
    unmount(ROOT, UnmountFlags::empty())?;
    for Missing { existing, names } in missing?.into_iter().flatten() {
        // What exists is made too, as it is below: a layer shows a directory only inside of its own.
        let mut path = PathBuf::from(LAYER);
        for (name, stat) in existing {
            path.push(name);
            if !path.exists() {
                fs::create_dir(&path)?;
                chown(&path, Some(stat.st_uid), Some(stat.st_gid))?;
                fs::set_permissions(&path, Permissions::from_mode(stat.st_mode & 0o7777))?;
            }
        }
        path.extend(names);
        fs::create_dir_all(path)?;
    }
    Ok(())
}

/// What of a target there is, from the root down, and what not.
struct Missing {
    existing: Vec<(OsString, Stat)>,
    names: Vec<String>,
}

/// Looks for a target in the stacked layers. `None` if it is there, or something is that is not a directory.
fn missing(target: &str) -> io::Result<Option<Missing>> {
    let root = open_directory(CWD, ROOT)?;
    let names: Vec<&str> = names_of(target).collect();
    let mut directory = root.try_clone()?;
    for (found, name) in names.iter().enumerate() {
        match within(&root, &names[..=found].join("/")) {
            Ok(next) => directory = next,
            // A link that leads nowhere is there, and would be hidden.
            Err(Errno::NOENT) if statat(&directory, *name, AtFlags::SYMLINK_NOFOLLOW).is_err() => {
                let names = names[found..].iter().map(|&name| name.to_owned()).collect();
                return Ok(Some(Missing { existing: ancestry(&directory)?, names }));
            }
            Err(_) => return Ok(None),
        }
    }
    Ok(None)
}

/// The names and attributes of a directory of the stacked layers and of those it is in, without the root.
fn ancestry(directory: &OwnedFd) -> io::Result<Vec<(OsString, Stat)>> {
    let path = fs::read_link(format!("/proc/self/fd/{}", directory.as_raw_fd()))?;
    let inside = path.strip_prefix(ROOT).map_err(io::Error::other)?;
    let mut reached = PathBuf::from(ROOT);
    let ancestry = inside.iter().map(|name| {
        reached.push(name);
        Ok((name.to_owned(), statat(CWD, &reached, AtFlags::SYMLINK_NOFOLLOW)?))
    });
    ancestry.collect()
}

/// Views of the disks that can be shown in another namespace.
pub(crate) fn views(mounted: &[Mounted]) -> Result<Vec<OwnedFd>, Refusal> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let view = |mounted: &Mounted| {
        open_tree(CWD, &mounted.place, flags).map_err(|error| refused(&mounted.mount, RefusalCode::MountFailed, error))
    };
    mounted.iter().map(view).collect()
}

/// Shows the disks in the workspace, whose root is this process's.
pub(crate) fn show(mounted: &[Mounted], views: &[OwnedFd]) -> Result<(), Refusal> {
    mounted.iter().zip(views).try_for_each(|(mounted, view)| {
        let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
        make(&mounted.mount.target)
            .and_then(|target| move_mount(view, c"", target, c"", flags))
            .map_err(|error| refused(&mounted.mount, RefusalCode::MountFailed, error))
    })
}

/// Opens a target, made where it is missing: below an earlier disk, and where the workspace hides the machine's layer.
fn make(target: &str) -> rustix::io::Result<OwnedFd> {
    let root = open_directory(CWD, "/")?;
    let mut directory = open_directory(&root, ".")?;
    let mut path = String::new();
    for name in names_of(target) {
        path = format!("{path}/{name}");
        directory = match within(&root, &path) {
            Err(Errno::NOENT) => {
                mkdirat(&directory, name, Mode::from_raw_mode(0o755))?;
                within(&root, &path)?
            }
            found => found?,
        };
    }
    Ok(directory)
}

fn names_of(target: &str) -> impl Iterator<Item = &str> {
    target.split('/').filter(|name| !matches!(*name, "" | "."))
}

fn open_directory(at: impl AsFd, path: &str) -> rustix::io::Result<OwnedFd> {
    openat(at, path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

/// Opens a directory whose path, links in it included, starts at `root`.
fn within(root: &OwnedFd, path: &str) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    openat2(root, path, flags, Mode::empty(), ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS)
}

impl Mounted {
    /// Unmounts the disk, when the workspace does not show it any more.
    pub(crate) fn put_to_rest(&self) -> Result<(), Refusal> {
        put_to_rest(&self.place).map_err(|error| {
            let what = format!("cannot unmount disk {}: {error}", quoted(&self.mount.disk.serial));
            refusal(RefusalCode::System, what)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use microagent_protocol::Disk;

    #[test]
    fn a_target_that_is_not_a_directory_below_the_root_is_refused_by_name() {
        let at = |target: &str| {
            let disk = Disk { serial: "data".to_owned(), filesystem: "ext4".to_owned() };
            check(&Mount { disk, target: target.to_owned(), read_only: false })
        };
        for good in ["/data", "/a/b", "//a/./b/"] {
            assert_eq!(at(good), Ok(()), "{good}");
        }
        for bad in ["", "data", "/", "//", "/.", "/a/../b", "/..", "/a\0b", &format!("/{}", "n".repeat(256))] {
            let refused = at(bad).unwrap_err();
            assert_eq!(refused.code, RefusalCode::BadRequest, "{bad:?}");
            assert!(refused.message.contains("`data`"), "{refused}");
        }
    }
}
