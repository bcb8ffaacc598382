//! Archives made to harm whoever unpacks them.

use microagent_tar::{ArchiveError, Error, Limits, Ownership, UnpackOptions, Unpacked, unpack};
use microagent_testing::{Item, TarWriter, pax_record};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::fs::{self, File, Permissions};
use std::io::{self, Read};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use tempfile::TempDir;

/// A directory to unpack into, and around it what nobody may touch.
struct Scratch(TempDir);

impl Scratch {
    fn new() -> Self {
        let scratch = Scratch(tempfile::tempdir().unwrap());
        fs::create_dir(scratch.target()).unwrap();
        fs::create_dir(scratch.outside()).unwrap();
        fs::write(scratch.outside().join("secret"), "untouched").unwrap();
        scratch
    }

    fn target(&self) -> PathBuf {
        self.0.path().join("target")
    }

    fn outside(&self) -> PathBuf {
        self.0.path().join("outside")
    }

    fn unpack(&self, archive: impl Read) -> Result<Unpacked, Error> {
        self.unpack_with(archive, &UnpackOptions::default())
    }

    fn unpack_with(&self, archive: impl Read, options: &UnpackOptions) -> Result<Unpacked, Error> {
        let unpacked = unpack(File::open(self.target()).unwrap(), archive, options);
        self.assert_nothing_escaped();
        unpacked
    }

    fn items(&self, items: &[Item]) -> Result<Unpacked, Error> {
        self.unpack(&TarWriter::of(items)[..])
    }

    fn assert_nothing_escaped(&self) {
        let names = |path: &Path| {
            let mut names: Vec<_> = fs::read_dir(path).unwrap().map(|entry| entry.unwrap().file_name()).collect();
            names.sort();
            names
        };
        assert_eq!(names(self.0.path()), ["outside", "target"]);
        assert_eq!(names(&self.outside()), ["secret"]);
        assert_eq!(fs::read(self.outside().join("secret")).unwrap(), b"untouched");
    }

    fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.target().join(name)).unwrap()
    }

    /// No half file and no name of our own is left, however it ended.
    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.target()).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

#[test]
fn names_that_lead_out_are_refused() {
    for name in ["../outside/secret", "a/../../outside/secret", "/../outside/secret", "..", "a/.."] {
        let scratch = Scratch::new();
        let refused = scratch.items(&[Item::file(name, "overwritten")]).unwrap_err();
        assert!(matches!(refused, Error::Archive(ArchiveError::BadEntry { .. })), "{name}: {refused:?}");
        assert_eq!(scratch.names(), [""; 0], "{name}");
    }
}

#[test]
fn absolute_names_are_names_below_the_directory() {
    let scratch = Scratch::new();
    let name = scratch.outside().join("secret");
    scratch.items(&[Item::file(name.to_str().unwrap(), "inside")]).unwrap();
    assert_eq!(scratch.read(name.strip_prefix("/").unwrap().to_str().unwrap()), b"inside");
}

#[test]
fn a_link_of_the_archive_is_not_written_through() {
    for target in ["../outside", "/proc/self/root", "/", "."] {
        for last in
            [Item::file("link/secret", "overwritten"), Item::directory("link/made"), Item::hard_link("link/x", "f")]
        {
            let scratch = Scratch::new();
            let refused = scratch.items(&[Item::file("f", ""), Item::symlink("link", target), last]).unwrap_err();
            assert!(matches!(refused, Error::Conflict { .. }), "{target}: {refused:?}");
            assert!(refused.to_string().contains("`link/"), "{refused}");
        }
    }
}

#[test]
fn a_link_that_is_there_is_neither_followed_nor_becomes_a_directory() {
    let scratch = Scratch::new();
    symlink(scratch.outside(), scratch.target().join("link")).unwrap();
    for item in [Item::file("link/secret", "x"), Item::directory("link/"), Item::directory("link/below")] {
        let refused = scratch.items(&[item]).unwrap_err();
        assert!(matches!(refused, Error::Conflict { .. }), "{refused:?}");
    }
    symlink(scratch.outside().join("secret"), scratch.target().join("file")).unwrap();
    scratch.items(&[Item::file("file", "new")]).unwrap();
    assert_eq!(scratch.read("file"), b"new");
    assert!(scratch.target().join("file").symlink_metadata().unwrap().is_file());
}

