//! Files of a workspace: looked at, sent and received.

mod common;

use common::{Guest, command, shell};
use microagent_protocol::{Capacity, FileKind, Owner, Recipients, RefusalCode, Reply, Request};
use microagent_tar::UnpackOptions;
use microagent_testing::{Item, TarWriter};
use std::fs::{self, File};
use std::io::Write;
use std::process::Command;
use std::sync::LazyLock;

static GUEST: LazyLock<Guest> = LazyLock::new(Guest::boot);

/// Makes one of everything, in a directory.
const NASTY: &str = "mkdir -p deep/er; head -c 700000 /dev/urandom >deep/er/file; ln deep/er/file linked; : >empty; \
    echo 1 >\"new
line\"; echo 2 >$(printf 'not\\377utf8'); ln -s /etc/passwd absolute; ln -s deep relative; mkfifo -m 640 pipe; \
    mknod -m 666 null c 1 3; echo suid >setuid; chown 4000000000:77 setuid; chmod 6711 setuid; mkdir -m 0 closed; \
    echo in >closed/in; chmod 0 closed/in; truncate -s 3M sparse; echo end >>sparse; touch -d @-1000000 old; \
    touch -d '2001-02-03 04:05:06' empty";

/// What a tree is, for comparing.
const DESCRIBE: &str = "find . -mindepth 1 | sort | while IFS= read -r f; do stat -c '%F %a %u %g %h %Y %s %t %T %N' \"$f\"; done; \
    find . -type f | sort | tr '\\n' '\\0' | xargs -0 sha256sum 2>/dev/null";

fn describe(directory: &str) -> String {
    String::from_utf8_lossy(&GUEST.run(shell(&format!("cd {directory}; {DESCRIBE}"))).unwrap().stdout).into_owned()
}

fn stat(path: &str, follow: bool) -> Result<Reply, microagent_protocol::Refusal> {
    GUEST.ask(&Request::Stat { path: path.to_owned(), follow })
}

#[test]
fn a_file_is_looked_at_without_being_opened() {
    GUEST.shell("mkdir /look; cd /look; printf 12345 >file; chown 7:8 file; chmod 4750 file; touch -d @1000000000 file; ln -s file link; mkfifo pipe");
    let Ok(Reply::Stat(file)) = stat("/look/file", false) else { panic!() };
    assert_eq!((file.kind, file.size, file.mode, file.uid, file.gid), (FileKind::File, 5, 0o4750, 7, 8));
    assert_eq!(file.modified_ns, 1_000_000_000_000_000_000);
    assert_eq!(stat("/look/link", true), Ok(Reply::Stat(file)));
    let kind = |path: &str| match stat(path, false) {
        Ok(Reply::Stat(stat)) => Ok(stat.kind),
        Ok(other) => panic!("{other:?}"),
        Err(refused) => Err(refused.code),
    };
    assert_eq!(kind("/look/link"), Ok(FileKind::Symlink));
    assert_eq!(kind("/look/pipe"), Ok(FileKind::Other));
    assert_eq!(kind("/look/"), Ok(FileKind::Directory));
    assert_eq!(kind("/look/absent"), Err(RefusalCode::FileMissing));
    assert_eq!(kind("/look/file/below"), Err(RefusalCode::FileConflict));
    assert_eq!(kind("look"), Err(RefusalCode::BadRequest));
    assert_eq!(kind("/a\0b"), Err(RefusalCode::BadRequest));
}

#[test]
fn a_nasty_tree_goes_out_and_comes_back_as_it_was() {
    GUEST.shell(&format!("mkdir /nasty /back; cd /nasty; {NASTY}"));
    let archive = GUEST.pack("/nasty", ".").unwrap();
    GUEST.unpack("/back", &archive).unwrap();
    let expected = describe("/nasty");
    assert!(expected.lines().count() > 20, "{expected}");
    assert_eq!(describe("/back"), expected);
    assert!(GUEST.pack("/back", ".").unwrap() == archive, "equal trees make different archives");

    // Another tool lists the same names.
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("archive"), &archive).unwrap();
    let listed = common::run(Command::new("tar").arg("-tf").arg(directory.path().join("archive")));
    assert_eq!(listed.lines().count(), 16, "{listed}");
}

#[test]
fn extended_attributes_travel() {
    let items = [Item::file("file", "x")
        .xattr("user.note", b"a\0b")
        .xattr("trusted.note", "t")
        .xattr("security.capability", CAPABILITY)];
    GUEST.shell("mkdir /attributes");
    GUEST.unpack("/attributes", &TarWriter::of(&items)).unwrap();
    let archive = GUEST.pack("/attributes", ".").unwrap();
    let text = String::from_utf8_lossy(&archive);
    for name in ["user.note=a\0b", "trusted.note=t", "security.capability="] {
        assert!(text.contains(&format!("SCHILY.xattr.{name}")), "{name}");
    }
}

