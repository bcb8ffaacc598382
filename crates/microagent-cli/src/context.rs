//! What every verb is given: the settings, and the way to the library.

use crate::environment;
use crate::error::Error;
use crate::output::{self, Format, Text};
use crate::progress::Reporter;
use crate::settings::{ProgressMode, Settings};
use microagent::{Client, Name, Templates};
use serde::Serialize;
use std::path::PathBuf;
use std::sync::Arc;

/// The surroundings of a verb.
pub(crate) struct Context {
    settings: Settings,
    supervisor: Option<PathBuf>,
}

impl Context {
    pub(crate) fn new(settings: Settings, supervisor: Option<PathBuf>) -> Context {
        Context { settings, supervisor }
    }

    /// The program that runs workspaces, where one is named.
    pub(crate) fn supervisor(&self) -> Option<PathBuf> {
        self.supervisor.clone()
    }

    /// How output is written.
    pub(crate) fn format(&self) -> Format {
        self.settings.format
    }

    /// Whether environment or configuration ask `run` for the guest's exit code.
    pub(crate) fn propagate_exit_code(&self) -> bool {
        self.settings.propagate_exit_code
    }

    /// Whether environment and configuration let machines be restored from templates.
    pub(crate) fn templates(&self) -> Templates {
        if self.settings.templates { Templates::On } else { Templates::Off }
    }

    /// Whether templates rehearse after a run.
    pub(crate) fn rehearses(&self) -> bool {
        self.settings.rehearsal
    }

    /// Opens the state directory, with progress shown as the settings say.
    pub(crate) fn client(&self) -> Result<Client, Error> {
        let client = Client::open(self.settings.state_dir.as_deref())?;
        let client = client.acting_as("cli", environment::text("MICROAGENT_CORRELATION_ID"));
        let mode = if self.format() == Format::Text { self.settings.progress } else { ProgressMode::Off };
        Ok(match Reporter::new(mode) {
            Some(reporter) => client.with_progress(Arc::new(reporter)),
            None => client,
        })
    }

    /// Writes the result of a verb to standard output.
    pub(crate) fn show<T: Serialize + Text>(&self, result: &T) -> Result<(), Error> {
        output::show(result, self.format())
    }
}

/// A workspace name from the command line.
pub(crate) fn workspace_name(text: &str) -> Result<Name, Error> {
    Ok(Name::new(text).map_err(microagent::Error::from)?)
}
