//! `microagent kernel`

mod install;
mod list;
mod remove;
mod verify;

use super::Action;
use crate::context::Context;
use crate::error::Error;
use clap::Subcommand;
use microagent::machine::kernel::{Facts, ImageFormat, Kernel, Origin};
use serde::Serialize;
use std::path::PathBuf;

const EXAMPLES: &str = "\
Examples:
  microagent kernel install
  microagent kernel list
  microagent kernel verify";

/// Install and manage the guest kernels on this host
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES, arg_required_else_help = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Install(install::Args),
    #[command(visible_alias = "ls")]
    List(list::Args),
    Verify(verify::Args),
    #[command(visible_alias = "rm")]
    Remove(remove::Args),
}

impl Action for Args {
    fn run(self, context: &Context) -> Result<u8, Error> {
        match self.verb {
            Verb::Install(args) => args.run(context),
            Verb::List(args) => args.run(context),
            Verb::Verify(args) => args.run(context),
            Verb::Remove(args) => args.run(context),
        }
    }
}

/// An installed kernel as JSON.
#[derive(Serialize)]
struct KernelDocument {
    name: String,
    release: String,
    default: bool,
    kernel_path: PathBuf,
    format: ImageFormat,
    modules: Vec<String>,
    facts: Facts,
    origin: Origin,
    digest: String,
}

impl KernelDocument {
    fn new(kernel: Kernel, default: bool) -> KernelDocument {
        KernelDocument {
            name: kernel.name,
            release: kernel.release,
            default,
            kernel_path: kernel.image,
            format: kernel.format,
            modules: kernel.modules.into_iter().map(|module| module.name).collect(),
            facts: kernel.facts,
            origin: kernel.origin,
            digest: kernel.digest,
        }
    }
}
