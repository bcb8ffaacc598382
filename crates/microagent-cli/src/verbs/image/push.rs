//! `microagent image push`

use super::source::platform;
use super::{Action, DONE};
use crate::completion;
use crate::context::Context;
use crate::error::Error;
use crate::output::{Text, labelled};
use crate::quantity;
use crate::signals::Signals;
use clap_complete::ArgValueCandidates;
use microagent::image::{PushOptions, Pushed};
use std::io::{self, Write};

const EXAMPLES: &str = "\
Examples:
  microagent image push registry.example/team/app:1
  microagent image push local/app:1 --to registry.example/team/app:1
  microagent image push --arch arm64 local/app:1 --to 127.0.0.1:5000/app:arm64";

/// Send an image to a registry
///
/// What the registry has is not sent again, and the image has the same digest there as here. Where the name has images for several
/// platforms, one of them is sent. Credentials are those of `$DOCKER_CONFIG/config.json` or `~/.docker/config.json`.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Image reference, or the first digits of a digest
    #[arg(value_name = "IMAGE", add = ArgValueCandidates::new(completion::images))]
    image: String,
    /// The name it gets at the registry [default: the one it has here]
    #[arg(long, value_name = "REF")]
    to: Option<String>,
    /// Architecture of the image: amd64 or arm64 [default: the host's]
    #[arg(long, value_name = "ARCH")]
    arch: Option<String>,
    /// Do not check the registry's certificate, and allow plain HTTP
    #[arg(long)]
    insecure: bool,
}

impl Action for Args {
    fn run(self, context: &Context) -> Result<u8, Error> {
        let options = PushOptions {
            to: self.to.as_deref().map(str::parse).transpose()?,
            platform: self.arch.as_deref().map(|arch| platform(Some(arch))).transpose()?,
            insecure: self.insecure,
            ..PushOptions::default()
        };
        let cancellation = options.cancellation.clone();
        let signals = Signals::watch(move || cancellation.cancel())?;
        let client = context.client()?;
        let pushed = signals.judge(client.push_image(&self.image, &options).map_err(Error::from))?;
        drop(client);
        context.show(&pushed)?;
        Ok(DONE)
    }
}

impl Text for Pushed {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        let Pushed { uploaded, mounted, present, bytes, .. } = self;
        let sent = format!(
            "{uploaded} sent ({}), {mounted} taken from other repositories, {present} there already",
            quantity::bytes(*bytes)
        );
        labelled(
            out,
            &[
                ("Image", self.reference.familiar()),
                ("Digest", self.digest.to_string()),
                ("Platform", self.platform.to_string()),
                ("Blobs", sent),
            ],
        )
    }
}
