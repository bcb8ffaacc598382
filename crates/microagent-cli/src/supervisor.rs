//! `microagent-supervisor`: the same program by another name. It runs one workspace until that ends.

use crate::context::workspace_name;
use crate::error::Error;
use crate::failure;
use crate::output::Format;
use crate::signals::Signals;
use clap::Parser;
use microagent::{Client, FaultReport, Phase, SnapshotRef, StartOptions, StartOutcome, Templates};
use std::ffi::OsString;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// The name by which this program is a supervisor.
const NAME: &str = "microagent-supervisor";

const ENDED_BADLY: u8 = 1;

const NOTES: &str = "\
Prints one line of JSON on standard output when the workspace is up, or when it is known that it will not be. Clients reach it
through the socket `supervisor.sock` in the workspace's directory. SIGTERM halts the workspace, a second one kills it.

Exit status: 0 when the workspace ended as it should, 1 when it failed.";

/// Run one workspace until it ends: what `microagent start` starts
#[derive(Debug, Parser)]
#[command(name = NAME, bin_name = NAME, version, after_help = NOTES, max_term_width = 100)]
struct Args {
    /// Name of the workspace
    #[arg(value_name = "NAME")]
    name: String,
    /// State directory [env: MICROAGENT_STATE_DIR] [default: ~/.microagent]
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
    /// Who starts it, for the workspace's events
    #[arg(long, value_name = "NAME", default_value = "supervisor")]
    actor: String,
    /// Why, for the workspace's events
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// What joins the workspace's events to other records
    #[arg(long, value_name = "ID")]
    correlation_id: Option<String>,
    /// Boot the kernel, without using or making a template
    #[arg(long)]
    cold: bool,
    /// Go on from this snapshot, WORKSPACE:TAG
    #[arg(long, value_name = "SNAPSHOT")]
    from_snapshot: Option<SnapshotRef>,
}

/// Whether this program was called by the supervisor's name.
pub(crate) fn is_called_for(arguments: &[OsString]) -> bool {
    arguments.first().and_then(|called| Path::new(called).file_name()).is_some_and(|name| name == NAME)
}

/// Is the supervisor.
pub(crate) fn main(arguments: &[OsString]) -> ExitCode {
    let args = match Args::try_parse_from(arguments) {
        Ok(args) => args,
        Err(error) => error.exit(),
    };
    match args.run() {
        Ok(Phase::Failed) => ExitCode::from(ENDED_BADLY),
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => failure::finish(&error, Format::Text, false),
    }
}

impl Args {
    fn run(self) -> Result<Phase, Error> {
        raise_descriptor_limit();
        let options = StartOptions {
            templates: if self.cold { Templates::Off } else { Templates::On },
            from_snapshot: self.from_snapshot.clone(),
            reason: self.reason.clone(),
            ..StartOptions::default()
        };
        let interrupt = options.interrupt.clone();
        // The terminal it was started from may go; the workspace stays.
        let _signals = Signals::watch(move || interrupt.stop())?;
        let mut told = false;
        let served = self.serve(&options, &mut told);
        if let Err(error) = &served
            && !told
        {
            tell(&StartOutcome::Failed { error: FaultReport::new(error) });
        }
        served
    }

    fn serve(&self, options: &StartOptions, told: &mut bool) -> Result<Phase, Error> {
        let client = Client::open(self.state_dir.as_deref())?;
        let client = client.acting_as(&self.actor, self.correlation_id.clone());
        let phase = client.serve(&workspace_name(&self.name)?, options, |report| {
            *told = true;
            tell(&StartOutcome::Started(report.clone()));
        })?;
        Ok(phase)
    }
}

/// Every client and every process takes descriptors, and the usual limit is meant for programs that serve nobody.
fn raise_descriptor_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    // With fewer, fewer are served.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
}

/// Says what became of the start. Who asked may have gone, and then needs no answer.
fn tell(outcome: &StartOutcome) {
    if let Ok(line) = serde_json::to_string(outcome) {
        let _ = writeln!(std::io::stdout(), "{line}");
    }
}
