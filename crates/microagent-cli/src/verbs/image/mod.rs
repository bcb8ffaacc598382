//! `microagent image`

mod import;
mod inspect;
mod list;
mod prune;
mod pull;
mod push;
mod rm;
pub(super) mod source;
mod tag;

use super::{Action, DONE};
use crate::context::Context;
use crate::error::Error;
use crate::output::{Text, labelled};
use crate::quantity;
use clap::Subcommand;
use microagent::image::{BaseImage, Image};
use serde::Serialize;
use std::io::{self, Write};

const EXAMPLES: &str = "\
Examples:
  microagent image pull docker.io/library/alpine:3.20
  microagent image import ./image.tar local/app:1
  microagent image list";

/// Pull, push, import and manage the images on this host
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES, arg_required_else_help = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Pull(pull::Args),
    Push(push::Args),
    Import(import::Args),
    #[command(visible_alias = "ls")]
    List(list::Args),
    Inspect(inspect::Args),
    Tag(tag::Args),
    #[command(visible_alias = "delete")]
    Rm(rm::Args),
    Prune(prune::Args),
}

impl Action for Args {
    fn run(self, context: &Context) -> Result<u8, Error> {
        match self.verb {
            Verb::Pull(args) => args.run(context),
            Verb::Push(args) => args.run(context),
            Verb::Import(args) => args.run(context),
            Verb::List(args) => args.run(context),
            Verb::Inspect(args) => args.run(context),
            Verb::Tag(args) => args.run(context),
            Verb::Rm(args) => args.run(context),
            Verb::Prune(args) => args.run(context),
        }
    }
}

/// An image that is now here, with its base.
#[derive(Serialize)]
struct Present {
    #[serde(flatten)]
    image: Image,
    compressed_size: u64,
    base_path: std::path::PathBuf,
    base_size: u64,
}

impl Present {
    fn new((image, base): (Image, BaseImage)) -> Present {
        Present { compressed_size: image.compressed_size(), image, base_path: base.path, base_size: base.size }
    }
}

impl Text for Present {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        labelled(
            out,
            &[
                ("Image", self.image.reference.familiar()),
                ("Digest", self.image.manifest_digest.to_string()),
                ("Platform", self.image.platform.to_string()),
                ("Layers", format!("{} ({})", self.image.layers.len(), quantity::bytes(self.compressed_size))),
                ("Base", format!("{} ({})", self.base_path.display(), quantity::bytes(self.base_size))),
            ],
        )
    }
}
