//! `microagent image pull`

use super::source::platform;
use super::{Action, DONE, Present};
use crate::context::Context;
use crate::error::Error;
use crate::signals::Signals;
use microagent::image::{PullOptions, PullPolicy};

const EXAMPLES: &str = "\
Examples:
  microagent image pull docker.io/library/alpine:3.20
  microagent image pull --arch arm64 docker.io/library/alpine:3.20
  microagent image pull 127.0.0.1:5000/team/app:latest";

/// Fetch an image from its registry and make it ready to run
///
/// The registry is asked even if the image is here, so that a tag that moved is noticed; layers that are here are not fetched again. An
/// interrupted pull goes on where it stopped. Credentials are those of `$DOCKER_CONFIG/config.json` or `~/.docker/config.json`.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Image reference
    #[arg(value_name = "REF")]
    image: String,
    /// Architecture of the image: amd64 or arm64 [default: the host's]
    #[arg(long, value_name = "ARCH")]
    arch: Option<String>,
    /// Do not check the registry's certificate, and allow plain HTTP
    #[arg(long)]
    insecure: bool,
}

impl Action for Args {
    fn run(self, context: &Context) -> Result<u8, Error> {
        let options = PullOptions {
            platform: platform(self.arch.as_deref())?,
            policy: PullPolicy::Always,
            insecure: self.insecure,
            ..PullOptions::default()
        };
        let cancellation = options.cancellation.clone();
        let signals = Signals::watch(move || cancellation.cancel())?;
        let client = context.client()?;
        let pulled = signals.judge(client.pull_image(&self.image, &options).map_err(Error::from))?;
        drop(client);
        context.show(&Present::new(pulled))?;
        Ok(DONE)
    }
}
