//! More disks of a workspace.

mod common;

use common::{Guest, boot_request, check, command, format, shell, workspace_disk};
use microagent_protocol::{Boot, Disk, Mount, RefusalCode, Reply, Request};
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// Two more disks, and the directory they are in.
fn disks() -> (TempDir, PathBuf, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let (one, two) = (directory.path().join("one.ext4"), directory.path().join("two.ext4"));
    format(&one, 64 << 20);
    format(&two, 64 << 20);
    (directory, one, two)
}

fn mount(serial: &str, target: &str, read_only: bool) -> Mount {
    let disk = Disk { serial: serial.to_owned(), filesystem: "ext4".to_owned() };
    Mount { disk, target: target.to_owned(), read_only }
}

fn boot(guest: &Guest, mounts: &[Mount]) -> Result<Reply, microagent_protocol::Refusal> {
    guest.ask(&Request::Boot(Boot { mounts: mounts.to_vec(), ..boot_request() }))
}

#[test]
fn what_was_written_to_a_disk_lasts_and_a_read_only_one_takes_nothing() {
    let (_directory, one, two) = disks();
    let guest = Guest::greet_with(workspace(), &[("one", &one, false), ("two", &two, false)]);
    boot(&guest, &[mount("one", "/data", false), mount("two", "/srv/with space/deep", false)]).unwrap();
    guest.shell(
        "echo kept >/data/file; echo too >'/srv/with space/deep/file'; sleep 1000 </data/file >/dev/null 2>&1 & true",
    );
    // No sync, and a process that holds a file open.
    assert_eq!(guest.ask(&Request::Release), Ok(Reply::Done));
    check(&one);
    check(&two);

    // The same machine again, the other way round; nothing that was written shows under the other's name.
    boot(&guest, &[mount("two", "/data", true)]).unwrap();
    assert_eq!(guest.shell("cat /data/file; ls /srv 2>/dev/null | wc -l"), "too\n0\n");
    for attempt in ["echo x >/data/file", "rm /data/file", "mkdir /data/new"] {
        let finished = guest.run(shell(attempt)).unwrap();
        assert_ne!(finished.exit.code, Some(0), "{attempt}");
    }
    assert_eq!(guest.ask(&Request::Shutdown), Ok(Reply::Done));
    let before = common::run(std::process::Command::new("sha256sum").arg(&two));
    drop(guest);

    let guest = Guest::greet_with(workspace(), &[("two", &two, true)]);
    boot(&guest, &[mount("two", "/data", true)]).unwrap();
    assert_eq!(guest.shell("cat /data/file"), "too\n");
    assert_ne!(guest.run(shell("mount -o remount,rw /data && echo x >/data/new")).unwrap().exit.code, Some(0));
    guest.shut_down();
    assert_eq!(common::run(std::process::Command::new("sha256sum").arg(&two)), before);
}

fn workspace() -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    workspace_disk(directory.path());
    directory
}

#[test]
fn a_read_only_disk_that_was_not_put_to_rest_shows_what_lay_on_it_and_stays_as_it_is() {
    let (_directory, one, _) = disks();
    let guest = Guest::greet_with(workspace(), &[("one", &one, false)]);
    boot(&guest, &[mount("one", "/data", false)]).unwrap();
    guest.shell("echo early >/data/early; sync; umount /data 2>/dev/null; true");
    drop(guest);
    let before = common::run(std::process::Command::new("sha256sum").arg(&one));
    let guest = Guest::greet_with(workspace(), &[("one", &one, true)]);
    boot(&guest, &[mount("one", "/data", true)]).unwrap();
    guest.shell("ls -A /data >/dev/null");
    guest.shut_down();
    assert_eq!(common::run(std::process::Command::new("sha256sum").arg(&one)), before);
    // Whoever may write to it gets all of it.
    let guest = Guest::greet_with(workspace(), &[("one", &one, false)]);
    boot(&guest, &[mount("one", "/data", false)]).unwrap();
    assert_eq!(guest.shell("cat /data/early"), "early\n");
    guest.shut_down();
    check(&one);
}

