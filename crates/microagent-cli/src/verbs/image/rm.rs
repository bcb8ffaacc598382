//! `microagent image rm`

use super::{Action, DONE};
use crate::completion;
use crate::context::Context;
use crate::error::Error;
use crate::output::Text;
use crate::quantity;
use clap_complete::ArgValueCandidates;
use microagent::image::Removed;
use serde::Serialize;
use std::io::{self, Write};

const EXAMPLES: &str = "\
Examples:
  microagent image rm alpine:3.20
  microagent image rm 4bcff63911fc local/app:1";

/// Remove images
///
/// By reference that name is removed, by digest every name of the image. With its last name goes its data, unless a workspace needs it.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Image references, or the first digits of digests
    #[arg(value_name = "IMAGE", required = true, add = ArgValueCandidates::new(completion::images))]
    images: Vec<String>,
}

impl Action for Args {
    fn run(self, context: &Context) -> Result<u8, Error> {
        let client = context.client()?;
        let removed =
            self.images.iter().map(|image| client.remove_image(image)).collect::<Result<Vec<Removed>, _>>()?;
        context.show(&AllRemoved { removed })?;
        Ok(DONE)
    }
}

#[derive(Serialize)]
struct AllRemoved {
    removed: Vec<Removed>,
}

impl Text for AllRemoved {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        for Removed { untagged, deleted, kept, bytes } in &self.removed {
            untagged.iter().try_for_each(|name| writeln!(out, "Untagged: {}", name.familiar()))?;
            deleted
                .iter()
                .try_for_each(|digest| writeln!(out, "Deleted: {digest} ({} freed)", quantity::bytes(*bytes)))?;
            kept.iter().try_for_each(|digest| writeln!(out, "Kept for its workspaces: {digest}"))?;
        }
        Ok(())
    }
}
