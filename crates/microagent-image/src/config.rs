//! The image config: how the image wants to be run.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::manifest::MAX_DOCUMENT;
use crate::{Digest, Error, Platform};

/// How an image wants to be run, from the `config` part of its config document.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ImageConfig {
    /// Program and first arguments; the command is appended to them.
    pub entrypoint: Vec<String>,
    /// Default command, or default arguments of the entrypoint.
    pub cmd: Vec<String>,
    /// Environment as `NAME=value`.
    pub env: Vec<String>,
    /// `user`, `uid`, `user:group` or `uid:gid`; empty for root.
    pub user: String,
    /// Directory to start in; empty for `/`.
    pub working_dir: String,
    /// Signal that asks the program to stop, as a name or number; empty for `SIGTERM`.
    pub stop_signal: String,
    /// Ports the program listens on, as `80/tcp`.
    pub exposed_ports: Vec<String>,
    /// Directories that hold data.
    pub volumes: Vec<String>,
    /// Free-form labels.
    pub labels: BTreeMap<String, String>,
}

/// The whole config document of an image, as far as it matters here.
#[derive(Clone, Debug)]
pub(crate) struct ConfigDocument {
    pub(crate) config: ImageConfig,
    pub(crate) created: Option<String>,
    /// Digests of the uncompressed layers, lowest first.
    pub(crate) diff_ids: Vec<Digest>,
    os: String,
    architecture: String,
}

impl ConfigDocument {
    /// Parses `bytes`; `what` names the image in errors.
    pub(crate) fn parse(bytes: &[u8], what: &str) -> Result<ConfigDocument, Error> {
        let what = format!("the config of {what}");
        let length = bytes.len() as u64;
        if length > MAX_DOCUMENT {
            return Err(Error::LimitExceeded { what: format!("bytes of {what}"), limit: MAX_DOCUMENT, found: length });
        }
        let raw: RawDocument =
            serde_json::from_slice(bytes).map_err(|source| Error::InvalidManifest { what, source })?;
        let run = raw.config.unwrap_or_default();
        Ok(ConfigDocument {
            config: ImageConfig {
                entrypoint: run.entrypoint.unwrap_or_default(),
                cmd: run.cmd.unwrap_or_default(),
                env: run.env.unwrap_or_default(),
                user: run.user.unwrap_or_default(),
                working_dir: run.working_dir.unwrap_or_default(),
                stop_signal: run.stop_signal.unwrap_or_default(),
                exposed_ports: run.exposed_ports.unwrap_or_default().into_keys().collect(),
                volumes: run.volumes.unwrap_or_default().into_keys().collect(),
                labels: run.labels.unwrap_or_default(),
            },
            created: raw.created,
            diff_ids: raw.rootfs.map(|rootfs| rootfs.diff_ids).unwrap_or_default(),
            os: raw.os.unwrap_or_default(),
            architecture: raw.architecture.unwrap_or_default(),
        })
    }

    /// Refuses an image that says it is for another platform. One that says nothing is taken at its user's word.
    pub(crate) fn check_platform(&self, wanted: Platform, what: &str) -> Result<(), Error> {
        let os = self.os.is_empty() || self.os == "linux";
        let architecture = self.architecture.is_empty() || self.architecture == wanted.architecture.name();
        if os && architecture {
            return Ok(());
        }
        Err(Error::NoMatchingPlatform {
            what: what.to_owned(),
            wanted: wanted.to_string(),
            available: crate::error::quoted(&format!("{}/{}", self.os, self.architecture)),
        })
    }
}

/// Makes the config document of an image that has none: a root filesystem and how to run it.
pub(crate) fn synthesise(config: &ImageConfig, platform: Platform, diff_ids: &[Digest]) -> Vec<u8> {
    let set = |names: &[String]| names.iter().map(|name| (name.clone(), json!({}))).collect::<BTreeMap<_, _>>();
    let some = |text: &String| (!text.is_empty()).then(|| text.clone());
    let raw = RawDocument {
        os: Some("linux".to_owned()),
        architecture: Some(platform.architecture.name().to_owned()),
        created: None,
        config: Some(RawConfig {
            entrypoint: Some(config.entrypoint.clone()),
            cmd: Some(config.cmd.clone()),
            env: Some(config.env.clone()),
            user: some(&config.user),
            working_dir: some(&config.working_dir),
            stop_signal: some(&config.stop_signal),
            exposed_ports: Some(set(&config.exposed_ports)),
            volumes: Some(set(&config.volumes)),
            labels: Some(config.labels.clone()),
        }),
        rootfs: Some(RawRootfs { kind: "layers".to_owned(), diff_ids: diff_ids.to_vec() }),
    };
    serde_json::to_vec(&raw).unwrap_or_else(|error| unreachable!("strings and maps always serialise: {error}"))
}

#[derive(Serialize, Deserialize)]
struct RawDocument {
    os: Option<String>,
    architecture: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    created: Option<String>,
    config: Option<RawConfig>,
    rootfs: Option<RawRootfs>,
}

/// Builders write `null`, an empty list or nothing at all for what an image does not set.
#[derive(Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct RawConfig {
    entrypoint: Option<Vec<String>>,
    cmd: Option<Vec<String>>,
    env: Option<Vec<String>>,
    user: Option<String>,
    working_dir: Option<String>,
    stop_signal: Option<String>,
    exposed_ports: Option<BTreeMap<String, Value>>,
    volumes: Option<BTreeMap<String, Value>>,
    labels: Option<BTreeMap<String, String>>,
}

#[derive(Serialize, Deserialize)]
struct RawRootfs {
    #[serde(rename = "type", default)]
    kind: String,
    diff_ids: Vec<Digest>,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn nulls_and_missing_parts_mean_not_set() {
        let text = br#"{"os":"linux","architecture":"amd64","config":{"Entrypoint":null,"Cmd":["sh"],"User":"1:2"},"history":[]}"#;
        let document = ConfigDocument::parse(text, "test").unwrap();
        assert_eq!(document.config.cmd, ["sh"]);
        assert_eq!(document.config.user, "1:2");
        assert!(document.config.entrypoint.is_empty());
        assert!(document.diff_ids.is_empty());
    }

    #[test]
    fn image_for_another_platform_is_refused_by_name() {
        let document = ConfigDocument::parse(br#"{"os":"windows","architecture":"amd64"}"#, "test").unwrap();
        let error = document.check_platform(Platform::AMD64, "test").unwrap_err().to_string();
        assert!(error.contains("windows/amd64") && error.contains("linux/amd64"), "{error}");
    }

    #[test]
    fn made_config_reads_back_as_given() {
        let config = ImageConfig {
            cmd: vec!["/bin/sh".into(), "-l".into()],
            env: vec!["A=b=c".into()],
            exposed_ports: vec!["80/tcp".into()],
            working_dir: "/srv".into(),
            ..ImageConfig::default()
        };
        let diff_ids = [Digest::of(b"layer")];
        let document = ConfigDocument::parse(&synthesise(&config, Platform::ARM64, &diff_ids), "test").unwrap();
        assert_eq!(document.config, config);
        assert_eq!(document.diff_ids, diff_ids);
        document.check_platform(Platform::ARM64, "test").unwrap();
        document.check_platform(Platform::AMD64, "test").unwrap_err();
    }

    proptest! {
        #[test]
        fn parsing_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            drop(ConfigDocument::parse(&bytes, "test"));
        }
    }
}
