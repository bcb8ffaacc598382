//! Names and space: what is removed, what stays, and that running work is never pulled away under itself.

mod common;

use std::cell::RefCell;
use std::sync::Mutex;

use common::{Store, big, parse, sample};
use microagent_image::{Digest, Error, Event, Image, ImportOptions, Progress, PullOptions, Silent};
use microagent_testing::{Layout, Registry};

fn unused(_: &Digest) -> bool {
    false
}

fn import(store: &Store, layout: &Layout, tag: &str, name: &str) -> Image {
    let source = format!("oci:{}:{tag}", layout.path().display()).parse().unwrap();
    let options = ImportOptions { name: Some(parse(name)), ..ImportOptions::default() };
    store.images.import(&source, &options, &Silent).unwrap().0
}

fn names(store: &Store) -> Vec<String> {
    store.images.list().unwrap().into_iter().map(|image| image.reference.familiar()).collect()
}

#[test]
fn images_are_listed_and_looked_up_by_name_or_digest() {
    let (store, layout) = (Store::new(), sample());
    let image = import(&store, &layout, "v1", "demo:v1");
    assert_eq!(names(&store), ["demo:v1"]);
    let listed = &store.images.list().unwrap()[0];
    assert_eq!((listed.compressed_size, &listed.manifest_digest), (image.compressed_size(), &image.manifest_digest));
    assert!(listed.base_size.unwrap() > 0);
    let digest = image.manifest_digest.to_string();
    for name in
        ["demo:v1", "docker.io/library/demo:v1", image.manifest_digest.short(), &digest, &format!("demo@{digest}")]
    {
        assert_eq!(store.images.lookup(name, None).unwrap().manifest_digest, image.manifest_digest, "{name}");
    }
    for name in ["demo:v2", "abcdef", "sha256:0"] {
        assert!(matches!(store.images.lookup(name, None), Err(Error::NotLocal { .. })), "{name}");
    }
    assert!(matches!(store.images.lookup("Not A Name", None), Err(Error::InvalidReference { .. })));
}

#[test]
fn store_that_was_never_used_is_empty_and_no_error() {
    let store = Store::new();
    assert!(store.images.list().unwrap().is_empty());
    assert!(store.images.find(&parse("demo"), microagent_image::Platform::host()).unwrap().is_none());
    assert_eq!(store.images.collect_garbage().unwrap(), 0);
    assert_eq!(store.images.disk_usage().unwrap(), microagent_image::DiskUsage::default());
    assert!(matches!(store.images.remove("demo", &unused), Err(Error::NotLocal { .. })));
    assert!(matches!(store.images.tag("demo", &parse("other")), Err(Error::NotLocal { .. })));
}

#[test]
fn prefix_of_two_digests_is_ambiguous() {
    let (store, layout) = (Store::new(), sample());
    let digest = import(&store, &layout, "v1", "demo:v1").manifest_digest;
    let similar = format!("sha256:{}{}", digest.short(), "0".repeat(52));
    let index = store.path().join("index.json");
    let mut text: serde_json::Value = serde_json::from_slice(&std::fs::read(&index).unwrap()).unwrap();
    let mut entry = text["images"][0].clone();
    entry["reference"] = "docker.io/library/similar:v1".into();
    entry["manifest"] = similar.clone().into();
    text["images"].as_array_mut().unwrap().push(entry);
    std::fs::write(&index, text.to_string()).unwrap();
    let error = store.images.lookup(digest.short(), None).unwrap_err();
    assert!(matches!(error, Error::AmbiguousPrefix { .. }), "{error:?}");
    assert!(store.images.remove(digest.short(), &unused).is_err());
    assert_eq!(store.images.lookup(&digest.to_string(), None).unwrap().manifest_digest, digest);
}

#[test]
fn tag_is_a_second_name_and_the_last_name_takes_the_data_along() {
    let (store, layout) = (Store::new(), sample());
    let image = import(&store, &layout, "v1", "demo:v1");
    store.images.tag("demo:v1", &parse("other:v1")).unwrap();
    assert_eq!(names(&store), ["demo:v1", "other:v1"]);
    assert!(store.images.tag("demo:v1", &image.pinned()).is_err());
    let removed = store.images.remove("demo:v1", &unused).unwrap();
    assert_eq!((removed.untagged.len(), removed.deleted.len(), removed.bytes), (1, 0, 0));
    assert_eq!(names(&store), ["other:v1"]);
    let removed = store.images.remove("other:v1", &unused).unwrap();
    assert_eq!(removed.deleted, [image.manifest_digest]);
    assert!(removed.bytes > 0);
    store.assert_empty();
    assert!(matches!(store.images.remove("other:v1", &unused), Err(Error::NotLocal { .. })));
}

#[test]
fn removing_by_digest_removes_every_name() {
    let (store, layout) = (Store::new(), sample());
    let image = import(&store, &layout, "v1", "demo:v1");
    store.images.tag("demo:v1", &parse("other:v1")).unwrap();
    let removed = store.images.remove(image.manifest_digest.short(), &unused).unwrap();
    assert_eq!(removed.untagged.len(), 2);
    store.assert_empty();
}

