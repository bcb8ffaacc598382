//! A commit makes an image that other tools unpack to the same tree, or leaves nothing at all.

mod common;

use std::fs::{self, File};
use std::io::{self, Cursor, Read};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use common::{Store, parse, read, sample};
use microagent_image::rootfs::Limits;
use microagent_image::{
    BaseImage, Cancellation, Commit, ConfigChanges, Digest, Error, Event, Image, ImportOptions, LayerCompression,
    Platform, Progress, PushOptions, Silent,
};
use microagent_protocol::{Fault, FaultKind};
use microagent_testing::{Registry, run, tool};

/// A store with an image `demo:v1`.
fn with_base() -> (Store, Image) {
    let (store, layout) = (Store::new(), sample());
    let source = layout.source("v1").parse().unwrap();
    let options = ImportOptions { name: Some(parse("demo:v1")), ..ImportOptions::default() };
    let (image, _) = store.images.import(&source, &options, &Silent).unwrap();
    (store, image)
}

/// What a workspace might have changed: files added, replaced and removed, with everything a tar can say of them.
fn layer() -> Vec<u8> {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    let write = |name: &str, content: &[u8]| {
        fs::create_dir_all(root.join(name).parent().unwrap()).unwrap();
        fs::write(root.join(name), content).unwrap();
    };
    write("etc/name", b"changed");
    write("etc/.wh.kept", b"");
    write("srv/tool", b"#!/bin/sh\n");
    write("srv/data", &common::noise(3 << 20, 5));
    fs::hard_link(root.join("srv/tool"), root.join("srv/same")).unwrap();
    fs::set_permissions(root.join("srv/tool"), fs::Permissions::from_mode(0o4755)).unwrap();
    symlink("../etc/name", root.join("srv/link")).unwrap();
    run(tool("mkfifo").arg(root.join("srv/fifo")));
    run(tool("setfattr").args(["-n", "user.note", "-v", "kept"]).arg(root.join("srv/tool")));
    tar(root, &["--owner=1234", "--group=2345"])
}

fn tar(root: &Path, options: &[&str]) -> Vec<u8> {
    let always = ["--create", "--format=pax", "--xattrs", "--sort=name", "--file=-"];
    run(tool("tar").args(always).args(options).arg("--directory").arg(root).arg("."))
}

fn commit(image: &Image, target: &str) -> Commit {
    Commit::new(image.manifest_digest.clone(), parse(target))
}

/// Every name below `root` with everything about it that images keep.
fn tree(root: &Path) -> String {
    let listed = run(tool("find").arg(root).args(["-mindepth", "1", "-printf", "%P %y %m %U %G %l %T@ "]).args([
        "(",
        "-type",
        "f",
        "-printf",
        "%s %n ",
        "-exec",
        "sha256sum",
        "-z",
        "{}",
        ";",
        "-printf",
        "\n",
        "-o",
        "-printf",
        "\n",
        ")",
    ]));
    let text = String::from_utf8(listed).unwrap().replace(root.to_str().unwrap(), "").replace('\0', "");
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_unstable();
    lines.join("\n")
}

/// A filesystem that is mounted for a test. Only root can, so elsewhere there is none.
struct Mount(PathBuf);

impl Mount {
    fn new(options: &[&str], source: &Path, at: &Path) -> Option<Mount> {
        fs::create_dir_all(at).unwrap();
        let mounted = Command::new("mount").args(options).arg(source).arg(at).output();
        mounted.is_ok_and(|output| output.status.success()).then(|| Mount(at.to_owned()))
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        run(Command::new("umount").arg(&self.0));
    }
}

/// The tree of a base, as Linux shows it, where it can be made to.
fn mounted(base: &BaseImage) -> Option<String> {
    let scratch = tempfile::tempdir().unwrap();
    let mount = Mount::new(&["-t", "erofs", "-o", "loop,ro"], &base.path, &scratch.path().join("mounted"))?;
    Some(tree(&mount.0))
}

