//! Pulling from a real registry: what arrives is the image, once, whatever way it is asked for.

mod common;

use std::sync::Mutex;
use std::thread;

use common::{Store, big, extract, files, layer_hex, parse, read, sample};
use microagent_image::{
    BaseFormat, Cancellation, Digest, Error, Event, Platform, Progress, PullOptions, PullPolicy, Silent,
};
use microagent_testing::{Cutter, Layout, Registry, push_index, run, tool};

#[test]
fn pulled_image_has_its_config_its_layers_and_its_merged_files() {
    let (registry, store) = (Registry::plain(), Store::new());
    let layout = sample();
    layout.push("v1", &registry, "demo:v1");
    let (image, base) = store.pull(&registry.reference("demo:v1")).unwrap();
    assert_eq!(image.config.cmd, ["/bin/true", "now"]);
    assert!(image.config.env.contains(&"GREETING=hello".to_owned()), "{:?}", image.config.env);
    assert_eq!((image.config.user.as_str(), image.config.working_dir.as_str()), ("1000:1000", "/srv"));
    let manifest = layout.manifest("v1");
    let digests: Vec<&str> =
        manifest["layers"].as_array().unwrap().iter().map(|l| l["digest"].as_str().unwrap()).collect();
    assert_eq!(image.layers.iter().map(|layer| layer.digest.to_string()).collect::<Vec<_>>(), digests);
    let root = extract(&base);
    assert_eq!(std::fs::read(root.path().join("root/etc/name")).unwrap(), b"upper");
    assert_eq!(std::fs::read(root.path().join("root/etc/kept")).unwrap(), b"kept");
    assert_eq!((base.format, base.record.contents.files), (BaseFormat::Erofs, 2));
    assert_eq!(Digest::of(&std::fs::read(&base.path).unwrap()), base.record.digest);
}

#[test]
fn image_that_is_there_is_found_without_a_registry() {
    let store = Store::new();
    let reference = {
        let registry = Registry::plain();
        sample().push("v1", &registry, "demo:v1");
        let reference = registry.reference("demo:v1");
        store.pull(&reference).unwrap();
        reference
    };
    let (image, base) = store.pull(&reference).unwrap();
    assert_eq!(store.images.find(&parse(&reference), Platform::host()).unwrap().unwrap(), image);
    assert_eq!(store.images.base(&image).unwrap().unwrap(), base);
    let always = PullOptions { policy: PullPolicy::Always, ..PullOptions::default() };
    assert!(matches!(store.pull_with(&reference, &always), Err(Error::Unreachable { .. })));
    let never = PullOptions { policy: PullPolicy::Never, ..PullOptions::default() };
    assert!(store.pull_with(&reference, &never).is_ok());
    assert!(matches!(store.pull_with("other", &never), Err(Error::NotLocal { .. })));
}

#[test]
fn always_notices_that_a_tag_moved_and_missing_does_not() {
    let (registry, store) = (Registry::plain(), Store::new());
    sample().push("v1", &registry, "demo:v1");
    let reference = registry.reference("demo:v1");
    let (old, _) = store.pull(&reference).unwrap();
    big(1).push("big", &registry, "demo:v1");
    assert_eq!(store.pull(&reference).unwrap().0.manifest_digest, old.manifest_digest);
    let always = PullOptions { policy: PullPolicy::Always, ..PullOptions::default() };
    let (new, _) = store.pull_with(&reference, &always).unwrap();
    assert_ne!(new.manifest_digest, old.manifest_digest);
    assert_eq!(store.pull(&reference).unwrap().0, new);
}

#[test]
fn index_gives_each_platform_its_own_image_and_names_what_it_lacks() {
    let (registry, store) = (Registry::plain(), Store::new());
    let layout = Layout::new();
    for architecture in ["amd64", "arm64"] {
        let content = files(&[("architecture", architecture.as_bytes())]);
        let option = format!("--architecture={architecture}");
        layout.image(architecture).layer(content.path(), "/").configure(&[&option]);
    }
    let images = [("amd64", layout.source("amd64")), ("arm64", layout.source("arm64"))];
    let index = push_index(&registry, &images, "multi:v1");
    let pull =
        |reference: &str, platform| store.pull_with(reference, &PullOptions { platform, ..PullOptions::default() });
    let name = registry.reference("multi:v1");
    let (amd64, base) = pull(&name, Platform::AMD64).unwrap();
    assert_eq!(read(&base, "architecture"), b"amd64");
    let (arm64, base) = pull(&name, Platform::ARM64).unwrap();
    assert_eq!(read(&base, "architecture"), b"arm64");
    assert_ne!(amd64.manifest_digest, arm64.manifest_digest);
    assert_eq!(store.images.list().unwrap().len(), 2);
    let by_index = registry.reference(&format!("multi@{index}"));
    assert_eq!(pull(&by_index, Platform::ARM64).unwrap().0.manifest_digest, arm64.manifest_digest);

    push_index(&registry, &images[1..], "arm:v1");
    let error = pull(&registry.reference("arm:v1"), Platform::AMD64).unwrap_err();
    assert!(matches!(error, Error::NoMatchingPlatform { .. }), "{error}");
    assert!(error.to_string().contains("linux/arm64"), "{error}");
}

