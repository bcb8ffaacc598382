//! A push sends what the registry lacks, byte for byte, and says who would not have it and why.

mod common;

use std::fs;
use std::sync::atomic::{AtomicU64, Ordering};

use common::{Store, big, layer_hex, parse, sample};
use microagent_image::{
    Cancellation, Digest, Error, Event, Image, ImportOptions, Progress, PullOptions, PushOptions, Silent,
};
use microagent_protocol::{Fault, FaultKind};
use microagent_testing::{Cutter, Layout, Registry, USER};

const MEGABYTE: u64 = 1 << 20;

/// A store with the image `tag` of `layout` as `demo:v1`.
fn with(layout: &Layout, tag: &str) -> (Store, Image) {
    let store = Store::new();
    let options = ImportOptions { name: Some(parse("demo:v1")), ..ImportOptions::default() };
    let (image, _) = store.images.import(&layout.source(tag).parse().unwrap(), &options, &Silent).unwrap();
    (store, image)
}

fn to(reference: &str) -> PushOptions {
    PushOptions { to: Some(parse(reference)), ..PushOptions::default() }
}

#[test]
fn what_the_registry_has_is_not_sent_again() {
    let (registry, (store, image)) = (Registry::plain(), with(&sample(), "v1"));
    let first = registry.reference("one:v1");
    let pushed = store.images.push("demo:v1", &to(&first), &Silent).unwrap();
    let counts = |pushed: &microagent_image::Pushed| (pushed.uploaded, pushed.mounted, pushed.present);
    assert_eq!((counts(&pushed), &pushed.digest), ((3, 0, 0), &image.manifest_digest));
    assert!(pushed.bytes > image.compressed_size());
    assert_eq!(Store::new().pull(&first).unwrap().0.manifest_digest, image.manifest_digest);

    let again = store.images.push(image.manifest_digest.short(), &to(&first), &Silent).unwrap();
    assert_eq!((counts(&again), again.bytes), ((0, 0, 3), 0));

    // Now that an image of this store is known to be in another repository there, nothing needs to travel.
    store.images.tag("demo:v1", &parse(&first)).unwrap();
    let second = registry.reference("two/nested:v2");
    let mounted = store.images.push(&first, &to(&second), &Silent).unwrap();
    assert_eq!((counts(&mounted), mounted.bytes), ((0, 3, 0), 0));
    assert_eq!(Store::new().pull(&second).unwrap().0.manifest_digest, image.manifest_digest);
}

#[test]
fn repository_that_was_forgotten_by_the_registry_is_no_obstacle() {
    let (registry, (store, _)) = (Registry::plain(), with(&sample(), "v1"));
    store.images.tag("demo:v1", &parse(&registry.reference("never-pushed:v1"))).unwrap();
    let pushed = store.images.push("demo:v1", &to(&registry.reference("one:v1")), &Silent).unwrap();
    assert_eq!((pushed.uploaded, pushed.mounted), (3, 0));
}

#[test]
fn without_another_name_an_image_goes_where_its_own_says() {
    let (registry, (store, image)) = (Registry::plain(), with(&sample(), "v1"));
    let name = registry.reference("demo:own");
    store.images.tag("demo:v1", &parse(&name)).unwrap();
    let pushed = store.images.push(&name, &PushOptions::default(), &Silent).unwrap();
    assert_eq!((pushed.reference.to_string(), &pushed.digest), (name.clone(), &image.manifest_digest));
    Store::new().pull(&name).unwrap();
    let pinned = image.pinned();
    let error = store.images.push("demo:v1", &to(&pinned.to_string()), &Silent).unwrap_err();
    assert_eq!(error.code(), "invalid_image_reference");
    let error = store.images.push("demo:v9", &to(&name), &Silent).unwrap_err();
    assert_eq!(error.code(), "image_not_local");
}

#[test]
fn password_and_token_are_given_where_they_are_asked_for() {
    for registry in [Registry::basic(), Registry::token()] {
        let (store, image) = with(&sample(), "v1");
        let reference = registry.reference("team/demo:v1");
        let empty = tempfile::tempdir().unwrap();
        let anonymous = PushOptions { docker_config: Some(empty.path().to_owned()), ..to(&reference) };
        let error = store.images.push("demo:v1", &anonymous, &Silent).unwrap_err();
        assert_eq!((error.code(), error.kind()), ("registry_login_required", FaultKind::Denied));
        assert!(error.to_string().contains("no credentials are configured"), "{error}");

        let wrong = serde_json::json!({"auths": {registry.address(): {"username": USER, "password": "wrong"}}});
        fs::write(empty.path().join("config.json"), wrong.to_string()).unwrap();
        let error = store.images.push("demo:v1", &anonymous, &Silent).unwrap_err();
        assert!(error.to_string().contains("were refused"), "{error}");

        let login = registry.login();
        let options = PushOptions { docker_config: Some(login.path().to_owned()), ..to(&reference) };
        store.images.push("demo:v1", &options, &Silent).unwrap();
        // Taking a blob from another repository needs the right to read that one as well.
        store.images.tag("demo:v1", &parse(&reference)).unwrap();
        let other = PushOptions { to: Some(parse(&registry.reference("team/other:v1"))), ..options };
        assert_eq!(store.images.push(&reference, &other, &Silent).unwrap().mounted, 3);
        let pull = PullOptions { docker_config: Some(login.path().to_owned()), ..PullOptions::default() };
        let pulled = Store::new().pull_with(&registry.reference("team/other:v1"), &pull).unwrap().0;
        assert_eq!(pulled.manifest_digest, image.manifest_digest);
    }
}

