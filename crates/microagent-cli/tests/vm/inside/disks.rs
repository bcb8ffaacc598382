//! Disks besides a workspace's own.

use super::workspace::{NAME, Workspace};
use crate::host::{BUSYBOX, Host, Ran};
use microagent_testing::{Item, TarWriter, run, tool};
use std::fs;

fn create(host: &Host, name: &str, flags: &[&str]) {
    host.microagent(["create", name, "--profile", "tiny", "--image", BUSYBOX].iter().chain(flags)).expect(0);
}

fn sh(host: &Host, name: &str, line: &str) -> Ran {
    host.microagent(["exec", name, "--", "/bin/sh", "-c", line])
}

#[test]
fn a_volume_is_one_writers_or_many_readers_and_outlives_them_all() {
    let host = Host::new();
    host.microagent(["volume", "create", "data", "--size-mib", "32"]).expect(0);
    create(&host, "writer", &["-v", "data:/data"]);
    create(&host, "other", &["-v", "data:/data"]);
    create(&host, "reader", &["-v", "data:/data:ro"]);
    create(&host, "second", &["-v", "data:/data:ro"]);
    host.microagent(["start", "writer"]).expect(0);
    sh(&host, "writer", "echo precious > /data/file").expect(0);
    for late in ["other", "reader"] {
        let ran = host.microagent(["start", late]);
        assert_ne!(ran.status, 0, "{late}");
        assert!(ran.stderr.contains("data") && ran.stderr.contains("writer"), "{}", ran.stderr);
    }
    host.microagent(["halt", "writer"]).expect(0);
    for reader in ["reader", "second"] {
        host.microagent(["start", reader]).expect(0);
        assert_eq!(sh(&host, reader, "cat /data/file").expect(0).text(), "precious\n");
    }
    let ran = host.microagent(["start", "writer"]);
    assert_ne!(ran.status, 0);
    assert!(ran.stderr.contains("data"), "{}", ran.stderr);
    // Whatever root does in there.
    let volume = host.state().join("volumes/data");
    let disk = || {
        fs::read_dir(&volume)
            .unwrap()
            .map(|file| file.unwrap().path())
            .find(|path| path.extension().is_some_and(|e| e == "ext4"))
            .unwrap()
    };
    let before = fs::read(disk()).unwrap();
    assert_ne!(sh(&host, "reader", "echo no > /data/new").status, 0);
    sh(&host, "reader", "mount -o remount,rw /data; echo no > /data/new; rm -f /data/file; sync");
    let device = sh(&host, "reader", "grep ' /data ' /proc/mounts | cut -d' ' -f1").expect(0).text();
    sh(&host, "reader", &format!("dd if=/dev/zero of={} bs=1M count=1 conv=notrunc; sync", device.trim()));
    for reader in ["reader", "second"] {
        host.microagent(["delete", reader, "--yes", "--force"]).expect(0);
    }
    assert!(fs::read(disk()).unwrap() == before, "a reader has written");
    for workspace in ["writer", "other"] {
        host.microagent(["delete", workspace, "--yes"]).expect(0);
    }
    create(&host, "heir", &["-v", "data:/data"]);
    host.microagent(["start", "heir"]).expect(0);
    assert_eq!(sh(&host, "heir", "cat /data/file").expect(0).text(), "precious\n");
    host.microagent(["delete", "heir", "--yes", "--force"]).expect(0);
}

#[test]
fn a_volume_that_was_made_larger_has_more_room() {
    let host = Host::new();
    host.microagent(["volume", "create", "data", "--size-mib", "32"]).expect(0);
    create(&host, "box", &["-v", "data:/data"]);
    host.microagent(["volume", "resize", "data", "--size-mib", "96"]).expect(0);
    host.microagent(["start", "box"]).expect(0);
    let told = sh(&host, "box", "df -k /data | tail -1").expect(0).text();
    let kib: u64 = told.split_whitespace().nth(1).unwrap().parse().unwrap();
    assert!(kib > 64 << 10, "the file system has {kib} KiB of 96 MiB");
    host.microagent(["delete", "box", "--yes", "--force"]).expect(0);
}

