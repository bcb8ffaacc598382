//! `microagent create`

use super::definition::Definition;
use super::definition::file::SpecArgs;
use super::snapshot::origin::{Decided, OriginArgs};
use super::{Action, DONE};
use crate::completion;
use crate::context::Context;
use crate::error::Error;
use crate::output::{self, Format, Text, labelled};
use crate::refused::RefusedFlag;
use crate::signals::Signals;
use crate::verbs::run::planned::Planned;
use crate::verbs::run::streams::Outputs;
use crate::verbs::status::resources;
use clap_complete::ArgValueCandidates;
use microagent::{CreateOptions, CreateReport, DEFAULT_IMAGE, RunIo, Service, Templates, WorkspaceSpec};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

const EXAMPLES: &str = "\
Examples:
  microagent create research --image docker.io/library/ubuntu:24.04 --profile medium
  microagent create --name research --image docker.io/library/busybox:1.36 --setup 'mkdir -p /workspace'
  microagent create web --image docker.io/library/nginx:1.27 --image-command --restart on-failure
  microagent create research --image docker.io/library/ubuntu:24.04 --disk workspace=/tmp/workspace.ext4:/workspace:rw
  microagent create --file microagent.yaml
  microagent create --dry-run research --image docker.io/library/ubuntu:24.04
  microagent create --id agent-1 --role workload --kernel /tmp/kernel --rootfs /tmp/rootfs.ext4
  microagent create --json request.json
  microagent create trial --from-snapshot research:before-upgrade
  microagent --json create research --image docker.io/library/ubuntu:24.04";

/// Make a workspace that lives on: to be started, used, halted and started again
///
/// Fetches the image if it is not here, makes the workspace's disk, and runs the set-up steps in it, once. A workspace whose set-up fails
/// stays, and its steps are run again when it is started. A file `microagent.yaml` or `microagent.yml` in the current directory is read;
/// flags override what it says.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(flatten)]
    decided: Decided,
    /// Name of the workspace, as with `--name`
    #[arg(value_name = "NAME")]
    positional: Option<String>,
    /// Image reference [default: docker.io/library/python:3.13-slim]
    #[arg(long, value_name = "REF", add = ArgValueCandidates::new(completion::images))]
    image: Option<String>,
    /// Root file system to use instead of an image, ext4 or EROFS; it is never written to
    #[arg(long, value_name = "PATH", conflicts_with = "image")]
    rootfs: Option<PathBuf>,
    /// Label that is kept with the workspace, and means nothing here [default: workload]
    #[arg(long, value_name = "LABEL")]
    role: Option<String>,
    #[command(flatten)]
    spec: SpecArgs,
    /// Leave a workspace file in the current directory alone
    #[arg(long, conflicts_with = "file")]
    no_file: bool,
    /// JSON file to read a request from, `-` for standard input: the keys are those of a workspace file
    #[arg(long = "json", id = "request", value_name = "PATH|-", conflicts_with = "file")]
    request: Option<PathBuf>,
    #[command(flatten)]
    definition: Definition,
    /// Shell command line to run on every start, for as long as the workspace runs
    #[arg(long, value_name = "COMMAND", allow_hyphen_values = true, conflicts_with_all = ["entrypoint", "image_command"], help_heading = "Command")]
    service_command: Option<String>,
    /// Run the image's own entry point and command on every start
    #[arg(long, help_heading = "Command")]
    image_command: bool,
    /// Check everything that can be checked offline, show the plan, and make nothing
    #[arg(long)]
    dry_run: bool,
    /// Accepted for compatibility: set-up runs in this process, and `start` names its own supervisor
    #[arg(long = "supervisor", id = "create_supervisor", value_name = "PATH", hide_short_help = true)]
    supervisor: Option<PathBuf>,
    #[command(flatten)]
    origin: OriginArgs,
    #[command(flatten)]
    refused: RefusedFlag,
}

