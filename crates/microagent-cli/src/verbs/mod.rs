//! The verbs, one file each, all of one shape: `Args` with help and examples, a `run` that makes one library call, and the rendering of
//! its result.

pub(crate) mod apply;
pub(crate) mod artifact;
mod attached;
pub(crate) mod clone;
pub(crate) mod commit;
pub(crate) mod completions;
pub(crate) mod connect;
pub(crate) mod cp;
pub(crate) mod create;
pub(crate) mod definition;
pub(crate) mod delete;
pub(crate) mod df;
pub(crate) mod diff;
pub(crate) mod doctor;
pub(crate) mod egress;
pub(crate) mod events;
pub(crate) mod exec;
pub(crate) mod gc;
pub(crate) mod halt;
pub(crate) mod image;
pub(crate) mod kernel;
pub(crate) mod kill;
pub(crate) mod list;
pub(crate) mod logs;
pub(crate) mod man;
pub(crate) mod network;
pub(crate) mod pause;
pub(crate) mod perf;
pub(crate) mod profiles;
pub(crate) mod ps;
pub(crate) mod quarantine;
pub(crate) mod resize;
pub(crate) mod result;
pub(crate) mod resume;
pub(crate) mod rootfs;
pub(crate) mod run;
pub(crate) mod schema;
pub(crate) mod secret;
pub(crate) mod snapshot;
pub(crate) mod start;
pub(crate) mod stats;
pub(crate) mod status;
pub(crate) mod supervise;
pub(crate) mod template;
mod transition;
pub(crate) mod version;
pub(crate) mod volume;
pub(crate) mod wait;

use crate::context::Context;
use crate::error::Error;

/// What a verb does with its arguments.
pub(crate) trait Action {
    /// Does it, shows the result, and returns the exit status.
    fn run(self, context: &Context) -> Result<u8, Error>;
}

/// Exit status of a verb that did what it was asked.
const DONE: u8 = 0;
/// Exit status of a check that was made and found something wrong.
const FOUND_WRONG: u8 = 1;
