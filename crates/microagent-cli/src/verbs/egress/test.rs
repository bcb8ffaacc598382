//! `microagent egress test`

use crate::context::Context;
use crate::error::Error;
use crate::lines::Line as _;
use crate::output::Text;
use crate::verbs::{Action, DONE, FOUND_WRONG};
use microagent::EgressReplay;
use microagent::egress::Mode;
use std::io::{self, Write};
use std::path::PathBuf;

const EXAMPLES: &str = "\
Examples:
  microagent egress test policy.yaml egress.jsonl
  microagent egress test --mode guarded policy.yaml egress.jsonl
  microagent --json egress test policy.yaml egress.jsonl";

/// Hold a record of egress against a policy: what would be let out, and what would not
///
/// A record is the file `egress.jsonl` of a workspace. The exit status is 1 if anything would be denied.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Policy file
    #[arg(value_name = "POLICY")]
    policy: PathBuf,
    /// Record of egress
    #[arg(value_name = "LOG")]
    log: PathBuf,
    /// Egress mode: guarded or strict
    #[arg(long, value_name = "MODE", default_value = "strict")]
    mode: Mode,
}

impl Action for Args {
    fn run(self, context: &Context) -> Result<u8, Error> {
        let replay = EgressReplay::new(&self.policy, &self.log, self.mode)?;
        context.show(&replay)?;
        Ok(if replay.denied == 0 { DONE } else { FOUND_WRONG })
    }
}

impl Text for EgressReplay {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        for attempt in self.lines.iter().filter(|attempt| attempt.would_deny.is_some() || attempt.differs) {
            match attempt.would_deny {
                Some(reason) => write!(out, "denied ({}): ", reason.name())?,
                None => write!(out, "allowed: ")?,
            }
            attempt.event.line(out)?;
        }
        if self.passed_over > 0 {
            writeln!(out, "{} lines are none of a record, and were passed over", self.passed_over)?;
        }
        writeln!(out, "{} allowed, {} denied", self.allowed, self.denied)
    }
}
