//! `microagent kernel verify`

use super::super::{Action, DONE, FOUND_WRONG};
use crate::completion;
use crate::context::Context;
use crate::error::Error;
use crate::output::Text;
use clap_complete::ArgValueCandidates;
use microagent::machine::kernel::Drift;
use serde::Serialize;
use std::io::{self, Write};
use std::path::PathBuf;

const EXAMPLES: &str = "\
Examples:
  microagent kernel verify
  microagent kernel verify 6.1.0-56-cloud-amd64

Exit status: 0 when every file is what was installed, 1 when one is not.";

/// Check that kernels are still what was installed
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Name of a kernel [default: all of them]
    #[arg(value_name = "NAME", add = ArgValueCandidates::new(completion::kernels))]
    name: Option<String>,
}

impl Action for Args {
    fn run(self, context: &Context) -> Result<u8, Error> {
        let client = context.client()?;
        let names = match self.name {
            Some(name) => vec![name],
            None => client.kernels().list()?.into_iter().map(|kernel| kernel.name).collect(),
        };
        let verify = |name: String| Ok(Verification::new(client.kernels().verify(&name)?, name));
        let verified = names.into_iter().map(verify).collect::<Result<Vec<Verification>, Error>>()?;
        let ok = verified.iter().all(|kernel| kernel.verified);
        context.show(&Verifications { kernels: verified })?;
        Ok(if ok { DONE } else { FOUND_WRONG })
    }
}

#[derive(Serialize)]
struct Verifications {
    kernels: Vec<Verification>,
}

#[derive(Serialize)]
struct Verification {
    name: String,
    verified: bool,
    drift: Vec<DriftDocument>,
}

#[derive(Serialize)]
struct DriftDocument {
    path: PathBuf,
    expected: String,
    found: Option<String>,
}

impl Verification {
    fn new(drift: Vec<Drift>, name: String) -> Verification {
        let document = |Drift { path, expected, found }| DriftDocument { path, expected, found };
        Verification { name, verified: drift.is_empty(), drift: drift.into_iter().map(document).collect() }
    }
}

impl Text for Verifications {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        if self.kernels.is_empty() {
            return writeln!(out, "No kernels.");
        }
        for kernel in &self.kernels {
            writeln!(out, "{}: {}", if kernel.verified { "Verified" } else { "Changed" }, kernel.name)?;
            for DriftDocument { path, found, .. } in &kernel.drift {
                let what = if found.is_some() { "differs" } else { "is gone" };
                writeln!(out, "  {} {what}", path.display())?;
            }
        }
        Ok(())
    }
}