/// The tree another tool makes of an image in a registry.
fn unpacked_elsewhere(reference: &str) -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let (layout, bundle) = (directory.path().join("layout"), directory.path().join("bundle"));
    let copy = ["copy", "--quiet", "--insecure-policy", "--src-tls-verify=false"];
    run(tool("skopeo").args(copy).arg(format!("docker://{reference}")).arg(format!("oci:{}:it", layout.display())));
    run(tool("umoci").args(["unpack", "--image"]).arg(format!("{}:it", layout.display())).arg(&bundle));
    (directory, bundle.join("rootfs"))
}

#[test]
fn committed_image_travels_and_is_unpacked_by_others_to_the_same_tree() {
    let (store, image) = with_base();
    let registry = Registry::plain();
    let changes =
        ConfigChanges { cmd: Some(vec!["/srv/tool".into()]), message: Some("why".into()), ..Default::default() };
    for (compression, tag) in [(LayerCompression::Gzip, "gzip"), (LayerCompression::Zstd, "zstd")] {
        let target = registry.reference(&format!("made:{tag}"));
        let commit = Commit { compression, changes: changes.clone(), ..commit(&image, &target) };
        let (made, base) = store.images.commit(&commit, &mut Cursor::new(layer()), &Silent).unwrap();
        assert_eq!((made.layers.len(), &made.layers[..2]), (3, &image.layers[..]));
        assert_eq!((made.config.cmd.as_slice(), &made.config.env), (&["/srv/tool".to_owned()][..], &image.config.env));

        let pushed = store.images.push(&target, &PushOptions::default(), &Silent).unwrap();
        assert_eq!(pushed.digest, made.manifest_digest);
        let (pulled, again) = Store::new().pull(&target).unwrap();
        assert_eq!((&pulled, &again.record.digest), (&made, &base.record.digest));

        let inspected = run(tool("skopeo").args(["inspect", "--tls-verify=false"]).arg(format!("docker://{target}")));
        let inspected: serde_json::Value = serde_json::from_slice(&inspected).unwrap();
        assert_eq!(inspected["Digest"], made.manifest_digest.to_string());
        assert_eq!(inspected["Layers"].as_array().unwrap().len(), 3);

        assert_eq!(read(&base, "etc/name"), b"changed");
        if compression == LayerCompression::Zstd {
            // The other tool is from before zstd.
            continue;
        }
        let (_scratch, rootfs) = unpacked_elsewhere(&target);
        let theirs = tree(&rootfs);
        assert!(theirs.contains("srv/tool f 4755 1234 2345") && !theirs.contains("etc/kept"), "{theirs}");
        if let Some(ours) = mounted(&base) {
            assert_eq!(ours, theirs);
        }
        let attribute = run(tool("getfattr").args(["--only-values", "-n", "user.note"]).arg(rootfs.join("srv/same")));
        assert_eq!(attribute, b"kept");
    }
}

#[test]
fn docker_image_becomes_an_oci_image() {
    let (registry, store) = (Registry::plain(), Store::new());
    let layout = sample();
    registry.push(&layout.source("v1"), "docker:v1", &["--format", "v2s2"]);
    let base = store.pull(&registry.reference("docker:v1")).unwrap().0;
    let target = registry.reference("oci:v1");
    let (made, _) = store.images.commit(&commit(&base, &target), &mut Cursor::new(layer()), &Silent).unwrap();
    store.images.push(&target, &PushOptions::default(), &Silent).unwrap();
    let raw = run(tool("skopeo").args(["inspect", "--raw", "--tls-verify=false"]).arg(format!("docker://{target}")));
    assert_eq!(Digest::of(&raw), made.manifest_digest);
    assert!(!String::from_utf8(raw).unwrap().contains("vnd.docker"));
    assert_eq!(store.images.find(&parse(&target), Platform::host()).unwrap().unwrap(), made);
}

