//! Set-up steps.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use std::borrow::Cow;
use std::fmt;
use std::path::PathBuf;

/// Set-up steps in order: a single command line or a list of steps.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Setup(pub Vec<SetupStep>);

/// One step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SetupStep {
    /// A line for the guest's shell.
    Line(String),
    /// A script of the host.
    File(PathBuf),
}

impl<'de> Deserialize<'de> for Setup {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Setup, D::Error> {
        struct Steps;

        impl<'de> Visitor<'de> for Steps {
            type Value = Setup;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a command line, or a list of steps")
            }

            fn visit_str<E: Error>(self, line: &str) -> Result<Setup, E> {
                Ok(Setup(vec![SetupStep::Line(line.to_owned())]))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, steps: A) -> Result<Setup, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(steps)).map(Setup)
            }
        }

        deserializer.deserialize_any(Steps)
    }
}

/// A step that is written as a map.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    run: Option<String>,
    command: Option<String>,
    file: Option<PathBuf>,
}

impl<'de> Deserialize<'de> for SetupStep {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<SetupStep, D::Error> {
        struct Step;

        impl<'de> Visitor<'de> for Step {
            type Value = SetupStep;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a command line, or a map with `run` or `file`")
            }

            fn visit_str<E: Error>(self, line: &str) -> Result<SetupStep, E> {
                Ok(SetupStep::Line(line.to_owned()))
            }

            fn visit_map<A: MapAccess<'de>>(self, step: A) -> Result<SetupStep, A::Error> {
                match Written::deserialize(MapAccessDeserializer::new(step))? {
                    Written { run: Some(line), command: None, file: None }
                    | Written { run: None, command: Some(line), file: None } => Ok(SetupStep::Line(line)),
                    Written { run: None, command: None, file: Some(path) } => Ok(SetupStep::File(path)),
                    _ => Err(A::Error::custom("a set-up step has exactly one of `run`, `command` and `file`")),
                }
            }
        }

        deserializer.deserialize_any(Step)
    }
}

impl JsonSchema for Setup {
    fn schema_name() -> Cow<'static, str> {
        Cow::Borrowed("Setup")
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "Set-up steps in order: a single command line or a list of steps.",
            "anyOf": [
                { "type": "string" },
                { "type": "array", "items": generator.subschema_for::<SetupStep>() },
            ],
        })
    }
}

impl JsonSchema for SetupStep {
    fn schema_name() -> Cow<'static, str> {
        Cow::Borrowed("SetupStep")
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let keyed = |key: &str, description: &str| {
            let mut properties = serde_json::Map::new();
            properties.insert(key.to_owned(), serde_json::json!({ "type": "string", "description": description }));
            serde_json::json!({
                "type": "object",
                "properties": properties,
                "required": [key],
                "additionalProperties": false,
            })
        };
        json_schema!({
            "description": "A command line for the guest's shell, or a script of the host.",
            "anyOf": [
                { "type": "string" },
                keyed("run", "A command line."),
                keyed("command", "The same as `run`."),
                keyed("file", "A script of the host."),
            ],
        })
    }
}
