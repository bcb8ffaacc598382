//! `--secret` and its relatives.

use crate::error::Error;
use clap::ArgAction;
use microagent::{Binding, SecretOptions, rooted};
use std::path::PathBuf;

/// Secrets a workspace is given. What stands here is where a value comes from, never a value.
#[derive(clap::Args, Clone, Debug)]
#[command(next_help_heading = "Secrets")]
pub(super) struct SecretArgs {
    /// Put a secret into /run/secrets/NAME; env:VAR, file:PATH, dotenv:PATH#KEY, vault:MOUNT/data/PATH#FIELD or
    /// helper:REF; repeatable
    #[arg(long, value_name = "NAME=SCHEME:REF", action = ArgAction::Append)]
    secret: Vec<String>,
    /// Put every key of a dotenv file there, read anew at each start; repeatable
    #[arg(long, value_name = "PATH", action = ArgAction::Append)]
    secrets_env_file: Vec<PathBuf>,
    /// Hand a secret out when it is asked for at $MICROAGENT_SECRETS_SOCK, and write it to no file; repeatable
    #[arg(long, value_name = "NAME=SCHEME:REF", action = ArgAction::Append)]
    secret_on_demand: Vec<String>,
    /// Write down each access to a secret: see `secret audit`
    #[arg(long)]
    secrets_audit: bool,
}

impl SecretArgs {
    /// Adds what is given.
    pub(super) fn apply(&self, options: &mut SecretOptions) -> Result<(), Error> {
        // A workspace is started from wherever its user is then.
        let here = std::env::current_dir().map_err(Error::system("find the current directory"))?;
        for (given, bindings) in [(&self.secret, &mut options.files), (&self.secret_on_demand, &mut options.on_demand)]
        {
            for binding in given {
                bindings.push(rooted(&parse(binding)?, &here)?);
            }
        }
        options.env_files.extend(self.secrets_env_file.iter().map(|path| here.join(path)));
        options.audit |= self.secrets_audit;
        Ok(())
    }
}

/// Reads a binding. The parser would repeat what it cannot read, and that may be a value.
pub(in crate::verbs) fn parse(text: &str) -> Result<Binding, Error> {
    text.parse().map_err(|error| microagent::Error::Secret(error).into())
}