/// `cap_net_raw=ep` (`linux/capability.h`, version 2).
const CAPABILITY: [u8; 20] = [1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

#[test]
fn one_file_has_the_name_it_is_given_and_a_link_is_followed_when_asked() {
    GUEST.shell("mkdir /one; cd /one; echo content >file; ln -s file link; ln -s /etc elsewhere");
    let send = |path: &str, follow| {
        GUEST.download(|output| Request::Pack { path: path.to_owned(), name: "given".to_owned(), follow, output })
    };
    let list = |archive: Vec<u8>| {
        let mut tar = Command::new("tar")
            .arg("-tvf-")
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        tar.stdin.take().unwrap().write_all(&archive).unwrap();
        String::from_utf8(tar.wait_with_output().unwrap().stdout).unwrap()
    };
    assert!(list(send("/one/file", false).unwrap()).ends_with(" given\n"));
    assert!(list(send("/one/link", false).unwrap()).ends_with(" given -> file\n"));
    let followed = list(send("/one/link", true).unwrap());
    assert!(followed.starts_with("-rw-r--r--") && followed.ends_with(" given\n"), "{followed}");
    assert!(list(send("/one/elsewhere", true).unwrap()).contains(" given/passwd\n"));
    assert_eq!(send("/one/absent", false).unwrap_err().code, RefusalCode::FileMissing);
    assert_eq!(send("/proc/cpuinfo", false).unwrap_err().code, RefusalCode::FileConflict);
    assert_eq!(GUEST.pack("/one/file", ".").unwrap_err().code, RefusalCode::FileConflict);
}

#[test]
fn the_kernels_own_files_are_not_part_of_the_tree() {
    let archive = GUEST.pack("/", ".").unwrap();
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("archive"), &archive).unwrap();
    let listed = common::run(Command::new("tar").arg("-tf").arg(directory.path().join("archive")));
    assert!(listed.contains("bin/busybox\n"));
    for kernels in ["proc/", "sys/", "dev/"] {
        assert!(!listed.lines().any(|line| line.starts_with(kernels)), "{kernels}: {listed}");
    }
}

#[test]
fn an_archive_cannot_leave_its_directory() {
    GUEST.shell("mkdir /jail; echo safe >/outside; ln -s / /jail/root");
    for items in [
        vec![Item::file("../outside", "x")],
        vec![Item::file("root/outside", "x")],
        vec![Item::symlink("up", ".."), Item::file("up/outside", "x")],
        vec![Item::symlink("etc", "/etc/passwd"), Item::file("etc/x", "x")],
        vec![Item::hard_link("copy", "root/outside")],
    ] {
        let refused = GUEST.unpack("/jail", &TarWriter::of(&items)).unwrap_err();
        let codes = [RefusalCode::BadArchive, RefusalCode::FileConflict, RefusalCode::FileAccess];
        assert!(codes.contains(&refused.code), "{refused:?}");
    }
    // A link is replaced by what has its name, not followed.
    let items = [Item::symlink("link", "/outside"), Item::file("link", "x")];
    GUEST.unpack("/jail", &TarWriter::of(&items)).unwrap();
    assert_eq!(GUEST.shell("cat /outside /jail/link; wc -l </etc/passwd"), "safe\nx2\n");
}

#[test]
fn an_archive_that_ends_early_leaves_no_half_file_and_says_so() {
    GUEST.shell("mkdir /early; echo before >/early/cut");
    let archive = TarWriter::of(&[Item::file("whole", "w"), Item::file("cut", vec![7; 3_000_000])]);
    let refused = GUEST.unpack("/early", &archive[..2_000_000]).unwrap_err();
    assert_eq!(refused.code, RefusalCode::BadArchive);
    assert!(refused.message.contains("truncated"), "{refused}");
    assert_eq!(GUEST.shell("ls -A /early; cat /early/cut"), "cut\nwhole\nbefore\n");
}

