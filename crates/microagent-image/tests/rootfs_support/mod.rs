//! What the root filesystem tests share: a nasty image, mounts, and a listing of a directory down to the last attribute.

#![allow(dead_code, reason = "each test binary uses its own part")]

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use microagent_image::rootfs::{Error, Limits, Tree};
use sha2::{Digest, Sha256};

pub(crate) use microagent_testing::{Item, TarWriter, pax_record};

/// Runs a program that the tests need and fails with its name if it is missing, or with what it said if it failed.
pub(crate) fn run(program: &str, arguments: &[&OsStr]) -> Output {
    let output = Command::new(program)
        .args(arguments)
        .output()
        .unwrap_or_else(|error| panic!("these tests need `{program}`, which cannot be run: {error}"));
    let said = [&output.stdout[..], &output.stderr].concat();
    assert!(output.status.success(), "`{program}` {}: {}", output.status, String::from_utf8_lossy(&said));
    output
}

pub(crate) fn file_of(bytes: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file
}

pub(crate) fn merge(layers: &[Vec<u8>]) -> Result<Tree, Error> {
    let mut tree = Tree::new(Limits::default());
    for layer in layers {
        tree.apply(&file_of(layer))?;
    }
    Ok(tree)
}

/// Two layers with every kind of file and oddity that other unpackers also get right, so that they can be compared with.
pub(crate) fn nasty_layers() -> [Vec<u8>; 2] {
    let acl = [
        &2u32.to_le_bytes()[..],
        &[1, 0, 6, 0, 255, 255, 255, 255],
        &[2, 0, 5, 0, 0xe8, 3, 0, 0],
        &[4, 0, 4, 0, 255, 255, 255, 255],
        &[0x10, 0, 5, 0, 255, 255, 255, 255],
        &[0x20, 0, 4, 0, 255, 255, 255, 255],
    ]
    .concat();
    let capability = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let mut lower = TarWriter::default();
    for item in [
        Item::directory("./").mode(0o755).mtime(1_000_000_000, 1),
        Item::directory("many"),
        Item::file("setuid", "x").mode(0o4755),
        Item::file("setgid", "x").mode(0o2755).owner(7, 8),
        Item::directory("sticky").mode(0o1777),
        Item::file("empty", "").mode(0),
        Item::file("owner", "x").owner(4_000_000_000, 3_999_999_999),
        Item::file("before-1970", "x").mtime(-315_619_200, 0),
        Item::file("after-2100", "x").mtime(4_102_444_800, 999_999_999),
        Item::file("half-second-before-1970", "x").mtime(-1, 500_000_000),
        Item::device(b'3', "char", 1, 3).mode(0o666),
        Item::device(b'4', "block", 300, 70_000).mode(0o660),
        Item::new(b'6', "fifo").mode(0o600),
        Item::symlink("link", "target"),
        Item::symlink("long-link", "t".repeat(4000)),
        Item::file(b"not-utf-8-\xff\xfe", "x"),
        Item::file("new\nline", "x"),
        Item::file("n".repeat(255), "long name"),
        Item::file("xattrs", "x").xattr("user.binary", b"\0\n=\xff").xattr("user.empty", "").xattr("trusted.t", "v"),
        Item::file("labelled", "x").xattr("security.label", "label").xattr("security.capability", capability),
        Item::file("many-xattrs", "x").xattr("user.large", vec![b'v'; 2500]).xattr("security.other", vec![b'w'; 700]),
        Item::file("capability", "x").mode(0o755).xattr("security.capability", capability),
        Item::file("acl", "x").mode(0o654).xattr("system.posix_acl_access", acl),
        Item::file("first-name", "shared").mtime(5, 6),
        Item::hard_link("second-name", "first-name"),
        Item::file("replaced-by-directory", "x"),
        Item::file("replaced-by-file/below", "x"),
        Item::file("whited-out/gone", "x"),
        Item::file("whited-out/kept", "x"),
        Item::directory("opaque").mode(0o700),
        Item::file("opaque/old/deep", "x"),
        Item::file("implied/parents/of/this", "x"),
    ] {
        lower.item(&item);
    }
    for size in [1, 2047, 2048, 2049, 4095, 4096, 4097, 6000, 8192, 300_000, 3 << 20] {
        lower.item(&Item::file(format!("size-{size}"), pattern(size)));
    }
    for number in 0..3000 {
        lower.item(&Item::file(format!("many/{number:0>40}"), number.to_string()));
    }
    add_sparse(&mut lower, "sparse", 200_000_000, &[(0, 10), (5000, 8192), (100_000_001, 1), (199_999_990, 10)]);
    add_sparse(&mut lower, "hole", 100_000, &[]);
    let upper = [
        Item::file("whited-out/.wh.gone", ""),
        Item::file("opaque/new", "x"),
        Item::file("opaque/.wh..wh..opq", ""),
        Item::directory("opaque").mode(0o711).owner(3, 4).mtime(77, 0),
        Item::directory("replaced-by-directory"),
        Item::file("replaced-by-directory/x", "x"),
        Item::file(".wh.replaced-by-file", ""),
        Item::file("replaced-by-file", "now a file"),
        Item::file("size-4096", "smaller now"),
        Item::hard_link("third-name", "second-name"),
        Item::directory("sticky").mode(0o1770).xattr("user.directory", "d"),
    ];
    [lower.finish(), TarWriter::of(&upper)]
}

