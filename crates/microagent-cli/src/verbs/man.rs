//! `microagent man`

use super::{Action, DONE};
use crate::cli::Cli;
use crate::context::Context;
use crate::error::Error;
use clap::CommandFactory;
use clap_mangen::Man;
use std::io::Write;
use std::path::PathBuf;

const EXAMPLES: &str = "\
Examples:
  microagent man | man -l -
  microagent man --dir /usr/local/share/man/man1";

/// Print the manual page, or write the pages of all verbs
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Write one page for each verb into this directory
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

impl Action for Args {
    fn run(self, _context: &Context) -> Result<u8, Error> {
        if let Some(dir) = self.dir {
            clap_mangen::generate_to(Cli::command(), &dir).map_err(|source| Error::WriteFile { path: dir, source })?;
        } else {
            let mut page = Vec::new();
            Man::new(Cli::command()).render(&mut page)?;
            std::io::stdout().write_all(&page)?;
        }
        Ok(DONE)
    }
}
