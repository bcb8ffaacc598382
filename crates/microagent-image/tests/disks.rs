//! Disks that are not root filesystems: empty ones, those made of an archive, and those somebody else made.

use std::ffi::OsStr;
use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use microagent_image::rootfs::{Error, Limits, format_empty_ext4, probe_ext4, write_bundle};
use microagent_protocol::{Fault, FaultKind};
use microagent_testing::{run, tool};

const MIB: u64 = 1 << 20;

fn check(disk: &Path) {
    run(tool("e2fsck").arg("-fn").arg(disk));
}

/// What `debugfs` says to a request.
fn debugfs(disk: &Path, request: &str) -> String {
    String::from_utf8(run(tool("debugfs").args(["-R", request]).arg(disk))).unwrap()
}

fn bundle(archive: &Path, disk: &Path, headroom: u64) -> Result<u64, Error> {
    let mut watch = |_| ControlFlow::Continue(());
    write_bundle(archive, disk, headroom, &Limits::default(), &mut watch).map(|written| written.bytes)
}

/// An archive of a few files with owners of their own, compressed by what its name says.
fn archive(scratch: &Path, name: &str) -> PathBuf {
    let content = scratch.join("content");
    fs::create_dir_all(content.join("sub")).unwrap();
    fs::write(content.join("sub/file"), vec![7; 300_000]).unwrap();
    let _ = fs::remove_file(content.join("link"));
    std::os::unix::fs::symlink("sub/file", content.join("link")).unwrap();
    let archive = scratch.join(name);
    let options = ["--create", "--auto-compress", "--owner=1000", "--group=2000", "--mode=u=rwX,go=rX"];
    run(tool("tar").args(options).arg("--file").arg(&archive).arg("--directory").arg(&content).arg("."));
    archive
}

#[test]
fn empty_disk_has_nothing_of_a_workspace_on_it() {
    let scratch = tempfile::tempdir().unwrap();
    let disk = scratch.path().join("disk");
    for size in [16 * MIB, 1024 * MIB, 20_480 * MIB] {
        format_empty_ext4(&disk, size).unwrap();
        check(&disk);
        let listed = debugfs(&disk, "ls -l /");
        assert!(!listed.contains("upper") && !listed.contains("work") && listed.contains("lost+found"), "{listed}");
        assert!(debugfs(&disk, "stat /").contains("Mode:  0755"));
        let info = probe_ext4(&disk).unwrap();
        assert_eq!((info.size, info.filesystem_size, info.needs_recovery), (size, size, false));
        assert!(info.uuid.is_some());
    }
}