#[test]
fn single_image_for_another_platform_is_refused() {
    let (registry, store) = (Registry::plain(), Store::new());
    let layout = Layout::new();
    layout.image("other").configure(&["--architecture=s390x"]);
    layout.push("other", &registry, "other:v1");
    let error = store.pull(&registry.reference("other:v1")).unwrap_err();
    assert!(error.to_string().contains("linux/s390x"), "{error}");
    store.assert_empty();
}

#[test]
fn image_is_pulled_by_digest() {
    let (registry, store) = (Registry::plain(), Store::new());
    sample().push("v1", &registry, "demo:v1");
    let (image, _) = store.pull(&registry.reference("demo:v1")).unwrap();
    let other = Store::new();
    let pinned = image.pinned().to_string();
    assert_eq!(other.pull(&pinned).unwrap().0.manifest_digest, image.manifest_digest);
    let wrong = registry.reference(&format!("demo@{}", Digest::of(b"something else")));
    assert!(matches!(other.pull(&wrong), Err(Error::NotFound { .. })));
}

#[test]
fn layers_compressed_with_zstd_give_the_same_files() {
    // Two registries, because skopeo does not compress again what a registry already has.
    let (plain, compressed, store) = (Registry::plain(), Registry::plain(), Store::new());
    let layout = sample();
    layout.push("v1", &plain, "demo:v1");
    compressed.push(&layout.source("v1"), "demo:v1", &["--format=oci", "--dest-compress-format=zstd"]);
    let (gzip, gzip_base) = store.pull(&plain.reference("demo:v1")).unwrap();
    let (zstd, zstd_base) = store.pull(&compressed.reference("demo:v1")).unwrap();
    assert!(zstd.layers.iter().all(|layer| layer.media_type.ends_with("zstd")), "{:?}", zstd.layers);
    let diff_ids = |image: &microagent_image::Image| image.layers.iter().map(|l| l.diff_id.clone()).collect::<Vec<_>>();
    assert_eq!(diff_ids(&zstd), diff_ids(&gzip));
    assert_eq!(zstd_base.record.digest, gzip_base.record.digest);
}

#[test]
fn docker_media_types_are_understood() {
    let (registry, store) = (Registry::plain(), Store::new());
    registry.push(&sample().source("v1"), "demo:docker", &["--format=v2s2"]);
    let (image, base) = store.pull(&registry.reference("demo:docker")).unwrap();
    assert!(image.layers[0].media_type.contains("vnd.docker"), "{:?}", image.layers);
    assert_eq!(read(&base, "etc/name"), b"upper");
}

#[test]
fn image_without_layers_has_an_empty_root() {
    let (registry, store) = (Registry::plain(), Store::new());
    let layout = Layout::new();
    layout.image("empty").configure(&["--config.cmd=/x"]);
    layout.push("empty", &registry, "empty:v1");
    let (image, base) = store.pull(&registry.reference("empty:v1")).unwrap();
    assert!(image.layers.is_empty());
    assert_eq!((base.record.contents.files, base.record.contents.directories), (0, 1));
}

#[test]
fn concurrent_pulls_of_one_image_do_the_work_once() {
    let (registry, store) = (Registry::plain(), Store::new());
    big(4).push("big", &registry, "demo:v1");
    let proxy = Cutter::start(registry.port());
    let reference = format!("{}/demo:v1", proxy.address());
    let results: Vec<_> = thread::scope(|scope| {
        let pulls: Vec<_> = (0..4).map(|_| scope.spawn(|| store.pull(&reference).unwrap())).collect();
        pulls.into_iter().map(|pull| pull.join().unwrap()).collect()
    });
    assert!(results.iter().all(|result| result == &results[0]));
    assert_eq!(proxy.requests(&format!("/blobs/sha256:{}", layer_hex(&results[0].0))), 1);
}

