//! `--network`, `--publish`, `--egress…`, `--cred-swap` and `--mediation`.

use crate::error::Error;
use crate::refused;
use clap::ArgAction;
use microagent::egress::{Host, Mode};
use microagent::spec::NetworkMode;
use microagent::{ForwardRecord, NetworkOptions, parse_forward, parse_mediation};
use std::path::PathBuf;

/// How a workspace is connected, and what may leave it.
#[derive(clap::Args, Clone, Debug)]
#[command(next_help_heading = "Network")]
pub(super) struct NetworkArgs {
    /// Network mode: user, or isolated for no network interface at all [default: user]
    #[arg(long, value_name = "MODE")]
    network: Option<String>,
    /// Forward a TCP port of this host into the guest; port 0 takes one that is free; repeatable
    #[arg(long, short, value_name = "[HOST:]HOSTPORT:GUESTPORT", action = ArgAction::Append)]
    publish: Vec<String>,
    /// What may leave the guest: guarded (the public internet), strict (what is allowed below) or off (everything)
    /// [default: guarded]
    #[arg(long, value_name = "MODE")]
    egress: Option<Mode>,
    /// Allow a host, and look into its connections; `.example.com` is that name and all below it; repeatable
    #[arg(long, value_name = "HOST", action = ArgAction::Append)]
    egress_allow: Vec<Host>,
    /// Allow a host, and pass its connections on as they are; repeatable
    #[arg(long, value_name = "HOST", action = ArgAction::Append)]
    egress_passthrough: Vec<Host>,
    /// File that lists more hosts of both kinds, in YAML or JSON
    #[arg(long, value_name = "FILE", action = ArgAction::Append)]
    egress_policy: Vec<PathBuf>,
    /// File that says which credentials are put into requests on their way out
    #[arg(long, value_name = "FILE")]
    egress_swap_config: Option<PathBuf>,
    /// Put a provider's API key into requests on their way out, so that the guest never has it: anthropic, openai,
    /// gemini, groq, openrouter or deepseek; repeatable
    #[arg(long, value_name = "PROVIDER[=SCHEME:REF]", action = ArgAction::Append)]
    cred_swap: Vec<String>,
    /// Lead from a socket in the guest to a service of this host; repeatable
    #[arg(long, value_name = "PORT=HOST:PORT", action = ArgAction::Append)]
    mediation: Vec<String>,
    /// Start also when such a service cannot be reached
    #[arg(long)]
    mediation_optional: bool,
}

impl NetworkArgs {
    /// Overrides what is given once, and adds what can be given several times.
    pub(super) fn apply(&self, options: &mut NetworkOptions) -> Result<(), Error> {
        if let Some(mode) = &self.network {
            options.mode = network(mode)?;
        }
        options.forwards.extend(self.forwards()?);
        options.egress.mode = self.egress.unwrap_or(options.egress.mode);
        options.egress.allow.extend(self.egress_allow.iter().cloned());
        options.egress.passthrough.extend(self.egress_passthrough.iter().cloned());
        self.egress_policy.iter().try_for_each(|path| options.add_policy(path))?;
        if let Some(path) = &self.egress_swap_config {
            options.add_swaps(path)?;
        }
        let here = std::env::current_dir().map_err(Error::system("find the current directory"))?;
        self.cred_swap.iter().try_for_each(|provider| options.add_provider(provider, &here))?;
        for mediation in &self.mediation {
            options.mediations.push(parse_mediation(mediation)?);
        }
        if self.mediation_optional {
            options.mediations.iter_mut().for_each(|mediation| mediation.optional = true);
        }
        Ok(())
    }

    /// The ports of this host that lead into the guest.
    pub(super) fn forwards(&self) -> Result<Vec<ForwardRecord>, Error> {
        Ok(self.publish.iter().map(|mapping| parse_forward(mapping)).collect::<Result<_, _>>()?)
    }
}

/// Reads a network mode.
pub(in crate::verbs) fn network(mode: &str) -> Result<NetworkMode, Error> {
    match mode {
        "user" => Ok(NetworkMode::User),
        "isolated" => Ok(NetworkMode::Isolated),
        _ => Err(refused::network(mode)),
    }
}
