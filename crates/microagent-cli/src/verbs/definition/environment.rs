//! `--env` and `--env-file`.

use crate::error::Error;
use clap::ArgAction;
use std::collections::BTreeMap;
use std::env::VarError;
use std::path::PathBuf;

/// Environment variables for the guest.
#[derive(clap::Args, Clone, Debug)]
pub(in crate::verbs) struct Variables {
    /// Environment variable; `KEY` alone takes its value from here; repeatable
    #[arg(long, short, value_name = "KEY=VALUE", action = ArgAction::Append)]
    env: Vec<String>,
    /// File of such lines; `--env` overrides them; repeatable
    #[arg(long, value_name = "PATH", action = ArgAction::Append)]
    env_file: Vec<PathBuf>,
}

/// All variables; the last of each name counts.
pub(in crate::verbs) fn collect(variables: &Variables) -> Result<BTreeMap<String, String>, Error> {
    let mut environment = BTreeMap::new();
    for path in &variables.env_file {
        let text = std::fs::read_to_string(path).map_err(|source| microagent::Error::ReadFile {
            option: "--env-file",
            path: path.clone(),
            source,
        })?;
        let lines = text.lines().map(str::trim_start).filter(|line| !line.is_empty() && !line.starts_with('#'));
        for line in lines {
            environment.extend([variable(line)?]);
        }
    }
    for text in &variables.env {
        environment.extend([variable(text)?]);
    }
    Ok(environment)
}

fn variable(text: &str) -> Result<(String, String), Error> {
    if let Some((key, value)) = text.split_once('=') {
        return Ok((key.to_owned(), value.to_owned()));
    }
    let name = text.to_owned();
    match std::env::var(&name) {
        Ok(value) => Ok((name, value)),
        Err(VarError::NotPresent) => Err(Error::VariableNotSet { name }),
        Err(VarError::NotUnicode(_)) => Err(Error::usage(
            format!("the environment variable `{name}` is not UTF-8"),
            format!("give a value: `--env {name}=VALUE`"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_value_of_a_name_counts_and_flags_override_files() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("env");
        std::fs::write(&file, "# a comment\n\nA=file\nB=x=y\n").unwrap();
        let variables = Variables { env: vec!["A=flag".into(), "C=".into(), "C=2".into()], env_file: vec![file] };
        let collected = collect(&variables).unwrap();
        let expected = [("A", "flag"), ("B", "x=y"), ("C", "2")];
        assert_eq!(collected, expected.map(|(key, value)| (key.to_owned(), value.to_owned())).into());
    }

    #[test]
    fn a_name_alone_takes_the_value_of_this_process_or_fails() {
        let (key, value) = variable("CARGO_MANIFEST_DIR").unwrap();
        assert_eq!((key.as_str(), value.as_str()), ("CARGO_MANIFEST_DIR", env!("CARGO_MANIFEST_DIR")));
        assert!(matches!(variable("MICROAGENT_NEVER_SET"), Err(Error::VariableNotSet { .. })));
    }
}
