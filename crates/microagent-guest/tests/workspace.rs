//! The machine of a workspace: what it is made of, what lasts, and how it ends.

mod common;

use common::{Guest, boot_request, command, shell, tool, workspace_disk};
use microagent_protocol::{Boot, Disk, RefusalCode, Reply, Request};
use std::path::Path;
use tempfile::TempDir;

fn waiting() -> Guest {
    let directory = tempfile::tempdir().unwrap();
    workspace_disk(directory.path());
    Guest::greet(directory)
}

/// Checks the disk without repairing anything.
fn check(directory: &TempDir) {
    common::run(tool("e2fsck", "e2fsprogs").arg("-fn").arg(directory.path().join("workspace.ext4")));
}

/// What lies on the disk, read by a tool that is not ours.
fn debugfs(disk: &Path, request: &str) -> String {
    common::run(tool("debugfs", "e2fsprogs").args(["-R", request]).arg(disk))
}

#[test]
fn the_machine_has_the_identity_it_was_given() {
    let guest = Guest::boot();
    assert_eq!(guest.hello.agent, env!("CARGO_PKG_VERSION"));
    assert_eq!(guest.shell("hostname; cat /etc/hostname"), "testbox\ntestbox\n");
    assert_eq!(guest.shell("head -n 1 /etc/hosts"), "127.0.0.1 localhost testbox\n");
    assert_eq!(guest.shell("cat /etc/machine-id"), "0123456789abcdef0123456789abcdef\n");
    assert_eq!(guest.shell("uname -r").trim(), guest.hello.kernel);
    assert_eq!(guest.shell("ping -c 1 -W 60 127.0.0.1 | grep -c '1 packets received'"), "1\n");
    let clock: u64 = guest.shell("date +%s").trim().parse().unwrap();
    assert!(clock.abs_diff(common::now_ns() / 1_000_000_000) < common::SOON.as_secs());
}

#[test]
fn nothing_of_the_agent_is_in_the_workspace() {
    let guest = Guest::boot();
    assert_eq!(guest.shell("ls /"), "bin\ndev\netc\nproc\nsys\ntmp\n");
    assert_eq!(guest.shell("stat -c '%a %u %g' / /etc"), "755 0 0\n755 0 0\n");
    let mounts = guest.shell("cut -d ' ' -f 2,3 /proc/mounts");
    let expected = "/ overlay\n/proc proc\n/sys sysfs\n/dev devtmpfs\n/dev/pts devpts\n/dev/shm tmpfs\n\
        /dev/mqueue mqueue\n/sys/fs/cgroup cgroup2\n";
    assert_eq!(mounts, expected);
    assert_eq!(guest.shell("stat -c %d / /etc /bin/busybox /tmp | sort -u | wc -l"), "1\n", "one file system");
}

#[test]
fn the_workspace_cannot_speak_for_the_agent() {
    let guest = Guest::boot();
    let port = guest.shell("grep -l microagent /sys/class/virtio-ports/*/name | cut -d / -f 5");
    let finished = guest.run(shell(&format!("echo forged >/dev/{}", port.trim()))).unwrap();
    assert_ne!(finished.exit.code, Some(0));
    assert!(String::from_utf8_lossy(&finished.stderr).contains("busy"), "{finished:?}");
}

#[test]
fn nothing_done_in_the_workspace_removes_the_agent() {
    let guest = Guest::boot();
    guest.shell(
        "kill -9 1; kill -15 1; rm -rf /etc /tmp /dev 2>/dev/null; mount -o remount,ro /; umount -a 2>/dev/null; true",
    );
    guest.run(shell("kill -9 -1")).unwrap();
    assert_eq!(guest.run(command(&["/bin/busybox", "echo", "still here"])).unwrap().stdout, b"still here\n");
    assert_eq!(guest.ask(&Request::Shutdown), Ok(Reply::Done));
}

#[test]
fn a_user_database_made_to_hang_or_to_fill_memory_hurts_only_commands() {
    let guest = Guest::boot();
    for trap in ["mkfifo /etc/passwd", "mkdir /etc/passwd", "truncate -s 1G /etc/passwd", "ln -s /dev/zero /etc/passwd"]
    {
        // Started while the database is still whole, because afterwards nothing starts.
        let mut setter = guest.start(common::with_input(shell(&format!(
            "rm /etc/passwd; {trap}; echo set; read go; rm -r /etc/passwd; echo root:x:0:0::/root: >/etc/passwd"
        ))));
        setter.stdout.next_chunk().unwrap();
        assert_eq!(guest.run(command(&["true"])).unwrap_err().code, RefusalCode::UserUnknown, "{trap}");
        assert_eq!(setter.finish().unwrap().exit.code, Some(0), "{trap}");
        guest.shell("true");
    }
}

#[test]
fn a_workspace_lasts_and_a_shutdown_leaves_its_disk_clean() {
    let guest = Guest::boot();
    guest.shell("echo kept >/tmp/file; chmod 640 /etc/passwd; rm /bin/yes; mkdir /new; hostname");
    let directory = guest.shut_down();
    check(&directory);
    let disk = directory.path().join("workspace.ext4");
    let changed = debugfs(&disk, "ls -p /upper");
    let mut names: Vec<&str> = changed.lines().filter_map(|line| line.split('/').nth(5)).collect();
    names.sort_unstable();
    assert_eq!(names, [".", "..", "bin", "etc", "new", "tmp"], "{changed}");
    assert_eq!(debugfs(&disk, "cat /upper/tmp/file"), "kept\n");

    let again = Guest::greet(directory);
    let renamed = Boot { hostname: "renamed".to_owned(), ..boot_request() };
    assert!(matches!(again.ask(&Request::Boot(renamed)), Ok(Reply::Booted { .. })));
    assert_eq!(
        again.shell("cat /tmp/file /etc/hostname; ls -d /new; [ ! -e /bin/yes ] && echo gone"),
        "kept\nrenamed\n/new\ngone\n"
    );
    check(&again.shut_down());
}

