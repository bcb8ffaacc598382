//! Flags of `run` that are refused.

use super::Refusal;
use crate::error::Error;
use clap::{Arg, ArgAction, ArgMatches, Command};

/// A flag the parser knows in order to refuse it.
#[derive(Debug)]
struct Flag {
    long: &'static str,
    short: Option<char>,
    takes_value: bool,
    refusal: Refusal,
}

const fn flag(long: &'static str, refusal: Refusal) -> Flag {
    Flag { long, short: None, takes_value: true, refusal }
}

const fn later(long: &'static str) -> Flag {
    flag(long, Refusal::NotYet)
}

const fn container(long: &'static str, reason: &'static str, advice: &'static str) -> Flag {
    flag(long, Refusal::Container { reason, advice })
}

impl Flag {
    const fn short(self, short: char) -> Flag {
        Flag { short: Some(short), ..self }
    }

    const fn switch(self) -> Flag {
        Flag { takes_value: false, ..self }
    }

    fn argument(&self) -> Arg {
        let argument = Arg::new(self.long).long(self.long).hide(true);
        let argument = match self.short {
            Some(short) => argument.short(short),
            None => argument,
        };
        if self.takes_value {
            // A missing value is no reason to talk about anything but the flag.
            argument.action(ArgAction::Append).num_args(0..=1).allow_hyphen_values(true)
        } else {
            argument.action(ArgAction::Count)
        }
    }
}

const OWN_KERNEL: &str = "a microVM has a kernel of its own, in which the command may do anything its user may";
const NO_NAMESPACES: &str = "a microVM shares no namespace with the host, because it shares no kernel with it";
const NO_DEVICES: &str = "devices of the host are not passed into a microVM";
const NO_MOUNTS: &str = "directories of the host cannot be mounted in a microVM";
const LIMITED_BY_SIZE: &str = "what a microVM may use is the size of the machine";
const LEAVE_OUT: &str = "leave it out";
const SIZE_IT: &str = "size the machine with `--profile`, `--memory`, `--cpus` and `--size-mib`";
const BRING_FILES: &str = "bring files with `--bundle`, `--volume data.tar:/path` or `microagent cp`";
const BACKGROUND: &str =
    "`run` lasts as long as its command: put it in the background with the shell, `microagent run ... &`";
const OWN_LINK: &str = "every guest is alone on its link, with the same addresses, and asks the host's resolver";
const NO_LINKS: &str = "microVMs do not see each other";