#[test]
fn image_in_use_loses_its_name_and_keeps_its_base() {
    let (store, layout) = (Store::new(), sample());
    let image = import(&store, &layout, "v1", "demo:v1");
    let in_use = |digest: &Digest| *digest == image.manifest_digest;
    let removed = store.images.remove("demo:v1", &in_use).unwrap();
    assert_eq!((removed.deleted.len(), &removed.kept[..]), (0, &[image.manifest_digest.clone()][..]));
    assert!(store.images.base(&image).unwrap().is_some());
    store.images.prune(true, false, &in_use).unwrap();
    store.images.collect_garbage().unwrap();
    assert!(store.images.base(&image).unwrap().is_some());
    let pruned = store.images.prune(false, false, &unused).unwrap();
    assert_eq!(pruned.deleted, [image.manifest_digest]);
    store.assert_empty();
}

#[test]
fn layer_that_another_image_needs_outlives_its_image() {
    let (store, layout) = (Store::new(), sample());
    layout.image_from("v1", "v2").layer(sample().path().as_path(), "/more");
    let one = import(&store, &layout, "v1", "demo:v1");
    let two = import(&store, &layout, "v2", "demo:v2");
    assert_eq!((one.layers.len(), two.layers.len()), (2, 3));
    let has = |digest: &Digest| store.files().iter().any(|name| name.ends_with(digest.hex()));
    store.images.remove("demo:v2", &unused).unwrap();
    assert!(one.layers.iter().all(|layer| has(&layer.digest)));
    assert!(!has(&two.layers[2].digest) && !has(&two.config_digest) && !has(&two.manifest_digest));
    store.images.remove("demo:v1", &unused).unwrap();
    store.assert_empty();
}

#[test]
fn prune_removes_what_has_no_name_and_with_all_what_is_not_in_use() {
    let registry = Registry::plain();
    let store = Store::new();
    sample().push("v1", &registry, "demo:v1");
    let old = store.pull(&registry.reference("demo:v1")).unwrap().0;
    big(1).push("big", &registry, "demo:v1");
    let always = PullOptions { policy: microagent_image::PullPolicy::Always, ..PullOptions::default() };
    let new = store.pull_with(&registry.reference("demo:v1"), &always).unwrap().0;
    assert!(store.images.base(&old).unwrap().is_some(), "a moved tag must not take the old base away");

    let usage = store.images.disk_usage().unwrap();
    assert_eq!(usage.images, 1);
    assert!(usage.blobs > 0 && usage.bases > 0 && usage.reclaimable > 0, "{usage:?}");
    let told = store.images.prune(false, true, &unused).unwrap();
    assert!(store.images.base(&old).unwrap().is_some(), "a dry run must remove nothing");
    let pruned = store.images.prune(false, false, &unused).unwrap();
    assert_eq!(pruned.deleted, std::slice::from_ref(&old.manifest_digest));
    assert_eq!(told.deleted, pruned.deleted);
    assert!(store.images.base(&old).unwrap().is_none());
    assert!(store.images.base(&new).unwrap().is_some());
    assert_eq!(store.images.disk_usage().unwrap().reclaimable, 0);

    let pruned = store.images.prune(true, false, &unused).unwrap();
    assert_eq!((pruned.untagged.len(), &pruned.deleted[..]), (1, &[new.manifest_digest][..]));
    store.assert_empty();
}

/// Cleans up, as another process would, at every event of a pull.
struct CleanAlways<'a>(&'a Store, Mutex<RefCell<usize>>);

impl Progress for CleanAlways<'_> {
    fn event(&self, event: Event<'_>) {
        // The index is locked while a lease is taken, and only then; events are never sent meanwhile.
        if !matches!(event, Event::Layer { .. }) {
            self.0.images.collect_garbage().unwrap();
            self.0.images.prune(true, false, &unused).unwrap();
            *self.1.lock().unwrap().borrow_mut() += 1;
        }
    }
}

#[test]
fn clean_up_spares_what_a_running_pull_needs() {
    let registry = Registry::plain();
    let store = Store::new();
    sample().push("v1", &registry, "demo:v1");
    let cleaner = CleanAlways(&store, Mutex::default());
    let reference = parse(&registry.reference("demo:v1"));
    let (image, base) = store.images.ensure(&reference, &PullOptions::default(), &cleaner).unwrap();
    assert!(*cleaner.1.lock().unwrap().borrow() >= 5);
    assert!(base.path.exists());
    for layer in &image.layers {
        assert!(store.files().iter().any(|name| name.ends_with(layer.digest.hex())));
    }
    assert_eq!(store.images.base(&image).unwrap().unwrap(), base);
}

#[test]
fn record_of_a_newer_version_is_refused_and_a_base_of_one_is_built_again() {
    let (store, layout) = (Store::new(), sample());
    let image = import(&store, &layout, "v1", "demo:v1");
    let base = store.images.base(&image).unwrap().unwrap();
    let record = base.path.with_file_name("base.json");
    let text = std::fs::read_to_string(&record).unwrap();
    std::fs::write(&record, text.replacen("\"version\": 1", "\"version\": 2", 1)).unwrap();
    assert!(store.images.base(&image).unwrap().is_none());
    let (again, rebuilt) = store.pull("demo:v1").unwrap();
    assert_eq!((&again, &rebuilt.record.digest), (&image, &base.record.digest));

    let index = store.path().join("index.json");
    let text = std::fs::read_to_string(&index).unwrap();
    std::fs::write(&index, text.replacen("\"version\": 1", "\"version\": 2", 1)).unwrap();
    assert!(matches!(store.images.list(), Err(Error::RecordVersion { found: 2, .. })));
    std::fs::write(&index, text.replacen("\"version\"", "\"surprise\": 1, \"version\"", 1)).unwrap();
    assert!(matches!(store.images.list(), Err(Error::InvalidRecord { .. })));
}
