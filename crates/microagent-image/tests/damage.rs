//! Interrupted, damaged and hostile downloads: resumed where that is right, refused where it is not, and no trace left.

mod common;

use std::fs;
use std::process::Command;

use common::{Store, big, files, layer_hex, parse, read, sample};
use microagent_image::{Digest, Error, Event, Progress, PullOptions};
use microagent_protocol::Fault;
use microagent_testing::{Cutter, Layout, Registry};

const MEGABYTE: u64 = 1 << 20;

#[test]
fn pull_that_is_cut_off_again_and_again_continues_each_time() {
    let (registry, store) = (Registry::plain(), Store::new());
    big(4).push("big", &registry, "demo:v1");
    let proxy = Cutter::start(registry.port());
    // The first blob asked for is the config.
    proxy.cut(4, MEGABYTE);
    let (image, base) = store.pull(&format!("{}/demo:v1", proxy.address())).unwrap();
    assert_eq!(read(&base, "noise"), common::noise(4 << 20, 7));
    assert!(proxy.requests("range: bytes=") >= 2, "the download was not continued");
    assert!(proxy.delivered() < image.layers[0].size + MEGABYTE, "{} bytes were fetched", proxy.delivered());
}

#[test]
fn interrupted_pull_is_continued_by_the_next_one() {
    let (registry, store) = (Registry::plain(), Store::new());
    big(4).push("big", &registry, "demo:v1");
    let proxy = Cutter::start(registry.port());
    let reference = format!("{}/demo:v1", proxy.address());
    proxy.cut(usize::MAX, 300_000);
    let error = store.pull(&reference).unwrap_err();
    assert_eq!(error.code(), "registry_unreachable");
    assert!(error.retryable());
    let partial = store.files();
    assert!(partial.len() == 1 && partial[0].starts_with("partial/sha256-"), "{partial:?}");
    proxy.cut(0, 0);
    let before = proxy.delivered();
    let (image, _) = store.pull(&reference).unwrap();
    let fetched = proxy.delivered() - before;
    assert!(fetched + MEGABYTE < image.layers[0].size, "{fetched} bytes were fetched again");
    assert!(!store.files().iter().any(|name| name.starts_with("partial/")));
}

#[test]
fn server_that_ignores_ranges_is_read_from_the_start() {
    let (registry, store) = (Registry::plain(), Store::new());
    big(4).push("big", &registry, "demo:v1");
    let proxy = Cutter::start(registry.port());
    proxy.hide_ranges();
    proxy.cut(2, 2 * MEGABYTE);
    let (_, base) = store.pull(&format!("{}/demo:v1", proxy.address())).unwrap();
    assert!(proxy.requests("range: bytes=") >= 1);
    assert_eq!(read(&base, "noise"), common::noise(4 << 20, 7));
}

#[test]
fn damaged_leftover_of_an_earlier_pull_is_fetched_again() {
    let (registry, store) = (Registry::plain(), Store::new());
    let layout = big(1);
    layout.push("big", &registry, "demo:v1");
    let hex = layout.manifest("big")["layers"][0]["digest"].as_str().unwrap().replace(':', "-");
    fs::create_dir_all(store.path().join("partial")).unwrap();
    fs::write(store.path().join("partial").join(hex), vec![b'x'; 300_000]).unwrap();
    let (_, base) = store.pull(&registry.reference("demo:v1")).unwrap();
    assert_eq!(read(&base, "noise"), common::noise(1 << 20, 7));
}

#[test]
fn damaged_blob_of_the_store_is_fetched_again() {
    let (registry, store) = (Registry::plain(), Store::new());
    big(1).push("big", &registry, "demo:v1");
    let reference = registry.reference("demo:v1");
    let (image, base) = store.pull(&reference).unwrap();
    let blob = store.path().join("blobs/sha256").join(layer_hex(&image));
    let mut bytes = fs::read(&blob).unwrap();
    bytes[1000] ^= 1;
    fs::write(&blob, bytes).unwrap();
    fs::remove_dir_all(base.path.parent().unwrap()).unwrap();
    let offline = store
        .pull_with(&reference, &PullOptions { policy: microagent_image::PullPolicy::Never, ..PullOptions::default() });
    assert!(offline.is_err(), "a damaged layer must not be built into a base");
    let (_, again) = store.pull(&reference).unwrap();
    assert_eq!(again.record.digest, base.record.digest);
}

