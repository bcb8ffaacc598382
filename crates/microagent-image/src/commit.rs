//! What a new image is made of: a base, a layer on top of it, and changes to how it wants to be run.
//!
//! The config of the base is amended as a JSON document, not parsed and written anew, so that whatever its builder put
//! there and this program does not know is in the new image as well.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::manifest::{
    Descriptor, MAX_LAYERS, Manifest, OCI_CONFIG, OCI_LAYER, OCI_LAYER_GZIP, OCI_LAYER_ZSTD, OCI_MANIFEST,
};
use crate::{Cancellation, Digest, Error, Platform, Reference};

/// What the history says of a layer made here, unless the caller knows better.
const CREATED_BY: &str = "microagent commit";
/// Annotations by which the specification lets an image tell what it was made from.
const BASE_DIGEST: &str = "org.opencontainers.image.base.digest";
const BASE_NAME: &str = "org.opencontainers.image.base.name";

/// A new image: the one it starts from, its name, and what is different about it.
#[derive(Clone, Debug)]
pub struct Commit {
    /// Digest of the manifest of the image it starts from, which must be in the store.
    pub base: Digest,
    /// What that image is called, to be noted in the new one.
    pub base_name: Option<Reference>,
    /// The name the new image gets. It takes the place of what had that name on its platform.
    pub target: Reference,
    /// How its layer is compressed.
    pub compression: LayerCompression,
    /// How it wants to be run, as far as that is not how the base does.
    pub changes: ConfigChanges,
    /// Stops the work when turned on; the error is then [`Error::Cancelled`].
    pub cancellation: Cancellation,
}

impl Commit {
    /// A commit on top of `base` that changes nothing but the files.
    pub fn new(base: Digest, target: Reference) -> Commit {
        let (compression, changes) = (LayerCompression::default(), ConfigChanges::default());
        Commit { base, base_name: None, target, compression, changes, cancellation: Cancellation::default() }
    }
}

/// How a layer is compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LayerCompression {
    /// gzip. Everything that knows images reads it.
    #[default]
    Gzip,
    /// Zstandard: smaller and faster. What was made before about 2020 does not read it.
    Zstd,
}

impl LayerCompression {
    pub(crate) const fn media_type(self) -> &'static str {
        match self {
            LayerCompression::Gzip => OCI_LAYER_GZIP,
            LayerCompression::Zstd => OCI_LAYER_ZSTD,
        }
    }
}

/// Changes to the config of the base. What is `None` or empty stays as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConfigChanges {
    /// Variables to set, as `NAME=value`.
    pub env: Vec<String>,
    /// The new command.
    pub cmd: Option<Vec<String>>,
    /// The new entrypoint. Without a new command, the command of the base goes: it was meant for another entrypoint.
    pub entrypoint: Option<Vec<String>>,
    /// The directory to start in.
    pub working_dir: Option<String>,
    /// `user`, `uid`, `user:group` or `uid:gid`.
    pub user: Option<String>,
    /// Labels to set.
    pub labels: BTreeMap<String, String>,
    /// Who made it.
    pub author: Option<String>,
    /// A word on what was changed, for the history.
    pub message: Option<String>,
    /// What the history says the layer was made by; `microagent commit` if nothing is given.
    pub created_by: Option<String>,
    /// When it was made; now, if nothing is given.
    pub created: Option<Timestamp>,
}

/// A layer as it was compressed.
pub(crate) struct NewLayer {
    pub(crate) digest: Digest,
    pub(crate) size: u64,
    pub(crate) diff_id: Digest,
}

/// The documents of the new image. Those of a Docker image become OCI documents.
pub(crate) fn derive(
    commit: &Commit,
    base: &Manifest,
    base_config: &[u8],
    platform: Platform,
    layer: &NewLayer,
) -> Result<(Manifest, Vec<u8>), Error> {
    let what = format!("the image `{}`", commit.base.short());
    let found = base.layers.len() as u64 + 1;
    if found > MAX_LAYERS as u64 {
        let what = format!("layers of `{}`", commit.target.familiar());
        return Err(Error::LimitExceeded { what, limit: MAX_LAYERS as u64, found });
    }
    let document: Value = serde_json::from_slice(base_config)
        .map_err(|source| Error::InvalidManifest { what: format!("the config of {what}"), source })?;
    let document = amend(document, &commit.changes, base.layers.len(), platform, &layer.diff_id);
    let config_bytes =
        serde_json::to_vec(&document).unwrap_or_else(|error| unreachable!("a JSON value always serialises: {error}"));
    let config = Descriptor::new(OCI_CONFIG, Digest::of(&config_bytes), config_bytes.len() as u64);
    let below = base
        .layers
        .iter()
        .map(|layer| Descriptor { media_type: oci_layer_type(&layer.media_type).to_owned(), ..layer.clone() });
    let new = Descriptor::new(commit.compression.media_type(), layer.digest.clone(), layer.size);
    let mut annotations = BTreeMap::from([(BASE_DIGEST.to_owned(), commit.base.to_string())]);
    annotations.extend(commit.base_name.as_ref().map(|name| (BASE_NAME.to_owned(), name.to_string())));
    let manifest = Manifest {
        schema_version: 2,
        media_type: Some(OCI_MANIFEST.to_owned()),
        config,
        layers: below.chain([new]).collect(),
        annotations: Some(annotations),
    };
    Ok((manifest, config_bytes))
}

