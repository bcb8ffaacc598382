//! The flags of `run`.

use crate::completion;
use crate::error::Error;
use crate::quantity;
use crate::refused::RefusedFlag;
use crate::verbs::definition::Definition;
use crate::verbs::definition::file::SpecArgs;
use clap_complete::ArgValueCandidates;
use microagent::{Command, RunOptions};
use std::path::PathBuf;
use std::time::Duration;

const EXAMPLES: &str = "\
Examples:
  microagent run docker.io/library/ubuntu:24.04 uname -a
  microagent run docker.io/library/busybox:1.36
  microagent run --image docker.io/library/alpine:3.20 --exec 'echo hello from $(hostname)'
  microagent run -e GREETING=hello docker.io/library/alpine:3.20 printenv GREETING
  microagent run --image busybox --setup 'mkdir -p /workspace' --exec 'ls -d /workspace'
  microagent run --file microagent.yaml uname -a
  microagent run --timeout 5 docker.io/library/alpine:3.20 sleep 60
  microagent --json run --profile medium docker.io/library/alpine:3.20 uname -r

Exit status: 0 when the command ran to its end, whatever its own exit code, which is shown
as `Exit code:`. With --propagate-exit-code it is the command's own (128 plus the signal
that killed it), 126 or 127 when the command cannot be executed or is not there, and 125
for every other failure.";

/// Run a command in a microVM of its own, and remove it
///
/// Fetches the image if it is not here, boots it, runs the set-up steps and then the command, shows what they print, and leaves nothing
/// behind unless `--keep` is given. Without a command the image's own is run. Everything after IMAGE belongs to the guest.
#[derive(clap::Args, Debug)]
#[command(
    after_help = EXAMPLES,
    override_usage = "microagent run [OPTIONS] <IMAGE> [ARG]...\n       microagent run [OPTIONS] --image <REF> --exec <COMMAND>"
)]
pub(crate) struct Args {
    /// Image to run, then the words of the command; with `--image`, or an image in `--file`, only the words of the command
    #[arg(value_names = ["IMAGE", "ARG"], num_args = 0.., trailing_var_arg = true, add = ArgValueCandidates::new(completion::images))]
    pub(super) words: Vec<String>,
    /// Image reference, instead of IMAGE
    #[arg(long, value_name = "REF", add = ArgValueCandidates::new(completion::images))]
    pub(super) image: Option<String>,
    #[command(flatten)]
    pub(super) command: CommandArgs,
    #[command(flatten)]
    pub(super) spec: SpecArgs,
    #[command(flatten)]
    pub(super) definition: Definition,
    #[command(flatten)]
    pub(super) keeping: KeepArgs,
    /// Pass standard input to the command
    #[arg(long, short = 'i', visible_alias = "interactive", help_heading = "Input and output")]
    pub(super) stdin: bool,
    /// Print no summary after the command's output
    #[arg(long, short, help_heading = "Input and output")]
    pub(super) quiet: bool,
    /// Print where the time went after the summary
    #[arg(long, help_heading = "Input and output")]
    pub(super) timing: bool,
    /// End with the command's exit code [env: MICROAGENT_PROPAGATE_EXIT_CODE]
    #[arg(long, help_heading = "Input and output")]
    pub(super) propagate_exit_code: bool,
    /// Write the smallest egress policy that would have allowed what the command attempted to this file
    #[arg(long, value_name = "FILE", help_heading = "Network")]
    pub(super) learn: Option<PathBuf>,
    /// Check everything that can be checked offline, show the plan, and do nothing
    #[arg(long, help_heading = "Input and output")]
    pub(super) dry_run: bool,
    /// Accepted for compatibility: results need no port
    #[arg(long, value_name = "PORT", hide_short_help = true)]
    pub(super) result_port: Option<u32>,
    /// Accepted for compatibility: `run` hosts the supervisor itself
    #[arg(long = "supervisor", id = "run_supervisor", value_name = "PATH", hide_short_help = true)]
    pub(super) supervisor: Option<PathBuf>,
    #[command(flatten)]
    pub(super) refused: RefusedFlag,
}

/// What runs in the guest.
#[derive(clap::Args, Debug)]
#[command(next_help_heading = "Command")]
pub(super) struct CommandArgs {
    /// Shell command line to run
    #[arg(long, value_name = "COMMAND", allow_hyphen_values = true)]
    exec: Option<String>,
    /// Run the image's own entry point and command (the default)
    #[arg(long)]
    image_command: bool,
    /// Kill the machine after this many seconds, or a time as in `5s` or `2m`
    #[arg(long, value_name = "SECONDS", value_parser = quantity::parse_duration)]
    timeout: Option<Duration>,
}

/// What stays.
#[derive(clap::Args, Debug)]
#[command(next_help_heading = "Workspace")]
pub(super) struct KeepArgs {
    /// Keep the workspace after the command
    #[arg(long)]
    keep: bool,
    /// Remove it after the command (the default)
    #[arg(long, conflicts_with = "keep")]
    rm: bool,
}

