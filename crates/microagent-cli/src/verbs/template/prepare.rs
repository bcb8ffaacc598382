//! `microagent template prepare`

use super::{Action, DONE};
use crate::completion;
use crate::context::Context;
use crate::error::Error;
use crate::output::Text;
use crate::quantity;
use crate::signals::Signals;
use crate::verbs::definition;
use clap_complete::engine::ArgValueCandidates;
use microagent::{Prepared, TemplateOptions};
use std::io::{self, Write};
use std::path::PathBuf;

const EXAMPLES: &str = "\
Examples:
  microagent template prepare
  microagent template prepare --profile medium
  microagent template prepare --memory 1g --cpus 2";

/// Make the template of a kind of machine before the first run needs it
///
/// Where guests are emulated in software, the template also rehearses: its machine does everything machines do, so that later ones find
/// the guest's code translated. After a run that found a template without that, this happens by itself in the background, at the lowest
/// priority, for a few seconds; MICROAGENT_REHEARSAL=off keeps it from happening.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Resource profile: tiny, small, medium or large
    #[arg(long, value_name = "NAME", default_value = "small", add = ArgValueCandidates::new(completion::profiles))]
    profile: String,
    /// Memory in MiB, or a size as in `512m` or `1g` [default: the profile's]
    #[arg(long, value_name = "MIB", value_parser = quantity::parse_memory_mib)]
    memory: Option<u32>,
    /// Number of CPUs [default: the profile's]
    #[arg(long, value_name = "N")]
    cpus: Option<u32>,
    /// Network mode, user or isolated: whether it has a network interface
    #[arg(long, value_name = "MODE", default_value = "user")]
    network: String,
    /// Run on linux-kvm or linux-tcg [default: the best this host has]
    #[arg(long, value_name = "BACKEND")]
    backend: Option<String>,
    /// Kernel image [default: the installed default]
    #[arg(long, value_name = "FILE")]
    kernel: Option<PathBuf>,
    /// Guest agent binary, instead of the built-in one
    #[arg(long, value_name = "FILE")]
    guest_init: Option<PathBuf>,
    /// Leave the terminal, and everything else the processors
    #[arg(long, hide = true)]
    background: bool,
}

/// The lowest priority there is.
const NICENESS: i32 = 19;

impl Action for Args {
    fn run(self, context: &Context) -> Result<u8, Error> {
        let Args { profile, memory, cpus, network, backend, kernel, guest_init, background } = self;
        if background {
            stand_back();
        }
        let network = definition::network::network(&network)?;
        let options = TemplateOptions {
            profile,
            memory_mib: memory,
            cpus,
            network,
            backend,
            kernel,
            guest_init,
            ..Default::default()
        };
        let interrupt = options.interrupt.clone();
        let signals = Signals::watch(move || interrupt.stop())?;
        let client = context.client()?;
        if background && client.kernels().list().is_ok_and(|kernels| kernels.is_empty()) {
            // What the run has left is gone: that is not for this process to bring back.
            return Ok(DONE);
        }
        let prepared = client.prepare_template(&options).map_err(Error::from);
        context.show(&signals.judge(prepared)?)?;
        Ok(DONE)
    }
}

/// Leaves the processors to everything else. Where that is refused it is less out of the way, and does its work.
fn stand_back() {
    let _ = rustix::process::nice(NICENESS);
    // Where every session has its share, a process is nice to those of its own only (`sched(7)`).
    let _ = std::fs::write("/proc/self/autogroup", NICENESS.to_string());
}

impl Text for Prepared {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        let done = match (self.made, self.rehearsed, self.busy) {
            (_, _, true) => "somebody else is making it",
            (true, true, _) => "made and rehearsed",
            (true, false, _) => "made",
            (false, true, _) => "rehearsed",
            (false, false, _) => "ready already",
        };
        writeln!(out, "Template: {done}")?;
        self.note.iter().try_for_each(|note| writeln!(out, "note: {note}"))
    }
}
