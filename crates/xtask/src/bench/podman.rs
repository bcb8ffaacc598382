//! The peer: podman with a store of its own.
//!
//! On machines without systemd and with old control groups, as build machines are, it needs `runc` and explicit limits.
//! For root its network and `/run` are namespaces made for the benchmark, so that bridges, firewall rules and lock files
//! end with it; entering them costs a millisecond or two, which [`Podman::entering`] measures.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

use super::sample::time;
use super::store::Store;
use crate::{Error, Result, setup, tool};

/// The network of a container.
#[derive(Clone, Copy)]
pub(super) enum Network {
    /// What podman gives it unless told otherwise.
    Default,
    /// None but loopback.
    None,
}

/// Podman, and where it works.
pub(super) struct Podman {
    store: Store,
    namespaces: Option<Namespaces>,
}

impl Podman {
    /// With an empty store.
    pub(super) fn new() -> Result<Podman> {
        let namespaces = if setup::is_root() { Some(Namespaces::new()?) } else { None };
        Ok(Podman { store: Store::new()?, namespaces })
    }

    /// The command that gets `image` from a registry on this host, which the namespaces cannot reach.
    pub(super) fn pull(&self, image: &str) -> Command {
        let mut command = Command::new("podman");
        self.complete(&mut command);
        command.args(["pull", "--quiet", "--tls-verify=false", image]);
        command
    }

    /// The command that runs `true` in `image`.
    pub(super) fn run(&self, image: &str, network: Network) -> Command {
        let mut command = self.inside("podman");
        self.complete(&mut command);
        command.args(["--runtime=runc", "run", "--rm", "--ulimit=nofile=1024:1024", "--ulimit=nproc=1024:1024"]);
        if let Network::None = network {
            command.arg("--network=none");
        }
        command.args([image, "true"]);
        command
    }

    /// What entering the namespaces adds to every run, in milliseconds.
    pub(super) fn entering(&self) -> Result<f64> {
        Ok(time(&mut self.inside("true"))? - time(&mut Command::new("true"))?)
    }

    fn inside(&self, program: &str) -> Command {
        match &self.namespaces {
            None => Command::new(program),
            Some(namespaces) => namespaces.command(program),
        }
    }

    fn complete(&self, command: &mut Command) {
        let directory = self.store.path();
        command.arg("--root").arg(directory.join("root")).arg("--runroot").arg(directory.join("run"));
        command.arg("--storage-driver=overlay");
    }
}

/// A network and a `/run` that last as long as this value.
struct Namespaces {
    holder: Child,
}

impl Namespaces {
    fn new() -> Result<Namespaces> {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "unshare", "--net", "--mount", "sh", "-c"]);
        command.arg("mount -t tmpfs tmpfs /run && echo ready && exec sleep infinity");
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let mut holder = command.spawn().map_err(tool::start(&command))?;
        let mut said = String::new();
        if let Some(output) = holder.stdout.take() {
            BufReader::new(output).read_line(&mut said).map_err(Error::file("read the output of", "unshare"))?;
        }
        let namespaces = Namespaces { holder };
        if said == "ready\n" { Ok(namespaces) } else { Err(Error::Server { server: "unshare", said }) }
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.holder.id().to_string(), "--net", "--mount", program]);
        command
    }
}

impl Drop for Namespaces {
    fn drop(&mut self) {
        // Both fail only if it has ended already.
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}
