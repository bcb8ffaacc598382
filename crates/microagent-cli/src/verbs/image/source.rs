//! Flags of every verb that may ask a registry.

use crate::error::Error;
use clap::ValueEnum;
use microagent::image::{Platform, PullOptions, PullPolicy};

/// Which image is taken, and from where.
#[derive(clap::Args, Clone, Debug)]
pub(in crate::verbs) struct SourceArgs {
    /// Architecture of the image: amd64 or arm64 [default: the host's]
    #[arg(long, value_name = "ARCH")]
    pub(in crate::verbs) arch: Option<String>,
    /// When to ask the registry
    #[arg(long, value_name = "WHEN", default_value = "missing")]
    pull: Pull,
    /// Do not check the registry's certificate, and allow plain HTTP
    #[arg(long)]
    insecure: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Pull {
    /// Only for an image that is not here
    Missing,
    /// Always, to notice a tag that moved
    Always,
    /// Never
    Never,
}

impl SourceArgs {
    /// The platform asked for.
    pub(in crate::verbs) fn platform(&self) -> Result<Platform, Error> {
        platform(self.arch.as_deref())
    }

    /// The library's options.
    pub(in crate::verbs) fn pull_options(&self) -> Result<PullOptions, Error> {
        let policy = match self.pull {
            Pull::Missing => PullPolicy::Missing,
            Pull::Always => PullPolicy::Always,
            Pull::Never => PullPolicy::Never,
        };
        Ok(PullOptions { platform: self.platform()?, policy, insecure: self.insecure, ..PullOptions::default() })
    }
}

/// The platform of `--arch`.
pub(in crate::verbs) fn platform(arch: Option<&str>) -> Result<Platform, Error> {
    arch.map_or(Ok(Platform::host()), |arch| Ok(arch.parse()?))
}
