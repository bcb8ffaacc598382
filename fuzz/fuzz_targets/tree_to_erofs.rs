//! Well-formed archives of hostile content: whatever the layers say, the merged tree can be written or is refused.
#![no_main]

use std::fs::File;
use std::io::Write;

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use microagent_image::rootfs::{Limits, Tree, write_erofs};
use microagent_testing::{Item, TarWriter};

/// An entry whose name and target come from a small alphabet, so that entries meet.
#[derive(Arbitrary, Debug)]
struct Entry {
    names: Vec<u8>,
    targets: Vec<u8>,
    kind: u8,
    mode: u16,
    mtime: i64,
    device: (u32, u32),
    xattr: Option<Vec<u8>>,
    size: u16,
}

const NAMES: [&str; 12] =
    ["a", "b", ".", "..", ".wh.a", ".wh.b", ".wh..wh..opq", ".wh.", "", "\u{e9}", "link", "a-name-longer-than-most"];

fn path(names: &[u8]) -> String {
    names.iter().map(|name| NAMES[usize::from(*name) % NAMES.len()]).collect::<Vec<_>>().join("/")
}

impl Entry {
    fn item(&self) -> Item {
        let mut item = Item::new(b"01234567"[usize::from(self.kind) % 8], path(&self.names))
            .mode(u32::from(self.mode) & 0o7777)
            .mtime(self.mtime >> 20, self.mode.into());
        item.link = path(&self.targets).into_bytes();
        item.device = (self.device.0 & 0o7_777_777, self.device.1 & 0o7_777_777);
        item.data = if matches!(item.type_flag, b'0' | b'7') { vec![b'x'; self.size.into()] } else { Vec::new() };
        match &self.xattr {
            Some(value) => item.xattr("user.x", value),
            None => item,
        }
    }
}

fuzz_target!(|layers: Vec<Vec<Entry>>| {
    let mut tree = Tree::new(Limits::default());
    for layer in &layers {
        let items: Vec<Item> = layer.iter().map(Entry::item).collect();
        let mut file = memory_file("layer");
        file.write_all(&TarWriter::of(&items)).expect("memory for a layer");
        if tree.apply(&file).is_err() {
            return;
        }
    }
    let image = memory_file("image");
    let written = write_erofs(&tree, &image).expect("a merged tree of this size can be written");
    assert_eq!(written.bytes, image.metadata().expect("facts of a file in memory").len());
    assert_eq!(written.bytes % 4096, 0);
});

fn memory_file(name: &str) -> File {
    let flags = rustix::fs::MemfdFlags::CLOEXEC;
    rustix::fs::memfd_create(name, flags).expect("a file in memory").into()
}