#[test]
fn a_hard_link_reaches_nothing_outside() {
    for target in ["../outside/secret", "link/secret", "/outside/secret", "absent", "", "."] {
        let scratch = Scratch::new();
        let items = [Item::symlink("link", "../outside"), Item::hard_link("copy", target)];
        let refused = scratch.items(&items).unwrap_err();
        assert!(!matches!(refused, Error::Write(_)), "{refused:?}");
        assert_eq!(scratch.names(), ["link"], "{target}");
    }
    // A link to a link is the link, not what it points to.
    let scratch = Scratch::new();
    scratch.items(&[Item::symlink("link", "../outside/secret"), Item::hard_link("copy", "link")]).unwrap();
    assert!(scratch.target().join("copy").symlink_metadata().unwrap().is_symlink());
}

#[test]
fn a_file_that_replaces_a_hard_linked_one_leaves_the_other_name_alone() {
    let scratch = Scratch::new();
    scratch.items(&[Item::file("a", "first"), Item::hard_link("b", "a"), Item::file("b", "second")]).unwrap();
    assert_eq!((scratch.read("a"), scratch.read("b")), (b"first".to_vec(), b"second".to_vec()));
    scratch.items(&[Item::hard_link("b", "a"), Item::hard_link("b", "a")]).unwrap();
    assert_eq!(scratch.names(), ["a", "b"]);
    assert_eq!(fs::metadata(scratch.target().join("a")).unwrap().nlink(), 2);
}

#[test]
fn a_directory_is_never_replaced_and_replaces_nothing() {
    let scratch = Scratch::new();
    fs::create_dir_all(scratch.target().join("directory/full")).unwrap();
    fs::create_dir(scratch.target().join("empty")).unwrap();
    fs::write(scratch.target().join("file"), "kept").unwrap();
    let over = |name: &str| {
        [Item::file(name, "x"), Item::symlink(name, "x"), Item::hard_link(name, "file"), Item::new(b'6', name)]
    };
    for item in
        over("directory").into_iter().chain(over("empty")).chain([Item::directory("file"), Item::file("file/x", "")])
    {
        let refused = scratch.items(std::slice::from_ref(&item)).unwrap_err();
        assert!(matches!(refused, Error::Conflict { .. }), "{item:?}: {refused:?}");
    }
    assert_eq!(scratch.names(), ["directory", "empty", "file"]);
    assert_eq!(scratch.read("file"), b"kept");
    scratch.items(&[Item::directory("directory"), Item::file("directory/new", "merged")]).unwrap();
    assert!(scratch.target().join("directory/full").is_dir() && scratch.target().join("directory/new").is_file());
}

#[test]
fn what_an_archive_of_a_stranger_may_not_do_it_does_not() {
    let scratch = Scratch::new();
    let unpacked = scratch
        .items(&[
            Item::device(b'3', "null", 1, 3),
            Item::device(b'4', "disk", 8, 0),
            Item::file("setuid", "").mode(0o6755).owner(12345, 12345),
            Item::directory("setgid").mode(0o2777),
            Item::file("labelled", "").xattr("security.capability", "x").xattr("trusted.overlay.opaque", "y"),
            Item::new(b'6', "pipe"),
        ])
        .unwrap();
    assert_eq!((unpacked.entries, unpacked.skipped_devices, unpacked.stripped_modes), (4, 2, 2));
    assert_eq!(unpacked.skipped_attributes, 2);
    assert_eq!(scratch.names(), ["labelled", "pipe", "setgid", "setuid"]);
    let metadata = |name: &str| fs::metadata(scratch.target().join(name)).unwrap();
    assert_eq!(metadata("setuid").mode() & 0o7777, 0o755);
    assert_eq!(metadata("setuid").uid(), rustix::process::geteuid().as_raw());
    assert_eq!(metadata("setgid").mode() & 0o7777, 0o777);
    assert!(metadata("pipe").file_type().is_fifo());
}

#[test]
fn an_archive_that_ends_early_leaves_no_half_file() {
    let archive = TarWriter::of(&[Item::file("whole", [1; 1000]), Item::file("cut", vec![2; 400_000])]);
    // In the data, behind it, and before each half of the mark at the end.
    for length in [archive.len() - 300_000, archive.len() - 1024 - 320, archive.len() - 1024] {
        let scratch = Scratch::new();
        let refused = scratch.unpack(&archive[..length]).unwrap_err();
        assert!(matches!(refused, Error::Archive(ArchiveError::Truncated { .. })), "{length}: {refused:?}");
        let expected: &[&str] = if length < archive.len() - 1024 - 320 { &["whole"] } else { &["cut", "whole"] };
        assert_eq!(scratch.names(), expected, "{length}");
    }
    let scratch = Scratch::new();
    assert!(matches!(scratch.unpack(io::empty()), Err(Error::Archive(ArchiveError::Truncated { .. }))));
}

/// Fails after its bytes.
struct Broken<'b>(&'b [u8]);

