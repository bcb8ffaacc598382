//! `microagent kernel list`

use super::super::{Action, DONE};
use super::KernelDocument;
use crate::context::Context;
use crate::error::Error;
use crate::output::Text;
use crate::table;
use microagent::machine::kernel::Installed;
use microagent::{Fault, FaultReport};
use serde::Serialize;
use std::io::{self, Write};

const EXAMPLES: &str = "\
Examples:
  microagent kernel list
  microagent --json kernel list";

/// List the installed kernels; the default is marked with a star
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {}

impl Action for Args {
    fn run(self, context: &Context) -> Result<u8, Error> {
        let kernels = context.client()?.kernels().list()?;
        context.show(&Kernels { kernels: kernels.into_iter().map(Row::new).collect() })?;
        Ok(DONE)
    }
}

#[derive(Serialize)]
struct Kernels {
    kernels: Vec<Row>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Row {
    Readable(Box<KernelDocument>),
    Damaged { name: String, default: bool, error: FaultReport },
}

impl Row {
    fn new(Installed { name, is_default, kernel }: Installed) -> Row {
        match kernel {
            Ok(kernel) => Row::Readable(Box::new(KernelDocument::new(kernel, is_default))),
            Err(error) => Row::Damaged { name, default: is_default, error: FaultReport::new(&error as &dyn Fault) },
        }
    }

    fn cells(&self) -> Vec<String> {
        let marked = |name: &str, default: bool| format!("{name}{}", if default { " *" } else { "" });
        match self {
            Row::Readable(kernel) => vec![
                marked(&kernel.name, kernel.default),
                kernel.release.clone(),
                kernel.modules.len().to_string(),
                kernel.origin.to_string(),
            ],
            Row::Damaged { name, default, error } => {
                vec![marked(name, *default), "damaged".to_owned(), "-".to_owned(), error.message.clone()]
            }
        }
    }
}

impl Text for Kernels {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        if self.kernels.is_empty() {
            return writeln!(out, "No kernels.");
        }
        table::write(out, &["NAME", "RELEASE", "MODULES", "ORIGIN"], self.kernels.iter().map(Row::cells).collect())
    }
}
