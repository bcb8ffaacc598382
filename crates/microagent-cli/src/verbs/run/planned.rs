//! What `--dry-run` shows.

use crate::output::{Text, labelled};
use crate::verbs::status::resources;
use microagent::{Plan, PlannedCommand};
use serde::Serialize;
use std::io::{self, Write};
use std::time::Duration;

/// A plan, and the verb that would carry it out.
#[derive(Serialize)]
pub(in crate::verbs) struct Planned {
    plan: Plan,
    #[serde(skip)]
    verb: &'static str,
}

impl Planned {
    /// What `run` would do.
    pub(in crate::verbs) fn of_run(plan: Plan) -> Planned {
        Planned { plan, verb: "run" }
    }

    /// What `create` would make.
    pub(in crate::verbs) fn of_create(plan: Plan) -> Planned {
        Planned { plan, verb: "create" }
    }
}

impl Text for Planned {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        let plan = &self.plan;
        let base = match (&plan.image, &plan.rootfs) {
            (Some(image), _) => ("Image", image.familiar()),
            (None, rootfs) => ("Rootfs", rootfs.as_deref().map(|path| path.display().to_string()).unwrap_or_default()),
        };
        labelled(
            out,
            &[
                ("Workspace", plan.workspace.to_string()),
                base,
                ("Platform", plan.platform.to_string()),
                ("Profile", plan.profile.to_owned()),
                ("Network", plan.network.to_owned()),
                ("Resources", resources(plan.resources)),
                ("Restart", plan.restart.clone()),
                ("Hostname", plan.hostname.clone()),
            ],
        )?;
        plan.command.iter().try_for_each(|command| writeln!(out, "Command: {}", words(command)))?;
        plan.service.iter().try_for_each(|command| writeln!(out, "Service: {}", words(command)))?;
        writeln!(out, "Keep: {}", if plan.keep { "yes" } else { "no" })?;
        plan.setup.iter().try_for_each(|line| writeln!(out, "Setup: {}", line.trim_end()))?;
        plan.env.keys().try_for_each(|key| writeln!(out, "Env: {key}"))?;
        plan.forwards
            .iter()
            .try_for_each(|forward| writeln!(out, "Port: {} -> {}", forward.listens(), forward.guest_port))?;
        if let Some(rules) = &plan.egress {
            writeln!(out, "Egress: {}", rules.mode)?;
            rules.allow.iter().try_for_each(|host| writeln!(out, "Allowed: {host}"))?;
            rules.passthrough.iter().try_for_each(|host| writeln!(out, "Passed through: {host}"))?;
        }
        for (name, reference) in plan.swaps.named_references() {
            writeln!(out, "Credential: {name} from {reference}")?;
        }
        for mediation in &plan.mediations {
            let optional = if mediation.optional { ", optional" } else { "" };
            writeln!(out, "Mediation: {} -> {}{optional}", mediation.port, mediation.target)?;
        }
        for (kind, secrets) in [("Secret", &plan.secrets.files), ("Secret on demand", &plan.secrets.on_demand)] {
            secrets.iter().try_for_each(|(name, reference)| writeln!(out, "{kind}: {name} from {reference}"))?;
        }
        plan.secrets
            .env_files
            .iter()
            .try_for_each(|path| writeln!(out, "Secrets: every line of {}", path.display()))?;
        if plan.secrets.audit {
            writeln!(out, "Secrets audit: yes")?;
        }
        plan.outputs.iter().try_for_each(|(name, path)| writeln!(out, "Output: {name}={path}"))?;
        plan.timeout_ms.iter().try_for_each(|&ms| writeln!(out, "Timeout: {:?}", Duration::from_millis(ms)))?;
        writeln!(out, "Nothing was done: this is what `{}` would do.", self.verb)
    }
}

fn words(command: &PlannedCommand) -> String {
    match command {
        PlannedCommand::Argv(words) => format!("{words:?}"),
        PlannedCommand::ImageEntrypoint(words) if words.is_empty() => "the image's entry point and command".to_owned(),
        PlannedCommand::ImageEntrypoint(words) => format!("the image's entry point, then {words:?}"),
    }
}