#[test]
fn a_transfer_that_is_given_up_takes_back_what_it_left_half_done() {
    GUEST.shell("mkdir /given-up");
    for signal in [15, 2] {
        let mut input = GUEST.channel.input();
        let request = Request::Unpack { directory: "/given-up".to_owned(), input: input.id(), owner: Owner::Keep };
        let call = GUEST.channel.call(&request).unwrap();
        let archive = TarWriter::of(&[Item::file("file", vec![7; 3_000_000])]);
        input.write_all(&archive[..2_000_000]).unwrap();
        GUEST.ask(&Request::Signal { process: call.id(), signal, to: Recipients::Group }).unwrap();
        assert_eq!(common::answer(&call).unwrap_err().code, RefusalCode::Cancelled);
        assert_eq!(GUEST.shell("ls -A /given-up"), "");
    }
    let mut output = GUEST.channel.output();
    let request = Request::Pack { path: "/".to_owned(), name: ".".to_owned(), follow: false, output: output.id() };
    let call = GUEST.channel.call(&request).unwrap();
    output.next_chunk().unwrap();
    GUEST.ask(&Request::Signal { process: call.id(), signal: 9, to: Recipients::Session }).unwrap();
    while output.next_chunk().unwrap().is_some() {}
    assert_eq!(common::answer(&call).unwrap_err().code, RefusalCode::Cancelled);
    // And one whose reader leaves.
    let output = GUEST.channel.output();
    let request = Request::Pack { path: "/bin".to_owned(), name: ".".to_owned(), follow: false, output: output.id() };
    let call = GUEST.channel.call(&request).unwrap();
    drop(output);
    assert!(matches!(common::answer(&call), Err(refused) if refused.code == RefusalCode::Cancelled));
}

#[test]
fn a_program_that_runs_is_replaced_and_keeps_running() {
    GUEST.shell("mkdir /program; cp /bin/busybox /program/sleep; echo '#!/bin/sh' >/program/other");
    let running = GUEST.start(command(&["/program/sleep", "1000"]));
    let other = TarWriter::of(&[Item::file("sleep", "#!/bin/sh\necho replaced\n").mode(0o755)]);
    GUEST.unpack("/program", &other).unwrap();
    assert_eq!(GUEST.shell("/program/sleep"), "replaced\n");
    GUEST.ask(&Request::Signal { process: running.call.id(), signal: 15, to: Recipients::Group }).unwrap();
    assert_eq!(running.finish().unwrap().exit.signal, Some(15));
}

#[test]
fn a_file_that_is_written_to_meanwhile_breaks_no_archive() {
    let mut writer = GUEST.start(shell("mkdir /growing; echo x >/growing/file; echo started; while :; do cat /bin/busybox >>/growing/file; : >/growing/file; done"));
    writer.stdout.next_chunk().unwrap();
    for _ in 0..20 {
        let archive = GUEST.pack("/growing", ".").unwrap();
        let to = tempfile::tempdir().unwrap();
        microagent_tar::unpack(File::open(to.path()).unwrap(), &archive[..], &UnpackOptions::default()).unwrap();
    }
    GUEST.ask(&Request::Signal { process: writer.call.id(), signal: 9, to: Recipients::Group }).unwrap();
    writer.finish().unwrap();
}

#[test]
fn whose_the_files_are_is_the_archives_word_or_the_callers() {
    GUEST.shell("mkdir /owned");
    let archive = TarWriter::of(&[Item::file("implied/file", "x").owner(5, 6)]);
    let mut input = GUEST.channel.input();
    let owner = Owner::As { uid: 1000, gid: 1001 };
    let request = Request::Unpack { directory: "/owned".to_owned(), input: input.id(), owner };
    let call = GUEST.channel.call(&request).unwrap();
    input.write_all(&archive).unwrap();
    input.finish();
    assert_eq!(common::answer(&call), Ok(Reply::Done));
    GUEST.unpack("/owned", &TarWriter::of(&[Item::file("kept", "x").owner(5, 6)])).unwrap();
    let owners = GUEST.shell("cd /owned; stat -c '%u:%g %n' implied implied/file kept");
    assert_eq!(owners, "1000:1001 implied\n1000:1001 implied/file\n5:6 kept\n");
}

#[test]
fn what_is_no_directory_and_what_is_no_archive_are_told_apart() {
    GUEST.shell("echo >/plain; mkdir -p /into/directory");
    let archive = TarWriter::of(&[Item::file("directory", "x")]);
    let code = |directory: &str, archive: &[u8]| GUEST.unpack(directory, archive).unwrap_err().code;
    assert_eq!(code("/plain", &archive), RefusalCode::FileConflict);
    assert_eq!(code("/absent", &archive), RefusalCode::FileMissing);
    assert_eq!(code("into", &archive), RefusalCode::BadRequest);
    assert_eq!(code("/into", &archive), RefusalCode::FileConflict);
    assert_eq!(code("/into", &[1; 4096]), RefusalCode::BadArchive);
    assert_eq!(code("/into", b""), RefusalCode::BadArchive);
    GUEST.unpack("/into", &TarWriter::of(&[])).unwrap();
}

