//! `microagent image list`

use super::{Action, DONE};
use crate::context::Context;
use crate::error::Error;
use crate::output::Text;
use crate::{quantity, table};
use microagent::image::ImageSummary;
use serde::Serialize;
use std::io::{self, Write};

const EXAMPLES: &str = "\
Examples:
  microagent image list
  microagent --json images list";

/// List the images on this host
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {}

impl Action for Args {
    fn run(self, context: &Context) -> Result<u8, Error> {
        context.show(&Images { images: context.client()?.images().list()? })?;
        Ok(DONE)
    }
}

#[derive(Serialize)]
struct Images {
    images: Vec<ImageSummary>,
}

impl Text for Images {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        if self.images.is_empty() {
            return writeln!(out, "No images.");
        }
        let cells = |image: &ImageSummary| {
            vec![
                image.reference.familiar(),
                image.platform.to_string(),
                image.manifest_digest.short().to_owned(),
                quantity::bytes(image.compressed_size),
                image.base_size.map_or_else(|| "not built".to_owned(), quantity::bytes),
            ]
        };
        table::write(out, &["IMAGE", "PLATFORM", "DIGEST", "LAYERS", "BASE"], self.images.iter().map(cells).collect())
    }
}
