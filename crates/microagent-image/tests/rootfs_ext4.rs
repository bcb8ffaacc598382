//! ext4 images and blank disks pass `e2fsck` and hold what they should.

mod rootfs_support;

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use microagent_image::rootfs::{Error, format_blank_ext4, format_with_mke2fs, write_ext4, write_ext4_observed};
use proptest::prelude::*;
use rootfs_support::{
    Item, Mount, TarWriter, add_sparse, assert_same, can_mount, digest, digest_of_pieces, list, list_nasty_by_umoci,
    merge, nasty_layers, pattern, run,
};

const GIB: u64 = 1 << 30;

fn check(image: &Path) {
    run("e2fsck", &[OsStr::new("-fn"), image.as_os_str()]);
}

fn features(image: &Path) -> String {
    let output = run("dumpe2fs", &[OsStr::new("-h"), image.as_os_str()]);
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_nasty_image_mounts_as_what_another_unpacker_makes_of_its_layers() {
    let scratch = tempfile::tempdir().unwrap();
    let image = scratch.path().join("image");
    let layers = nasty_layers();
    let written = write_ext4(&merge(&layers).unwrap(), &image, None).unwrap();
    assert_eq!((written.bytes, written.inexact_times), (fs::metadata(&image).unwrap().len(), 0));
    check(&image);
    if can_mount() {
        let expected = list_nasty_by_umoci(&layers, scratch.path());
        let mounted = scratch.path().join("mounted");
        let _mount = Mount::new("ext4", &image, &mounted);
        assert_same(&list(&mounted), &expected);
    }
}

#[test]
fn times_ext4_cannot_hold_are_counted() {
    let scratch = tempfile::tempdir().unwrap();
    let items = [Item::file("fine", "").mtime(15_032_385_535, 1), Item::file("late", "").mtime(15_032_385_536, 0)];
    let written = write_ext4(&merge(&[TarWriter::of(&items)]).unwrap(), &scratch.path().join("image"), None).unwrap();
    assert_eq!(written.inexact_times, 1);
}

#[test]
fn a_file_in_thousands_of_pieces_and_one_larger_than_a_group_are_read_back() {
    const PIECES: usize = 5000;
    let pieces: Vec<(u64, usize)> = (0..PIECES).map(|piece| (piece as u64 * 10_000, 100)).collect();
    let mut writer = TarWriter::default();
    add_sparse(&mut writer, "pieces", 60_000_000, &pieces);
    writer.item(&Item::file("large", pattern(200 << 20)));
    let layers = [writer.finish()];
    let scratch = tempfile::tempdir().unwrap();
    let image = scratch.path().join("image");
    write_ext4(&merge(&layers).unwrap(), &image, None).unwrap();
    check(&image);
    for (file, expected) in [("pieces", digest_of_pieces(&pieces, 60_000_000)), ("large", digest(&pattern(200 << 20)))]
    {
        let copy = scratch.path().join(file);
        let command = format!("dump {file} {}", copy.display());
        run("debugfs", &[OsStr::new("-R"), OsStr::new(&command), image.as_os_str()]);
        assert_eq!(digest(&fs::read(&copy).unwrap()), expected, "{file}");
    }
}

#[test]
fn thousands_of_files_share_their_attributes() {
    let label =
        |number: usize| Item::file(format!("{number}"), "").xattr("security.selinux", "label").xattr("user.a", "b");
    let items: Vec<Item> = (0..3000).map(label).collect();
    let scratch = tempfile::tempdir().unwrap();
    let image = scratch.path().join("image");
    write_ext4(&merge(&[TarWriter::of(&items)]).unwrap(), &image, None).unwrap();
    check(&image);
    let command = [OsStr::new("-R"), OsStr::new("ea_get 2999 security.selinux"), image.as_os_str()];
    assert!(String::from_utf8(run("debugfs", &command).stdout).unwrap().contains("label"));
}

#[test]
fn an_image_is_as_large_as_asked_or_the_error_says_what_it_needs() {
    let scratch = tempfile::tempdir().unwrap();
    let image = scratch.path().join("image");
    let tree = merge(&[TarWriter::of(&[Item::file("f", pattern(20 << 20))])]).unwrap();
    for size in [100 << 20, GIB, GIB + (5 << 20), 3 * GIB + 12_345] {
        let written = write_ext4(&tree, &image, Some(size)).unwrap();
        assert_eq!((written.bytes, fs::metadata(&image).unwrap().len()), (size, size));
        check(&image);
    }
    let error = write_ext4(&tree, &image, Some(10 << 20)).unwrap_err();
    let Error::TooSmall { needed, .. } = error else {
        panic!("{error:?}");
    };
    write_ext4(&tree, &image, Some(needed)).unwrap();
    check(&image);
}

#[test]
fn a_tree_of_many_empty_files_gets_enough_inodes() {
    let mut writer = TarWriter::default();
    for number in 0..40_000 {
        writer.item(&Item::file(format!("{}/{number}", number % 7), ""));
    }
    let scratch = tempfile::tempdir().unwrap();
    let image = scratch.path().join("image");
    write_ext4(&merge(&[writer.finish()]).unwrap(), &image, None).unwrap();
    check(&image);
}

#[test]
fn what_ext4_cannot_hold_is_refused_by_name() {
    let scratch = tempfile::tempdir().unwrap();
    let image = scratch.path().join("image");
    for item in [
        Item::file("too-much", "").xattr("user.a", vec![0; 5000]),
        Item::file("no-acl", "").xattr("system.posix_acl_access", "?"),
    ] {
        let path = String::from_utf8(item.path.clone()).unwrap();
        let error = write_ext4(&merge(&[TarWriter::of(&[item])]).unwrap(), &image, None).unwrap_err();
        assert!(matches!(&error, Error::Unrepresentable { path: named, .. } if *named == path), "{error:?}");
    }
}

#[test]
fn an_observer_can_stop_the_writing() {
    let tree = merge(&[TarWriter::of(&[Item::file("f", pattern(1 << 20))])]).unwrap();
    let scratch = tempfile::tempdir().unwrap();
    let stopped =
        write_ext4_observed(&tree, &scratch.path().join("image"), None, &mut |_| std::ops::ControlFlow::Break(()));
    assert!(matches!(stopped, Err(Error::Cancelled)));
}

#[test]
fn a_blank_disk_of_any_size_is_clean_and_nearly_empty() {
    let scratch = tempfile::tempdir().unwrap();
    let disk = scratch.path().join("disk");
    for (size, allocated) in [(16 << 20, 64 << 10), (GIB, 128 << 10), (10 * GIB, 256 << 10), (64 * GIB, 1 << 20)] {
        format_blank_ext4(&disk, size).unwrap();
        check(&disk);
        let metadata = fs::metadata(&disk).unwrap();
        assert_eq!(metadata.len(), size);
        assert!(metadata.blocks() * 512 <= allocated, "{} of {size} bytes are allocated", metadata.blocks() * 512);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn a_blank_disk_of_odd_size_is_clean(size in (16u64 << 20)..40 * GIB) {
        let scratch = tempfile::tempdir().unwrap();
        let disk = scratch.path().join("disk");
        format_blank_ext4(&disk, size).unwrap();
        check(&disk);
    }
}

#[test]
fn a_blank_disk_has_what_a_workspace_relies_on() {
    let scratch = tempfile::tempdir().unwrap();
    let disk = scratch.path().join("disk");
    format_blank_ext4(&disk, 10 * GIB).unwrap();
    let header = features(&disk);
    for feature in ["has_journal", "metadata_csum", "ext_attr", "extent", "dir_index"] {
        assert!(header.contains(feature), "{header}");
    }
    assert!(header.lines().any(|line| line.starts_with("Inode size:") && line.ends_with("256")), "{header}");
    assert!(header.lines().any(|line| line.starts_with("Reserved block count:") && line.ends_with(" 0")), "{header}");
}

#[test]
fn no_two_blank_disks_have_the_same_identity() {
    let scratch = tempfile::tempdir().unwrap();
    let identities = ["one", "two"].map(|name| {
        let disk = scratch.path().join(name);
        format_blank_ext4(&disk, GIB).unwrap();
        let header = features(&disk);
        header
            .lines()
            .filter(|line| line.contains("UUID") || line.contains("Hash Seed"))
            .map(str::to_owned)
            .collect::<Vec<_>>()
    });
    assert_eq!(identities[0].len(), 2);
    assert!(identities[0].iter().zip(&identities[1]).all(|(one, two)| one != two), "{identities:?}");
}

#[test]
fn a_blank_disk_replaces_what_was_there_before() {
    let scratch = tempfile::tempdir().unwrap();
    let disk = scratch.path().join("disk");
    fs::write(&disk, pattern(40 << 20)).unwrap();
    format_blank_ext4(&disk, 32 << 20).unwrap();
    check(&disk);
}

#[test]
fn a_blank_disk_takes_files_and_stays_clean() {
    if !can_mount() {
        return;
    }
    let scratch = tempfile::tempdir().unwrap();
    let (disk, mounted) = (scratch.path().join("disk"), scratch.path().join("mounted"));
    // More groups than one bundle, so that bitmaps Linux computed itself are put to use.
    format_blank_ext4(&disk, 10 * GIB).unwrap();
    {
        fs::create_dir(&mounted).unwrap();
        run("mount", &["-o", "loop", disk.to_str().unwrap(), mounted.to_str().unwrap()].map(OsStr::new));
        let _mount = Mount::adopt(&mounted);
        for number in 0..40 {
            fs::create_dir(mounted.join(number.to_string())).unwrap();
            fs::write(mounted.join(format!("{number}/file")), pattern(8 << 20)).unwrap();
        }
    }
    check(&disk);
}

#[test]
fn impossible_sizes_are_refused_with_the_bound() {
    let scratch = tempfile::tempdir().unwrap();
    let disk = scratch.path().join("disk");
    let small = format_blank_ext4(&disk, 1 << 20).unwrap_err();
    assert!(matches!(small, Error::TooSmall { needed: 16_777_216, .. }), "{small:?}");
    assert!(matches!(format_blank_ext4(&disk, 1 << 50), Err(Error::TooLarge { .. })));
    assert!(!disk.exists());
}

#[test]
fn mke2fs_makes_the_same_kind_of_disk_and_its_complaints_are_passed_on() {
    let scratch = tempfile::tempdir().unwrap();
    let disk = scratch.path().join("disk");
    format_with_mke2fs(Path::new("mke2fs"), &disk, GIB).unwrap();
    check(&disk);
    assert_eq!(fs::metadata(&disk).unwrap().len(), GIB);
    let error = format_with_mke2fs(Path::new("mke2fs"), &disk, 4096).unwrap_err();
    assert!(matches!(&error, Error::Mke2fsFailed { stderr, .. } if stderr.contains("Not enough space")), "{error:?}");
    let error = format_with_mke2fs(Path::new("/no/such/mke2fs"), &disk, GIB).unwrap_err();
    assert!(matches!(error, Error::RunMke2fs { .. }), "{error:?}");
}
