//! How this invocation behaves: flag, else environment, else configuration file, else default.
//!
//! The configuration file is `$XDG_CONFIG_HOME/microagent/config.toml`, by default `~/.config/microagent/config.toml`. It is not in the
//! state directory, because it may name one.

use crate::cli::GlobalArgs;
use crate::environment;
use crate::error::Error;
use crate::output::Format;
use clap::ValueEnum;
use serde::Deserialize;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// How results are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum OutputFormat {
    /// For people
    Text,
    /// For programs
    Json,
}

/// Who reads the output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Mode {
    /// A person, or a script made for one
    #[default]
    Ux,
    /// A program that wants one JSON envelope on standard output, whatever happens
    Ax,
}

/// How progress is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ProgressMode {
    /// One moving line on a terminal, nothing elsewhere
    #[default]
    Auto,
    /// One line for each phase
    Plain,
    /// Nothing
    Off,
}

/// The configuration file.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct ConfigFile {
    output: Option<OutputFormat>,
    progress: Option<ProgressMode>,
    state_dir: Option<PathBuf>,
    propagate_exit_code: Option<bool>,
    templates: Option<bool>,
    rehearsal: Option<bool>,
}

/// How this invocation behaves.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) format: Format,
    pub(crate) progress: ProgressMode,
    /// The library's default when absent.
    pub(crate) state_dir: Option<PathBuf>,
    /// `run` ends with its command's exit code.
    pub(crate) propagate_exit_code: bool,
    /// Machines are restored from templates.
    pub(crate) templates: bool,
    /// After a run, its template rehearses in the background.
    pub(crate) rehearsal: bool,
}

impl Settings {
    /// Brings flags, environment and configuration file together.
    pub(crate) fn resolve(flags: &GlobalArgs) -> Result<Settings, Error> {
        if flags.no_color {
            anstream::ColorChoice::Never.write_global();
        }
        let file = match config_path() {
            Some(path) => ConfigFile::load(&path)?,
            None => ConfigFile::default(),
        };
        let given = match (flags.json, flags.text) {
            (true, _) => Some(OutputFormat::Json),
            (_, true) => Some(OutputFormat::Text),
            _ => flags.output,
        };
        if flags.mode == Mode::Ax && given == Some(OutputFormat::Text) {
            return Err(Error::usage("`--mode ax` always prints JSON", "leave out `--text` or `--output text`"));
        }
        let output = given.or(environment::choice("MICROAGENT_OUTPUT")?).or(file.output).unwrap_or(OutputFormat::Text);
        Ok(Settings {
            format: match (flags.mode, output) {
                (Mode::Ax, _) => Format::Envelope,
                (Mode::Ux, OutputFormat::Json) => Format::Json,
                (Mode::Ux, OutputFormat::Text) => Format::Text,
            },
            progress: flags
                .progress
                .or(environment::choice("MICROAGENT_PROGRESS")?)
                .or(file.progress)
                .unwrap_or_default(),
            state_dir: flags.state_dir.clone().or_else(|| environment::path("MICROAGENT_STATE_DIR")).or(file.state_dir),
            propagate_exit_code: environment::switch("MICROAGENT_PROPAGATE_EXIT_CODE")?
                .or(file.propagate_exit_code)
                .unwrap_or(false),
            templates: environment::switch("MICROAGENT_TEMPLATES")?.or(file.templates).unwrap_or(true),
            rehearsal: environment::switch("MICROAGENT_REHEARSAL")?.or(file.rehearsal).unwrap_or(true),
        })
    }
}

impl ConfigFile {
    fn load(path: &Path) -> Result<ConfigFile, Error> {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
                return Ok(ConfigFile::default());
            }
            Err(source) => return Err(Error::ConfigUnreadable { path: path.to_owned(), source }),
        };
        let mut file = ConfigFile::parse(&text, path)?;
        // A shell would have expanded it in a flag or variable.
        file.state_dir = file.state_dir.map(expand_home);
        Ok(file)
    }

    fn parse(text: &str, path: &Path) -> Result<ConfigFile, Error> {
        toml::from_str(text).map_err(|error| {
            let before = &text[..error.span().map_or(0, |span| span.start).min(text.len())];
            let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
            Error::ConfigInvalid {
                path: path.to_owned(),
                line: before.matches('\n').count() + 1,
                column: before[line_start..].chars().count() + 1,
                reason: error.message().replace('\n', ", "),
            }
        })
    }
}

fn config_path() -> Option<PathBuf> {
    let home = || environment::path("HOME").map(|home| home.join(".config"));
    let base = environment::path("XDG_CONFIG_HOME").or_else(home)?;
    Some(base.join("microagent").join("config.toml"))
}

fn expand_home(path: PathBuf) -> PathBuf {
    match (path.strip_prefix("~"), environment::path("HOME")) {
        (Ok(rest), Some(home)) => home.join(rest),
        _ => path,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<ConfigFile, Error> {
        ConfigFile::parse(text, Path::new("config.toml"))
    }

    #[test]
    fn every_key_is_read() {
        let text =
            "output = 'json'\nprogress = 'plain'\nstate_dir = '/x'\npropagate_exit_code = true\ntemplates = false";
        let file = parse(text).unwrap();
        assert_eq!(file.output, Some(OutputFormat::Json));
        assert_eq!(file.progress, Some(ProgressMode::Plain));
        assert_eq!(file.state_dir.as_deref(), Some(Path::new("/x")));
        assert_eq!(file.propagate_exit_code, Some(true));
        assert_eq!(file.templates, Some(false));
    }

    #[test]
    fn a_mistake_is_reported_where_it_is() {
        for (text, place) in [
            ("output = 'json'\n  colour = 1\n", "line 2, column 3"),
            ("output = 'xml'", "line 1, column 10"),
            ("progress = plain", "line 1, column 12"),
            ("propagate_exit_code = 'yes'", "line 1, column 23"),
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains(place), "{text}: {error}");
        }
    }
}
