//! `microagent secret check`

use crate::completion;
use crate::context::{Context, workspace_name};
use crate::error::Error;
use crate::output::Text;
use crate::table;
use crate::verbs::definition::secrets;
use crate::verbs::{Action, DONE, FOUND_WRONG};
use clap_complete::ArgValueCandidates;
use microagent::SecretCheck;
use std::io::{self, Write};

const EXAMPLES: &str = "\
Examples:
  microagent secret check TOKEN=env:API_TOKEN DB=vault:kv/data/app#password
  microagent secret check --workspace research
  microagent --json secret check TOKEN=file:token.txt";

/// See whether secrets can be had now; no value is shown
///
/// The exit status is 1 if any cannot.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Secrets, as for `--secret`
    #[arg(value_name = "NAME=SCHEME:REF", required_unless_present = "workspace")]
    secrets: Vec<String>,
    /// Those of a workspace
    #[arg(long, value_name = "NAME", add = ArgValueCandidates::new(completion::workspaces))]
    workspace: Option<String>,
}

impl Action for Args {
    fn run(self, context: &Context) -> Result<u8, Error> {
        let checks = self.secrets.iter().map(|text| Ok(SecretCheck::of(&secrets::parse(text)?)));
        let mut checks = checks.collect::<Result<Vec<_>, Error>>()?;
        if let Some(name) = &self.workspace {
            checks.extend(context.client()?.check_secrets(&workspace_name(name)?)?);
        }
        context.show(&checks)?;
        Ok(if checks.iter().all(|check| check.ok) { DONE } else { FOUND_WRONG })
    }
}

impl Text for Vec<SecretCheck> {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        if self.is_empty() {
            return writeln!(out, "No secrets.");
        }
        let rows = self.iter().map(|check| {
            let found = match (&check.error, check.bytes) {
                (Some(error), _) => error.clone(),
                (None, Some(bytes)) => format!("ok, {bytes} bytes"),
                (None, None) => "ok".to_owned(),
            };
            vec![check.name.clone(), check.source.clone(), found, check.warning.unwrap_or_default().to_owned()]
        });
        table::write(out, &["NAME", "SOURCE", "FOUND", "NOTE"], rows.collect())
    }
}
