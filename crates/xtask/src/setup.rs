//! `cargo xtask setup`: installs the packages that are missing, and nothing when none is.
//!
//! It is the only step that may need root, and the only one that changes the host. The registry's package would start
//! a registry open to the network; its service is masked before it is installed.

use std::path::Path;
use std::process::Command;

use crate::packages::{Package, Purpose};
use crate::{Error, Result, tool};

/// A package's service that must not start, since only its program is wanted.
const UNWANTED_SERVICE: &str = "docker-registry.service";
/// It exists where systemd runs.
const SYSTEMD: &str = "/run/systemd/system";

/// Sees that the packages for `purpose` are installed.
pub fn run(purpose: Purpose) -> Result<()> {
    let missing: Vec<_> = purpose.packages().filter(|package| !package.is_installed()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    for package in &missing {
        eprintln!("missing: {}, which {}", package.program, package.reason);
    }
    let steps = steps(&missing);
    if !tool::is_installed("apt-get") || !(is_root() || tool::is_installed("sudo")) {
        return Err(Error::Packages { command: in_one_line(&steps) });
    }
    for step in steps {
        let (program, arguments): (&str, &[String]) = if is_root() { ("env", &step) } else { ("sudo", &step) };
        tool::show(Command::new(program).args(arguments))?;
    }
    match missing.iter().find(|package| !package.is_installed()) {
        None => Ok(()),
        Some(package) => Err(Error::Check(format!(
            "package `{}` was installed, and `{}` is still not on PATH",
            package.apt, package.program
        ))),
    }
}

/// The commands that install `packages` on this host, to be run by root.
fn steps(packages: &[&Package]) -> Vec<Vec<String>> {
    let words = |line: &str| line.split(' ').map(str::to_owned).collect::<Vec<_>>();
    if !tool::is_installed("apt-get") && tool::is_installed("dnf") {
        let names = packages.iter().map(|package| package.dnf.to_owned());
        return vec![words("dnf install -y").into_iter().chain(names).collect()];
    }
    let mut steps = Vec::new();
    if Path::new(SYSTEMD).exists() && packages.iter().any(|package| package.apt == "docker-registry") {
        steps.push(words(&format!("systemctl mask {UNWANTED_SERVICE}")));
    }
    steps.push(words("apt-get -q update"));
    let install = words("env DEBIAN_FRONTEND=noninteractive apt-get -q install -y --no-install-recommends");
    steps.push(install.into_iter().chain(packages.iter().map(|package| package.apt.to_owned())).collect());
    steps
}

fn in_one_line(steps: &[Vec<String>]) -> String {
    steps.iter().map(|step| step.join(" ")).collect::<Vec<_>>().join(" && ")
}

/// Whether this process runs as root.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packages::PACKAGES;

    #[test]
    fn the_command_for_a_host_that_lacks_everything_names_every_package() {
        let packages: Vec<_> = PACKAGES.iter().collect();
        let command = in_one_line(&steps(&packages));
        for package in PACKAGES {
            assert!(command.split(' ').any(|word| word == package.apt || word == package.dnf), "{command}");
        }
    }
}