#[test]
fn a_directory_made_for_a_disk_is_no_change_of_the_workspace() {
    let (_directory, one, two) = disks();
    let guest = Guest::greet_with(workspace(), &[("one", &one, false), ("two", &two, false)]);
    boot(&guest, &[mount("one", "/etc/more/deep", false), mount("two", "/new", false)]).unwrap();
    assert_eq!(
        guest.shell("stat -c '%a %u' /etc /etc/more /new; ls /etc | tr '\\n' ' '"),
        "755 0\n755 0\n755 0\ngroup hostname hosts machine-id more passwd "
    );
    guest.shell("echo x >/etc/more/deep/file; echo y >/new/file");
    let changes = guest.download(|output| Request::Changes { output }).unwrap();
    assert_eq!(String::from_utf8(changes).unwrap(), "");
    guest.shut_down();
}

#[test]
fn disks_are_mounted_in_order_and_where_links_within_the_workspace_lead() {
    let (_directory, one, two) = disks();
    let guest = Guest::greet(workspace());
    boot(&guest, &[]).unwrap();
    guest.shell("mkdir /real; ln -s /real /link; ln -s ../../../../../real /up; rm -r /tmp; mkdir /tmp; ln -s /nowhere /dangling");
    let directory = guest.shut_down();
    let guest = Guest::greet_with(directory, &[("one", &one, false), ("two", &two, false)]);
    boot(&guest, &[mount("one", "/link/outer", false), mount("two", "/up/outer/inner", false)]).unwrap();
    let mounts = guest.shell("grep -E '^/dev/vd' /proc/mounts | cut -d ' ' -f 2");
    assert_eq!(mounts, "/real/outer\n/real/outer/inner\n");
    guest.shell("echo x >/real/outer/inner/file; echo y >/real/outer/file");
    assert_eq!(guest.ask(&Request::Release), Ok(Reply::Done));
    boot(&guest, &[mount("one", "/tmp/a", false), mount("two", "/tmp/b", false)]).unwrap();
    assert_eq!(guest.shell("cat /tmp/a/file /tmp/b/file; ls /tmp/a/inner"), "y\nx\n");
    guest.shut_down();
    check(&one);
    check(&two);
}

#[test]
fn a_mount_that_cannot_be_is_refused_by_the_names_of_disk_and_target() {
    let refused = |mounts: &[Mount], disks: &[(&str, &Path, bool)]| {
        boot(&Guest::greet_with(workspace(), disks), mounts).unwrap_err()
    };
    for (target, code) in [
        ("data", RefusalCode::BadRequest),
        ("/a/../b", RefusalCode::BadRequest),
        ("/", RefusalCode::BadRequest),
        ("/etc/passwd", RefusalCode::MountFailed),
        ("/bin/sh/below", RefusalCode::MountFailed),
        ("/proc/new", RefusalCode::MountFailed),
    ] {
        let (_directory, one, _) = disks();
        let refused = refused(&[mount("one", target, false)], &[("one", &one, false)]);
        assert_eq!(refused.code, code, "{target}: {refused}");
        assert!(refused.message.contains("`one`") && refused.message.contains(&format!("`{target}`")), "{refused}");
    }
    let missing = refused(&[mount("absent", "/data", false)], &[]);
    assert_eq!(missing.code, RefusalCode::DiskMissing);
    assert!(missing.message.contains("`absent`") && missing.message.contains("`/data`"), "{missing}");
    let (_directory, one, _) = disks();
    std::fs::File::create(&one).unwrap().set_len(1 << 20).unwrap();
    let foreign = refused(&[mount("one", "/data", false)], &[("one", &one, false)]);
    assert_eq!(foreign.code, RefusalCode::MountFailed, "{foreign}");
}

#[test]
fn transfers_cross_into_disks() {
    let (_directory, one, _) = disks();
    let guest = Guest::greet_with(workspace(), &[("one", &one, false)]);
    boot(&guest, &[mount("one", "/srv/data", false)]).unwrap();
    guest.run(command(&["sh", "-c", "echo on the disk >/srv/data/file"])).unwrap();
    let archive = guest.pack("/srv", "srv").unwrap();
    guest.shell("mkdir /copy");
    guest.unpack("/copy", &archive).unwrap();
    assert_eq!(guest.shell("cat /copy/srv/data/file"), "on the disk\n");
    guest.unpack("/", &archive).unwrap();
    guest.shut_down();
    check(&one);
}
