//! What the verbs that change a workspace's state have in common.

use crate::completion;
use crate::context::{Context, workspace_name};
use crate::error::Error;
use crate::output::{Format, Text};
use clap_complete::ArgValueCandidates;
use microagent::{Client, Name, StateReport};
use std::io::{self, IsTerminal, Write};

/// The workspace, and why.
#[derive(clap::Args, Debug)]
pub(in crate::verbs) struct Target {
    /// Name of the workspace
    #[arg(value_name = "NAME", add = ArgValueCandidates::new(completion::workspaces))]
    name: String,
}

impl Target {
    /// Its name.
    pub(in crate::verbs) fn name(&self) -> Result<Name, Error> {
        workspace_name(&self.name)
    }

    /// Makes the change, and shows what became of it.
    pub(in crate::verbs) fn change(
        &self,
        context: &Context,
        change: impl FnOnce(&Client, &Name) -> Result<StateReport, microagent::Error>,
    ) -> Result<u8, Error> {
        let name = self.name()?;
        context.show(&change(&context.client()?, &name)?)?;
        Ok(super::DONE)
    }
}

/// Asks a question, where somebody can answer. Fails unless the answer is yes.
pub(in crate::verbs) fn agree(format: Format, doing: &'static str, question: &str) -> Result<(), Error> {
    if format != Format::Text || !io::stdin().is_terminal() {
        return Err(Error::ConfirmationNeeded { doing });
    }
    write!(anstream::stderr(), "{question} [y/N] ")?;
    let mut answer = String::new();
    io::stdin().read_line(&mut answer)?;
    if matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes") { Ok(()) } else { Err(Error::Declined) }
}

impl Text for StateReport {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "Workspace: {}\nState: {}", self.workspace, self.state)?;
        if self.changed { Ok(()) } else { writeln!(out, "note: it was so already") }
    }
}