/// Pulls `demo:v1` into a new store, which must fail and leave nothing.
fn refused(registry: &Registry) -> Error {
    let store = Store::new();
    let error = store.pull(&registry.reference("demo:v1")).unwrap_err();
    store.assert_empty();
    assert!(store.images.list().unwrap().is_empty());
    assert!(!error.to_string().contains('\n'), "{error}");
    error
}

fn first_layer(layout: &Layout, tag: &str) -> String {
    layout.manifest(tag)["layers"][0]["digest"].as_str().unwrap().to_owned()
}

#[test]
fn layer_with_wrong_bytes_is_a_digest_mismatch() {
    let registry = Registry::plain();
    let layout = sample();
    layout.push("v1", &registry, "demo:v1");
    let blob = registry.blob(&first_layer(&layout, "v1"));
    let mut bytes = fs::read(&blob).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0xff;
    fs::write(&blob, bytes).unwrap();
    let error = refused(&registry);
    assert_eq!(error.code(), "image_digest_mismatch", "{error:?}");
}

#[test]
fn layer_of_another_length_is_a_size_mismatch() {
    let registry = Registry::plain();
    let layout = sample();
    layout.push("v1", &registry, "demo:v1");
    let blob = registry.blob(&first_layer(&layout, "v1"));
    let bytes = fs::read(&blob).unwrap();
    for wrong in [bytes[..bytes.len() / 2].to_vec(), [bytes.as_slice(), &[0; 100]].concat()] {
        fs::write(&blob, wrong).unwrap();
        let error = refused(&registry);
        assert_eq!(error.code(), "image_size_mismatch", "{error:?}");
    }
}

#[test]
fn config_with_wrong_bytes_is_a_digest_mismatch() {
    let registry = Registry::plain();
    let layout = sample();
    layout.push("v1", &registry, "demo:v1");
    let digest = layout.manifest("v1")["config"]["digest"].as_str().unwrap().to_owned();
    let text = fs::read_to_string(registry.blob(&digest)).unwrap();
    fs::write(registry.blob(&digest), text.replace("hello", "hullo")).unwrap();
    assert_eq!(refused(&registry).code(), "image_digest_mismatch");
}

#[test]
fn manifest_with_wrong_bytes_is_a_digest_mismatch() {
    let registry = Registry::plain();
    sample().push("v1", &registry, "demo:v1");
    let (image, _) = Store::new().pull(&registry.reference("demo:v1")).unwrap();
    let blob = registry.blob(&image.manifest_digest.to_string());
    let text = fs::read_to_string(&blob).unwrap();
    fs::write(&blob, text + " ").unwrap();
    assert_eq!(refused(&registry).code(), "image_digest_mismatch");
}

/// Replaces blobs of the layout consistently: every digest right, only the content is bad.
fn rewrite_first_layer(layout: &Layout, tag: &str, change: impl FnOnce(&mut Vec<u8>)) {
    let blob = |digest: &str| layout.path().join("blobs").join(digest.replace(':', "/"));
    let put = |bytes: &[u8]| {
        let digest = Digest::of(bytes).to_string();
        fs::write(blob(&digest), bytes).unwrap();
        (digest, bytes.len())
    };
    let mut manifest = layout.manifest(tag);
    let mut layer = fs::read(blob(&first_layer(layout, tag))).unwrap();
    change(&mut layer);
    let (digest, size) = put(&layer);
    manifest["layers"][0]["digest"] = digest.into();
    manifest["layers"][0]["size"] = size.into();
    let (digest, size) = put(manifest.to_string().as_bytes());
    let index = layout.path().join("index.json");
    let mut text: serde_json::Value = serde_json::from_slice(&fs::read(&index).unwrap()).unwrap();
    let entries = text["manifests"].as_array_mut().unwrap();
    let entry =
        entries.iter_mut().find(|entry| entry["annotations"]["org.opencontainers.image.ref.name"] == tag).unwrap();
    entry["digest"] = digest.into();
    entry["size"] = size.into();
    fs::write(index, text.to_string()).unwrap();
}

