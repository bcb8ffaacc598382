//! Layers made to do harm are refused with an error that names what is wrong, or are contained.

mod rootfs_support;

use std::fs::File;
use std::io::Write;

use flate2::write::GzEncoder;
use microagent_image::rootfs::{Error, Limits, Tree, decompress, write_erofs};
use microagent_protocol::{Fault, FaultKind};
use rootfs_support::{Item, TarWriter, file_of, merge, pattern, pax_record};

fn refuse(layer: Vec<u8>) -> Error {
    merge(&[layer]).expect_err("the layer should be refused")
}

fn refuse_item(item: Item) -> Error {
    refuse(TarWriter::of(&[item]))
}

#[test]
fn names_that_leave_the_image_are_refused() {
    for name in ["../f", "a/../../f", "/../f", "a/.."] {
        assert_eq!(refuse_item(Item::file(name, "")).code(), "layer_entry_invalid", "{name}");
    }
    assert_eq!(refuse_item(Item::hard_link("l", "../../etc/shadow")).code(), "layer_link_invalid");
}

#[test]
fn absolute_names_and_links_stay_inside() {
    let items = [Item::file("/etc/passwd", "x"), Item::hard_link("/l", "/etc/passwd"), Item::symlink("s", "/etc")];
    let tree = merge(&[TarWriter::of(&items)]).unwrap();
    assert_eq!((tree.summary().files, tree.summary().hard_links, tree.summary().directories), (1, 1, 2));
}

#[test]
fn names_no_filesystem_holds_are_refused() {
    let mut nul = TarWriter::default();
    nul.pax(&pax_record(b"path", b"a\0b"));
    nul.item(&Item::file("x", ""));
    assert_eq!(refuse(nul.finish()).code(), "layer_entry_invalid");
    assert_eq!(refuse_item(Item::file("n".repeat(256), "")).code(), "layer_limit_exceeded");
    assert_eq!(refuse_item(Item::file("d/".repeat(1000) + "f", "")).code(), "layer_limit_exceeded");
}

#[test]
fn a_terabyte_claimed_by_a_sparse_file_is_refused_by_name() {
    let mut writer = TarWriter::default();
    let claim = [pax_record(b"GNU.sparse.size", b"1099511627776"), pax_record(b"GNU.sparse.map", b"0,0")];
    writer.pax(&claim.concat());
    writer.item(&Item::file("f", ""));
    let error = refuse(writer.finish());
    assert_eq!(error.to_string(), "the layer exceeds the limit `total_bytes` of 68719476736: it has 1099511627776");
    assert_eq!(
        (error.code(), error.kind(), error.retryable()),
        ("layer_limit_exceeded", FaultKind::ResourceExhausted, false)
    );
}

#[test]
fn a_layer_of_a_million_entries_is_refused_as_it_comes_from_a_registry() {
    const ENTRIES: usize = 1_000_000;
    let header = TarWriter::of(&[Item::file("f", "")])[..512].to_vec();
    let many = header.repeat(1000);
    let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::fast());
    for _ in 0..ENTRIES / 1000 {
        encoder.write_all(&many).unwrap();
    }
    let compressed = encoder.finish().unwrap();
    let layer = tempfile::tempfile().unwrap();
    decompress(&compressed[..], &layer, &Limits::default()).unwrap();
    let error = Tree::new(Limits::default()).apply(&layer).unwrap_err();
    assert_eq!(error.to_string(), "the layer exceeds the limit `entries` of 800000: it has 800001");
}

#[test]
fn implied_directories_count_as_entries() {
    let mut writer = TarWriter::default();
    for number in 0..20_000 {
        writer.item(&Item::file(format!("{number}/{}f", "d/".repeat(45)), ""));
    }
    assert!(matches!(refuse(writer.finish()), Error::Limit { what: "entries", .. }));
}

#[test]
fn half_a_million_files_are_not_too_many() {
    const FILES: u64 = 500_000;
    let mut writer = TarWriter::default();
    for number in 0..FILES {
        writer.header(&Item::file(format!("usr/share/{}/{number:09}", number % 1000), ""), 0);
    }
    let tree = merge(&[writer.finish()]).unwrap();
    assert_eq!(tree.summary().files, FILES);
    write_erofs(&tree, &tempfile::tempfile().unwrap()).unwrap();
}

#[test]
fn attributes_that_together_fill_the_memory_are_refused() {
    let mut writer = TarWriter::default();
    for number in 0..5000 {
        writer.item(&Item::file(number.to_string(), "").xattr("user.a", pattern(60_000)));
    }
    assert!(matches!(refuse(writer.finish()), Error::Limit { what: "metadata_bytes", .. }));
}

#[test]
fn a_giant_extended_header_is_refused_before_it_is_read() {
    let mut writer = TarWriter::default();
    writer.pax(&pax_record(b"comment", &vec![b'c'; 2 << 20]));
    writer.item(&Item::file("f", ""));
    assert!(matches!(refuse(writer.finish()), Error::Limit { what: "pax_bytes", limit: 1_048_576, .. }));
}

#[test]
fn loops_of_hard_links_end() {
    let items = [Item::hard_link("a", "b"), Item::hard_link("b", "c"), Item::hard_link("c", "a")];
    assert_eq!(refuse(TarWriter::of(&items)).code(), "layer_link_invalid");
}

#[test]
fn duplicate_entries_leave_one_file() {
    let items = [Item::file("f", "old"), Item::directory("f"), Item::file("f/g", ""), Item::file("f", "new")];
    let summary = merge(&[TarWriter::of(&items)]).unwrap().summary();
    assert_eq!((summary.files, summary.directories, summary.bytes), (1, 1, 3));
}

#[test]
fn truncated_and_corrupt_layers_are_refused_and_say_to_pull_again() {
    let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(&TarWriter::of(&[Item::file("f", pattern(100_000))])).unwrap();
    let whole = encoder.finish().unwrap();
    let mut corrupt = whole.clone();
    corrupt[whole.len() / 2] ^= 0x10;
    for (input, code) in [(&whole[..whole.len() / 2], "layer_truncated"), (&corrupt[..], "layer_corrupt")] {
        let error = decompress(input, &tempfile::tempfile().unwrap(), &Limits::default()).unwrap_err();
        assert_eq!((error.code(), error.kind()), (code, FaultKind::Invalid));
        assert!(error.hint().unwrap().contains("pull the image again"));
    }
    let archive = TarWriter::of(&[Item::file("f", pattern(100_000))]);
    assert_eq!(refuse(archive[..5000].to_vec()).code(), "layer_truncated");
}

#[test]
fn names_are_shown_on_one_line_without_control_characters() {
    let mut writer = TarWriter::default();
    writer.pax(&pax_record(b"path", b"evil\n\x1b[31m/.."));
    writer.item(&Item::file("x", ""));
    let text = refuse(writer.finish()).to_string();
    assert_eq!(text, r"entry `evil\n\u{1b}[31m/..` of the layer is invalid: its name contains `..`");
}

#[test]
fn a_layer_may_be_unlinked_once_it_is_applied() {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("layer");
    std::fs::write(&path, TarWriter::of(&[Item::file("f", "data")])).unwrap();
    let mut tree = Tree::new(Limits::default());
    tree.apply(&File::open(&path).unwrap()).unwrap();
    std::fs::remove_file(&path).unwrap();
    write_erofs(&tree, &file_of(b"")).unwrap();
}
