//! `microagent image tag`

use super::{Action, DONE};
use crate::completion;
use crate::context::Context;
use crate::error::Error;
use crate::output::Text;
use clap_complete::ArgValueCandidates;
use microagent::image::{Image, Reference};
use serde::Serialize;
use std::io::{self, Write};

const EXAMPLES: &str = "\
Examples:
  microagent image tag alpine:3.20 local/base:stable
  microagent image tag 4bcff63911fc local/base:stable";

/// Give an image a further name
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Image reference, or the first digits of a digest
    #[arg(value_name = "IMAGE", add = ArgValueCandidates::new(completion::images))]
    image: String,
    /// The further name
    #[arg(value_name = "REF")]
    target: String,
}

impl Action for Args {
    fn run(self, context: &Context) -> Result<u8, Error> {
        let target: Reference = self.target.parse()?;
        context.show(&Tagged { image: context.client()?.images().tag(&self.image, &target)?, target })?;
        Ok(DONE)
    }
}

#[derive(Serialize)]
struct Tagged {
    #[serde(flatten)]
    image: Image,
    #[serde(skip)]
    target: Reference,
}

impl Text for Tagged {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "Tagged: {} is {}", self.target.familiar(), self.image.manifest_digest)
    }
}