impl Args {
    /// The library's options.
    pub(super) fn options(&self) -> Result<RunOptions, Error> {
        let spec = self.spec.named()?;
        let described = spec.as_ref().is_some_and(|spec| spec.image.is_some() || spec.rootfs.is_some());
        let (image, words) = self.image_and_words(described)?;
        let mut options = RunOptions {
            command: self.command(words)?,
            timeout: self.command.timeout,
            keep: self.keeping.keep,
            learn: self.learn.clone(),
            ..RunOptions::new(image.unwrap_or_default())
        };
        if let Some(spec) = spec {
            spec.apply_to_run(&mut options)?;
        }
        if let Some(image) = image {
            image.clone_into(&mut options.workspace.image);
            options.workspace.rootfs = None;
        }
        self.definition.apply(&mut options.workspace)?;
        Ok(options)
    }

    /// The image, and the words of the command. Where a file describes the image, all words are the command's.
    fn image_and_words(&self, described: bool) -> Result<(Option<&str>, &[String]), Error> {
        if self.image.is_some() || described {
            let words = match self.words.split_first() {
                Some((dashes, words)) if described && dashes == "--" => words,
                _ => &self.words[..],
            };
            return Ok((self.image.as_deref(), words));
        }
        match self.words.split_first() {
            // Other tools want `--` before the command; no program is called that.
            Some((image, [dashes, words @ ..])) if dashes == "--" => Ok((Some(image), words)),
            Some((image, words)) => Ok((Some(image), words)),
            None => Err(Error::usage(
                "`run` needs an image",
                "name one, as in `microagent run docker.io/library/alpine:3.20 uname -a`",
            )),
        }
    }

    /// The one source of the command.
    fn command(&self, words: &[String]) -> Result<Command, Error> {
        let CommandArgs { exec, image_command, .. } = &self.command;
        match (words, exec, image_command) {
            ([], None, _) => Ok(Command::Image),
            ([], Some(line), false) => Ok(Command::Shell(line.clone())),
            (words, None, false) => Ok(Command::Arguments(words.to_vec())),
            (words, exec, image_command) => {
                let given = [
                    (!words.is_empty()).then(|| format!("the words `{}`", words.join(" "))),
                    exec.as_ref().map(|_| "`--exec`".to_owned()),
                    image_command.then(|| "`--image-command`".to_owned()),
                ];
                let given: Vec<String> = given.into_iter().flatten().collect();
                Err(Error::usage(
                    format!("more than one command is given: {}", given.join(" and ")),
                    "keep one of them",
                ))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Cli, Verb};
    use clap::Parser;

    fn options(line: &[&str]) -> Result<RunOptions, Error> {
        let cli = Cli::try_parse_from([&["microagent", "run"], line].concat()).unwrap();
        match cli.verb {
            Verb::Run(args) => args.options(),
            _ => unreachable!("the line says `run`"),
        }
    }

    fn command(line: &[&str]) -> Command {
        options(line).unwrap().command
    }

    fn arguments(words: &[&str]) -> Command {
        Command::Arguments(words.iter().map(|&word| word.to_owned()).collect())
    }

    #[test]
    fn everything_after_the_image_belongs_to_the_guest() {
        let parsed = options(&["-e", "A=1", "alpine", "ls", "-e", "--memory", "x", "--", "-h"]).unwrap();
        assert_eq!(parsed.command, arguments(&["ls", "-e", "--memory", "x", "--", "-h"]));
        assert_eq!(parsed.workspace.env.len(), 1);
        assert_eq!(parsed.workspace.image, "alpine");
    }

    #[test]
    fn two_dashes_may_stand_before_the_image_or_before_the_command() {
        assert_eq!(command(&["--", "alpine", "--version"]), arguments(&["--version"]));
        assert_eq!(command(&["alpine", "--", "ls", "-l"]), arguments(&["ls", "-l"]));
        assert_eq!(command(&["--image", "alpine", "--", "ls", "-l"]), arguments(&["ls", "-l"]));
    }

    #[test]
    fn the_command_has_exactly_one_source() {
        assert_eq!(command(&["alpine"]), Command::Image);
        assert_eq!(command(&["--image-command", "alpine"]), Command::Image);
        assert_eq!(command(&["--image", "alpine", "--exec", "-x y"]), Command::Shell("-x y".to_owned()));
        for line in [
            &["--exec", "x", "alpine", "y"][..],
            &["--image-command", "alpine", "y"],
            &["--image-command", "--exec", "x", "--image", "alpine"],
        ] {
            let message = options(line).unwrap_err().to_string();
            assert!(message.starts_with("more than one command"), "{line:?}: {message}");
        }
    }

    #[test]
    fn set_up_steps_keep_their_order() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("script");
        std::fs::write(&file, "from the file").unwrap();
        let file = file.to_str().unwrap();
        let line = ["--setup", "one", "--setup-file", file, "--setup", "two", "--image", "alpine"];
        assert_eq!(options(&line).unwrap().workspace.setup, ["one", "from the file", "two"]);
    }

    #[test]
    fn sizes_and_times_arrive_as_given() {
        let line =
            ["--memory", "1g", "--cpus", "3", "--size-mib", "2g", "--timeout", "2m", "--id", "x", "--keep", "alpine"];
        let parsed = options(&line).unwrap();
        assert_eq!(
            (parsed.workspace.memory_mib, parsed.workspace.cpus, parsed.workspace.size_mib),
            (Some(1024), Some(3), Some(2048))
        );
        assert_eq!((parsed.timeout, parsed.keep), (Some(Duration::from_mins(2)), true));
        assert_eq!(parsed.workspace.name.as_deref(), Some("x"));
    }
}
