//! `microagent cp`

use super::{Action, DONE};
use crate::context::{Context, workspace_name};
use crate::error::Error;
use crate::output::{Format, Text};
use crate::quantity;
use crate::signals::Signals;
use microagent::{Copied, CopyOptions, Name};
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};

const EXAMPLES: &str = "\
Examples:
  microagent cp report.txt research:/workspace/
  microagent cp research:/workspace/report.txt .
  microagent cp src research:/workspace/src
  microagent cp research:/var/log/. logs
  microagent cp - research:/workspace < data.tar
  microagent cp research:/workspace - > workspace.tar

Into a directory that is there, a copy goes under its own name; else it gets the name given. `/.` at
the end of a source stands for what is in the directory. `-` is a tar stream on standard input or output.
A workspace that does not run is booted for it, without its set-up and its service.";

/// Copy files between a workspace and the host
///
/// Modes and times are kept, and owners where this process may decide them. What comes out of a workspace never leads anywhere but to the
/// place it is copied to, is never setuid, and is no device.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// What to copy: a path, NAME:/path in a workspace, or `-`
    #[arg(value_name = "SOURCE")]
    source: String,
    /// Where to: NAME:/path in a workspace, a path, or `-`
    #[arg(value_name = "DESTINATION")]
    destination: String,
    /// Copy what a symbolic link as the source leads to, instead of the link
    #[arg(long, short = 'L')]
    follow_link: bool,
    /// Owner of what is copied into a workspace, by number [default: as on the host]
    #[arg(long, value_name = "UID:GID", value_parser = parse_owner)]
    chown: Option<(u32, u32)>,
}

/// One side of a copy.
enum Place {
    Stream,
    Host(PathBuf),
    Workspace(Name, String),
}

impl Action for Args {
    fn run(self, context: &Context) -> Result<u8, Error> {
        let (source, destination) = (Place::parse(&self.source)?, Place::parse(&self.destination)?);
        let options = CopyOptions { follow: self.follow_link, owner: self.chown, ..CopyOptions::default() };
        let client = context.client()?;
        let interrupt = options.interrupt.clone();
        let signals = Signals::watch(move || interrupt.stop())?;
        let outcome = match (source, destination) {
            (Place::Host(from), Place::Workspace(name, to)) => client.copy_in(&from, &name, &to, &options).map(Some),
            (Place::Workspace(name, from), Place::Host(to)) => client.copy_out(&name, &from, &to, &options).map(Some),
            (Place::Stream, Place::Workspace(name, to)) => {
                client.unpack_in(io::stdin().lock(), &name, &to, &options).map(|()| None)
            }
            (Place::Workspace(name, from), Place::Stream) => {
                check_stdout(context)?;
                client.pack_out(&name, &from, io::stdout().lock(), &options).map(|()| None)
            }
            _ => {
                return Err(Error::usage(
                    "exactly one side of a copy is in a workspace",
                    "write it as NAME:/path, as in `microagent cp report.txt research:/workspace/`",
                ));
            }
        };
        if let Some(copied) = signals.judge(outcome.map_err(Error::from))? {
            context.show(&copied)?;
        }
        Ok(DONE)
    }
}

impl Place {
    /// A name and a colon make a workspace; a path that holds a colon is told apart by a slash or dot before it.
    fn parse(text: &str) -> Result<Place, Error> {
        if text == "-" {
            return Ok(Place::Stream);
        }
        match text.split_once(':') {
            Some((name, path)) if !name.is_empty() && !name.contains('/') && !name.starts_with('.') => {
                if !path.starts_with('/') {
                    return Err(Error::usage(
                        format!("`{text}` names no path in a workspace"),
                        format!(
                            "a path in a workspace starts with `/`: `{name}:/{path}`; a file of the host with a colon in its name is `./{text}`"
                        ),
                    ));
                }
                Ok(Place::Workspace(workspace_name(name)?, path.to_owned()))
            }
            _ => Ok(Place::Host(Path::new(text).to_owned())),
        }
    }
}

/// A tar stream is nothing for a terminal, nor for whoever waits for JSON.
fn check_stdout(context: &Context) -> Result<(), Error> {
    if context.format() != Format::Text || io::stdout().is_terminal() {
        return Err(Error::usage(
            "standard output is to be a tar stream",
            "send it somewhere, as in `microagent cp NAME:/path - > archive.tar`",
        ));
    }
    Ok(())
}

fn parse_owner(text: &str) -> Result<(u32, u32), String> {
    let numbers = text.split_once(':').and_then(|(uid, gid)| Some((uid.parse().ok()?, gid.parse().ok()?)));
    numbers.ok_or_else(|| "an owner is two numbers, as in `1000:1000`".to_owned())
}

impl Text for Copied {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        let noun = if self.entries == 1 { "entry" } else { "entries" };
        writeln!(out, "Copied: {} {noun}, {}", self.entries, quantity::bytes(self.bytes))?;
        if self.skipped > 0 {
            writeln!(out, "note: {} devices or sockets were left out", self.skipped)?;
        }
        if self.stripped > 0 {
            writeln!(out, "note: {} files lost their setuid or setgid bit", self.stripped)?;
        }
        Ok(())
    }
}