impl Args {
    fn options(&self, context: &Context) -> Result<CreateOptions, Error> {
        let mut options = CreateOptions::new("");
        if let Some(spec) = self.spec()? {
            spec.apply(&mut options)?;
        }
        self.definition.apply(&mut options.workspace)?;
        let workspace = &mut options.workspace;
        match (&self.image, &self.rootfs) {
            (Some(image), _) => {
                workspace.image.clone_from(image);
                workspace.rootfs = None;
            }
            (None, Some(_)) => workspace.rootfs.clone_from(&self.rootfs),
            (None, None) => {}
        }
        if workspace.image.is_empty() && workspace.rootfs.is_none() {
            DEFAULT_IMAGE.clone_into(&mut workspace.image);
        }
        if let Some(role) = &self.role {
            workspace.role.clone_from(role);
        }
        workspace.templates = if self.definition.machine.cold { Templates::Off } else { context.templates() };
        if let Some(name) = self.name()? {
            workspace.name = Some(name.to_owned());
        }
        match (&self.service_command, self.image_command) {
            (Some(line), _) => {
                options.service = Service::Shell(line.clone());
                // What the file says is overridden as a whole.
                options.workspace.entrypoint = None;
            }
            (None, true) => options.service = Service::Image,
            (None, false) if self.definition.has_entrypoint() => options.service = Service::Entrypoint,
            (None, false) => {}
        }
        Ok(options)
    }

    /// The name that is given, in either place.
    fn name(&self) -> Result<Option<&str>, Error> {
        match (self.positional.as_deref(), self.definition.name()) {
            (Some(positional), Some(named)) if named != positional => {
                Err(Error::usage(format!("two names are given: `{positional}` and `{named}`"), "keep one of them"))
            }
            (positional, named) => Ok(positional.or(named)),
        }
    }

    /// The request or file that says more than the flags do.
    fn spec(&self) -> Result<Option<WorkspaceSpec>, Error> {
        match self.request.as_deref() {
            Some(path) => request(path).map(Some),
            None if self.no_file => Ok(None),
            None => self.spec.named_or_found(),
        }
    }
}

fn request(path: &Path) -> Result<WorkspaceSpec, Error> {
    let unreadable = |source| microagent::Error::SpecUnreadable { path: path.to_owned(), source };
    let mut text = String::new();
    let here = std::env::current_dir().map_err(Error::system("find the current directory"))?;
    if path == Path::new("-") {
        io::stdin().read_to_string(&mut text).map_err(unreadable)?;
        return Ok(WorkspaceSpec::parse_json(&text, path, &here)?);
    }
    std::fs::File::open(path).and_then(|mut file| file.read_to_string(&mut text)).map_err(unreadable)?;
    let base = here.join(path);
    Ok(WorkspaceSpec::parse_json(&text, path, base.parent().unwrap_or(&here))?)
}

impl Action for Args {
    fn run(self, context: &Context) -> Result<u8, Error> {
        self.refused.check()?;
        if let Some(snapshot) = self.origin.snapshot(&self.decided)? {
            let forwards = self.definition.forwards()?;
            return self.origin.create(context, &snapshot, self.name()?, forwards, self.supervisor.clone());
        }
        let options = self.options(context)?;
        if self.supervisor.is_some() {
            output::note(output::SUPERVISOR_NOTE);
        }
        let client = context.client()?;
        if self.dry_run {
            context.show(&Planned::of_create(client.plan_workspace(&options)?))?;
            return Ok(DONE);
        }
        let interrupt = options.workspace.interrupt.clone();
        let signals = Signals::watch(move || interrupt.stop())?;
        let outputs = Outputs::new();
        let mut io = RunIo::default();
        if context.format() == Format::Text {
            // Standard output is for what the verb itself has to say.
            io.stdout = Some(outputs.stderr()?);
            io.stderr = Some(outputs.stderr()?);
        }
        let outcome = client.create(&options, io).map_err(Error::from);
        drop(client);
        outputs.end_line();
        context.show(&signals.judge(outcome)?)?;
        Ok(DONE)
    }
}

impl Text for CreateReport {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        labelled(
            out,
            &[
                ("Workspace", self.workspace.to_string()),
                ("State", self.state.to_string()),
                ("Image", self.image.clone()),
                ("Profile", self.profile.clone()),
                ("Network", self.network.clone()),
                ("Resources", resources(self.resources)),
            ],
        )
    }
}
