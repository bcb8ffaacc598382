//! Trees that travel through an archive arrive as they left, and other programs read our archives as we mean them.

use microagent_tar::{Error, Ownership, UnpackOptions, pack, unpack};
use microagent_testing::{run, tool};
use std::ffi::OsStr;
use std::fs::{self, File, Permissions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// A tree with one of everything its maker may make.
fn write_nasty(root: &Path) {
    let path = |name: &[u8]| root.join(OsStr::from_bytes(name));
    fs::create_dir_all(root.join("deep/er/est")).unwrap();
    fs::write(root.join("deep/er/est/file"), vec![b'x'; 700_000]).unwrap();
    fs::write(root.join("empty"), "").unwrap();
    fs::write(path(b"new\nline"), "1").unwrap();
    fs::write(path(b"not\xff\xfeutf8"), "2").unwrap();
    fs::write(root.join("n".repeat(255)), "3").unwrap();
    fs::create_dir(root.join("d".repeat(200))).unwrap();
    fs::write(root.join(format!("{}/{}", "d".repeat(200), "f".repeat(200))), "4").unwrap();
    fs::hard_link(root.join("empty"), root.join("linked")).unwrap();
    fs::hard_link(root.join("deep/er/est/file"), root.join("zz")).unwrap();
    symlink("/etc/passwd", root.join("absolute")).unwrap();
    symlink("t".repeat(300), root.join("long")).unwrap();
    symlink(OsStr::from_bytes(b"\xff"), root.join("odd")).unwrap();
    rustix::fs::setxattr(root.join("empty"), "user.note", b"a\0b\nc=d", rustix::fs::XattrFlags::empty()).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, root.join("pipe"), 0o640.into()).unwrap();
    if is_root() {
        rustix::fs::mknodat(
            rustix::fs::CWD,
            root.join("null"),
            rustix::fs::FileType::CharacterDevice,
            0o666.into(),
            rustix::fs::makedev(1, 3),
        )
        .unwrap();
        fs::write(root.join("setuid"), "").unwrap();
        std::os::unix::fs::chown(root.join("setuid"), Some(4_000_000_000), Some(77)).unwrap();
        fs::set_permissions(root.join("setuid"), Permissions::from_mode(0o6711)).unwrap();
        rustix::fs::lsetxattr(root.join("long"), "trusted.note", b"on a link", rustix::fs::XattrFlags::empty())
            .unwrap();
    }
    let old = std::time::UNIX_EPOCH - std::time::Duration::new(1_000_000, 250);
    File::open(path(b"new\nline")).unwrap().set_modified(old).unwrap();
    fs::create_dir(root.join("closed")).unwrap();
    fs::set_permissions(root.join("closed"), Permissions::from_mode(if is_root() { 0 } else { 0o500 })).unwrap();
}

fn text(command: &mut std::process::Command) -> String {
    String::from_utf8_lossy(&run(command)).into_owned()
}

/// Everything a tree is, as `find` and `getfattr` see it: kind, mode, owners, links, time, size, name, target.
fn describe(root: &Path) -> String {
    let mut find = tool("find");
    find.current_dir(root).args([".", "-mindepth", "1", "-printf", "%y %m %U %G %n %T@ %P -> %l\\n"]);
    let mut lines: Vec<String> = text(&mut find).split('\n').map(str::to_owned).collect();
    lines.sort();
    let mut attributes = tool("getfattr");
    attributes.current_dir(root).args(["-R", "-h", "-d", "-m", "-", "--absolute-names", "."]);
    let mut content = tool("sh");
    content.current_dir(root).args(["-c", "find . -type f -exec sha256sum {} + | sort"]);
    [lines.join("\n"), text(&mut attributes), text(&mut content)].concat()
}

/// As much as this user may keep.
fn faithful() -> UnpackOptions {
    let ownership = if is_root() { Ownership::Archive } else { Ownership::Caller };
    UnpackOptions { devices: is_root(), ..UnpackOptions::faithful(ownership) }
}

#[test]
fn a_nasty_tree_arrives_as_it_left() {
    let scratch = tempfile::tempdir_in("/var/tmp").unwrap();
    let (from, to) = (scratch.path().join("from"), scratch.path().join("to"));
    fs::create_dir(&from).unwrap();
    write_nasty(&from);
    let _socket = UnixListener::bind(from.join("socket")).unwrap();
    let mut archive = Vec::new();
    let packed = pack(&from, b".", false, &mut archive).unwrap();
    assert_eq!(packed.skipped_sockets, 1);
    fs::remove_file(from.join("socket")).unwrap();
    let mut again = Vec::new();
    pack(&from, b".", false, &mut again).unwrap();
    assert!(archive == again, "equal trees make different archives");

    fs::create_dir(&to).unwrap();
    let unpacked = unpack(File::open(&to).unwrap(), &archive[..], &faithful()).unwrap();
    assert_eq!((unpacked.entries, unpacked.skipped_attributes, unpacked.bytes), (packed.entries, 0, packed.bytes));
    assert_eq!(describe(&to), describe(&from));
    // Once more over itself: everything is replaced or merged by its like.
    unpack(File::open(&to).unwrap(), &archive[..], &faithful()).unwrap();
    assert_eq!(describe(&to), describe(&from));
}

