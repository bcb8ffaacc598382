//! `microagent image inspect`

use super::source::platform;
use super::{Action, DONE};
use crate::completion;
use crate::context::Context;
use crate::error::Error;
use crate::output::{Text, labelled};
use crate::quantity;
use clap_complete::ArgValueCandidates;
use microagent::image::Image;
use std::io::{self, Write};

const EXAMPLES: &str = "\
Examples:
  microagent image inspect alpine:3.20
  microagent --json image inspect 4bcff63911fc";

/// Show what is known of an image: digests, layers, and how it wants to be run
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Image reference, or the first digits of a digest
    #[arg(value_name = "IMAGE", add = ArgValueCandidates::new(completion::images))]
    image: String,
    /// Architecture, where the name has several
    #[arg(long, value_name = "ARCH")]
    arch: Option<String>,
}

impl Action for Args {
    fn run(self, context: &Context) -> Result<u8, Error> {
        let platform = self.arch.as_deref().map(|arch| platform(Some(arch))).transpose()?;
        context.show(&context.client()?.images().lookup(&self.image, platform)?)?;
        Ok(DONE)
    }
}

impl Text for Image {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        let config = &self.config;
        let or_default = |text: &str, default: &str| if text.is_empty() { default.to_owned() } else { text.to_owned() };
        labelled(
            out,
            &[
                ("Image", self.reference.familiar()),
                ("Pinned", self.pinned().familiar()),
                ("Platform", self.platform.to_string()),
                ("Created", self.created.clone().unwrap_or_else(|| "unknown".to_owned())),
                ("Entrypoint", format!("{:?}", config.entrypoint)),
                ("Command", format!("{:?}", config.cmd)),
                ("Working directory", or_default(&config.working_dir, "/")),
                ("User", or_default(&config.user, "root")),
            ],
        )?;
        config.env.iter().try_for_each(|variable| writeln!(out, "Env: {variable}"))?;
        self.layers
            .iter()
            .try_for_each(|layer| writeln!(out, "Layer: {} ({})", layer.digest, quantity::bytes(layer.size)))
    }
}
