//! EROFS images hold exactly what the layers say, as the format's own tools and the kernel see them.

mod rootfs_support;

use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::Path;

use microagent_image::rootfs::{Error, Limits, Tree, write_erofs, write_erofs_observed};
use proptest::prelude::*;
use rootfs_support::{
    Item, Mount, TarWriter, assert_same, can_mount, file_of, list, list_nasty_by_umoci, merge, nasty_layers, pattern,
    run,
};

fn write(tree: &Tree, path: &Path) {
    let written = write_erofs(tree, &File::create_new(path).unwrap()).unwrap();
    assert_eq!(written.bytes, fs::metadata(path).unwrap().len());
}

fn check(image: &Path) {
    run("fsck.erofs", &[image.as_os_str()]);
}

fn extract(image: &Path, directory: &Path) {
    let option = [OsStr::new("--extract="), directory.as_os_str()].join(OsStr::new(""));
    run("fsck.erofs", &[&option, OsStr::new("--preserve-perms"), image.as_os_str()]);
}

#[test]
fn a_nasty_image_mounts_as_what_another_unpacker_makes_of_its_layers() {
    let scratch = tempfile::tempdir().unwrap();
    let image = scratch.path().join("image");
    let layers = nasty_layers();
    write(&merge(&layers).unwrap(), &image);
    check(&image);
    if can_mount() {
        let expected = list_nasty_by_umoci(&layers, scratch.path());
        let mounted = scratch.path().join("mounted");
        let _mount = Mount::new("erofs", &image, &mounted);
        assert_same(&list(&mounted), &expected);
    }
}

#[test]
fn holes_take_no_space_in_the_image() {
    let scratch = tempfile::tempdir().unwrap();
    let image = scratch.path().join("image");
    let tree = merge(&nasty_layers()).unwrap();
    write(&tree, &image);
    let summary = tree.summary();
    assert!(summary.bytes > 200_000_000 && summary.sparse_files == 2, "{summary:?}");
    let length = fs::metadata(&image).unwrap().len();
    assert!(length < 6 << 20, "{length} bytes for {} bytes of data", summary.data_bytes);
}

#[test]
fn the_same_layers_give_the_same_bytes() {
    let scratch = tempfile::tempdir().unwrap();
    let images = ["one", "two"].map(|name| scratch.path().join(name));
    for image in &images {
        write(&merge(&nasty_layers()).unwrap(), image);
    }
    assert_eq!(fs::read(&images[0]).unwrap(), fs::read(&images[1]).unwrap());
}

#[test]
fn an_empty_image_is_a_valid_one() {
    let scratch = tempfile::tempdir().unwrap();
    let image = scratch.path().join("image");
    write(&Tree::new(Limits::default()), &image);
    check(&image);
}

#[test]
fn an_observer_hears_of_every_byte_and_can_stop_the_writing() {
    let tree = merge(&[TarWriter::of(&[Item::file("f", pattern(5 << 20))])]).unwrap();
    let output = tempfile::tempfile().unwrap();
    let mut heard = 0;
    let mut count = |bytes| {
        heard += bytes;
        std::ops::ControlFlow::Continue(())
    };
    let written = write_erofs_observed(&tree, &output, &mut count).unwrap();
    assert_eq!(heard, written.bytes);
    let stopped = write_erofs_observed(&tree, &output, &mut |_| std::ops::ControlFlow::Break(()));
    assert!(matches!(stopped, Err(Error::Cancelled)));
}

#[test]
fn a_layer_cut_short_after_it_was_read_is_an_error() {
    let layer = file_of(&TarWriter::of(&[Item::file("f", pattern(1 << 20))]));
    let mut tree = Tree::new(Limits::default());
    tree.apply(&layer).unwrap();
    layer.set_len(4096).unwrap();
    let error = write_erofs(&tree, &tempfile::tempfile().unwrap()).unwrap_err();
    assert!(matches!(error, Error::ReadLayer(_)), "{error:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn files_of_any_size_beside_attributes_of_any_size_are_extracted_unchanged(
        files in prop::collection::vec((0usize..20_000, 0usize..4200, 1usize..200), 1..40),
    ) {
        let scratch = tempfile::tempdir().unwrap();
        let image = scratch.path().join("image");
        let items: Vec<Item> = files
            .iter()
            .enumerate()
            .map(|(index, (size, xattr, name))| {
                let file = Item::file(format!("{index}-{}", "n".repeat(*name)), &pattern(size + index)[index..]);
                if *xattr > 0 { file.xattr("user.a", pattern(*xattr)) } else { file }
            })
            .collect();
        write(&merge(&[TarWriter::of(&items)]).unwrap(), &image);
        check(&image);
        let extracted = scratch.path().join("extracted");
        extract(&image, &extracted);
        for item in &items {
            let read = fs::read(extracted.join(str::from_utf8(&item.path).unwrap())).unwrap();
            prop_assert!(read == item.data, "{} bytes", item.data.len());
        }
        prop_assert_eq!(fs::read_dir(&extracted).unwrap().count(), items.len());
    }
}
