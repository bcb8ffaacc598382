use super::*;
use crate::config::ConfigDocument;

fn digest(text: &str) -> Digest {
    Digest::of(text.as_bytes())
}

fn commit(changes: ConfigChanges) -> Commit {
    Commit { changes, ..Commit::new(digest("base"), "local/new:1".parse().unwrap()) }
}

fn base(layers: &[&str], media_type: &str) -> Manifest {
    let layer = |name: &&str| Descriptor::new(media_type, digest(name), 10);
    Manifest::synthesise(Descriptor::new(OCI_CONFIG, digest("config"), 2), layers.iter().map(layer).collect())
}

/// The config of a commit on a base with one layer and this config, parsed and as it is.
fn amended(base_config: &Value, changes: ConfigChanges) -> (ConfigDocument, Value) {
    let layer = NewLayer { digest: digest("blob"), size: 7, diff_id: digest("tar") };
    let bytes = base_config.to_string().into_bytes();
    let base = base(&["one"], OCI_LAYER_GZIP);
    let (_, config) = derive(&commit(changes), &base, &bytes, Platform::AMD64, &layer).unwrap();
    (ConfigDocument::parse(&config, "test").unwrap(), serde_json::from_slice(&config).unwrap())
}

#[test]
fn what_is_not_changed_survives_known_or_not() {
    let base = json!({
        "os": "linux", "architecture": "amd64", "os.features": ["future"], "number": 18_446_744_073_709_551_615_u64,
        "config": { "Cmd": ["sh"], "Env": ["PATH=/bin", "A=1"], "Healthcheck": { "Test": ["CMD", "true"] } },
        "rootfs": { "type": "layers", "diff_ids": [digest("one")], "more": null },
        "history": [{ "created_by": "first", "extra": [1] }, { "created_by": "ENV", "empty_layer": true }],
    });
    let (parsed, raw) = amended(&base, ConfigChanges::default());
    for path in ["/os.features", "/number", "/config/Healthcheck", "/rootfs/more", "/history/0", "/history/1"] {
        assert_eq!(raw.pointer(path), base.pointer(path), "{path}");
    }
    assert_eq!((parsed.config.cmd, parsed.config.env), (vec!["sh".to_owned()], vec!["PATH=/bin".into(), "A=1".into()]));
    assert_eq!(parsed.diff_ids, [digest("one"), digest("tar")]);
    assert_eq!(raw["history"].as_array().unwrap().len(), 3);
    assert_eq!(raw["history"][2]["created_by"], CREATED_BY);
    assert_eq!(raw["created"], raw["history"][2]["created"]);
}

#[test]
fn changes_replace_what_they_name_and_nothing_else() {
    let base = json!({
        "os": "linux", "architecture": "amd64",
        "config": { "Cmd": ["old"], "Env": ["PATH=/bin", "A=1", "B=2"], "Labels": { "kept": "1", "set": "old" } },
        "rootfs": { "type": "layers", "diff_ids": [digest("one")] },
    });
    let changes = ConfigChanges {
        env: vec!["A=new".into(), "C=3".into()],
        cmd: Some(vec!["serve".into()]),
        working_dir: Some("/srv".into()),
        user: Some("1000:1000".into()),
        labels: BTreeMap::from([("set".into(), "new".into())]),
        author: Some("somebody".into()),
        message: Some("why".into()),
        created_by: Some("/bin/make".into()),
        created: Some("2026-01-02T03:04:05Z".parse().unwrap()),
        ..ConfigChanges::default()
    };
    let (parsed, raw) = amended(&base, changes);
    assert_eq!(parsed.config.env, ["PATH=/bin", "B=2", "A=new", "C=3"]);
    assert_eq!(parsed.config.cmd, ["serve"]);
    assert_eq!((parsed.config.working_dir.as_str(), parsed.config.user.as_str()), ("/srv", "1000:1000"));
    assert_eq!(raw["config"]["Labels"], json!({ "kept": "1", "set": "new" }));
    let entry = json!({
        "created": "2026-01-02T03:04:05Z", "created_by": "/bin/make", "author": "somebody", "comment": "why",
    });
    assert_eq!((&raw["history"][1], &raw["created"], &raw["author"]), (&entry, &entry["created"], &"somebody".into()));
}

#[test]
fn new_entrypoint_does_not_get_the_arguments_of_the_old_one() {
    let base =
        json!({ "config": { "Entrypoint": ["/old"], "Cmd": ["--old"] }, "rootfs": { "diff_ids": [digest("one")] } });
    let entrypoint = Some(vec!["/new".to_owned()]);
    let (parsed, _) = amended(&base, ConfigChanges { entrypoint: entrypoint.clone(), ..ConfigChanges::default() });
    assert_eq!((parsed.config.entrypoint, parsed.config.cmd), (vec!["/new".to_owned()], vec![]));
    let changes = ConfigChanges { entrypoint, cmd: Some(vec!["--new".into()]), ..ConfigChanges::default() };
    assert_eq!(amended(&base, changes).0.config.cmd, ["--new"]);
}

#[test]
fn nulls_and_missing_parts_become_what_the_specification_requires() {
    let base = json!({ "config": null, "history": null, "rootfs": { "diff_ids": [digest("one")] } });
    let changes = ConfigChanges { env: vec!["A=1".into()], ..ConfigChanges::default() };
    let (parsed, raw) = amended(&base, changes);
    parsed.check_platform(Platform::AMD64, "test").unwrap();
    assert_eq!(
        (&raw["os"], &raw["architecture"], &raw["rootfs"]["type"]),
        (&"linux".into(), &"amd64".into(), &"layers".into())
    );
    assert_eq!(raw["history"].as_array().unwrap().len(), 2, "every layer has an entry: {raw}");
}

#[test]
fn docker_documents_become_oci_documents() {
    let layer = NewLayer { digest: digest("blob"), size: 7, diff_id: digest("tar") };
    let base = base(&["one"], "application/vnd.docker.image.rootfs.diff.tar.gzip");
    let config = json!({ "rootfs": { "diff_ids": [digest("one")] } }).to_string();
    let made = Commit {
        compression: LayerCompression::Zstd,
        base_name: Some("alpine:3".parse().unwrap()),
        ..commit(ConfigChanges::default())
    };
    let (manifest, _) = derive(&made, &base, config.as_bytes(), Platform::ARM64, &layer).unwrap();
    let types: Vec<&str> = manifest.layers.iter().map(|layer| layer.media_type.as_str()).collect();
    assert_eq!(types, [OCI_LAYER_GZIP, OCI_LAYER_ZSTD]);
    assert_eq!((manifest.media_type.as_deref(), manifest.config.media_type.as_str()), (Some(OCI_MANIFEST), OCI_CONFIG));
    let raw: Value = serde_json::from_slice(&manifest.to_bytes()).unwrap();
    assert_eq!(raw["annotations"][BASE_DIGEST], digest("base").to_string());
    assert_eq!(raw["annotations"][BASE_NAME], "docker.io/library/alpine:3");
}

#[test]
fn one_layer_too_many_is_refused() {
    let layer = NewLayer { digest: digest("blob"), size: 7, diff_id: digest("tar") };
    let names: Vec<String> = (0..MAX_LAYERS).map(|number| number.to_string()).collect();
    let base = base(&names.iter().map(String::as_str).collect::<Vec<_>>(), OCI_LAYER);
    let outcome = derive(&commit(ConfigChanges::default()), &base, b"{}", Platform::AMD64, &layer);
    assert!(matches!(outcome, Err(Error::LimitExceeded { found: 513, .. })));
}