#[test]
fn a_bundle_is_there_with_owners_and_modes() {
    let host = Host::new();
    let archive = tempfile::NamedTempFile::new().unwrap();
    let items = [
        Item::directory("app").mode(0o750).owner(11, 22),
        Item::file("app/tool", "#!/bin/sh\necho works\n").mode(0o4755).owner(33, 44).mtime(1_234_567_890, 0),
        Item::symlink("app/link", "tool"),
        Item::file("app/secret", "secret").mode(0o600).owner(1000, 1000),
    ];
    fs::write(&archive, TarWriter::of(&items)).unwrap();
    let bundle = |mode: &str| format!("app={}:/mnt/app{mode}", archive.path().display());
    create(&host, "reader", &["--bundle", &bundle("")]);
    create(&host, "writer", &["--bundle", &bundle(":rw")]);
    for name in ["reader", "writer"] {
        host.microagent(["start", name]).expect(0);
        let seen = sh(&host, name, "cd /mnt/app/app; stat -c '%n %a %u:%g' . tool secret; stat -c %Y tool; ./link")
            .expect(0)
            .text();
        assert_eq!(seen, ". 750 11:22\ntool 4755 33:44\nsecret 600 1000:1000\n1234567890\nworks\n");
    }
    assert_ne!(sh(&host, "reader", "echo no > /mnt/app/new").status, 0);
    sh(&host, "writer", "echo yes > /mnt/app/new").expect(0);
    host.microagent(["halt", "writer"]).expect(0);
    host.microagent(["start", "writer"]).expect(0);
    assert_eq!(sh(&host, "writer", "cat /mnt/app/new").expect(0).text(), "yes\n");
    for name in ["reader", "writer"] {
        host.microagent(["delete", name, "--yes", "--force"]).expect(0);
    }
}

/// An ext4 file as a machine leaves it that lost its power: with a file that is in the journal.
fn interrupted_disk(directory: &std::path::Path) -> std::path::PathBuf {
    let (disk, mounted, copy) = (directory.join("disk.ext4"), directory.join("mounted"), directory.join("copy.ext4"));
    run(tool("truncate").args(["--size", "64M"]).arg(&disk));
    run(tool("mke2fs").args(["-q", "-t", "ext4", "-F"]).arg(&disk));
    fs::create_dir(&mounted).unwrap();
    run(tool("mount").args(["-o", "loop"]).arg(&disk).arg(&mounted));
    fs::write(mounted.join("journaled"), "was on its way\n").unwrap();
    run(tool("sync").arg("--file-system").arg(mounted.join("journaled")));
    fs::copy(&disk, &copy).unwrap();
    run(tool("umount").arg(&mounted));
    copy
}

#[test]
fn an_ext4_file_that_was_not_unmounted_is_whole_where_it_is_written_to() {
    let scratch = tempfile::tempdir().unwrap();
    let disk = interrupted_disk(scratch.path());
    let workspace =
        Workspace::start_with(&["--image", BUSYBOX, "--disk", &format!("ours={}:/ours:rw", disk.display())]);
    assert_eq!(workspace.sh("cat /ours/journaled; echo more > /ours/more").expect(0).text(), "was on its way\n");
    workspace.microagent(["halt", NAME]).expect(0);
    run(tool("e2fsck").args(["-fn"]).arg(&disk));
    let found = run(tool("debugfs").args(["-R", "cat /more"]).arg(&disk));
    assert_eq!(found, b"more\n");
}

#[test]
fn an_ext4_file_that_was_not_unmounted_is_not_changed_where_it_is_read() {
    let scratch = tempfile::tempdir().unwrap();
    let disk = interrupted_disk(scratch.path());
    let before = fs::read(&disk).unwrap();
    let flag = format!("theirs={}:/theirs:ro", disk.display());
    let workspace = Workspace::create(Host::new(), &["--image", BUSYBOX, "--disk", &flag]);
    let started = workspace.microagent(["start", NAME]);
    if started.status == 0 {
        workspace.sh("ls /theirs").expect(0);
    } else {
        assert!(started.stderr.contains("theirs"), "{}", started.stderr);
    }
    drop(workspace);
    assert!(fs::read(&disk).unwrap() == before, "a reader has written");
}