#[test]
fn gnu_tar_reads_what_we_write_and_we_read_what_it_writes() {
    let scratch = tempfile::tempdir_in("/var/tmp").unwrap();
    let path = |name: &str| scratch.path().join(name);
    for name in ["from", "theirs", "ours"] {
        fs::create_dir(path(name)).unwrap();
    }
    write_nasty(&path("from"));
    pack(&path("from"), b".", false, File::create(path("ours.tar")).unwrap()).unwrap();
    let all = ["--numeric-owner", "--xattrs", "--xattrs-include=*", "--acls"];
    let mut tar = tool("tar");
    tar.args(all).args(["-xpf"]).arg(path("ours.tar")).arg("-C").arg(path("theirs"));
    run(&mut tar);
    assert_eq!(describe(&path("theirs")), describe(&path("from")));
    for format in ["posix", "gnu"] {
        let mut tar = tool("tar");
        tar.args(["--format", format, "--sparse"]).args(&all[..1]).args(if format == "posix" {
            &all[1..]
        } else {
            &[]
        });
        tar.args(["-cf"]).arg(path("theirs.tar")).arg("-C").arg(path("from")).arg(".");
        run(&mut tar);
        fs::remove_dir_all(path("ours")).unwrap();
        fs::create_dir(path("ours")).unwrap();
        unpack(File::open(path("ours")).unwrap(), File::open(path("theirs.tar")).unwrap(), &faithful()).unwrap();
        if format == "posix" {
            assert_eq!(describe(&path("ours")), describe(&path("from")));
        }
    }
}

#[test]
fn sparse_files_of_other_archivers_are_whole() {
    let scratch = tempfile::tempdir_in("/var/tmp").unwrap();
    let path = |name: &str| scratch.path().join(name);
    let file = File::create(path("sparse")).unwrap();
    file.set_len(40 << 20).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, b"middle", 20 << 20).unwrap();
    for format in ["gnu", "posix"] {
        let archive = path("archive");
        let mut tar = tool("tar");
        tar.args(["--format", format, "--sparse", "-cf"]).arg(&archive).arg("-C").arg(scratch.path()).arg("sparse");
        run(&mut tar);
        assert!(fs::metadata(&archive).unwrap().len() < 1 << 20);
        let to = path(format);
        fs::create_dir(&to).unwrap();
        unpack(File::open(&to).unwrap(), File::open(&archive).unwrap(), &UnpackOptions::default()).unwrap();
        assert!(fs::read(to.join("sparse")).unwrap() == fs::read(path("sparse")).unwrap(), "{format}");
    }
}

#[test]
fn one_file_travels_under_the_name_it_is_given() {
    let scratch = tempfile::tempdir().unwrap();
    fs::write(scratch.path().join("file"), "content").unwrap();
    symlink("file", scratch.path().join("link")).unwrap();
    let send = |name: &str, called: &[u8], follow| {
        let mut archive = Vec::new();
        let packed = pack(&scratch.path().join(name), called, follow, &mut archive)?;
        assert_eq!(packed.entries, 1);
        let to = tempfile::tempdir().unwrap();
        unpack(File::open(to.path()).unwrap(), &archive[..], &UnpackOptions::default())?;
        let made = to.path().join(OsStr::from_bytes(called));
        Ok::<_, Error>((made.is_symlink(), fs::read(made).ok()))
    };
    let content = Some(b"content".to_vec());
    assert_eq!(send("file", b"renamed", false).unwrap(), (false, content.clone()));
    assert_eq!(send("link", b"renamed", true).unwrap(), (false, content));
    assert_eq!(send("link", b"renamed", false).unwrap(), (true, None));
    assert!(matches!(send("file", b".", false), Err(Error::Unpackable { .. })));
    let absent = send("absent", b"x", false).unwrap_err();
    assert_eq!(absent.system().unwrap().kind(), std::io::ErrorKind::NotFound);
}

#[test]
fn the_kernels_own_files_stay_where_they_are() {
    for path in ["/proc/cpuinfo", "/proc/self", "/sys", "/dev"] {
        let refused = pack(Path::new(path), b"x", true, &mut Vec::new()).unwrap_err();
        assert!(matches!(refused, Error::Unpackable { .. }), "{path}: {refused:?}");
    }
}

#[test]
fn a_writer_nobody_reads_from_fails() {
    struct Closed;
    impl std::io::Write for Closed {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            Err(std::io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let scratch = tempfile::tempdir().unwrap();
    fs::write(scratch.path().join("file"), vec![0; 1 << 20]).unwrap();
    assert!(matches!(pack(scratch.path(), b".", false, Closed), Err(Error::Write(_))));
}
