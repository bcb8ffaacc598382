//! Lists of hosts in a file.

use crate::{Error, Host, Rules};
use serde::{Deserialize, Serialize};
use serde_saphyr::{DefaultMessageFormatter, Error as YamlError, MessageFormatter};
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// Most bytes of a file.
const MAX_BYTES: u64 = 1 << 20;

/// What a policy file lists.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicyFile {
    /// See [`Rules::allow`].
    #[serde(default)]
    pub allow: Vec<Host>,
    /// See [`Rules::passthrough`].
    #[serde(default)]
    pub passthrough: Vec<Host>,
}

impl PolicyFile {
    /// Reads `path`, whose name ends with `.yaml`, `.yml` or `.json`.
    pub fn load(path: &Path) -> Result<PolicyFile, Error> {
        let bad = |reason: String| Error::BadFile { path: path.to_owned(), what: "an egress policy", reason };
        let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
        if !matches!(extension, "yaml" | "yml" | "json") {
            return Err(bad("its name is to end with `.yaml`, `.yml` or `.json`".to_owned()));
        }
        let failed = |source| Error::File { doing: "read", path: path.to_owned(), source };
        let mut text = String::new();
        File::open(path).and_then(|file| file.take(MAX_BYTES + 1).read_to_string(&mut text)).map_err(failed)?;
        if text.len() as u64 > MAX_BYTES {
            return Err(bad("it is larger than 1 MiB".to_owned()));
        }
        if extension == "json" {
            return serde_json::from_str(&text).map_err(|error| bad(error.to_string()));
        }
        PolicyFile::parse(&text).map_err(bad)
    }

    /// Reads YAML. A file of comments alone lists nothing.
    pub(crate) fn parse(text: &str) -> Result<PolicyFile, String> {
        let options = serde_saphyr::options! { with_snippet: false };
        let file = serde_saphyr::from_str_with_options::<Option<PolicyFile>>(text, options);
        Ok(file.map_err(|error| explain(&error))?.unwrap_or_default())
    }

    /// Adds what it lists to `rules`.
    pub fn add_to(self, rules: &mut Rules) {
        let add = |list: &mut Vec<Host>, more: Vec<Host>| {
            for host in more {
                if !list.contains(&host) {
                    list.push(host);
                }
            }
        };
        add(&mut rules.allow, self.allow);
        add(&mut rules.passthrough, self.passthrough);
    }
}

/// Where a mistake is, and what is wrong. Which file it is in is told by whoever knows.
fn explain(error: &YamlError) -> String {
    let place = error.location().map(|place| format!("line {}, column {}: ", place.line(), place.column()));
    let text = DefaultMessageFormatter.format_message(error.without_snippet()).replace('\n', " ");
    place.unwrap_or_default() + text.trim_end_matches('.')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(name: &str, text: &str) -> Result<PolicyFile, Error> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        PolicyFile::load(&path)
    }

    #[test]
    fn lists_are_added_to_what_is_there() {
        let file =
            load("p.yaml", "# why\nallow: [api.example.com, .example.org]\npassthrough:\n- 192.0.2.1\n").unwrap();
        let mut rules = Rules { allow: vec!["api.example.com".parse().unwrap()], ..Rules::default() };
        file.clone().add_to(&mut rules);
        assert_eq!((rules.allow.len(), rules.passthrough.len()), (2, 1));
        assert_eq!(load("p.json", &serde_json::to_string(&file).unwrap()).unwrap(), file);
        assert_eq!(load("p.yml", "# nothing\n").unwrap(), PolicyFile::default());
    }

    #[test]
    fn what_cannot_be_meant_is_refused_with_its_reason() {
        for (name, text, reason) in [
            ("p.txt", "allow: []", ".yaml"),
            ("p.yaml", "allow: []\ndeny: [x.org]\n", ": line 2, column 1: "),
            ("p.yaml", "allow: []\ndeny: [x.org]\n", "deny"),
            ("p.yaml", "allow: ['']\n", "names no host"),
            ("p.yaml", "allow: [https://x.org/]\n", "scheme"),
            ("p.yaml", "allow: {", ""),
            ("p.json", "{\"allow\": 1}", ""),
        ] {
            let error = load(name, text).unwrap_err().to_string();
            assert!(error.contains("not an egress policy") && error.contains(reason), "{name} {text}: {error}");
            assert!(!error.contains("error:") && !error.contains("<input>") && !error.contains('\n'), "{error}");
        }
        assert!(matches!(PolicyFile::load(Path::new("/none.yaml")), Err(Error::File { .. })));
    }
}
