//! Snapshots: what taking one costs, how soon a machine goes on from it, and what it takes.
//!
//! Everything is of the smallest profile, whose guest has 256 MiB. The machine that is written down came from a rehearsed template, has
//! answered a command, and has a process that does something small all the while.
//!
//! | module | what is measured |
//! |---|---|
//! | `pause` | how long the source stands still |
//! | `copies` | restoring it and forking it, against a warm run; memory of what was forked |
//! | `layers` | what a snapshot takes on disk when something has changed since the last |

mod copies;
mod layers;
mod pause;
mod source;

use super::Bench;
use super::goal::Goal;
use crate::{Result, tool};

const PROFILE: &str = "tiny";

pub(super) fn measure(bench: &Bench) -> Result<Vec<Goal>> {
    prepare(bench)?;
    let mut goals = pause::measure(bench)?;
    goals.extend(copies::measure(bench)?);
    goals.extend(layers::measure(bench)?);
    Ok(goals)
}

/// Sees that there is a rehearsed template of the profile.
fn prepare(bench: &Bench) -> Result<()> {
    tool::capture(&mut bench.microagent.command(["template", "prepare", "--profile", PROFILE])).map(drop)
}
