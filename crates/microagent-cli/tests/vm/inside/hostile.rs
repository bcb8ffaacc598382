//! Copies that do not go well: cut short, without room, or with somebody who wants them to go elsewhere.

use super::workspace::{Case, NAME, Workspace, finish};
use crate::host::{BUSYBOX, Host, Running};
use microagent_testing::{run, tool};
use rustix::process::Signal;
use std::fs;
use std::io::{Read, Write};
use std::path::Path;
use std::process::Stdio;

#[test]
fn a_copy_that_goes_wrong_leaves_nothing_half_done() {
    Workspace::start_with(&["--image", BUSYBOX, "--size-mib", "128"]).check(CASES);
}

/// A file system of the host with little room, for as long as this lives.
struct Small(tempfile::TempDir);

impl Small {
    fn mount() -> Small {
        let directory = tempfile::tempdir().unwrap();
        run(tool("mount").args(["-t", "tmpfs", "-o", "size=2m", "microagent-test"]).arg(directory.path()));
        Small(directory)
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = tool("umount").arg(self.0.path()).status();
    }
}

fn names(directory: &Path) -> Vec<String> {
    fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

const CASES: &[Case] = &[
    ("a copy in that is killed leaves no half file, nor anything else", |box_| {
        box_.sh("mkdir /cut").expect(0);
        let mut child = box_.host.command(["cp", "-", "box:/cut"]).stdin(Stdio::piped()).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let mut archive = microagent_testing::TarWriter::default();
        archive.item(&microagent_testing::Item::file("whole", "whole"));
        archive.header(&microagent_testing::Item::file("half", ""), 8 << 20);
        let mut archive = archive.finish();
        archive.resize(archive.len() + (4 << 20), b'x');
        stdin.write_all(&archive).unwrap();
        stdin.flush().unwrap();
        // What was sent first is there before the rest can have been.
        box_.sh("until test -e /cut/whole; do sleep 0.05; done").expect(0);
        child.kill().unwrap();
        child.wait().unwrap();
        box_.sh("while ls -A /cut | grep -q part; do sleep 0.05; done").expect(0);
        assert_eq!(box_.sh("ls -A /cut; cat /cut/whole").expect(0).text(), "whole\nwhole");
    }),
    ("a stream in that ends too soon is an error, and leaves no half file", |box_| {
        box_.sh("mkdir /short").expect(0);
        let mut child = box_.host.command(["cp", "-", "box:/short"]).stdin(Stdio::piped()).spawn().unwrap();
        let mut archive = microagent_testing::TarWriter::default();
        archive.header(&microagent_testing::Item::file("half", ""), 8 << 20);
        archive.data(&vec![1; 1 << 20]);
        let archive = archive.finish();
        child.stdin.take().unwrap().write_all(&archive).unwrap();
        finish(child).expect(1);
        assert_eq!(box_.sh("ls -A /short").expect(0).text(), "");
    }),
    ("a copy out that is interrupted leaves no half file under its name", |box_| {
        let scratch = tempfile::tempdir().unwrap();
        box_.sh("mkdir /endless; dd if=/dev/zero of=/endless/file bs=1M count=60 2>/dev/null").expect(0);
        for signal in [Signal::KILL, Signal::INT] {
            let target = scratch.path().join("out");
            let child = box_.host.command(["cp", "box:/endless", target.to_str().unwrap()]).spawn().unwrap();
            let under_way = || {
                let partial = fs::read_dir(&target).into_iter().flatten().flatten().next();
                partial.is_some() || target.join("file").exists()
            };
            while !under_way() {
                std::thread::yield_now();
            }
            let _ = rustix::process::kill_process(rustix::process::Pid::from_child(&child), signal);
            finish(child);
            if target.join("file").exists() {
                assert_eq!(target.join("file").metadata().unwrap().len(), 60 << 20, "{signal:?}");
            }
            fs::remove_dir_all(&target).unwrap();
        }
        box_.sh("rm -rf /endless").expect(0);
    }),
    ("a full disk of the host is named, and nothing half is left on it", |box_| {
        let small = Small::mount();
        box_.sh("dd if=/dev/zero of=/large bs=1M count=8 2>/dev/null").expect(0);
        let target = small.0.path().join("large");
        let ran = box_.microagent(["cp", "box:/large", target.to_str().unwrap()]).expect(1);
        assert!(ran.stderr.contains("No space left"), "{}", ran.stderr);
        assert_eq!(names(small.0.path()), Vec::<String>::new());
        box_.sh("rm /large").expect(0);
    }),
    ("a full disk of the guest is named, and nothing half is left on it", |box_| {
        let large = tempfile::NamedTempFile::new().unwrap();
        large.as_file().set_len(1).unwrap();
        fs::write(&large, vec![7; 200 << 20]).unwrap();
        box_.sh("mkdir /room").expect(0);
        let ran = box_.microagent(["cp", large.path().to_str().unwrap(), "box:/room/large"]).expect(1);
        assert!(ran.stderr.contains("No space left"), "{}", ran.stderr);
        assert_eq!(box_.sh("ls -A /room; echo fits > /room/small; cat /room/small").expect(0).text(), "fits\n");
        let told = box_.microagent(["--json", "cp", large.path().to_str().unwrap(), "box:/room/large"]).expect(1);
        assert!(told.stderr.contains("disk_full"), "{}", told.stderr);
    }),
    ("a reader of a stream that leaves ends it", |box_| {
        box_.sh("dd if=/dev/zero of=/streamed bs=1M count=30 2>/dev/null").expect(0);
        let mut child = box_.host.command(["cp", "box:/streamed", "-"]).spawn().unwrap();
        child.stdout.take().unwrap().read_exact(&mut [0; 512]).unwrap();
        let ran = finish(child).expect(1);
        assert!(ran.stderr.contains("Broken pipe"), "{}", ran.stderr);
        box_.sh("rm /streamed").expect(0);
    }),
    ("a link in the guest does not lead a copy elsewhere", |box_| {
        let tree = tempfile::tempdir().unwrap();
        fs::create_dir_all(tree.path().join("tree/inner")).unwrap();
        fs::write(tree.path().join("tree/inner/file"), "stray").unwrap();
        box_.sh("mkdir -p /victim /trap/tree; /bin/busybox ln -s /victim /trap/tree/inner").expect(0);
        let from = tree.path().join("tree");
        let ran = box_.microagent(["cp", from.to_str().unwrap(), "box:/trap"]).expect(1);
        assert!(ran.stderr.contains("tree/inner"), "{}", ran.stderr);
        assert_eq!(box_.sh("ls -A /victim").expect(0).text(), "");
    }),
    ("a directory that is swapped for a link meanwhile does not lead a copy elsewhere", |box_| {
        let swap = "mkdir -p /swapped/tree/inner /elsewhere; cd /swapped/tree; echo up; \
                    while :; do mv inner aside 2>/dev/null; /bin/busybox ln -s /elsewhere inner 2>/dev/null; \
                    rm -f inner; mv aside inner 2>/dev/null; done";
        let swapping =
            Running::start(box_.command(&[], &["/bin/sh", "-c", &swap.replace("mv ", "/bin/busybox mv ")]), "up");
        let tree = tempfile::tempdir().unwrap();
        let inner = tree.path().join("tree/inner");
        fs::create_dir_all(&inner).unwrap();
        for number in 0..500 {
            fs::write(inner.join(number.to_string()), "stray").unwrap();
        }
        for _ in 0..5 {
            // It may well fail; where it goes is what counts.
            box_.microagent(["cp", tree.path().join("tree").to_str().unwrap(), "box:/swapped"]);
        }
        swapping.send(Signal::KILL);
        assert_eq!(box_.sh("ls -A /elsewhere").expect(0).text(), "");
    }),
    ("a link of the host does not lead a copy elsewhere", |box_| {
        let scratch = tempfile::tempdir().unwrap();
        let (victim, target) = (scratch.path().join("victim"), scratch.path().join("target"));
        fs::create_dir_all(&victim).unwrap();
        fs::create_dir_all(target.join("copied")).unwrap();
        std::os::unix::fs::symlink(&victim, target.join("copied/inner")).unwrap();
        box_.sh("mkdir -p /copied/inner; echo stray > /copied/inner/file").expect(0);
        box_.microagent(["cp", "box:/copied", target.to_str().unwrap()]).expect(1);
        assert_eq!(names(&victim), Vec::<String>::new());
    }),
];

#[test]
fn a_copy_at_rest_and_a_start_exclude_each_other() {
    let workspace = Workspace::create(Host::new(), &["--image", BUSYBOX]);
    // It goes on until its input ends.
    let mut copy = workspace.host.command(["cp", "-", "box:/tmp"]).stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = copy.stdin.take().unwrap();
    let mut archive = microagent_testing::TarWriter::default();
    archive.header(&microagent_testing::Item::file("large", ""), 4 << 20);
    archive.data(&vec![5; 4 << 20]);
    let archive = archive.finish();
    let (begun, rest) = archive.split_at(3 << 20);
    // More than fits any buffer on the way: the machine takes it in by the time this returns.
    stdin.write_all(begun).unwrap();
    for arguments in [&["start", NAME][..], &["cp", "box:/etc/passwd", "-"], &["resize", NAME, "--size-mib", "1024"]] {
        let ran = workspace.microagent(arguments);
        assert_ne!(ran.status, 0, "{arguments:?}");
        assert!(ran.stderr.contains("in use"), "{arguments:?}: {}", ran.stderr);
    }
    stdin.write_all(rest).unwrap();
    drop(stdin);
    finish(copy).expect(0);
    workspace.microagent(["start", NAME]).expect(0);
    assert_eq!(workspace.sh("wc -c < /tmp/large").expect(0).text().trim(), (4 << 20).to_string());
    // The other way round there is nothing to exclude: a copy is the supervisor's to do.
    workspace.microagent(["cp", "box:/etc/passwd", "-"]).expect(0);
}

#[test]
fn a_copy_at_rest_that_is_killed_leaves_a_workspace_that_starts() {
    let workspace = Workspace::create(Host::new(), &["--image", BUSYBOX]);
    let mut copy = workspace.host.command(["cp", "-", "box:/tmp"]).stdin(Stdio::piped()).spawn().unwrap();
    let mut archive = microagent_testing::TarWriter::default();
    archive.header(&microagent_testing::Item::file("half", ""), 8 << 20);
    archive.data(&vec![5; 4 << 20]);
    copy.stdin.take().unwrap().write_all(&archive.finish()).unwrap_or_default();
    let _ = copy.kill();
    copy.wait().unwrap();
    workspace.host.await_no_engine();
    workspace.microagent(["start", NAME]).expect(0);
    assert_eq!(workspace.sh("ls /tmp/half").status, 1);
}
