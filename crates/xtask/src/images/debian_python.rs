//! A Debian root filesystem with Python, in three layers: the system, a removal, and an application.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::Layout;
use crate::{Error, Result, tool};

const TAG: &str = "12";
const RELEASE: &str = "bookworm";
/// Not needed in a container, and half of the files.
const LEFT_OUT: [&str; 3] = ["/usr/share/doc/*", "/usr/share/man/*", "/usr/share/locale/*"];
/// Run by the image's default command.
const APPLICATION: &str = "import platform\nprint('hello from', platform.platform())\n";

pub(super) fn make(layout: &Layout, files: &Path) -> Result<()> {
    let system = files.join("system.tar");
    bootstrap(&system)?;
    let application = files.join("hello.py");
    fs::write(&application, APPLICATION).map_err(Error::file("write", &application))?;

    layout.start(TAG)?;
    layout.umoci(&["raw", "add-layer"], TAG, &[&system.to_string_lossy()])?;
    layout.umoci(&["insert", "--rootless", "--whiteout"], TAG, &["/usr/share/common-licenses/GFDL-1.2"])?;
    layout.umoci(&["insert", "--rootless"], TAG, &[&application.to_string_lossy(), "/srv/hello.py"])?;
    let path = "--config.env=PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    let config = ["--config.workingdir=/srv", path, "--config.env=LANG=C.UTF-8"];
    layout.umoci(&["config"], TAG, &[&config[..], &["--config.cmd=python3", "--config.cmd=hello.py"]].concat())
}

/// Writes the root filesystem of a minimal system with Python to the tar archive `to`.
fn bootstrap(to: &Path) -> Result<()> {
    let mut command = Command::new("mmdebstrap");
    command.args(["--quiet", "--variant=minbase", "--include=python3-minimal"]);
    command.args(["--aptopt=APT::Install-Recommends \"false\"", "--dpkgopt=force-unsafe-io"]);
    command.args(LEFT_OUT.map(|pattern| format!("--dpkgopt=path-exclude={pattern}")));
    command.arg(RELEASE).arg(to).args(mirror()?.map(|mirror| format!("deb {mirror} {RELEASE} main")));
    tool::capture(&mut command).map(drop)
}

/// The mirror this host installs Debian packages from, if it is a Debian and its lists are there.
fn mirror() -> Result<Option<String>> {
    let mut query = Command::new("apt-get");
    query.args(["indextargets", "--format", "$(ORIGIN) $(LABEL) $(CREATED_BY) $(REPO_URI)"]);
    let targets = tool::capture(&mut query)?;
    Ok(targets.lines().find_map(|line| line.strip_prefix("Debian Debian Packages ")).map(str::to_owned))
}