#[test]
fn commit_on_a_commit_and_over_a_name_that_exists() {
    let (store, image) = with_base();
    let one = store.images.commit(&commit(&image, "demo:v1"), &mut Cursor::new(layer()), &Silent).unwrap().0;
    assert_eq!(store.images.lookup("demo:v1", None).unwrap(), one);
    let empty = tempfile::tempdir().unwrap();
    let two = commit(&one, "demo:v2");
    let two = store.images.commit(&two, &mut Cursor::new(tar(empty.path(), &[])), &Silent).unwrap().0;
    assert_eq!((two.layers.len(), &two.layers[..3]), (4, &one.layers[..]));
    store.images.prune(true, false, &|_| false).unwrap();
    store.assert_empty();
}

#[test]
fn base_that_lost_its_name_and_is_in_use_can_still_be_committed_on() {
    let (store, image) = with_base();
    store.images.remove("demo:v1", &|digest| *digest == image.manifest_digest).unwrap();
    store.images.commit(&commit(&image, "demo:v2"), &mut Cursor::new(layer()), &Silent).unwrap();
}

#[test]
fn what_cannot_be_committed_is_refused_by_name() {
    let (store, image) = with_base();
    let missing = Commit::new(Digest::of(b"nothing"), parse("demo:v2"));
    let error = store.images.commit(&missing, &mut Cursor::new(layer()), &Silent).unwrap_err();
    assert_eq!(error.code(), "image_not_local");
    let pinned = Commit::new(image.manifest_digest.clone(), image.pinned());
    let error = store.images.commit(&pinned, &mut Cursor::new(layer()), &Silent).unwrap_err();
    assert_eq!(error.code(), "invalid_image_reference");
    let blob = store.path().join("blobs/sha256").join(image.layers[0].digest.hex());
    fs::remove_file(blob).unwrap();
    let error = store.images.commit(&commit(&image, "demo:v2"), &mut Cursor::new(layer()), &Silent).unwrap_err();
    assert_eq!(error.code(), "inconsistent_image");
    assert!(error.to_string().contains("pull the image again"), "{error}");
}

/// Ends with an error after the first half.
struct Breaks(Cursor<Vec<u8>>);

impl Read for Breaks {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.0.position() > self.0.get_ref().len() as u64 / 2 {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        self.0.read(buffer)
    }
}

