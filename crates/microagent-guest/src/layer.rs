//! The machine's own layer of the root file system.
//!
//! It lies between the image's base and the workspace's disk, in memory, and holds what belongs to this machine and not to
//! the image: mount points the image may lack, and the files that carry the machine's identity. As a layer it needs nothing
//! of the image (no file to mount over, no link to follow) and leaves no trace on the workspace's disk, so the workspace
//! differs from its image only by what was done in it. A command that edits one of the files gets its own copy, like
//! anywhere else.

use crate::{private, trust};
use microagent_protocol::Boot;
use std::fs::{self, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, chown};
use std::path::Path;

/// Directories every machine has.
const MOUNT_POINTS: [&str; 3] = ["dev", "proc", "sys"];

/// Writes the layer for an image whose base is at `base` to `layer`.
pub(crate) fn write(layer: &Path, base: &Path, boot: &Boot) -> io::Result<()> {
    for directory in MOUNT_POINTS {
        fs::create_dir_all(layer.join(directory))?;
    }
    if fs::symlink_metadata(base.join("run")).map_or(true, |run| run.is_dir()) {
        for directory in private::mount_points(boot) {
            fs::create_dir_all(layer.join(directory))?;
        }
        let (from, to) = (base.join("run"), layer.join("run"));
        if from.is_dir() && to.is_dir() {
            copy_owner_and_mode(&from, &to)?;
        }
    }
    if !boot.trust.is_empty() {
        trust::write_layer(layer, base, boot)?;
    }
    let base_etc = base.join("etc");
    // An image whose `/etc` is not a directory keeps it: the layer would hide it.
    if fs::symlink_metadata(&base_etc).is_ok_and(|etc| !etc.is_dir()) {
        return Ok(());
    }
    let etc = layer.join("etc");
    fs::create_dir_all(&etc)?;
    if base_etc.is_dir() {
        copy_owner_and_mode(&base_etc, &etc)?;
    }
    for (file, text) in names(&boot.hostname, &boot.machine_id) {
        fs::write(etc.join(file), text)?;
    }
    // A file that exists is never filled in by a tool with an id that copies would share: it is also for images without one.
    fs::set_permissions(etc.join("machine-id"), Permissions::from_mode(0o444))?;
    if let Some(network) = &boot.network {
        fs::write(etc.join("resolv.conf"), format!("nameserver {}\n", network.resolver))?;
    }
    Ok(())
}

/// The files in `/etc` that say who the machine is.
fn names(hostname: &str, machine_id: &str) -> [(&'static str, String); 3] {
    [
        ("hostname", format!("{hostname}\n")),
        ("hosts", format!("127.0.0.1 localhost {hostname}\n::1 localhost ip6-localhost ip6-loopback\n")),
        ("machine-id", format!("{machine_id}\n")),
    ]
}

/// Has the files that say who the machine is say something else. The layer is part of a stack by now, which shows the files that were in it
/// then: what is in them can change, they themselves cannot. One that a command has edited is that command's, as anywhere else.
pub(crate) fn rename(layer: &Path, hostname: &str, machine_id: &str) -> io::Result<()> {
    let etc = layer.join("etc");
    for (file, text) in names(hostname, machine_id) {
        let file = match OpenOptions::new().write(true).open(etc.join(file)) {
            // An image that keeps its `/etc` to itself.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            file => file?,
        };
        // In this order nobody finds it empty.
        file.write_all_at(text.as_bytes(), 0)?;
        file.set_len(text.len() as u64)?;
    }
    Ok(())
}

/// Makes a merged directory look like the one below it: the topmost layer's attributes are the ones that show.
pub(crate) fn copy_owner_and_mode(from: &Path, to: &Path) -> io::Result<()> {
    let metadata = fs::metadata(from)?;
    chown(to, Some(metadata.uid()), Some(metadata.gid()))?;
    fs::set_permissions(to, metadata.permissions())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn boot() -> Boot {
        let disk =
            |serial: &str| microagent_protocol::Disk { serial: serial.to_owned(), filesystem: "ext4".to_owned() };
        Boot {
            base: disk("base"),
            workspace: disk("workspace"),
            mounts: Vec::new(),
            hostname: "box".to_owned(),
            machine_id: "0123456789abcdef0123456789abcdef".to_owned(),
            epoch_ns: 0,
            entropy: vec![0; 32],
            network: None,
            trust: Vec::new(),
            roots: String::new(),
            java_home: None,
            secrets: false,
            sockets: Vec::new(),
        }
    }

    #[test]
    fn the_machines_name_and_id_are_in_its_layer() {
        let (layer, base) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        write(layer.path(), base.path(), &boot()).unwrap();
        let read = |file: &str| fs::read_to_string(layer.path().join(file)).unwrap();
        assert_eq!(read("etc/hostname"), "box\n");
        assert!(read("etc/hosts").starts_with("127.0.0.1 localhost box\n"));
        assert_eq!(read("etc/machine-id"), "0123456789abcdef0123456789abcdef\n");
        assert!(layer.path().join("proc").is_dir());
    }

    #[test]
    fn a_renamed_machine_keeps_its_files_and_changes_what_they_say() {
        let (layer, base) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        write(layer.path(), base.path(), &boot()).unwrap();
        let inode = |file: &str| fs::metadata(layer.path().join(file)).unwrap().ino();
        let before = ["etc/hostname", "etc/hosts", "etc/machine-id"].map(inode);
        rename(layer.path(), "b", "fedcba9876543210fedcba9876543210").unwrap();
        let read = |file: &str| fs::read_to_string(layer.path().join(file)).unwrap();
        assert_eq!(read("etc/hostname"), "b\n");
        assert_eq!(read("etc/hosts"), "127.0.0.1 localhost b\n::1 localhost ip6-localhost ip6-loopback\n");
        assert_eq!(read("etc/machine-id"), "fedcba9876543210fedcba9876543210\n");
        assert_eq!(before, ["etc/hostname", "etc/hosts", "etc/machine-id"].map(inode));
    }

    #[test]
    fn etc_looks_like_the_images() {
        let (layer, base) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::create_dir(base.path().join("etc")).unwrap();
        fs::set_permissions(base.path().join("etc"), Permissions::from_mode(0o751)).unwrap();
        write(layer.path(), base.path(), &boot()).unwrap();
        assert_eq!(fs::metadata(layer.path().join("etc")).unwrap().mode() & 0o7777, 0o751);
    }

    #[test]
    fn an_etc_that_is_a_link_is_left_to_the_image() {
        let (layer, base) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        std::os::unix::fs::symlink("usr/etc", base.path().join("etc")).unwrap();
        write(layer.path(), base.path(), &boot()).unwrap();
        assert!(!layer.path().join("etc").exists());
    }
}
