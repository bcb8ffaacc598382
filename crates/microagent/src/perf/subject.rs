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
        let plan = Plan::of_run(options)?;
        let kernel = client.kernel(options.workspace.kernel.as_deref())?;
        client.initramfs(options.workspace.guest_init.as_deref(), &kernel)?;
        client.pull_image(&options.workspace.image, &options.workspace.pull_options())?;
        let mut measured = RunOptions { keep: false, ..options.clone() };
        measured.workspace.name = None;
        measured.workspace.pull.policy = PullPolicy::Missing;
        let image = plan.image.map(|image| image.to_string()).unwrap_or_default();
        let subject = Subject { image, profile: plan.profile, resources: plan.resources };
        Ok((subject, measured))
    }
}
