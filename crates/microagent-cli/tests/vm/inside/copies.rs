//! `microagent cp`, of a workspace that runs and of one at rest.

use super::files::{assert_returns, listing};
use super::workspace::{Case, NAME, Workspace, finish};
use crate::host::{BUSYBOX, Host};
use rustix::fs::{AtFlags, Gid, Mode, Timespec, Timestamps, Uid, chmod, chownat, utimensat};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, symlink};
use std::path::Path;
use std::process::Stdio;
use tempfile::TempDir;

#[test]
fn copies_of_a_workspace_that_runs_are_true() {
    Workspace::start().check(CASES);
}

#[test]
fn copies_of_a_workspace_at_rest_are_true_and_leave_no_trace() {
    let workspace = Workspace::create(Host::new(), &["--image", BUSYBOX]);
    workspace.microagent(["start", NAME]).expect(0);
    workspace.microagent(["halt", NAME]).expect(0);
    let record = || {
        let directory = workspace.host.state().join("workspaces/box");
        ["workspace.json", "events.jsonl"].map(|file| fs::read_to_string(directory.join(file)).unwrap())
    };
    let before = record();
    let tree = tree();
    assert_returns(&workspace, tree.path());
    cp(&workspace, "box:/etc/passwd", "-").expect(0);
    assert_eq!(record(), before);
    assert_eq!(workspace.json(&["status", NAME])["phase"], "halted");
    workspace.host.await_no_engine();
    workspace.microagent(["start", NAME]).expect(0);
}

#[track_caller]
fn cp(box_: &Workspace, from: impl AsRef<OsStr>, to: impl AsRef<OsStr>) -> crate::host::Ran {
    box_.microagent([OsStr::new("cp"), from.as_ref(), to.as_ref()])
}

/// A file of the host with that content.
fn file(directory: &TempDir, name: &str, content: &str) -> std::path::PathBuf {
    let path = directory.path().join(name);
    fs::write(&path, content).unwrap();
    path
}

