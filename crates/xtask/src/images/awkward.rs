//! Everything a layer may hold that is easily got wrong, each once, written entry by entry.
//!
//! The lower layer holds things; the upper one changes, replaces, hides and removes them. What must come of it is what
//! the image specification says, which tests take from another tool that unpacks the same image.

use std::fs::File;
use std::io::Write;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use tar::{EntryType, Header};

use super::Layout;
use crate::packages::BUSYBOX;
use crate::{Error, Result};

const TAG: &str = "1";
/// Enough entries that a directory needs many blocks, in any file system.
const CROWD: usize = 2_000;
/// The attribute of `cap_net_raw+ep`: revision 2 with the effective flag, then the two sets of bits.
const CAPABILITY: &[u8] = b"\x01\0\0\x02\0\x20\0\0\0\0\0\0\0\0\0\0\0\0\0\0";

pub(super) fn make(layout: &Layout, files: &Path) -> Result<()> {
    let (lower, upper) = (files.join("lower.tar"), files.join("upper.tar"));
    write(&lower, lower_layer)?;
    write(&upper, upper_layer)?;
    layout.start(TAG)?;
    for layer in [lower, upper] {
        layout.umoci(&["raw", "add-layer"], TAG, &[&layer.to_string_lossy()])?;
    }
    layout.umoci(&["config"], TAG, &["--config.env=PATH=/bin", "--config.cmd=sh"])
}

fn write(path: &Path, entries: fn(&mut Layer<File>) -> std::io::Result<()>) -> Result<()> {
    let file = File::create(path).map_err(Error::file("create", path))?;
    let mut layer = Layer { to: file, owner: 0 };
    entries(&mut layer).and_then(|()| layer.finish()).map_err(Error::file("write", path))
}

fn lower_layer(layer: &mut Layer<impl Write>) -> std::io::Result<()> {
    layer.directory("bin", 0o755)?;
    layer.file("bin/busybox", 0o755, &std::fs::read(BUSYBOX)?)?;
    layer.symlink("bin/sh", "busybox")?;
    layer.directory("tmp", 0o1777)?;

    layer.directory("modes", 0o755)?;
    for (name, mode) in [("setuid", 0o4755), ("setgid", 0o2755), ("sticky", 0o1644), ("nothing", 0), ("all", 0o7777)] {
        layer.file(&format!("modes/{name}"), mode, name.as_bytes())?;
    }
    layer.owned_by(1_234_567).file("modes/owned", 0o640, b"by someone far away")?;
    layer.owned_by(0).directory("modes/setgid-directory", 0o2775)?;

    layer.directory("attributes", 0o755)?;
    layer.attribute("user.text", b"one line\nand another")?;
    layer.file("attributes/text", 0o644, b"")?;
    layer.attribute("security.capability", CAPABILITY)?;
    layer.file("attributes/capability", 0o755, b"not a program")?;
    layer.attribute("user.of.a.directory", b"\0\xff")?;
    layer.directory("attributes/directory", 0o755)?;

    layer.directory("special", 0o755)?;
    layer.node("special/null", EntryType::Char, (1, 3))?;
    layer.node("special/disk", EntryType::Block, (259, 70_000))?;
    layer.node("special/fifo", EntryType::Fifo, (0, 0))?;

    layer.directory("links", 0o755)?;
    layer.file("links/first", 0o600, b"three names, one file")?;
    layer.hard_link("links/second", "links/first")?;
    layer.hard_link("links/third", "links/second")?;
    layer.symlink("links/absolute", "/etc/passwd")?;
    layer.symlink("links/dangling", "nowhere/at/all")?;
    layer.symlink("links/circle", "circle")?;
    layer.symlink("links/long", &"a/".repeat(1_500))?;

    layer.directory("names", 0o755)?;
    for name in [&b"names/not \xff\xfe utf-8"[..], b"names/new\nline", b"names/-rf", "names/\u{e9}t\u{e9}".as_bytes()] {
        layer.named(name, EntryType::Regular, 0o644, name)?;
    }
    layer.file(&format!("names/{}", "n".repeat(255)), 0o644, b"the longest name")?;
    let deep = "names/deep".to_owned() + &"/deep".repeat(40);
    for (end, _) in deep.match_indices('/').skip(1).chain([(deep.len(), "")]) {
        layer.directory(&deep[..end], 0o755)?;
    }

    layer.directory("sizes", 0o755)?;
    for size in [0, 1, 4_095, 4_096, 4_097, 1_000_000] {
        let content: Vec<u8> = (0_u32..size).map(|position| (position % 251) as u8).collect();
        layer.file(&format!("sizes/{size}"), 0o644, &content)?;
    }
    layer.file("sizes/zeros", 0o644, &vec![0; 8 << 20])?;

    layer.directory("crowd", 0o755)?;
    for number in 0..CROWD {
        layer.file(&format!("crowd/entry-{number:05}"), 0o644, b"")?;
    }

    for directory in ["opaque", "opaque/below", "removed", "removed/below", "kept", "replaced-by-file"] {
        layer.directory(directory, 0o755)?;
        layer.file(&format!("{directory}/lower"), 0o644, b"lower")?;
    }
    layer.file("replaced-by-directory", 0o644, b"lower")?;
    layer.symlink("replaced-by-real", "kept")?;
    // No entry for its directory: it comes into being with the file.
    layer.file("implied/by/its/file", 0o644, b"lower")
}

