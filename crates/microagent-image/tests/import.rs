//! Importing what other tools save: the same image as if it had been pulled, and a clear word on anything else.

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use common::{Store, extract, files, parse, read, sample};
use microagent_image::{
    BaseImage, Error, Image, ImageConfig, ImportOptions, Platform, PullOptions, PullPolicy, Silent,
};
use microagent_protocol::Fault;
use microagent_testing::{Layout, Registry, run, tool};
use tempfile::TempDir;

fn import(store: &Store, source: &str, options: &ImportOptions) -> Result<(Image, BaseImage), Error> {
    store.images.import(&source.parse().unwrap(), options, &Silent)
}

fn named(name: &str) -> ImportOptions {
    ImportOptions { name: Some(parse(name)), ..ImportOptions::default() }
}

/// Saves an image with skopeo as a file of the given transport, under the given recorded name.
fn save(source: &str, transport: &str, name: &str) -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("image.tar");
    let target = format!("{transport}:{}:{name}", file.display());
    run(tool("skopeo").args(["copy", "--quiet", "--insecure-policy", source, &target]));
    (directory, file)
}

fn assert_is_sample(image: &Image, base: &BaseImage) {
    assert_eq!(image.config.cmd, ["/bin/true", "now"]);
    assert_eq!(image.config.user, "1000:1000");
    let root = extract(base);
    assert_eq!(fs::read(root.path().join("root/etc/name")).unwrap(), b"upper");
    assert_eq!(fs::read(root.path().join("root/etc/kept")).unwrap(), b"kept");
}

#[test]
fn layout_directory_is_the_image_a_registry_would_have_given() {
    let layout = sample();
    let (pulled, imported, registry) = (Store::new(), Store::new(), Registry::plain());
    layout.push("v1", &registry, "demo:v1");
    let (from_registry, pulled_base) = pulled.pull(&registry.reference("demo:v1")).unwrap();
    let path = layout.path();
    let (image, base) = import(&imported, path.to_str().unwrap(), &named("demo:v1")).unwrap();
    assert_is_sample(&image, &base);
    assert_eq!(image.manifest_digest, from_registry.manifest_digest);
    assert_eq!(base.record, pulled_base.record);
    let blobs = |store: &Store| store.files().into_iter().filter(|name| name.starts_with("blobs/")).collect::<Vec<_>>();
    assert_eq!(blobs(&imported), blobs(&pulled));
    let never = PullOptions { policy: PullPolicy::Never, ..PullOptions::default() };
    assert_eq!(imported.pull_with("demo:v1", &never).unwrap().0, image);
}

#[test]
fn oci_archive_and_its_compressed_forms_are_one_image() {
    let store = Store::new();
    let (directory, file) = save(&sample().source("v1"), "oci-archive", "localhost/demo:v1");
    let (image, base) = import(&store, file.to_str().unwrap(), &ImportOptions::default()).unwrap();
    assert_eq!(image.reference, parse("localhost/demo:v1"));
    assert_is_sample(&image, &base);
    run(tool("gzip").arg("--keep").arg(&file));
    run(tool("zstd").arg("-q").arg(&file));
    for name in ["image.tar.gz", "image.tar.zst"] {
        let source = directory.path().join(name);
        let (again, _) = import(&Store::new(), source.to_str().unwrap(), &named("other")).unwrap();
        assert_eq!(again.manifest_digest, image.manifest_digest);
    }
}

#[test]
fn docker_archive_brings_its_name_and_its_uncompressed_layers() {
    let store = Store::new();
    let (_directory, file) = save(&sample().source("v1"), "docker-archive", "localhost/demo:v1");
    for source in [file.display().to_string(), format!("docker-archive:{}:localhost/demo:v1", file.display())] {
        let (image, base) = import(&store, &source, &ImportOptions::default()).unwrap();
        assert_eq!(image.reference, parse("localhost/demo:v1"));
        assert!(image.layers.iter().all(|layer| layer.digest == layer.diff_id), "{:?}", image.layers);
        assert_is_sample(&image, &base);
    }
    let error =
        import(&store, &format!("docker-archive:{}:localhost/demo:v2", file.display()), &ImportOptions::default())
            .unwrap_err();
    assert!(error.to_string().contains("localhost/demo:v1"), "{error}");
}

#[test]
fn docker_archive_committed_by_buildah_is_understood() {
    let store = Store::new();
    let (storage, content) = (tempfile::tempdir().unwrap(), files(&[("etc/name", b"built")]));
    let buildah = |arguments: &[&str]| {
        let mut command = tool("buildah");
        command.args(["--storage-driver", "vfs"]);
        command.arg("--root").arg(storage.path().join("root")).arg("--runroot").arg(storage.path().join("run"));
        run(command.args(arguments))
    };
    let file = storage.path().join("saved.tar");
    buildah(&["from", "--name", "work", "scratch"]);
    buildah(&["copy", "work", content.path().to_str().unwrap(), "/"]);
    buildah(&["config", "--cmd", "[\"/run\"]", "work"]);
    buildah(&["commit", "--quiet", "work", &format!("docker-archive:{}:localhost/built:1", file.display())]);
    let (image, base) = import(&store, file.to_str().unwrap(), &ImportOptions::default()).unwrap();
    assert_eq!((image.reference, image.config.cmd), (parse("localhost/built:1"), vec!["/run".to_owned()]));
    assert_eq!(read(&base, "etc/name"), b"built");
}

fn root_tar(compress: Option<&str>) -> (TempDir, PathBuf) {
    let content = files(&[("bin/tool", b"#!"), ("etc/name", b"rootfs")]);
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("root.tar");
    let mut command = tool("tar");
    command.args(compress.map(|compress| format!("--use-compress-program={compress}")));
    run(command.arg("-cf").arg(&file).arg("-C").arg(content.path()).arg("."));
    (directory, file)
}