/// What the specification calls a layer that Docker gave its own type.
fn oci_layer_type(media_type: &str) -> &str {
    match media_type {
        "application/vnd.docker.image.rootfs.diff.tar" => OCI_LAYER,
        "application/vnd.docker.image.rootfs.diff.tar.gzip" => OCI_LAYER_GZIP,
        "application/vnd.docker.image.rootfs.diff.tar.zstd" => OCI_LAYER_ZSTD,
        other => other,
    }
}

/// Changes a config document that has already been parsed once, and so is an object.
fn amend(
    mut document: Value,
    changes: &ConfigChanges,
    layers_below: usize,
    platform: Platform,
    diff_id: &Digest,
) -> Value {
    let created = changes.created.unwrap_or_else(Timestamp::now).to_string();
    let top = object(&mut document);
    top.insert("created".to_owned(), json!(created));
    if let Some(author) = &changes.author {
        top.insert("author".to_owned(), json!(author));
    }
    // Both are required, and missing from images that were taken at their user's word.
    for (key, value) in [("os", "linux"), ("architecture", platform.architecture.name())] {
        if top.get(key).and_then(Value::as_str).is_none_or(str::is_empty) {
            top.insert(key.to_owned(), json!(value));
        }
    }
    amend_run(object(top.entry("config").or_insert(Value::Null)), changes);
    let rootfs = object(top.entry("rootfs").or_insert(Value::Null));
    rootfs.insert("type".to_owned(), json!("layers"));
    array(rootfs.entry("diff_ids").or_insert(Value::Null)).push(json!(diff_id));
    add_history(array(top.entry("history").or_insert(Value::Null)), changes, layers_below, &created);
    document
}

/// Changes the part that says how the image wants to be run.
fn amend_run(run: &mut Map<String, Value>, changes: &ConfigChanges) {
    if let Some(entrypoint) = &changes.entrypoint {
        run.insert("Entrypoint".to_owned(), json!(entrypoint));
        run.insert("Cmd".to_owned(), Value::Null);
    }
    let values = [
        ("Cmd", changes.cmd.as_ref().map(|cmd| json!(cmd))),
        ("WorkingDir", changes.working_dir.as_ref().map(|directory| json!(directory))),
        ("User", changes.user.as_ref().map(|user| json!(user))),
    ];
    for (key, value) in values {
        if let Some(value) = value {
            run.insert(key.to_owned(), value);
        }
    }
    if !changes.env.is_empty() {
        let env = array(run.entry("Env").or_insert(Value::Null));
        for variable in &changes.env {
            let name = variable_name(variable);
            env.retain(|old| old.as_str().is_none_or(|old| variable_name(old) != name));
            env.push(json!(variable));
        }
    }
    if !changes.labels.is_empty() {
        let labels = object(run.entry("Labels").or_insert(Value::Null));
        labels.extend(changes.labels.iter().map(|(name, value)| (name.clone(), json!(value))));
    }
}

/// Adds the new layer to the history. Readers match entries with layers by counting, so layers the base's history does not
/// mention get an entry each, which says no more than that.
fn add_history(history: &mut Vec<Value>, changes: &ConfigChanges, layers_below: usize, created: &str) {
    let is_layer = |entry: &&Value| entry["empty_layer"].as_bool() != Some(true);
    let known = history.iter().filter(is_layer).count();
    history.extend((known..layers_below).map(|_| json!({ "comment": "not recorded by the base image" })));
    let created_by = changes.created_by.as_deref().unwrap_or(CREATED_BY);
    let mut entry = json!({ "created": created, "created_by": created_by });
    let details = [("author", &changes.author), ("comment", &changes.message)];
    for (key, value) in details {
        if let Some(value) = value {
            entry[key] = json!(value);
        }
    }
    history.push(entry);
}

fn variable_name(variable: &str) -> &str {
    variable.split_once('=').map_or(variable, |(name, _)| name)
}

/// `value` as an object, made one if it is anything else: builders write `null` for what is not there.
fn object(value: &mut Value) -> &mut Map<String, Value> {
    if !value.is_object() {
        *value = Value::Object(Map::new());
    }
    value.as_object_mut().unwrap_or_else(|| unreachable!("it is an object now"))
}

/// `value` as an array, made one if it is anything else.
fn array(value: &mut Value) -> &mut Vec<Value> {
    if !value.is_array() {
        *value = Value::Array(Vec::new());
    }
    value.as_array_mut().unwrap_or_else(|| unreachable!("it is an array now"))
}

#[cfg(test)]
#[path = "commit_tests.rs"]
mod tests;