impl Read for Broken<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.0.read(buffer)? {
            0 => Err(io::ErrorKind::ConnectionAborted.into()),
            count => Ok(count),
        }
    }
}

#[test]
fn a_connection_that_breaks_leaves_what_was_there_before() {
    let scratch = Scratch::new();
    fs::write(scratch.target().join("file"), "before").unwrap();
    let archive = TarWriter::of(&[Item::file("file", vec![7; 100_000])]);
    let failed = scratch.unpack(Broken(&archive[..50_000])).unwrap_err();
    assert!(matches!(failed, Error::Archive(ArchiveError::Read(_))), "{failed:?}");
    assert_eq!(scratch.names(), ["file"]);
    assert_eq!(scratch.read("file"), b"before");
}

#[test]
fn a_size_no_disk_holds_takes_neither_memory_nor_disk() {
    let mut writer = TarWriter::default();
    writer.pax(&pax_record(b"size", u64::MAX.to_string().as_bytes()));
    writer.item(&Item::file("endless", ""));
    let archive = writer.finish();
    let scratch = Scratch::new();
    let refused = scratch.unpack(&archive[..]).unwrap_err();
    assert!(matches!(refused, Error::Archive(ArchiveError::Limit { what: "total_bytes", .. })), "{refused:?}");
    let refused = scratch.unpack_with(&archive[..], &UnpackOptions::faithful(Ownership::Caller)).unwrap_err();
    assert!(matches!(refused, Error::Archive(ArchiveError::Truncated { .. })), "{refused:?}");
    assert_eq!(scratch.names(), [""; 0]);
}

#[test]
fn every_limit_is_kept_and_named() {
    let limits = Limits { entries: 3, total_bytes: 1000, metadata_bytes: 4096, ..Limits::default() };
    let options = UnpackOptions { limits, ..UnpackOptions::default() };
    let many: Vec<_> = (0..4).map(|n| Item::file(format!("{n}"), "")).collect();
    let directories: Vec<_> = (0..3).map(|n| Item::directory(format!("d{n}")).xattr("user.x", [0; 2000])).collect();
    let long = [Item::file("l/".repeat(3000), "")];
    let deep = [Item::file("d/".repeat(300), "")];
    let wide = [Item::file("n".repeat(300), "")];
    let cases: [(&str, &[Item]); 6] = [
        ("entries", &many),
        ("total_bytes", &[Item::file("one", [0; 600]), Item::file("two", [0; 600])]),
        ("metadata_bytes", &directories),
        ("path_bytes", &long),
        ("path_depth", &deep),
        ("name length", &wide),
    ];
    for (limit, items) in cases {
        let refused = Scratch::new().unpack_with(&TarWriter::of(items)[..], &options).unwrap_err();
        assert!(
            matches!(refused, Error::Archive(ArchiveError::Limit { what, .. }) if what == limit),
            "{limit}: {refused:?}"
        );
    }
    let padded = [TarWriter::of(&[]), vec![0; 2 << 20]].concat();
    let refused = Scratch::new().unpack(&padded[..]).unwrap_err();
    assert!(matches!(refused, Error::Archive(ArchiveError::Limit { .. })), "{refused:?}");
}

#[test]
fn directories_closed_to_everybody_are_filled_first() {
    let scratch = Scratch::new();
    let items = [
        Item::directory("closed").mode(0).mtime(1_000_000, 7),
        Item::directory("closed/below").mode(0o100).mtime(2_000_000, 0),
        Item::file("closed/below/file", "in there").mode(0o400),
        Item::file("closed/other", ""),
    ];
    scratch.items(&items).unwrap();
    let closed = fs::metadata(scratch.target().join("closed")).unwrap();
    assert_eq!((closed.mode() & 0o7777, closed.mtime(), closed.mtime_nsec()), (0, 1_000_000, 7));
    fs::set_permissions(scratch.target().join("closed"), Permissions::from_mode(0o700)).unwrap();
    let below = fs::metadata(scratch.target().join("closed/below")).unwrap();
    assert_eq!((below.mode() & 0o7777, below.mtime()), (0o100, 2_000_000));
    fs::set_permissions(scratch.target().join("closed/below"), Permissions::from_mode(0o700)).unwrap();
}

#[test]
fn a_name_of_a_file_in_the_making_is_a_name_like_any_other() {
    let scratch = Scratch::new();
    let ours = |n: usize| format!(".microagent-{}-{n}.part", std::process::id());
    for n in 0..2000 {
        symlink(scratch.outside().join("secret"), scratch.target().join(ours(n))).unwrap();
    }
    scratch.items(&[Item::file("file", "content"), Item::file(ours(1), "a file")]).unwrap();
    assert_eq!((scratch.read("file"), scratch.read(&ours(1))), (b"content".to_vec(), b"a file".to_vec()));
}