#[test]
fn private_ca_is_trusted_and_an_unknown_one_is_not() {
    let (registry, (store, _)) = (Registry::tls(), with(&big(2), "big"));
    let reference = registry.reference("demo:v1");
    let error = store.images.push("demo:v1", &to(&reference), &Silent).unwrap_err();
    assert_eq!(error.code(), "registry_tls_failed");
    let certificates = registry.certificates();
    let options = PushOptions { certificates: Some(certificates.path().to_owned()), ..to(&reference) };
    store.images.push("demo:v1", &options, &Silent).unwrap();
    let insecure = PushOptions { insecure: true, ..to(&registry.reference("demo:v2")) };
    store.images.push("demo:v1", &insecure, &Silent).unwrap();
}

#[test]
fn registry_that_takes_nothing_is_called_read_only() {
    let (registry, (store, _)) = (Registry::read_only(), with(&sample(), "v1"));
    let error = store.images.push("demo:v1", &to(&registry.reference("demo:v1")), &Silent).unwrap_err();
    assert_eq!((error.code(), error.kind(), error.retryable()), ("registry_read_only", FaultKind::Denied, false));
    assert!(error.to_string().contains(&registry.address()), "{error}");
}

#[test]
fn registry_that_is_not_there_is_unreachable_and_worth_a_retry() {
    let (store, _) = with(&sample(), "v1");
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let reference = format!("{}/demo:v1", listener.local_addr().unwrap());
    drop(listener);
    let error = store.images.push("demo:v1", &to(&reference), &Silent).unwrap_err();
    assert_eq!((error.code(), error.retryable()), ("registry_unreachable", true));
}

#[test]
fn upload_that_is_cut_off_is_made_again() {
    let (registry, (store, image)) = (Registry::plain(), with(&big(4), "big"));
    let proxy = Cutter::start(registry.port());
    proxy.cut_uploads(2, MEGABYTE);
    store.images.push("demo:v1", &to(&format!("{}/demo:v1", proxy.address())), &Silent).unwrap();
    assert!(proxy.requests("PUT /v2/demo/blobs/uploads/") >= 3);
    let pulled = Store::new().pull(&registry.reference("demo:v1")).unwrap().0;
    assert_eq!(pulled.manifest_digest, image.manifest_digest);
}

#[test]
fn connection_that_always_breaks_is_given_up() {
    let (registry, (store, _)) = (Registry::plain(), with(&big(4), "big"));
    let proxy = Cutter::start(registry.port());
    proxy.cut_uploads(usize::MAX, MEGABYTE);
    let error = store.images.push("demo:v1", &to(&format!("{}/demo:v1", proxy.address())), &Silent).unwrap_err();
    assert_eq!((error.code(), error.retryable()), ("registry_unreachable", true));
    assert!(Store::new().pull(&registry.reference("demo:v1")).is_err(), "a push that failed must not have made a name");
}

/// Stops the push when the first megabyte is on its way.
struct StopEarly(Cancellation, AtomicU64);

impl Progress for StopEarly {
    fn event(&self, event: Event<'_>) {
        if let Event::Uploaded { done, .. } = event {
            self.1.fetch_max(done, Ordering::SeqCst);
            if done >= MEGABYTE {
                self.0.cancel();
            }
        }
    }
}

#[test]
fn push_that_is_stopped_makes_no_name() {
    let (registry, (store, image)) = (Registry::plain(), with(&big(64), "big"));
    let reference = registry.reference("demo:v1");
    let options = to(&reference);
    let stop = StopEarly(options.cancellation.clone(), AtomicU64::new(0));
    let error = store.images.push("demo:v1", &options, &stop).unwrap_err();
    assert!(matches!(error, Error::Cancelled), "{error:?}");
    assert!(stop.1.load(Ordering::SeqCst) < image.layers[0].size);
    assert!(Store::new().pull(&reference).is_err());
}

#[test]
fn damaged_or_missing_blob_is_not_sent_as_if_it_were_whole() {
    let (registry, (store, image)) = (Registry::plain(), with(&big(2), "big"));
    let options = to(&registry.reference("demo:v1"));
    let blob = store.path().join("blobs/sha256").join(layer_hex(&image));
    let mut bytes = fs::read(&blob).unwrap();
    bytes[1000] ^= 1;
    let damages: [&dyn Fn(); 3] =
        [&|| fs::write(&blob, &bytes).unwrap(), &|| fs::write(&blob, &bytes[..5000]).unwrap(), &|| {
            fs::remove_file(&blob).unwrap();
        }];
    for damage in damages {
        damage();
        let error = store.images.push("demo:v1", &options, &Silent).unwrap_err();
        assert_eq!((error.code(), error.retryable()), ("inconsistent_image", false), "{error:?}");
        assert!(error.to_string().contains("pull the image again"), "{error}");
    }
}

/// Removes everything nobody needs, as another process would, at every event.
struct CleanAlways<'a>(&'a Store, AtomicU64);

impl Progress for CleanAlways<'_> {
    fn event(&self, _: Event<'_>) {
        // On a thread of its own: events of a transfer come from within the network's.
        let clean = || drop(self.0.images.prune(true, false, &|_: &Digest| false).unwrap());
        std::thread::scope(|scope| scope.spawn(clean).join().unwrap());
        self.1.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn clean_up_spares_what_a_running_push_needs() {
    let (registry, (store, image)) = (Registry::plain(), with(&sample(), "v1"));
    let reference = registry.reference("demo:v1");
    let cleaner = CleanAlways(&store, AtomicU64::new(0));
    store.images.push("demo:v1", &to(&reference), &cleaner).unwrap();
    assert!(cleaner.1.load(Ordering::SeqCst) >= 4, "there is an event for each blob");
    assert_eq!(Store::new().pull(&reference).unwrap().0.manifest_digest, image.manifest_digest);
    store.images.prune(true, false, &|_: &Digest| false).unwrap();
    store.assert_empty();
}