/// Bytes that no two places of a file have in common by chance.
pub(crate) fn pattern(size: usize) -> Vec<u8> {
    (0..size.div_ceil(4) as u32).flat_map(|word| word.wrapping_mul(2_654_435_761).to_le_bytes()).take(size).collect()
}

/// The bytes of the piece of a sparse file that starts at `start`.
fn piece(start: u64, length: usize) -> Vec<u8> {
    pattern(start as usize % 97 + length)[..length].to_vec()
}

/// The digest of a file that [`add_sparse`] wrote.
pub(crate) fn digest_of_pieces(pieces: &[(u64, usize)], size: usize) -> Vec<u8> {
    let mut bytes = vec![0; size];
    for (start, length) in pieces {
        bytes[*start as usize..][..*length].copy_from_slice(&piece(*start, *length));
    }
    digest(&bytes)
}

pub(crate) fn digest(bytes: &[u8]) -> Vec<u8> {
    Sha256::digest(bytes).to_vec()
}

/// Writes a file of `size` bytes that has data only in `pieces`, as GNU tar does today.
pub(crate) fn add_sparse(writer: &mut TarWriter, path: &str, size: u64, pieces: &[(u64, usize)]) {
    let data: Vec<u8> = pieces.iter().flat_map(|(start, length)| piece(*start, *length)).collect();
    let end = [(size, 0)];
    let all = || pieces.iter().chain(&end);
    let mut map = format!("{}\n", all().count());
    map.extend(all().map(|(start, length)| format!("{start}\n{length}\n")));
    let mut body = map.into_bytes();
    body.resize(body.len().next_multiple_of(512), 0);
    body.extend(data);
    let records = [
        pax_record(b"GNU.sparse.major", b"1"),
        pax_record(b"GNU.sparse.minor", b"0"),
        pax_record(b"GNU.sparse.name", path.as_bytes()),
        pax_record(b"GNU.sparse.realsize", size.to_string().as_bytes()),
    ];
    writer.pax(&records.concat());
    writer.item(&Item::file(format!("GNUSparseFile.0/{path}"), body));
}

/// Everything `lstat`, `readlink`, `getxattr` and `read` say about one path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Facts {
    pub(crate) kind: &'static str,
    pub(crate) mode: u32,
    pub(crate) owner: (u32, u32),
    pub(crate) mtime: (i64, i64),
    pub(crate) links: u64,
    pub(crate) device: u64,
    pub(crate) size: u64,
    /// The digest of a file, the target of a symbolic link.
    pub(crate) content: Vec<u8>,
    pub(crate) xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    /// The first path, in byte order, that has the same inode.
    pub(crate) first_name: PathBuf,
}

/// Lists a directory and all below it.
pub(crate) fn list(root: &Path) -> BTreeMap<PathBuf, Facts> {
    let mut listing = BTreeMap::new();
    let mut stack = vec![PathBuf::new()];
    while let Some(path) = stack.pop() {
        let facts = facts(root, &path);
        if facts.kind == "directory" {
            for entry in fs::read_dir(root.join(&path)).unwrap() {
                stack.push(path.join(entry.unwrap().file_name()));
            }
        }
        listing.insert(path, facts);
    }
    let mut first_names = BTreeMap::new();
    for (path, facts) in &mut listing {
        let inode = fs::symlink_metadata(root.join(path)).unwrap().ino();
        facts.first_name.clone_from(first_names.entry(inode).or_insert_with(|| path.clone()));
    }
    listing
}

fn facts(root: &Path, path: &Path) -> Facts {
    let full = if path.as_os_str().is_empty() { root.to_owned() } else { root.join(path) };
    let metadata = fs::symlink_metadata(&full).unwrap();
    let file_type = metadata.file_type();
    let (kind, content) = if file_type.is_dir() {
        ("directory", Vec::new())
    } else if file_type.is_symlink() {
        ("symlink", fs::read_link(&full).unwrap().into_os_string().into_vec())
    } else if file_type.is_char_device() {
        ("char device", Vec::new())
    } else if file_type.is_block_device() {
        ("block device", Vec::new())
    } else if file_type.is_fifo() {
        ("fifo", Vec::new())
    } else {
        let mut hash = Sha256::new();
        std::io::copy(&mut File::open(&full).unwrap(), &mut HashWriter(&mut hash)).unwrap();
        ("file", hash.finalize().to_vec())
    };
    Facts {
        kind,
        mode: metadata.mode() & 0o7777,
        owner: (metadata.uid(), metadata.gid()),
        mtime: (metadata.mtime(), metadata.mtime_nsec()),
        links: if kind == "directory" { 0 } else { metadata.nlink() },
        device: metadata.rdev(),
        size: if kind == "directory" { 0 } else { metadata.size() },
        content,
        xattrs: xattrs(&full),
        first_name: PathBuf::new(),
    }
}