#[test]
fn root_filesystem_is_run_as_its_options_say() {
    let config = ImageConfig {
        entrypoint: vec!["/bin/tool".into()],
        cmd: vec!["-v".into()],
        env: vec!["A=1".into()],
        working_dir: "/etc".into(),
        user: "7".into(),
        ..ImageConfig::default()
    };
    for compress in [None, Some("gzip"), Some("zstd")] {
        let store = Store::new();
        let (_directory, file) = root_tar(compress);
        let options = ImportOptions { config: config.clone(), ..named("mine:1") };
        let (image, base) = import(&store, file.to_str().unwrap(), &options).unwrap();
        assert_eq!(image.config, config);
        assert_eq!(image.platform, Platform::host());
        assert_eq!(read(&base, "etc/name"), b"rootfs");
        assert_eq!(store.images.lookup("mine:1", None).unwrap(), image);
    }
}

#[test]
fn import_without_a_name_says_how_to_give_one() {
    let (_directory, file) = root_tar(None);
    let layout = sample();
    for source in [file.display().to_string(), layout.path().display().to_string()] {
        let store = Store::new();
        let error = import(&store, &source, &ImportOptions::default()).unwrap_err();
        assert_eq!(error.code(), "unnamed_image_import");
        assert!(error.hint().unwrap().contains("microagent image import"), "{:?}", error.hint());
        store.assert_empty();
    }
}

#[test]
fn one_of_several_images_must_be_chosen() {
    let layout = sample();
    layout.image("v2").configure(&["--config.cmd=/two"]);
    let path = layout.path().display().to_string();
    let store = Store::new();
    let error = import(&store, &path, &named("demo")).unwrap_err();
    assert_eq!(error.code(), "ambiguous_image_import");
    assert!(error.to_string().contains("`v1`") && error.to_string().contains("`v2`"), "{error}");
    let (image, _) = import(&store, &format!("oci:{path}:v2"), &named("demo")).unwrap();
    assert_eq!(image.config.cmd, ["/two"]);
    let error = import(&store, &format!("oci:{path}:v3"), &named("demo")).unwrap_err();
    assert!(error.to_string().contains("`v3`"), "{error}");
}

#[test]
fn config_from_options_is_refused_where_the_image_has_its_own() {
    let layout = sample();
    let config = ImageConfig { cmd: vec!["/x".into()], ..ImageConfig::default() };
    let options = ImportOptions { config, ..named("demo") };
    let error = import(&Store::new(), layout.path().to_str().unwrap(), &options).unwrap_err();
    assert_eq!(error.code(), "invalid_image_import");
}

fn blob_path(layout: &Layout, digest: &str) -> PathBuf {
    layout.path().join("blobs").join(digest.replace(':', "/"))
}

type Damage = fn(&Path);

#[test]
fn damaged_blobs_are_refused_and_leave_nothing() {
    let damages: [(&str, Damage); 3] = [
        ("image_digest_mismatch", |blob| {
            let mut bytes = fs::read(blob).unwrap();
            let last = bytes.len() - 1;
            bytes[last] ^= 1;
            fs::write(blob, bytes).unwrap();
        }),
        ("image_size_mismatch", |blob| fs::write(blob, "short").unwrap()),
        ("inconsistent_image", |blob| fs::remove_file(blob).unwrap()),
    ];
    for (code, damage) in damages {
        let (layout, store) = (sample(), Store::new());
        let digest = layout.manifest("v1")["layers"][1]["digest"].as_str().unwrap().to_owned();
        damage(&blob_path(&layout, &digest));
        let error = import(&store, layout.path().to_str().unwrap(), &named("demo")).unwrap_err();
        assert_eq!(error.code(), code, "{error:?}");
        store.assert_empty();
    }
}

#[test]
fn garbage_manifest_is_malformed_and_not_a_panic() {
    for garbage in ["{", "[]", "null", r#"{"schemaVersion":2}"#, r#"{"schemaVersion":2,"config":{},"layers":"x"}"#] {
        let (layout, store) = (sample(), Store::new());
        let digest = microagent_image::Digest::of(garbage.as_bytes()).to_string();
        fs::write(blob_path(&layout, &digest), garbage).unwrap();
        let index = layout.path().join("index.json");
        let mut text: serde_json::Value = serde_json::from_slice(&fs::read(&index).unwrap()).unwrap();
        text["manifests"][0]["digest"] = digest.into();
        text["manifests"][0]["size"] = garbage.len().into();
        fs::write(&index, text.to_string()).unwrap();
        let error = import(&store, layout.path().to_str().unwrap(), &named("demo")).unwrap_err();
        assert_eq!(error.code(), "invalid_manifest", "{garbage}: {error:?}");
        store.assert_empty();
    }
}

#[test]
fn what_is_no_image_is_refused_by_name() {
    let directory = tempfile::tempdir().unwrap();
    let text = directory.path().join("notes.txt");
    fs::write(&text, "not an archive at all").unwrap();
    for source in [
        text.display().to_string(),
        directory.path().display().to_string(),
        format!("docker-archive:{}", text.display()),
    ] {
        let error = import(&Store::new(), &source, &named("demo")).unwrap_err();
        assert_eq!(error.code(), "invalid_image_import", "{source}: {error:?}");
        assert!(error.to_string().contains(directory.path().to_str().unwrap()), "{error}");
    }
    let error = import(&Store::new(), "/no/such/file", &named("demo")).unwrap_err();
    assert!(error.to_string().contains("/no/such/file"), "{error}");
}