/// An archive of many files in one directory, which somebody swaps for a link and back all the while.
#[test]
fn a_directory_that_is_swapped_for_a_link_meanwhile_leads_nowhere() {
    let scratch = Scratch::new();
    let target = scratch.target();
    let done = AtomicBool::new(false);
    let items: Vec<Item> = (0..400)
        .flat_map(|n| {
            [
                Item::file(format!("d/{}/file", n % 7), "x"),
                Item::directory(format!("d/{}", n % 7)),
                Item::file("secret", "y"),
            ]
        })
        .collect();
    let archive = TarWriter::of(&items);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            fs::create_dir_all(target.join("d")).unwrap();
            while !done.load(Ordering::Relaxed) {
                let _ = fs::rename(target.join("d"), target.join("aside"));
                let _ = symlink("../outside", target.join("d"));
                let _ = fs::remove_file(target.join("d"));
                let _ = fs::rename(target.join("aside"), target.join("d"));
            }
        });
        for _ in 0..12 {
            // It may fail, and it may succeed; it stays inside.
            let _ = unpack(File::open(&target).unwrap(), &archive[..], &UnpackOptions::default());
        }
        done.store(true, Ordering::Relaxed);
    });
    scratch.assert_nothing_escaped();
}

/// What is below a directory: kind and content by path.
fn snapshot(root: &Path) -> BTreeMap<PathBuf, String> {
    let mut seen = BTreeMap::new();
    let mut pending = vec![root.to_owned()];
    while let Some(directory) = pending.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            let metadata = path.symlink_metadata().unwrap();
            let what = if metadata.is_dir() {
                pending.push(path.clone());
                "directory".to_owned()
            } else if metadata.is_file() {
                format!("{:?}", fs::read(&path).unwrap())
            } else {
                format!("{:?}", metadata.file_type())
            };
            seen.insert(path, what);
        }
    }
    seen
}

fn any_item() -> impl Strategy<Value = Item> {
    let part = prop::sample::select(vec!["a", "b", "c", "..", ".", "", "outside"]);
    let name = prop::collection::vec(part, 1..4).prop_map(|parts| parts.join("/"));
    let target = prop::sample::select(vec!["a", "../outside", "/", "b/c", "..", "../outside/secret", "a/secret"]);
    (name, target, 0u8..7).prop_map(|(name, target, kind)| match kind {
        0 | 1 => Item::file(&name, "content"),
        2 => Item::directory(&name),
        3 => Item::symlink(&name, target),
        4 => Item::hard_link(&name, target),
        5 => Item::new(b'6', &name),
        _ => Item::device(b'3', &name, 1, 3),
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn whatever_an_archive_says_nothing_outside_changes_and_no_half_file_stays(
        items in prop::collection::vec(any_item(), 1..12),
        faithful in any::<bool>(),
        cut in any::<prop::sample::Index>(),
    ) {
        let scratch = Scratch::new();
        let archive = TarWriter::of(&items);
        let faithful = faithful && rustix::process::geteuid().is_root();
        let options = if faithful { UnpackOptions::faithful(Ownership::Caller) } else { UnpackOptions::default() };
        let cut = cut.index(archive.len());
        for length in [cut, archive.len()] {
            let _ = scratch.unpack_with(&archive[..length], &options);
            for (path, what) in snapshot(&scratch.target()) {
                let name = path.file_name().unwrap().to_str().unwrap().to_owned();
                prop_assert!(!name.starts_with(".microagent"), "{path:?}");
                prop_assert!(!what.starts_with('[') || what == format!("{:?}", b"content"), "{path:?}");
            }
        }
    }
}

#[test]
fn nothing_but_what_was_asked_for_is_unpacked() {
    let within = UnpackOptions { within: Some(b"report".to_vec()), ..UnpackOptions::default() };
    let scratch = Scratch::new();
    fs::write(scratch.target().join("secret"), "kept").unwrap();
    let refused = |items: &[Item]| {
        let error = scratch.unpack_with(&TarWriter::of(items)[..], &within).unwrap_err().to_string();
        assert!(error.contains("not part of what was asked for"), "{error}");
    };
    for name in [".bashrc", "reports", "report2/x"] {
        refused(&[Item::file(name, b"x")]);
        assert!(!scratch.target().join(name).exists(), "{name}");
    }
    refused(&[Item::hard_link("report", "secret")]);
    scratch.unpack_with(&TarWriter::of(&[Item::file("report", b"x")])[..], &within).unwrap();
    assert_eq!(scratch.read("report"), b"x");
}