struct HashWriter<'h>(&'h mut Sha256);

impl Write for HashWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn xattrs(path: &Path) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut names = vec![0; 64 << 10];
    let length = rustix::fs::llistxattr(path, &mut names[..]).unwrap();
    let names = names[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty());
    names
        .map(|name| {
            let mut value = vec![0; 64 << 10];
            let length = rustix::fs::lgetxattr(path, OsStr::from_bytes(name), &mut value[..]).unwrap();
            value.truncate(length);
            (name.to_vec(), value)
        })
        .collect()
}

/// Fails with the first few differences between two listings.
pub(crate) fn assert_same(left: &BTreeMap<PathBuf, Facts>, right: &BTreeMap<PathBuf, Facts>) {
    let paths: std::collections::BTreeSet<_> = left.keys().chain(right.keys()).collect();
    let differences: Vec<String> = paths
        .into_iter()
        .filter(|path| left.get(*path) != right.get(*path))
        .map(|path| format!("{}\n  {:?}\n  {:?}", path.display(), left.get(path), right.get(path)))
        .take(5)
        .collect();
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

/// Mounting, and unpacking owners and devices for comparison, takes privileges; without them these tests say so and stop.
pub(crate) fn can_mount() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        eprintln!("not compared as mounted: only root can mount");
    }
    root
}

/// An image mounted read-only until dropped.
pub(crate) struct Mount(PathBuf);

impl Mount {
    pub(crate) fn new(filesystem: &str, image: &Path, directory: &Path) -> Self {
        fs::create_dir(directory).unwrap();
        let options = ["-t", filesystem, "-o", "loop,ro"].map(OsStr::new);
        run("mount", &[&options[..], &[image.as_os_str(), directory.as_os_str()]].concat());
        Self::adopt(directory)
    }

    /// Takes over what is mounted at `directory`.
    pub(crate) fn adopt(directory: &Path) -> Self {
        Mount(directory.to_owned())
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

/// What `umoci` makes of the nasty layers, but for what it is known to lose. The times of directories that no entry
/// describes and of the root it leaves at the moment of unpacking, and an image is to be the same whenever it is built.
pub(crate) fn list_nasty_by_umoci(layers: &[Vec<u8>], directory: &Path) -> BTreeMap<PathBuf, Facts> {
    let mut listing = list(&umoci_unpack(layers, directory));
    for implied in ["implied", "implied/parents", "implied/parents/of", "whited-out"] {
        listing.get_mut(Path::new(implied)).unwrap().mtime = (0, 0);
    }
    listing.get_mut(Path::new("")).unwrap().mtime = (1_000_000_000, 1);
    // To the library it reads archives with, an attribute without a value is one taken back.
    listing.get_mut(Path::new("xattrs")).unwrap().xattrs.insert(b"user.empty".to_vec(), Vec::new());
    listing
}

/// Unpacks layers as `umoci` does and returns the directory of the root filesystem.
fn umoci_unpack(layers: &[Vec<u8>], directory: &Path) -> PathBuf {
    let layout = directory.join("layout");
    let blobs = layout.join("blobs/sha256");
    fs::create_dir_all(&blobs).unwrap();
    let put = |bytes: &[u8]| {
        let digest = microagent_image::Digest::of(bytes);
        fs::write(blobs.join(digest.hex()), bytes).unwrap();
        digest.to_string()
    };
    let digests: Vec<String> = layers.iter().map(|layer| put(layer)).collect();
    let config = serde_json::json!({
        "architecture": "amd64", "os": "linux", "config": {},
        "rootfs": { "type": "layers", "diff_ids": digests },
    });
    let config = config.to_string();
    let descriptors: Vec<_> = layers
        .iter()
        .zip(&digests)
        .map(|(layer, digest)| {
            serde_json::json!({
                "mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": digest, "size": layer.len(),
            })
        })
        .collect();
    let manifest = serde_json::json!({
        "schemaVersion": 2,
        "config": {
            "mediaType": "application/vnd.oci.image.config.v1+json",
            "digest": put(config.as_bytes()), "size": config.len(),
        },
        "layers": descriptors,
    });
    let manifest = manifest.to_string();
    let index = serde_json::json!({
        "schemaVersion": 2,
        "manifests": [{
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "digest": put(manifest.as_bytes()), "size": manifest.len(),
            "annotations": { "org.opencontainers.image.ref.name": "latest" },
        }],
    });
    fs::write(layout.join("index.json"), index.to_string()).unwrap();
    fs::write(layout.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
    let bundle = directory.join("bundle");
    let image = format!("{}:latest", layout.display());
    run("umoci", &["unpack", "--image", &image, bundle.to_str().unwrap()].map(OsStr::new));
    bundle.join("rootfs")
}