#[test]
fn a_full_disk_is_told_and_leaves_no_half_file() {
    GUEST.shell("mkdir /full; mount -t tmpfs -o size=1m none /full");
    // The mount is the shell's namespace's, which is the workspace's.
    let refused = GUEST.unpack("/full", &TarWriter::of(&[Item::file("large", vec![1; 4 << 20])])).unwrap_err();
    assert_eq!(refused.code, RefusalCode::DiskFull, "{refused}");
    assert_eq!(GUEST.shell("ls -A /full; umount /full"), "");
}

#[test]
fn thirty_two_transfers_at_once() {
    let archive = TarWriter::of(&[Item::file("file", vec![9; 200_000])]);
    std::thread::scope(|scope| {
        for n in 0..32 {
            let archive = &archive;
            scope.spawn(move || {
                GUEST.shell(&format!("mkdir /at-once-{n}"));
                GUEST.unpack(&format!("/at-once-{n}"), archive).unwrap();
                let back = GUEST.pack(&format!("/at-once-{n}"), ".").unwrap();
                assert!(back.windows(1000).any(|window| window == [9; 1000]));
            });
        }
    });
}

#[test]
fn statistics_are_of_this_machine() {
    let Ok(Reply::Stats(stats)) = GUEST.ask(&Request::Stats) else { panic!() };
    assert!((128 << 20..=256 << 20).contains(&stats.memory_total), "{stats:?}");
    assert!(stats.memory_available > 0 && stats.memory_available <= stats.memory_total, "{stats:?}");
    assert!(stats.cpu_busy_ns > 0 && stats.uptime_ns > 0, "{stats:?}");
    let Capacity { size_bytes, free_bytes } = stats.disk;
    assert!((400 << 20..=512 << 20).contains(&size_bytes) && free_bytes <= size_bytes, "{stats:?}");
    let sleeping = GUEST.start(command(&["sleep", "1000"]));
    let mut seen = 0;
    while seen == 0 {
        let Ok(Reply::Stats(stats)) = GUEST.ask(&Request::Stats) else { panic!() };
        seen = stats.processes;
    }
    GUEST.ask(&Request::Signal { process: sleeping.call.id(), signal: 9, to: Recipients::Group }).unwrap();
    sleeping.finish().unwrap();
}

/// Bulk copies against a command that sends or takes the same bytes. Prints figures; asserts only that the bytes are right.
#[test]
#[ignore = "a measurement: run it alone, on an idle host"]
fn rates_of_transfers() {
    let guest = Guest::boot();
    let rate = |what: &str, bytes: usize, took: std::time::Duration| {
        println!("{what}: {bytes} bytes in {took:.2?}");
        took.as_secs_f64()
    };
    let timed = |act: &mut dyn FnMut() -> usize| {
        let start = std::time::Instant::now();
        (act(), start.elapsed())
    };
    guest.shell("mkdir /large /large-in /small /small-in; head -c 200000000 /dev/zero >/large/file");
    guest.shell(
        "cd /small; for d in $(seq 1 100); do mkdir $d; for f in $(seq 1 100); do echo $d $f >$d/$f; done; done",
    );
    for (path, into) in [("/large", "/large-in"), ("/small", "/small-in")] {
        let archive = guest.pack(path, ".").unwrap();
        guest.unpack("/tmp", &TarWriter::of(&[Item::file("raw", &archive)])).unwrap();
        let (bytes, took) = timed(&mut || guest.run(command(&["cat", "/tmp/raw"])).unwrap().stdout.len());
        let raw = rate(&format!("{path} cat out"), bytes, took);
        let (bytes, took) = timed(&mut || guest.pack(path, ".").unwrap().len());
        println!("ratio out {:.2}", rate(&format!("{path} pack"), bytes, took) / raw);
        guest.shell(&format!("rm -r {path}"));
        let start = std::time::Instant::now();
        guest.shell(&format!("mkdir {into}/x; cd {into}/x; tar -xf /tmp/raw"));
        println!("{path} tar -x of busybox, no transfer: {:.2?}", start.elapsed());
        guest.shell(&format!("rm -r {into}/x /tmp/raw"));
        let (bytes, took) = timed(&mut || {
            let mut running = guest.start(common::with_input(shell("cat >/dev/null")));
            running.stdin.as_mut().unwrap().write_all(&archive).unwrap();
            running.finish().unwrap();
            archive.len()
        });
        let raw = rate(&format!("{path} cat in"), bytes, took);
        let (bytes, took) = timed(&mut || {
            guest.unpack(into, &archive).unwrap();
            archive.len()
        });
        println!("ratio in {:.2}", rate(&format!("{path} unpack"), bytes, took) / raw);
    }
}