#[test]
fn images_that_share_a_layer_fetch_it_once() {
    let (registry, store) = (Registry::plain(), Store::new());
    let layout = big(2);
    layout.push("big", &registry, "demo:one");
    let extra = files(&[("extra", b"extra")]);
    layout.image_from("big", "two").layer(extra.path(), "/extra");
    layout.push("two", &registry, "demo:two");
    let proxy = Cutter::start(registry.port());
    let pull = |tag: &str| store.pull(&format!("{}/demo:{tag}", proxy.address())).unwrap().0;
    let (one, two) = thread::scope(|scope| {
        let one = scope.spawn(|| pull("one"));
        let two = pull("two");
        (one.join().unwrap(), two)
    });
    assert_eq!((one.layers.len(), two.layers.len()), (1, 2));
    assert_eq!(one.layers[0], two.layers[0]);
    assert_eq!(proxy.requests(&format!("/blobs/sha256:{}", layer_hex(&one))), 1);
}

/// Remembers events as text.
#[derive(Default)]
struct Recorder(Mutex<Vec<String>>);

impl Progress for Recorder {
    fn event(&self, event: Event<'_>) {
        self.0.lock().unwrap().push(format!("{event:?}"));
    }
}

#[test]
fn progress_tells_every_stage_in_order_and_ends_at_the_total() {
    let (registry, store) = (Registry::plain(), Store::new());
    big(2).push("big", &registry, "demo:v1");
    let recorder = Recorder::default();
    let (image, _) =
        store.images.ensure(&parse(&registry.reference("demo:v1")), &PullOptions::default(), &recorder).unwrap();
    let events = recorder.0.into_inner().unwrap();
    let at = |name: &str| {
        events.iter().position(|event| event.starts_with(name)).unwrap_or_else(|| panic!("{name}: {events:?}"))
    };
    let stages = ["Resolving", "Resolved", "Layer", "Unpacked", "Building", "Built"].map(at);
    assert!(stages.is_sorted(), "{events:?}");
    let size = image.layers[0].size;
    assert!(events.iter().any(|event| event.contains(&format!("done: {size}, total: {size}"))), "{events:?}");
}

/// Turns its switch on at the first event of a kind.
struct CancelAt<'a>(&'a str, &'a Cancellation);

impl Progress for CancelAt<'_> {
    fn event(&self, event: Event<'_>) {
        let text = format!("{event:?}");
        if text.starts_with(self.0) && !text.contains("done: 0,") {
            self.1.cancel();
        }
    }
}

#[test]
fn cancelled_at_any_stage_stops_and_leaves_only_what_the_cleaner_removes() {
    let registry = Registry::plain();
    big(8).push("big", &registry, "demo:v1");
    let reference = registry.reference("demo:v1");
    for stage in ["Resolving", "Resolved", "Layer", "Unpacked", "Building"] {
        let store = Store::new();
        let options = PullOptions::default();
        let outcome = store.images.ensure(&parse(&reference), &options, &CancelAt(stage, &options.cancellation));
        assert!(matches!(outcome, Err(Error::Cancelled)), "{stage}: {outcome:?}");
        assert!(
            !store.files().iter().any(|name| name.starts_with("work/") || name.starts_with("bases/")),
            "{stage}: {:?}",
            store.files()
        );
        store.images.collect_garbage().unwrap();
        store.assert_empty();
        store.pull(&reference).unwrap();
    }
}

#[test]
fn rootfs_is_written_in_either_format_and_replaces_what_was_there() {
    let (registry, store) = (Registry::plain(), Store::new());
    sample().push("v1", &registry, "demo:v1");
    let (image, base) = store.pull(&registry.reference("demo:v1")).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path().join("rootfs");
    std::fs::write(&out, "old").unwrap();
    let cancellation = Cancellation::new();
    let built = store.images.rootfs_build(&image, &out, BaseFormat::Erofs, None, &cancellation, &Silent).unwrap();
    assert_eq!(Digest::of(&std::fs::read(&out).unwrap()), base.record.digest);
    assert_eq!(built.size, base.size);
    let built =
        store.images.rootfs_build(&image, &out, BaseFormat::Ext4, Some(64 << 20), &cancellation, &Silent).unwrap();
    assert_eq!((built.format, built.size), (BaseFormat::Ext4, 64 << 20));
    run(tool("e2fsck").arg("-fn").arg(&out));
    let shown = run(tool("debugfs").args(["-R", "cat /etc/name"]).arg(&out));
    assert_eq!(shown, b"upper");
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
}
