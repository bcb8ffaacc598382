//! Keeping kernels: the default, listing, verifying, removing, resolving paths, and healing after a crash.

mod common;

use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::{again, installed, run};
use microagent_machine::kernel::{Error, Feature, Kernel, KernelStore, Progress, Source, Support};
use microagent_protocol::Fault;

/// A store of its own with the real kernel in it.
struct Fixture {
    directory: tempfile::TempDir,
    store: KernelStore,
    kernel: Kernel,
}

fn fixture() -> Fixture {
    let directory = tempfile::tempdir().unwrap();
    let store = KernelStore::open(&directory.path().join("kernels"));
    let source = Source::Path(installed().image.parent().unwrap().to_owned());
    let kernel = store.install(&source, &mut |_| {}).unwrap();
    Fixture { directory, store, kernel }
}

fn folder(kernel: &Kernel) -> &Path {
    kernel.image.parent().unwrap()
}

fn code<T: std::fmt::Debug>(result: Result<T, Error>) -> String {
    result.unwrap_err().code().to_owned()
}

#[test]
fn an_empty_store_says_how_to_fill_it() {
    let directory = tempfile::tempdir().unwrap();
    let store = KernelStore::open(&directory.path().join("kernels"));
    let error = store.default_kernel().unwrap_err();
    assert_eq!((error.code(), error.hint().as_deref()), ("kernel_missing", Some("run `microagent kernel install`")));
    assert!(store.list().unwrap().is_empty());
    assert!(store.collect_garbage().unwrap().is_empty());
    assert!(!directory.path().join("kernels").exists(), "reading creates nothing");
}

#[test]
fn the_kernel_installed_last_is_the_default_until_another_is_chosen() {
    let Fixture { directory, store, kernel } = fixture();
    let other = directory.path().join("other");
    fs::create_dir(&other).unwrap();
    fs::write(other.join("vmlinux"), renamed_release(&kernel)).unwrap();
    let other = store.install(&Source::Path(other), &mut |_| {}).unwrap();
    assert_ne!(other.name, kernel.name);
    assert_eq!(store.default_kernel().unwrap(), other);
    let listed: Vec<_> = store.list().unwrap().into_iter().map(|entry| (entry.name, entry.is_default)).collect();
    assert_eq!(listed, [(kernel.name.clone(), false), (other.name.clone(), true)]);

    store.set_default(&kernel.name).unwrap();
    assert_eq!(store.default_kernel().unwrap(), kernel);
    assert_eq!(code(store.set_default("no-such-kernel")), "kernel_not_found");
    assert_eq!(store.default_kernel().unwrap(), kernel);
}

/// The image with another release in its banner, `7` where there was the first digit.
fn renamed_release(kernel: &Kernel) -> Vec<u8> {
    let mut elf = fs::read(&kernel.image).unwrap();
    let banner = format!("Linux version {}", kernel.release);
    let found: Vec<usize> = memchr::memmem::find_iter(&elf, banner.as_bytes()).collect();
    assert!(!found.is_empty());
    for at in found {
        elf[at + "Linux version ".len()] = b'7';
    }
    elf
}

#[test]
fn verify_names_each_file_that_changed() {
    let Fixture { directory: _directory, store, kernel } = fixture();
    assert_eq!(store.verify(&kernel.name).unwrap(), []);
    let mut image = fs::read(&kernel.image).unwrap();
    let last = image.len() - 1;
    image[last] ^= 1;
    fs::write(&kernel.image, image).unwrap();
    fs::remove_file(&kernel.modules[0].path).unwrap();
    let drift = store.verify(&kernel.name).unwrap();
    let found: Vec<_> = drift.iter().map(|file| (file.path.clone(), file.found.is_some())).collect();
    assert_eq!(found, [(kernel.image.clone(), true), (kernel.modules[0].path.clone(), false)]);
    let expected = run(Command::new("sha256sum").arg(installed().image)).stdout;
    assert!(String::from_utf8(expected).unwrap().starts_with(&drift[0].expected));
}