fn upper_layer(layer: &mut Layer<impl Write>) -> std::io::Result<()> {
    layer.file(".wh.removed", 0o644, b"")?;
    layer.file("kept/.wh.lower", 0o644, b"")?;
    layer.file("kept/upper", 0o644, b"upper")?;
    // The marker comes after an entry of its own layer, which it must not hide.
    layer.file("opaque/upper", 0o644, b"upper")?;
    layer.file("opaque/.wh..wh..opq", 0o644, b"")?;
    layer.file("replaced-by-file", 0o644, b"upper")?;
    layer.directory("replaced-by-directory", 0o700)?;
    layer.file("replaced-by-directory/upper", 0o644, b"upper")?;
    layer.directory("replaced-by-real", 0o711)?;
    layer.file("replaced-by-real/upper", 0o644, b"upper")?;
    // A link to a file of the layer below, and a change to one of several names of another.
    layer.hard_link("links/fourth", "sizes/4097")?;
    layer.file(".wh.implied", 0o644, b"")?;
    layer.directory("implied", 0o750)?;
    layer.file("links/second", 0o600, b"a file of its own now")
}

/// A tar archive in the making, in the POSIX format with GNU's and pax's extensions where they are needed.
struct Layer<W> {
    to: W,
    owner: u64,
}

impl<W: Write> Layer<W> {
    /// The owner and group of the entries that follow.
    fn owned_by(&mut self, owner: u64) -> &mut Self {
        self.owner = owner;
        self
    }

    fn file(&mut self, name: &str, mode: u32, content: &[u8]) -> std::io::Result<()> {
        self.named(name.as_bytes(), EntryType::Regular, mode, content)
    }

    fn directory(&mut self, name: &str, mode: u32) -> std::io::Result<()> {
        self.named(format!("{name}/").as_bytes(), EntryType::Directory, mode, b"")
    }

    fn symlink(&mut self, name: &str, target: &str) -> std::io::Result<()> {
        self.link(EntryType::Symlink, name, target)
    }

    fn hard_link(&mut self, name: &str, target: &str) -> std::io::Result<()> {
        self.link(EntryType::Link, name, target)
    }

    fn link(&mut self, kind: EntryType, name: &str, target: &str) -> std::io::Result<()> {
        self.pax(&[("linkpath", target.as_bytes())])?;
        self.named(name.as_bytes(), kind, 0o777, b"")
    }

    fn node(&mut self, name: &str, kind: EntryType, (major, minor): (u32, u32)) -> std::io::Result<()> {
        let mut header = self.header(kind, 0o666, 0);
        header.set_device_major(major)?;
        header.set_device_minor(minor)?;
        header.set_path(name)?;
        self.append(header, b"")
    }

    /// An extended attribute of the entry that follows.
    fn attribute(&mut self, name: &str, value: &[u8]) -> std::io::Result<()> {
        self.pax(&[(&format!("SCHILY.xattr.{name}"), value)])
    }

    fn named(&mut self, name: &[u8], kind: EntryType, mode: u32, content: &[u8]) -> std::io::Result<()> {
        let mut header = self.header(kind, mode, content.len() as u64);
        if header.set_path(std::ffi::OsStr::from_bytes(name)).is_err() {
            self.long_name(name)?;
        }
        self.append(header, content)
    }

    fn header(&self, kind: EntryType, mode: u32, size: u64) -> Header {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(self.owner);
        header.set_gid(self.owner);
        header.set_mtime(1_700_000_000);
        header.set_size(size);
        header
    }

    /// GNU's entry for a name that does not fit the header of the entry that follows.
    fn long_name(&mut self, name: &[u8]) -> std::io::Result<()> {
        let mut header = self.header(EntryType::GNULongName, 0o644, name.len() as u64 + 1);
        header.set_path("././@LongLink")?;
        self.append(header, &[name, b"\0"].concat())
    }

    /// An extended header for the entry that follows: each record is its own length in decimal, key and value.
    fn pax(&mut self, records: &[(&str, &[u8])]) -> std::io::Result<()> {
        let mut content = Vec::new();
        for (key, value) in records {
            let rest = key.len() + value.len() + 3;
            let digits = |length: usize| length.to_string().len();
            let length = rest + digits(rest + digits(rest));
            content.extend_from_slice(format!("{length} {key}=").as_bytes());
            content.extend_from_slice(value);
            content.push(b'\n');
        }
        let mut header = self.header(EntryType::XHeader, 0o644, content.len() as u64);
        header.set_path("pax")?;
        self.append(header, &content)
    }

    fn append(&mut self, mut header: Header, content: &[u8]) -> std::io::Result<()> {
        header.set_cksum();
        self.to.write_all(header.as_bytes())?;
        self.to.write_all(content)?;
        self.to.write_all(&vec![0; content.len().next_multiple_of(512) - content.len()])
    }

    fn finish(&mut self) -> std::io::Result<()> {
        self.to.write_all(&[0; 1024])
    }
}