#[test]
fn bundle_holds_what_the_archive_holds_whatever_compressed_it() {
    let scratch = tempfile::tempdir().unwrap();
    for name in ["plain.tar", "small.tar.gz", "new.tar.zst"] {
        let disk = scratch.path().join("disk");
        let size = bundle(&archive(scratch.path(), name), &disk, 0).unwrap();
        check(&disk);
        assert_eq!((size, size % MIB), (fs::metadata(&disk).unwrap().len(), 0));
        let file = debugfs(&disk, "stat /sub/file");
        assert!(
            file.contains("User:  1000") && file.contains("Group:  2000") && file.contains("Size: 300000"),
            "{file}"
        );
        let copy = scratch.path().join("copy");
        debugfs(&disk, &format!("dump /sub/file {}", copy.display()));
        assert_eq!(fs::read(&copy).unwrap(), vec![7; 300_000]);
        assert!(debugfs(&disk, "stat /link").contains("sub/file"));
        // Nothing is left beside it.
        let mut names: Vec<_> = fs::read_dir(scratch.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.retain(|name| name != "content" && name != "copy" && name != "disk");
        assert!(names.iter().all(|name| name.to_string_lossy().contains(".tar")), "{names:?}");
    }
}

#[test]
fn headroom_is_room_that_costs_nothing_until_it_is_used() {
    use std::os::unix::fs::MetadataExt;
    let scratch = tempfile::tempdir().unwrap();
    let (archive, disk) = (archive(scratch.path(), "plain.tar"), scratch.path().join("disk"));
    let free = |disk: &Path| {
        let header = String::from_utf8(run(tool("dumpe2fs").arg("-h").arg(disk))).unwrap();
        let line = header.lines().find_map(|line| line.strip_prefix("Free blocks:")).unwrap();
        line.trim().parse::<u64>().unwrap() * 4096
    };
    for headroom in [0, 64 * MIB, 2048 * MIB] {
        bundle(&archive, &disk, headroom).unwrap();
        check(&disk);
        // Tables of the filesystem take a sixtieth of it.
        assert!(free(&disk) >= headroom - headroom / 40, "{} of {headroom} bytes are free", free(&disk));
        assert!(fs::metadata(&disk).unwrap().blocks() * 512 < 3 * MIB);
    }
}

#[test]
fn archive_that_is_none_is_refused() {
    let scratch = tempfile::tempdir().unwrap();
    let (path, disk) = (scratch.path().join("archive"), scratch.path().join("disk"));
    fs::write(&path, vec![b'x'; 2048]).unwrap();
    assert_eq!(bundle(&path, &disk, 0).unwrap_err().code(), "layer_archive_invalid");
    for unreadable in [scratch.path().join("missing"), scratch.path().to_owned()] {
        let error = bundle(&unreadable, &disk, 0).unwrap_err();
        assert_eq!(error.code(), "archive_unreadable");
        assert!(error.to_string().contains(unreadable.to_str().unwrap()), "{error}");
    }
    let mut stop = |_| ControlFlow::Break(());
    let archive = archive(scratch.path(), "plain.tar");
    let outcome = write_bundle(&archive, &disk, 0, &Limits::default(), &mut stop);
    assert!(matches!(outcome, Err(Error::Cancelled)));
}

#[test]
fn disk_of_mke2fs_is_known_by_its_identity() {
    let scratch = tempfile::tempdir().unwrap();
    let disk = scratch.path().join("disk");
    let uuid = "01234567-89ab-cdef-0123-456789abcdef";
    for (options, blocks) in [(&["-b", "4096"][..], "8192"), (&["-b", "1024", "-O", "^64bit"], "32768")] {
        let _ = fs::remove_file(&disk);
        run(tool("mke2fs").args(["-q", "-t", "ext4", "-U", uuid]).args(options).arg(&disk).arg(blocks));
        let info = probe_ext4(&disk).unwrap();
        let expected = [1, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef, 1, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef];
        assert_eq!((info.uuid, info.size, info.filesystem_size), (Some(expected), 32 * MIB, 32 * MIB));
        assert!(!info.needs_recovery);
        run(tool("debugfs").args(["-w", "-R", "feature needs_recovery"]).arg(&disk));
        assert!(probe_ext4(&disk).unwrap().needs_recovery);
        fs::OpenOptions::new().write(true).open(&disk).unwrap().set_len(40 * MIB).unwrap();
        let info = probe_ext4(&disk).unwrap();
        assert_eq!((info.size, info.filesystem_size), (40 * MIB, 32 * MIB));
    }
}

#[test]
fn what_is_no_disk_is_refused_with_the_reason() {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("file");
    let refused = |path: &Path| {
        let error = probe_ext4(path).unwrap_err();
        assert_eq!((error.code(), error.kind()), ("disk_invalid", FaultKind::Usage));
        error.to_string()
    };
    assert!(refused(scratch.path()).ends_with("it is a directory"));
    assert!(refused(Path::new("/dev/null")).ends_with("it is neither a regular file nor a block device"));
    fs::write(&path, "short").unwrap();
    assert!(refused(&path).ends_with("it is too small to hold a filesystem"));
    fs::write(&path, vec![0; 4096]).unwrap();
    assert!(refused(&path).ends_with("it does not hold an ext4 filesystem"));
    format_empty_ext4(&path, 16 * MIB).unwrap();
    fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(8 * MIB).unwrap();
    assert!(refused(&path).contains("it is cut off"));
    let error = probe_ext4(&scratch.path().join("missing")).unwrap_err();
    assert_eq!((error.code(), error.kind()), ("disk_unreadable", FaultKind::NotFound));
}

#[test]
fn disk_the_host_has_mounted_is_in_use() {
    let scratch = tempfile::tempdir().unwrap();
    let (disk, mounted) = (scratch.path().join("disk"), scratch.path().join("mounted"));
    format_empty_ext4(&disk, 16 * MIB).unwrap();
    fs::create_dir(&mounted).unwrap();
    let mount = std::process::Command::new("mount").args(["-o", "loop"]).arg(&disk).arg(&mounted).output();
    if !mount.is_ok_and(|output| output.status.success()) {
        // Only root can mount one.
        return;
    }
    let error = probe_ext4(&disk).unwrap_err();
    let source = run(tool("findmnt").args(["--noheadings", "--output", "SOURCE"]).arg(&mounted));
    let device = probe_ext4(Path::new(String::from_utf8(source).unwrap().trim()));
    run(tool("umount").arg::<&OsStr>(mounted.as_ref()));
    assert_eq!((error.code(), error.kind()), ("disk_in_use", FaultKind::Conflict));
    assert_eq!(device.unwrap_err().code(), "disk_in_use");
    probe_ext4(&disk).unwrap();
}
