//! `microagent diff`

use super::{Action, DONE};
use crate::completion;
use crate::context::{Context, workspace_name};
use crate::error::Error;
use crate::output::Text;
use clap_complete::ArgValueCandidates;
use microagent::{ChangeKind, Changes, FileKind, Interrupt};
use std::io::{self, Write};

const EXAMPLES: &str = "\
Examples:
  microagent diff research
  microagent --json diff research

`A` was added, `M` modified, `D` deleted; a directory ends with `/`.";

/// Show what a workspace changed against its image
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Name of the workspace
    #[arg(value_name = "NAME", add = ArgValueCandidates::new(completion::workspaces))]
    name: String,
}

impl Action for Args {
    fn run(self, context: &Context) -> Result<u8, Error> {
        let changes = context.client()?.changes(&workspace_name(&self.name)?, &Interrupt::new())?;
        context.show(&changes)?;
        Ok(DONE)
    }
}

impl Text for Changes {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        self.changes.iter().try_for_each(|change| {
            let letter = match change.change {
                ChangeKind::Added => 'A',
                ChangeKind::Modified => 'M',
                ChangeKind::Deleted => 'D',
            };
            let slash = if change.kind == FileKind::Directory { "/" } else { "" };
            // The names are the guest's to choose, and this may be a terminal.
            let path: String = change.path.chars().flat_map(escape).collect();
            writeln!(out, "{letter} {path}{slash}")
        })
    }
}

fn escape(c: char) -> impl Iterator<Item = char> {
    let escaped = c.is_control().then(|| c.escape_default());
    let plain = (!c.is_control()).then_some(c);
    escaped.into_iter().flatten().chain(plain)
}