#[test]
fn a_workspace_nothing_was_done_in_differs_in_nothing_from_its_image() {
    let guest = Guest::boot();
    guest.shell("true");
    let directory = guest.shut_down();
    let listing = debugfs(&directory.path().join("workspace.ext4"), "ls -p /upper");
    let names: Vec<&str> = listing.lines().filter_map(|line| line.split('/').nth(5)).collect();
    assert_eq!(names, [".", ".."], "{listing}");
}

#[test]
fn a_released_machine_is_nobodys_and_can_be_another_workspaces() {
    let guest = Guest::boot();
    guest.shell("echo kept >/tmp/file; sleep 1000 >/dev/null 2>&1 & true");
    assert_eq!(guest.ask(&Request::Release), Ok(Reply::Done));
    assert_eq!(guest.ask(&Request::Sync).unwrap_err().code, RefusalCode::WrongState);
    check(&guest.directory);
    let renamed = Boot { hostname: "renamed".to_owned(), ..boot_request() };
    let booted = guest.ask(&Request::Boot(renamed));
    assert!(matches!(booted, Ok(Reply::Booted { .. })), "{booted:?}");
    assert_eq!(guest.shell("cat /tmp/file; hostname; pidof sleep; true"), "kept\nrenamed\n");
    check(&guest.shut_down());
}

#[test]
fn a_rehearsal_does_everything_it_is_meant_to() {
    let guest = Guest::boot();
    let finished = guest.start(common::with_input(command(&["/proc/1/exe", "rehearse"]))).finish().unwrap();
    assert_eq!(finished.exit.code, Some(0), "{}", String::from_utf8_lossy(&finished.stderr));
    assert_eq!(guest.ask(&Request::Release), Ok(Reply::Done));
}

#[test]
fn what_was_synced_survives_the_death_of_the_machine() {
    let mut guest = Guest::boot();
    guest.shell("echo precious >/tmp/file");
    assert_eq!(guest.ask(&Request::Sync), Ok(Reply::Done));
    let directory = std::mem::replace(&mut guest.directory, tempfile::tempdir().unwrap());
    drop(guest);
    let again = Guest::greet(directory);
    again.ask(&Request::Boot(boot_request())).unwrap();
    assert_eq!(again.shell("cat /tmp/file"), "precious\n");
}

#[test]
fn a_shutdown_answers_the_commands_it_kills_before_it_answers_itself() {
    let guest = Guest::boot();
    let running = guest.start(shell("trap '' TERM; sleep 1000 & wait"));
    let shutdown = guest.channel.call(&Request::Shutdown).unwrap();
    assert_eq!(running.finish().unwrap().exit.signal, Some(9));
    assert_eq!(common::answer(&shutdown), Ok(Reply::Done));
    assert_eq!(guest.run(command(&["true"])).unwrap_err().code, RefusalCode::WrongState);
}

#[test]
fn running_out_of_memory_is_told() {
    let guest = Guest::boot();
    let hungry = "for n in 1 2 3 4; do dd if=/dev/zero of=/dev/null bs=90M count=3 2>/dev/null & done; wait";
    let finished = guest.run(shell(hungry)).unwrap();
    assert!(finished.exit.out_of_memory, "{:?}", finished.exit);
    let finished = guest.run(command(&["true"])).unwrap();
    assert!(!finished.exit.out_of_memory);
}

#[test]
fn requests_out_of_order_are_refused() {
    let guest = waiting();
    let code = |request| guest.ask(&request).unwrap_err().code;
    assert_eq!(code(Request::Sync), RefusalCode::WrongState);
    assert_eq!(code(Request::Shutdown), RefusalCode::WrongState);
    assert_eq!(guest.run(command(&["true"])).unwrap_err().code, RefusalCode::WrongState);
    assert!(guest.ask(&Request::Boot(boot_request())).is_ok());
    assert_eq!(code(Request::Boot(boot_request())), RefusalCode::WrongState);
}

#[test]
fn a_disk_that_is_not_there_or_cannot_be_mounted_is_named() {
    let disk = |serial: &str, filesystem: &str| Disk { serial: serial.to_owned(), filesystem: filesystem.to_owned() };
    let refused = |boot| waiting().ask(&Request::Boot(boot)).unwrap_err();
    let missing = refused(Boot { base: disk("elsewhere", "erofs"), ..boot_request() });
    assert_eq!(missing.code, RefusalCode::DiskMissing);
    assert!(missing.message.contains("`elsewhere`"), "{missing}");
    let foreign = refused(Boot { base: disk("base", "ext4"), ..boot_request() });
    assert_eq!(foreign.code, RefusalCode::MountFailed);
    assert!(foreign.message.contains("`base`"), "{foreign}");
}

#[test]
fn an_identity_that_would_corrupt_files_is_refused_and_can_be_corrected() {
    let guest = waiting();
    let code = |boot| guest.ask(&Request::Boot(boot)).unwrap_err().code;
    for hostname in ["", "two\nlines", "a b", &"x".repeat(65)] {
        assert_eq!(
            code(Boot { hostname: hostname.to_owned(), ..boot_request() }),
            RefusalCode::BadRequest,
            "{hostname:?}"
        );
    }
    assert_eq!(code(Boot { machine_id: "short".to_owned(), ..boot_request() }), RefusalCode::BadRequest);
    assert_eq!(code(Boot { entropy: vec![1; 31], ..boot_request() }), RefusalCode::BadRequest);
    assert!(guest.ask(&Request::Boot(boot_request())).is_ok());
}