#[test]
fn installing_again_repairs_a_kernel_that_drifted() {
    let directory = tempfile::tempdir().unwrap();
    let store = KernelStore::open(&directory.path().join("kernels"));
    let source = Source::Path(common::package());
    let kernel = store.install(&source, &mut |_| {}).unwrap();
    fs::write(&kernel.image, "not this").unwrap();
    assert_eq!(store.install(&source, &mut |_| {}).unwrap(), kernel);
    assert_eq!(store.verify(&kernel.name).unwrap(), []);
}

#[test]
fn removing_the_default_leaves_no_default() {
    let Fixture { directory: _directory, store, kernel } = fixture();
    store.remove(&kernel.name).unwrap();
    assert_eq!(code(store.default_kernel()), "kernel_missing");
    assert_eq!(code(store.remove(&kernel.name)), "kernel_not_found");
    let left: Vec<_> = fs::read_dir(store.directory()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, [".lock"]);
}

#[test]
fn names_cannot_lead_out_of_the_store() {
    let Fixture { directory, store, kernel: _ } = fixture();
    fs::write(directory.path().join("precious"), "").unwrap();
    for name in ["../../../precious", "..", ".", "", "/", ".lock", "default", "a/b"] {
        assert_eq!(code(store.remove(name)), "kernel_not_found", "{name}");
        assert_eq!(code(store.get(name)), "kernel_not_found", "{name}");
    }
    assert!(directory.path().join("precious").exists());
    assert!(store.default_kernel().is_ok());
}

#[test]
fn a_record_that_is_not_ours_is_refused_and_its_kernel_can_be_removed() {
    let Fixture { directory: _directory, store, kernel } = fixture();
    let path = folder(&kernel).join("kernel.json");
    let good = fs::read_to_string(&path).unwrap();
    for (what, bad, expected) in [
        ("unknown field", good.replacen('{', "{\"surprise\": 1,", 1), "kernel_record_invalid"),
        (
            "newer version",
            good.replacen("\"version\": 1", "\"version\": 2, \"surprise\": 1", 1),
            "kernel_record_version",
        ),
        ("escape", good.replacen("\"vmlinux\"", "\"../../vmlinux\"", 1), "kernel_damaged"),
        ("truncated", good[..good.len() / 2].to_owned(), "kernel_record_invalid"),
    ] {
        assert_ne!(bad, good, "{what}");
        fs::write(&path, bad).unwrap();
        assert_eq!(code(store.default_kernel()), expected, "{what}");
        assert_eq!(code(store.list().unwrap().remove(0).kernel), expected, "{what}");
    }
    store.remove(&kernel.name).unwrap();
    assert!(store.list().unwrap().is_empty());
}

#[test]
fn an_install_that_died_leaves_only_what_is_collected() {
    let Fixture { directory, store, kernel } = fixture();
    let mut install = again("die_while_installing", directory.path(), &[]);
    install.env("TEST_STATE", directory.path());
    let ended = install.output().unwrap();
    assert_eq!(ended.status.signal(), Some(libc::SIGABRT), "{}", String::from_utf8_lossy(&ended.stderr));
    let listed: Vec<_> = store.list().unwrap().into_iter().map(|entry| entry.name).collect();
    assert_eq!(listed, std::slice::from_ref(&kernel.name), "what was left is not a kernel");
    let removed = store.collect_garbage().unwrap();
    assert!(removed.len() == 1 && !removed[0].exists(), "{removed:?}");
    assert!(store.collect_garbage().unwrap().is_empty());
    assert_eq!(store.verify(&kernel.name).unwrap(), []);
    assert_eq!(store.default_kernel().unwrap(), kernel);
}

#[test]
#[ignore = "run by the test above, which expects it to die"]
fn die_while_installing() {
    let state = PathBuf::from(std::env::var_os("TEST_STATE").expect("run by another test"));
    let store = KernelStore::open(&state.join("kernels"));
    let _ = store.install(&Source::Path(common::package()), &mut |step| {
        if matches!(step, Progress::Unpacking { .. }) {
            std::process::abort();
        }
    });
}