const FLAGS: &[Flag] = &[
    later("network-interface"),
    later("model"),
    later("model-token"),
    later("model-runner"),
    later("model-gpu"),
    later("model-runner-model"),
    later("model-runner-served-model"),
    later("model-runner-command"),
    later("model-runner-arg"),
    later("model-runner-env"),
    later("model-mediation"),
    later("model-policy-file"),
    later("model-policy-url"),
    later("model-policy-timeout"),
    later("tty").short('t').switch(),
    container("privileged", OWN_KERNEL, LEAVE_OUT).switch(),
    container("cap-add", OWN_KERNEL, LEAVE_OUT),
    container("cap-drop", OWN_KERNEL, "run the command as another user with `--user`"),
    container("security-opt", OWN_KERNEL, LEAVE_OUT),
    container("pid", NO_NAMESPACES, LEAVE_OUT),
    container("ipc", NO_NAMESPACES, LEAVE_OUT),
    container("uts", NO_NAMESPACES, "name the guest with `--hostname`"),
    container("userns", NO_NAMESPACES, LEAVE_OUT),
    container("cgroupns", NO_NAMESPACES, LEAVE_OUT),
    container("cgroup-parent", NO_NAMESPACES, LEAVE_OUT),
    container("pod", NO_NAMESPACES, LEAVE_OUT),
    container("device", NO_DEVICES, LEAVE_OUT),
    container("gpus", NO_DEVICES, LEAVE_OUT),
    container("mount", NO_MOUNTS, BRING_FILES),
    container("volumes-from", NO_MOUNTS, BRING_FILES),
    container("tmpfs", OWN_KERNEL, "mount it in the guest: `--setup 'mount -t tmpfs tmpfs /path'`"),
    container("detach", "a microVM ends with the process that started it", BACKGROUND).short('d').switch(),
    container("attach", "both outputs are always attached", "leave it out; `-i` attaches standard input").short('a'),
    container("memory-swap", LIMITED_BY_SIZE, SIZE_IT),
    container("cpu-shares", LIMITED_BY_SIZE, SIZE_IT),
    container("cpuset-cpus", LIMITED_BY_SIZE, SIZE_IT),
    container("pids-limit", LIMITED_BY_SIZE, SIZE_IT),
    container("shm-size", LIMITED_BY_SIZE, SIZE_IT),
    container("storage-opt", LIMITED_BY_SIZE, SIZE_IT),
    container("ulimit", OWN_KERNEL, "set it in the guest: `--exec 'ulimit ...; command'`"),
    container("sysctl", OWN_KERNEL, "set it in the guest: `--setup 'sysctl -w name=value'`"),
    container("init", "a process that reaps orphans is always there", LEAVE_OUT).switch(),
    container("net", OWN_LINK, "leave it out, or write `--network isolated`"),
    container("publish-all", OWN_LINK, "name each port: `--publish 8080:80`").short('P').switch(),
    container("expose", OWN_LINK, "name the port: `--publish 8080:80`"),
    container("link", NO_LINKS, "publish a port of one, and lead to it from the other with `--mediation`"),
    container("dns", OWN_LINK, LEAVE_OUT),
    container("add-host", OWN_LINK, "write it in the guest: `--setup 'echo ADDRESS NAME >> /etc/hosts'`"),
    container("ip", OWN_LINK, LEAVE_OUT),
    container("mac-address", OWN_LINK, LEAVE_OUT),
    container("log-driver", "the output goes to standard output and standard error", "redirect them"),
    container("label", "a workspace has a name and no labels", "name it with `--name`").short('l'),
    container("cidfile", "a microVM is a workspace with a name", "name it with `--name`"),
    container("platform", "a microVM has the architecture of its host", "name an image's architecture with `--arch`"),
];

/// The first refused flag of a command line, if it has one.
#[derive(Clone, Debug, Default)]
pub(crate) struct RefusedFlag(Option<Given>);

#[derive(Clone, Debug)]
struct Given {
    flag: &'static Flag,
    value: Option<String>,
}

impl RefusedFlag {
    /// Refuses the flag, if there is one.
    pub(crate) fn check(&self) -> Result<(), Error> {
        match &self.0 {
            None => Ok(()),
            Some(given) => Err(given.explain()),
        }
    }
}

impl Given {
    fn explain(&self) -> Error {
        let Given { flag, value } = self;
        let what = format!("--{}", flag.long);
        match (flag.long, value.as_deref()) {
            ("tty", _) => Error::NotSupportedYet {
                what,
                hint: "leave out `-t`; `-i` alone passes standard input to the command".to_owned(),
            },
            _ => flag.refusal.explain(what),
        }
    }
}

impl clap::FromArgMatches for RefusedFlag {
    fn from_arg_matches(matches: &ArgMatches) -> Result<RefusedFlag, clap::Error> {
        let given = |flag: &&'static Flag| {
            if flag.takes_value { matches.contains_id(flag.long) } else { matches.get_count(flag.long) > 0 }
        };
        let position = |flag: &&'static Flag| matches.indices_of(flag.long).and_then(|mut indices| indices.next());
        let first = FLAGS.iter().filter(given).min_by_key(position);
        Ok(RefusedFlag(first.map(|flag| Given {
            flag,
            value: flag.takes_value.then(|| matches.get_one::<String>(flag.long).cloned()).flatten(),
        })))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = RefusedFlag::from_arg_matches(matches)?;
        Ok(())
    }
}

impl clap::Args for RefusedFlag {
    fn augment_args(command: Command) -> Command {
        command.args(FLAGS.iter().map(Flag::argument))
    }

    fn augment_args_for_update(command: Command) -> Command {
        RefusedFlag::augment_args(command)
    }
}
