//! `microagent image import`

use super::source::platform;
use super::{Action, DONE, Present};
use crate::context::Context;
use crate::error::Error;
use crate::signals::Signals;
use clap::ArgAction;
use microagent::image::{ImageConfig, ImportOptions, ImportSource, Reference};

const EXAMPLES: &str = "\
Examples:
  microagent image import ./image.tar
  microagent image import oci:./layout local/app:1
  microagent image import rootfs:./rootfs.tar.gz local/debian:12 --cmd /bin/bash --env LANG=C.UTF-8";

/// Take an image from a file: an OCI layout, an OCI or Docker archive, or a tar of a root filesystem
///
/// The format is found by content; `oci:DIR[:NAME]`, `oci-archive:FILE[:NAME]`, `docker-archive:FILE[:NAME]` and `rootfs:FILE` say it.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// The file or directory
    #[arg(value_name = "PATH")]
    source: String,
    /// Name of the image [default: the name it records]
    #[arg(value_name = "REF")]
    name: Option<String>,
    /// Architecture to take from an image for several, or that a root filesystem is for [default: the host's]
    #[arg(long, value_name = "ARCH")]
    arch: Option<String>,
    #[command(flatten)]
    config: ConfigArgs,
}

/// How an imported root filesystem wants to be run.
#[derive(clap::Args, Debug)]
#[command(next_help_heading = "For a root filesystem")]
struct ConfigArgs {
    /// Word of the command; repeatable
    #[arg(long, value_name = "WORD", action = ArgAction::Append, allow_hyphen_values = true)]
    cmd: Vec<String>,
    /// Word of the entry point; repeatable
    #[arg(long, value_name = "WORD", action = ArgAction::Append, allow_hyphen_values = true)]
    entrypoint: Vec<String>,
    /// Environment variable; repeatable
    #[arg(long, short, value_name = "KEY=VALUE", action = ArgAction::Append)]
    env: Vec<String>,
    /// User the command runs as
    #[arg(long, short, value_name = "USER[:GROUP]")]
    user: Option<String>,
    /// Directory the command starts in
    #[arg(long, short, value_name = "DIR")]
    workdir: Option<String>,
}

impl ConfigArgs {
    fn into_config(self) -> ImageConfig {
        ImageConfig {
            entrypoint: self.entrypoint,
            cmd: self.cmd,
            env: self.env,
            user: self.user.unwrap_or_default(),
            working_dir: self.workdir.unwrap_or_default(),
            ..ImageConfig::default()
        }
    }
}

impl Action for Args {
    fn run(self, context: &Context) -> Result<u8, Error> {
        let source: ImportSource = self.source.parse()?;
        let name = self.name.map(|name| name.parse::<Reference>()).transpose()?;
        let options = ImportOptions {
            name,
            platform: platform(self.arch.as_deref())?,
            config: self.config.into_config(),
            ..ImportOptions::default()
        };
        let cancellation = options.cancellation.clone();
        let signals = Signals::watch(move || cancellation.cancel())?;
        let client = context.client()?;
        let imported = signals.judge(client.import_image(&source, &options).map_err(Error::from))?;
        drop(client);
        context.show(&Present::new(imported))?;
        Ok(DONE)
    }
}