/// Stops the work at the first event of a kind.
struct StopAt(&'static str, Cancellation);

impl Progress for StopAt {
    fn event(&self, event: Event<'_>) {
        if format!("{event:?}").starts_with(self.0) {
            self.1.cancel();
        }
    }
}

#[test]
fn commit_that_fails_or_is_stopped_leaves_nothing() {
    let (store, image) = with_base();
    let before = store.files();
    let attempt = |layer: &mut dyn Read| {
        let outcome = store.images.commit(&commit(&image, "demo:v2"), layer, &Silent);
        assert_eq!(store.files(), before);
        outcome.unwrap_err()
    };
    let whole = layer();
    assert_eq!(attempt(&mut Breaks(Cursor::new(whole.clone()))).code(), "layer_read_failed");
    for length in [whole.len() / 2, whole.len() - 4096, 0] {
        // Cut where an entry ends, it still lacks the mark of its end.
        assert_eq!(attempt(&mut Cursor::new(&whole[..length])).code(), "layer_truncated", "{length} bytes");
    }
    let mut damaged = whole.clone();
    damaged[100] ^= 0xff;
    assert_eq!(attempt(&mut Cursor::new(damaged)).code(), "layer_archive_invalid");

    for stage in ["Compressing", "Building", "Unpacked"] {
        let cancellation = Cancellation::new();
        let commit = Commit { cancellation: cancellation.clone(), ..commit(&image, "demo:v2") };
        let outcome = store.images.commit(&commit, &mut Cursor::new(layer()), &StopAt(stage, cancellation));
        assert!(matches!(outcome, Err(Error::Cancelled)), "{stage}");
        assert_eq!(store.files(), before, "{stage}");
    }
    assert!(store.images.find(&parse("demo:v2"), Platform::host()).unwrap().is_none());
}

#[test]
fn layer_larger_than_the_store_allows_is_cut_off() {
    let (store, image) = with_base();
    let before = store.files();
    let strict = store.images.clone().with_limits(Limits { layer_bytes: 1 << 20, ..Limits::default() });
    let mut endless = io::repeat(b'x');
    let error = strict.commit(&commit(&image, "demo:v2"), &mut endless, &Silent).unwrap_err();
    assert_eq!(error.code(), "layer_limit_exceeded");
    assert_eq!(store.files(), before);
}

#[test]
fn full_disk_is_called_so_and_leaves_nothing() {
    let (store, image) = with_base();
    let mount = tempfile::tempdir().unwrap();
    let options = ["-t", "tmpfs", "-o", "size=4m"];
    let Some(_mounted) = Mount::new(&options, Path::new("tmpfs"), mount.path()) else { return };
    run(tool("cp").arg("-a").arg(store.path()).arg(mount.path()));
    let images = microagent_image::ImageStore::open(mount.path().join("images"));
    let taken = images.disk_usage().unwrap();
    let noise = tempfile::tempdir().unwrap();
    fs::write(noise.path().join("noise"), common::noise(6 << 20, 9)).unwrap();
    let layer = tar(noise.path(), &[]);
    let error = images.commit(&commit(&image, "demo:v2"), &mut Cursor::new(layer), &Silent).unwrap_err();
    assert_eq!((error.code(), error.kind()), ("no_space", FaultKind::ResourceExhausted), "{error:?}");
    assert!(error.hint().unwrap().contains("image prune"), "{:?}", error.hint());
    let left = images.disk_usage().unwrap();
    assert_eq!((left.blobs, left.bases, left.reclaimable), (taken.blobs, taken.bases, taken.reclaimable));
}

/// What a child of this process is told: `STAGE DIRECTORY DIGEST LAYER`.
const CHILD: &str = "MICROAGENT_TEST_COMMIT_CRASH";

struct DieAt(String);

impl Progress for DieAt {
    fn event(&self, event: Event<'_>) {
        if format!("{event:?}").starts_with(&self.0) {
            std::process::abort();
        }
    }
}

#[test]
#[ignore = "the part of another test that runs in a process of its own, and dies"]
fn commits_and_dies() {
    let told = std::env::var(CHILD).unwrap();
    let [stage, directory, digest, layer] = told.split(' ').collect::<Vec<_>>().try_into().unwrap();
    let commit = Commit::new(digest.parse().unwrap(), parse("demo:v2"));
    let store = microagent_image::ImageStore::open(directory);
    drop(store.commit(&commit, &mut File::open(layer).unwrap(), &DieAt(stage.to_owned())));
}

#[test]
fn process_that_dies_while_it_commits_leaves_only_what_the_cleaner_removes() {
    let (store, image) = with_base();
    let before = store.files();
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), layer()).unwrap();
    for stage in ["Compressing", "Resolved", "Unpacked", "Building", "Built"] {
        let mut child = Command::new(std::env::current_exe().unwrap());
        child.args(["--exact", "commits_and_dies", "--ignored"]);
        let (directory, digest) = (store.path(), &image.manifest_digest);
        child.env(CHILD, format!("{stage} {} {digest} {}", directory.display(), file.path().display()));
        assert!(!child.output().unwrap().status.success(), "the child was to die at {stage}");
        store.images.collect_garbage().unwrap();
        store.images.prune(false, false, &|_| false).unwrap();
        assert_eq!(store.files(), before, "{stage}");
    }
    store.images.commit(&commit(&image, "demo:v2"), &mut File::open(file.path()).unwrap(), &Silent).unwrap();
}