type Change = fn(&mut Vec<u8>);

#[test]
fn truncated_and_corrupt_compression_are_named_as_such() {
    let registry = Registry::plain();
    let changes: [(&str, Change); 2] = [
        ("layer_truncated", |layer| layer.truncate(layer.len() / 2)),
        ("layer_corrupt", |layer| layer[20..60].fill(0xff)),
    ];
    for (code, change) in changes {
        let layout = sample();
        rewrite_first_layer(&layout, "v1", change);
        layout.push("v1", &registry, "demo:v1");
        let error = refused(&registry);
        assert_eq!(error.code(), code, "{error:?}");
    }
}

#[test]
fn layer_that_is_not_what_the_config_says_is_a_digest_mismatch() {
    let registry = Registry::plain();
    let (layout, other) = (sample(), Layout::new());
    let content = files(&[("smuggled", b"content")]);
    other.image("v1").layer(content.path(), "/").configure(&["--config.cmd=/x"]);
    let smuggled = fs::read(other.path().join("blobs").join(first_layer(&other, "v1").replace(':', "/"))).unwrap();
    rewrite_first_layer(&layout, "v1", |layer| *layer = smuggled);
    layout.push("v1", &registry, "demo:v1");
    let error = refused(&registry);
    assert_eq!(error.code(), "image_digest_mismatch");
    assert!(error.to_string().contains("unpacked"), "{error}");
}

/// What a child of this process is told: `STAGE REFERENCE DIRECTORY`.
const CHILD: &str = "MICROAGENT_TEST_CRASH";

/// Kills its process at the first event of a kind.
struct DieAt(String);

impl Progress for DieAt {
    fn event(&self, event: Event<'_>) {
        let text = format!("{event:?}");
        if text.starts_with(&self.0) && !text.contains("done: 0,") {
            std::process::abort();
        }
    }
}

#[test]
#[ignore = "the part of another test that runs in a process of its own, and dies"]
fn pulls_and_dies() {
    let told = std::env::var(CHILD).unwrap();
    let [stage, reference, directory] = told.split(' ').collect::<Vec<_>>().try_into().unwrap();
    let store = microagent_image::ImageStore::open(directory);
    drop(store.ensure(&parse(reference), &PullOptions::default(), &DieAt(stage.to_owned())));
}

#[test]
fn process_that_dies_at_any_stage_leaves_only_what_the_cleaner_removes() {
    let registry = Registry::plain();
    big(4).push("big", &registry, "demo:v1");
    let reference = registry.reference("demo:v1");
    for stage in ["Resolved", "Layer", "Unpacked", "Building", "Built"] {
        let store = Store::new();
        let mut child = Command::new(std::env::current_exe().unwrap());
        child.args(["--exact", "pulls_and_dies", "--ignored"]);
        child.env(CHILD, format!("{stage} {reference} {}", store.path().display()));
        assert!(!child.output().unwrap().status.success(), "the child was to die at {stage}");
        assert!(
            store.images.find(&parse(&reference), microagent_image::Platform::host()).unwrap().is_none(),
            "{stage}"
        );
        store.images.collect_garbage().unwrap();
        store.images.prune(false, false, &|_| false).unwrap();
        store.assert_empty();
        assert_eq!(fs::read_dir(store.path().join("locks")).map_or(0, Iterator::count), 0, "{stage}");
        store.pull(&reference).unwrap();
    }
}

#[test]
fn limits_on_layers_are_those_of_the_store() {
    let registry = Registry::plain();
    big(2).push("big", &registry, "demo:v1");
    let store = Store::new();
    let limits = microagent_image::rootfs::Limits { total_bytes: MEGABYTE, ..Default::default() };
    let strict = store.images.clone().with_limits(limits);
    let outcome =
        strict.ensure(&parse(&registry.reference("demo:v1")), &PullOptions::default(), &microagent_image::Silent);
    assert_eq!(outcome.unwrap_err().code(), "layer_limit_exceeded");
    store.assert_empty();
}
