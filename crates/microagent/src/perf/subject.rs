//! What is measured, with everything fetched that the measurement must not wait for.

use crate::{Client, Error, Plan, RunOptions};
use microagent_image::PullPolicy;
use microagent_state::Resources;
use serde::Serialize;

/// The machine that was measured.
#[derive(Clone, Debug, Serialize)]
pub struct Subject {
    /// The image, in full.
    pub image: String,
    /// Name of the profile.
    pub profile: &'static str,
    /// Size of the machine.
    pub resources: Resources,
}

impl Subject {
    /// Checks `options` and sees that kernel, initramfs and image are here. Returns them as the measured runs take them: disposable,
    /// without a name that only one of them could have, and content with the image that is here.
    pub(super) fn prepare(client: &Client, options: &RunOptions) -> Result<(Subject, RunOptions), Error> {
        let plan = Plan::new(options)?;
        let kernel = client.kernel(options.kernel.as_deref())?;
        client.initramfs(options.guest_init.as_deref(), &kernel)?;
        client.pull_image(&options.image, &options.pull_options())?;
        let mut measured = RunOptions { keep: false, name: None, ..options.clone() };
        measured.pull.policy = PullPolicy::Missing;
        let subject = Subject { image: plan.image.to_string(), profile: plan.profile, resources: plan.resources };
        Ok((subject, measured))
    }
}
