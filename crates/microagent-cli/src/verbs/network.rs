//! `microagent network`

use super::{Action, DONE};
use crate::completion;
use crate::context::{Context, workspace_name};
use crate::error::Error;
use crate::output::{Text, labelled};
use clap_complete::ArgValueCandidates;
use microagent::NetworkReport;
use microagent::egress::Host;
use std::io::{self, Write};

const EXAMPLES: &str = "\
Examples:
  microagent network research
  microagent --json network research";

/// Show how a workspace is connected: its addresses, its ports, and what may leave it
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Name of the workspace
    #[arg(value_name = "NAME", add = ArgValueCandidates::new(completion::workspaces))]
    name: String,
}

impl Action for Args {
    fn run(self, context: &Context) -> Result<u8, Error> {
        let name = workspace_name(&self.name)?;
        context.show(&context.client()?.network(&name)?)?;
        Ok(DONE)
    }
}

impl Text for NetworkReport {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        let mut lines = vec![("Workspace", self.workspace.to_string()), ("Network", self.mode.clone())];
        lines.extend(self.address.iter().map(|address| ("Address", address.clone())));
        lines.extend(self.gateway.iter().map(|gateway| ("Gateway", gateway.to_string())));
        lines.extend(self.resolver.iter().map(|resolver| ("Resolver", resolver.to_string())));
        lines.extend(self.egress.iter().map(|rules| ("Egress", rules.mode.to_string())));
        labelled(out, &lines)?;
        let note = if self.running { "" } else { " (when it runs)" };
        for forward in &self.forwards {
            writeln!(out, "Port: {} -> {}{note}", forward.listens(), forward.guest_port)?;
        }
        if let Some(rules) = &self.egress {
            tell_hosts("Allowed", &rules.allow, out)?;
            tell_hosts("Passed through", &rules.passthrough, out)?;
        }
        if !self.credentials.is_empty() {
            writeln!(out, "Credentials: {}", self.credentials.join(", "))?;
        }
        for mediation in &self.mediations {
            let optional = if mediation.optional { ", optional" } else { "" };
            writeln!(out, "Mediation: {} -> {}{optional}", mediation.port, mediation.target)?;
        }
        Ok(())
    }
}

fn tell_hosts(what: &str, hosts: &[Host], out: &mut dyn Write) -> io::Result<()> {
    if hosts.is_empty() {
        return Ok(());
    }
    let names: Vec<String> = hosts.iter().map(ToString::to_string).collect();
    writeln!(out, "{what}: {}", names.join(", "))
}
