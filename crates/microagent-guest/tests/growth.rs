//! A workspace's disk that becomes larger.

mod common;

use common::{Guest, boot_request, check, workspace_disk};
use microagent_image::rootfs::format_blank_ext4;
use microagent_protocol::{Capacity, Reply, Request};
use std::fs::File;
use std::path::Path;
use tempfile::TempDir;

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

fn resize(directory: &TempDir, size: u64) {
    File::options().write(true).open(directory.path().join("workspace.ext4")).unwrap().set_len(size).unwrap();
}

fn blank(size: u64) -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    format_blank_ext4(&directory.path().join("workspace.ext4"), size).unwrap();
    directory
}

fn booted(directory: TempDir) -> Guest {
    let guest = Guest::greet(directory);
    guest.ask(&Request::Boot(boot_request())).unwrap();
    guest
}

fn grow(guest: &Guest) -> Capacity {
    match guest.ask(&Request::Grow) {
        Ok(Reply::Grown(capacity)) => capacity,
        other => panic!("{other:?}"),
    }
}

fn fill(guest: &Guest, megabytes: u64) {
    guest.shell(&format!(
        "dd if=/dev/urandom of=/filled bs=1M count={megabytes} 2>/dev/null; sha256sum /filled >/sum; sync"
    ));
}

#[test]
fn a_disk_that_was_made_larger_is_larger_at_the_next_boot_and_clean() {
    // Within a group, to more groups, past a bundle of them, and past what one block of descriptors describes.
    for (from, to) in
        [(64 * MIB, 100 * MIB), (100 * MIB, 700 * MIB), (GIB, 5 * GIB), (GIB, 20 * GIB), (10 * GIB, 40 * GIB)]
    {
        let directory = blank(from);
        let guest = booted(directory);
        fill(&guest, 20);
        let directory = guest.shut_down();
        resize(&directory, to);
        let guest = booted(directory);
        let capacity = grow(&guest);
        assert!(capacity.size_bytes > to / 100 * 90, "{from} to {to}: {capacity:?}");
        guest.shell("sha256sum -c /sum >/dev/null; dd if=/dev/zero of=/more bs=1M count=60 2>/dev/null");
        let directory = guest.shut_down();
        check(&directory.path().join("workspace.ext4"));
        // Once more, from what the kernel made of it.
        resize(&directory, to + to / 2);
        let guest = booted(directory);
        assert!(grow(&guest).size_bytes > (to + to / 2) / 100 * 90, "{from} to {to} and on");
        guest.shell("sha256sum -c /sum >/dev/null");
        check(&guest.shut_down().path().join("workspace.ext4"));
    }
}

#[test]
fn a_disk_of_another_maker_grows_too() {
    let directory = tempfile::tempdir().unwrap();
    workspace_disk(directory.path());
    resize(&directory, 3 * GIB);
    let guest = booted(directory);
    assert!(grow(&guest).size_bytes > 2 * GIB);
    check(&guest.shut_down().path().join("workspace.ext4"));
}

#[test]
fn a_disk_that_is_no_larger_stays_as_it_is() {
    for size in [16 * MIB, 129 * MIB, GIB] {
        let guest = booted(blank(size));
        let capacity = grow(&guest);
        assert_eq!(grow(&guest), capacity);
        assert!(capacity.free_bytes <= capacity.size_bytes && capacity.size_bytes <= size);
        let directory = guest.shut_down();
        assert!(!features(&directory.path().join("workspace.ext4")).contains("meta_bg"));
        check(&directory.path().join("workspace.ext4"));
    }
}

fn features(disk: &Path) -> String {
    common::run(common::tool("dumpe2fs", "e2fsprogs").arg("-h").arg(disk))
}