#[test]
fn garbage_is_not_collected_under_a_running_install() {
    let Fixture { directory: _directory, store, kernel: _ } = fixture();
    let working = store.directory().join(".unfinished-working");
    fs::create_dir(&working).unwrap();
    let installing = fs::File::open(store.directory().join(".lock")).unwrap();
    installing.lock().unwrap();
    assert!(store.collect_garbage().unwrap().is_empty());
    assert!(working.exists());
}

#[test]
fn an_image_path_is_unpacked_once_and_again_when_it_changes() {
    let Fixture { directory, store, kernel } = fixture();
    let path = directory.path().join("vmlinux");
    fs::copy(&kernel.image, &path).unwrap();
    let first = store.resolve(&path).unwrap();
    assert_eq!(first.release, kernel.release);
    assert_eq!(first.digest, kernel.digest, "the modules are those of the installed kernel of that release");
    assert_eq!(first.facts.support(Feature::Ext4), Support::Builtin);
    assert_ne!(first.image, kernel.image);
    assert_eq!(store.list().unwrap().len(), 1, "a resolved image is not installed");

    // If the second call unpacked again, this would come back.
    fs::remove_file(&first.modules[0].path).unwrap();
    assert_eq!(store.resolve(&path).unwrap(), first);
    assert!(!first.modules[0].path.exists());

    fs::write(&path, renamed_release(&kernel)).unwrap();
    let changed = store.resolve(&path).unwrap();
    assert_ne!(changed.release, first.release);
    assert!(changed.modules.is_empty());
    assert_eq!(changed.facts.support(Feature::Erofs), Support::Unknown);
}

#[test]
fn modules_that_appear_beside_an_image_are_used() {
    let Fixture { directory, store, kernel } = fixture();
    store.remove(&kernel.name).unwrap();
    let path = directory.path().join("vmlinux");
    let reference = installed();
    fs::copy(&reference.image, &path).unwrap();
    assert!(store.resolve(&path).unwrap().modules.is_empty());
    symlink(reference.image.with_file_name("modules"), directory.path().join("modules")).unwrap();
    assert_eq!(store.resolve(&path).unwrap().digest, reference.digest);
}

#[test]
fn the_path_of_an_installed_image_is_the_installed_kernel() {
    let Fixture { directory: _directory, store, kernel } = fixture();
    assert_eq!(store.resolve(&kernel.image).unwrap(), kernel);
    assert_eq!(store.resolve(&store.directory().join("default/vmlinux")).unwrap(), kernel);
}

#[test]
fn resolved_images_do_not_pile_up() {
    let Fixture { directory, store, kernel } = fixture();
    for number in 0..12 {
        let path = directory.path().join(format!("bzImage-{number}"));
        fs::write(&path, unknown_payload(&kernel.release)).unwrap();
        store.resolve(&path).unwrap();
    }
    let cached = fs::read_dir(store.directory().join(".by-path")).unwrap().count();
    assert_eq!(cached, 8);
}

/// A boot image compressed in a way that is not decoded, so quick to read.
fn unknown_payload(release: &str) -> Vec<u8> {
    let mut image = vec![0; 1024];
    image[0x1f1] = 1;
    image[0x202..0x206].copy_from_slice(b"HdrS");
    image[0x206..0x208].copy_from_slice(&0x20f_u16.to_le_bytes());
    image[0x20e..0x210].copy_from_slice(&0x100_u16.to_le_bytes());
    image[0x300..0x300 + release.len()].copy_from_slice(release.as_bytes());
    image[0x24c..0x250].copy_from_slice(&16_u32.to_le_bytes());
    image.extend(b"BZh91AY&SY012345");
    image
}

#[test]
fn a_path_that_is_not_there_is_named() {
    let Fixture { directory: _directory, store, kernel: _ } = fixture();
    let path = PathBuf::from("/no/such/vmlinux");
    let error = store.resolve(&path).unwrap_err();
    assert_eq!(error.to_string(), "could not open the kernel `/no/such/vmlinux`");
    assert_eq!(error.kind(), microagent_protocol::FaultKind::NotFound);
}