fn at_time(path: &Path, seconds: i64, nanoseconds: i64) {
    let time = Timespec { tv_sec: seconds, tv_nsec: nanoseconds };
    let times = Timestamps { last_access: time, last_modification: time };
    utimensat(rustix::fs::CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
}

/// Everything a tree may hold that a copy has to keep.
fn tree() -> TempDir {
    let tree = tempfile::tempdir().unwrap();
    let at = |name: &[u8]| tree.path().join(OsStr::from_bytes(name));
    for name in
        [&b"plain"[..], b"two words", b"new\nline", b"not \xff utf-8 \xc3", b"-dash", b"\xc5\xbc\xc3\xb3\xc5\x82w"]
    {
        fs::write(at(name), name).unwrap();
        at_time(&at(name), 1_000_000_000, 123_456_789);
    }
    fs::create_dir_all(at(b"empty/in/empty")).unwrap();
    fs::write(at(b"empty file"), "").unwrap();
    for (name, target) in
        [("link", "plain"), ("dangling", "no/where"), ("absolute", "/etc/passwd"), ("up", "../../../etc/shadow")]
    {
        symlink(target, at(name.as_bytes())).unwrap();
        at_time(&at(name.as_bytes()), 1_100_000_000, 1);
    }
    fs::hard_link(at(b"plain"), at(b"plain again")).unwrap();
    let owned = at(b"owned");
    fs::write(&owned, "whose").unwrap();
    chownat(rustix::fs::CWD, &owned, Some(Uid::from_raw(4242)), Some(Gid::from_raw(70_000)), AtFlags::empty()).unwrap();
    // What only a guest may grant is tried elsewhere.
    for mode in [0o000, 0o400, 0o444, 0o644, 0o700, 0o755, 0o777, 0o1000] {
        let path = at(format!("mode-{mode:o}").as_bytes());
        fs::write(&path, "mode").unwrap();
        chmod(&path, Mode::from_raw_mode(mode)).unwrap();
    }
    fs::create_dir(at(b"closed")).unwrap();
    fs::write(at(b"closed/inside"), "inside").unwrap();
    chmod(at(b"closed"), Mode::empty()).unwrap();
    let sparse = File::create(at(b"sparse")).unwrap();
    sparse.write_all_at(b"start", 0).unwrap();
    sparse.write_all_at(b"end", 64 << 20).unwrap();
    fs::write(at("x".repeat(255).as_bytes()), "the longest name").unwrap();
    at_time(&at(b"empty"), -86_400, 5);
    tree
}

const CASES: &[Case] = &[
    ("a tree of all there is comes back as it went", |box_| assert_returns(box_, tree().path())),
    ("a file arrives whole, with mode, owner and time", |box_| {
        let scratch = tempfile::tempdir().unwrap();
        let path = file(&scratch, "report", "content\n");
        chmod(&path, Mode::from_raw_mode(0o640)).unwrap();
        chownat(rustix::fs::CWD, &path, Some(Uid::from_raw(12)), Some(Gid::from_raw(34)), AtFlags::empty()).unwrap();
        at_time(&path, 1_234_567_890, 0);
        cp(box_, &path, "box:/report").expect(0);
        let seen = box_.sh("cat /report; stat -c '%a %u:%g %Y' /report").expect(0).text();
        assert_eq!(seen, "content\n640 12:34 1234567890\n");
    }),
    ("special bits are kept on the way in, and not on the way out", |box_| {
        let scratch = tempfile::tempdir().unwrap();
        let path = file(&scratch, "special", "");
        chmod(&path, Mode::from_raw_mode(0o6755)).unwrap();
        cp(box_, &path, "box:/special").expect(0);
        assert_eq!(box_.sh("stat -c %a /special").expect(0).text(), "6755\n");
        let back = scratch.path().join("back");
        let said = cp(box_, "box:/special", &back).expect(0).text();
        assert_eq!(back.metadata().unwrap().mode() & 0o7777, 0o755);
        assert!(said.contains("setuid"), "{said}");
    }),
    ("an owner can be given", |box_| {
        let scratch = tempfile::tempdir().unwrap();
        let path = file(&scratch, "given", "");
        box_.microagent(["cp", "--chown", "1000:2000", path.to_str().unwrap(), "box:/given"]).expect(0);
        assert_eq!(box_.sh("stat -c %u:%g /given").expect(0).text(), "1000:2000\n");
    }),
    ("a link is copied as one, or followed when it is asked for", |box_| {
        let scratch = tempfile::tempdir().unwrap();
        file(&scratch, "target", "reached");
        symlink("target", scratch.path().join("link")).unwrap();
        cp(box_, scratch.path().join("link"), "box:/as-link").expect(0);
        assert_eq!(box_.sh("/bin/busybox readlink /as-link").expect(0).text(), "target\n");
        let link = scratch.path().join("link");
        box_.microagent(["cp", "-L", link.to_str().unwrap(), "box:/followed"]).expect(0);
        assert_eq!(box_.sh("cat /followed").expect(0).text(), "reached");
        let out = scratch.path().join("out");
        box_.sh("echo there > /far; /bin/busybox ln -s far /near").expect(0);
        cp(box_, "box:/near", &out).expect(0);
        assert_eq!(fs::read_link(&out).unwrap(), Path::new("far"));
        box_.microagent(["cp", "-L", "box:/near", out.to_str().unwrap()]).expect(0);
        assert_eq!(fs::read_to_string(&out).unwrap(), "there\n");
        assert!(!out.is_symlink());
    }),
    ("into a directory it goes under its own name", |box_| {
        let scratch = tempfile::tempdir().unwrap();
        let path = file(&scratch, "named", "1");
        box_.sh("mkdir /into").expect(0);
        cp(box_, &path, "box:/into").expect(0);
        cp(box_, &path, "box:/into/").expect(0);
        cp(box_, scratch.path(), "box:/into").expect(0);
        let called = scratch.path().file_name().unwrap().to_str().unwrap();
        assert_eq!(box_.sh(&format!("cat /into/named /into/{called}/named")).expect(0).text(), "11");
        cp(box_, "box:/into", scratch.path()).expect(0);
        assert_eq!(fs::read_to_string(scratch.path().join("into/named")).unwrap(), "1");
    }),
    ("a dot at the end means what is in it", |box_| {
        let scratch = tempfile::tempdir().unwrap();
        file(&scratch, "inner", "2");
        let dot = scratch.path().join(".");
        box_.sh("mkdir /dot").expect(0);
        cp(box_, &dot, "box:/dot").expect(0);
        assert_eq!(box_.sh("cat /dot/inner").expect(0).text(), "2");
        let out = tempfile::tempdir().unwrap();
        cp(box_, "box:/dot/.", out.path()).expect(0);
        assert_eq!(fs::read_to_string(out.path().join("inner")).unwrap(), "2");
    }),
    ("what is in a directory goes into one that is made for it", |box_| {
        let scratch = tempfile::tempdir().unwrap();
        file(&scratch, "inner", "3");
        cp(box_, scratch.path().join("."), "box:/dot-made").expect(0);
        assert_eq!(box_.sh("cat /dot-made/inner").expect(0).text(), "3");
        let out = scratch.path().join("made");
        cp(box_, "box:/dot-made/.", &out).expect(0);
        assert_eq!(fs::read_to_string(out.join("inner")).unwrap(), "3");
    }),
    ("a file takes the place of a file", |box_| {
        let scratch = tempfile::tempdir().unwrap();
        box_.sh("echo long before > /replaced").expect(0);
        cp(box_, file(&scratch, "new", "new"), "box:/replaced").expect(0);
        assert_eq!(box_.sh("cat /replaced").expect(0).text(), "new");
        let old = file(&scratch, "old", "old and longer");
        cp(box_, "box:/replaced", &old).expect(0);
        assert_eq!(fs::read_to_string(&old).unwrap(), "new");
    }),
    ("a directory does not take the place of a file, nor a file that of a directory", |box_| {
        let scratch = tempfile::tempdir().unwrap();
        fs::create_dir(scratch.path().join("directory")).unwrap();
        box_.sh("echo here > /is-file; mkdir -p /is-directory/name").expect(0);
        let ran = cp(box_, scratch.path().join("directory"), "box:/is-file").expect(2);
        assert!(ran.stderr.contains("/is-file"), "{}", ran.stderr);
        let ran = cp(box_, file(&scratch, "name", "no"), "box:/is-directory").expect(1);
        assert!(ran.stderr.contains("name"), "{}", ran.stderr);
        assert_eq!(box_.sh("cat /is-file; ls -d /is-directory/name").expect(0).text(), "here\n/is-directory/name\n");
        let kept = file(&scratch, "kept", "kept");
        cp(box_, "box:/is-directory", &kept).expect(2);
        assert_eq!(fs::read_to_string(&kept).unwrap(), "kept");
    }),
    ("a directory is merged with one that is there", |box_| {
        let scratch = tempfile::tempdir().unwrap();
        let tree = scratch.path().join("merged");
        fs::create_dir(&tree).unwrap();
        fs::write(tree.join("ours"), "ours").unwrap();
        box_.sh("mkdir /merged; echo theirs > /merged/theirs").expect(0);
        cp(box_, &tree, "box:/").expect(0);
        assert_eq!(box_.sh("cat /merged/ours /merged/theirs").expect(0).text(), "ourstheirs\n");
    }),
    ("a directory that is missing is an error that names it", |box_| {
        let scratch = tempfile::tempdir().unwrap();
        let path = file(&scratch, "lost", "");
        for destination in ["box:/no/such/place", "box:/missing/"] {
            let ran = cp(box_, &path, destination);
            assert_ne!(ran.status, 0);
            assert!(
                ran.stderr.contains(destination.trim_start_matches("box:").split('/').nth(1).unwrap()),
                "{}",
                ran.stderr
            );
        }
        cp(box_, "box:/etc/passwd", scratch.path().join("no/such/place")).expect(1);
    }),
    ("a source that is missing is an error that names it", |box_| {
        let scratch = tempfile::tempdir().unwrap();
        let target = scratch.path().join("target");
        let ran = cp(box_, "box:/not/there", &target).expect(1);
        assert!(ran.stderr.contains("/not/there"), "{}", ran.stderr);
        let ran = cp(box_, "/not/here", "box:/target").expect(1);
        assert!(ran.stderr.contains("/not/here"), "{}", ran.stderr);
        assert!(!target.exists());
    }),
    ("exactly one side is in a workspace", |box_| {
        for (from, to) in [("a", "b"), ("box:/a", "box:/b"), ("-", "-"), ("-", "b")] {
            cp(box_, from, to).expect(2);
        }
        cp(box_, "box:relative", "b").expect(2);
    }),
    ("a name with a colon is told apart by a slash", |box_| {
        let scratch = tempfile::tempdir().unwrap();
        cp(box_, file(&scratch, "a:b", "colon"), "box:/colon").expect(0);
        assert_eq!(box_.sh("cat /colon").expect(0).text(), "colon");
    }),
    ("a tar stream goes in and comes out", |box_| {
        let scratch = tree();
        let packed = microagent_testing::run(
            microagent_testing::tool("tar")
                .args(["--xattrs", "--format=pax", "-C"])
                .arg(scratch.path())
                .args(["-c", "plain", "link", "owned"]),
        );
        box_.sh("mkdir /from-tar").expect(0);
        let mut child = box_.host.command(["cp", "-", "box:/from-tar"]).stdin(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(&packed).unwrap();
        finish(child).expect(0);
        let out = tempfile::tempdir().unwrap();
        let archive = out.path().join("archive.tar");
        fs::write(&archive, cp(box_, "box:/from-tar", "-").expect(0).stdout).unwrap();
        microagent_testing::run(microagent_testing::tool("tar").arg("-C").arg(out.path()).arg("-xpf").arg(&archive));
        let kept = |name: &str| listing(scratch.path()).into_iter().find(|line| line.starts_with(&format!("{name} ")));
        for name in ["link", "owned"] {
            assert!(listing(&out.path().join("from-tar")).contains(&kept(name).unwrap()), "{name}");
        }
    }),
    ("a stream that is no archive is an error, and leaves nothing", |box_| {
        box_.sh("mkdir /no-tar").expect(0);
        for junk in [&b"this is no archive"[..], &[1; 4096]] {
            let mut child = box_.host.command(["cp", "-", "box:/no-tar"]).stdin(Stdio::piped()).spawn().unwrap();
            let _ = child.stdin.take().unwrap().write_all(junk);
            finish(child).expect(1);
        }
        assert_eq!(box_.sh("ls -A /no-tar").expect(0).text(), "");
    }),
    ("ten thousand files come back the same", |box_| {
        let tree = tempfile::tempdir().unwrap();
        for directory in 0..100 {
            let path = tree.path().join(directory.to_string());
            fs::create_dir(&path).unwrap();
            for number in 0..100 {
                fs::write(path.join(number.to_string()), format!("{directory}/{number}").repeat(number)).unwrap();
            }
        }
        assert_returns(box_, tree.path());
        box_.sh("rm -rf /returned-*").expect(0);
    }),
    ("a large file comes back the same", |box_| {
        let tree = tempfile::tempdir().unwrap();
        let content: Vec<u8> =
            (0..100_u32 << 18).flat_map(|number| number.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
        fs::write(tree.path().join("large"), content).unwrap();
        assert_returns(box_, tree.path());
        box_.sh("rm -rf /returned-*").expect(0);
    }),
    ("JSON says how much it was", |box_| {
        let scratch = tempfile::tempdir().unwrap();
        let path = file(&scratch, "counted", "12345");
        let told = box_.json(&["cp", path.to_str().unwrap(), "box:/counted"]);
        assert_eq!((told["entries"].as_u64(), told["bytes"].as_u64()), (Some(1), Some(5)));
    }),
    ("devices stay where they are", |box_| {
        let scratch = tempfile::tempdir().unwrap();
        box_.sh("mkdir /devices; mknod /devices/null c 1 3; echo file > /devices/file").expect(0);
        let told = box_.json(&["cp", "box:/devices", scratch.path().to_str().unwrap()]);
        assert_eq!(told["skipped"], 1);
        assert!(!scratch.path().join("devices/null").exists() && scratch.path().join("devices/file").is_file());
    }),
];
