//! Busybox in four images that differ in what they say about running it.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use super::Layout;
use crate::packages::BUSYBOX;
use crate::{Error, Result, tool};

const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nguest:x:1000:1000:guest:/home/guest:/bin/sh\n";
const GROUP: &str = "root:x:0:\nguest:x:1000:\nstaff:x:50:guest\n";

/// A tag, and the options of `buildah config` that make its config.
const VARIANTS: [(&str, &[&str]); 4] = [
    ("1", &["--cmd=sh"]),
    ("entrypoint", &["--entrypoint=[\"echo\", \"from\", \"entrypoint\"]"]),
    ("both", &["--entrypoint=[\"echo\", \"entrypoint\"]", "--cmd=default arguments"]),
    ("user", &["--user=guest", "--workingdir=/home/guest", "--env=HOME=/home/guest", "--cmd=id", "--stop-signal=INT"]),
];

pub(super) fn make(layout: &Layout, files: &Path) -> Result<()> {
    let root = files.join("root");
    populate(&root)?;
    let buildah = Buildah { store: files.join("store") };
    for (tag, config) in VARIANTS {
        buildah.commit(&root, &[&["--env=PATH=/bin"], config].concat(), &layout.reference(tag))?;
    }
    Ok(())
}

/// Makes a root filesystem with busybox, a link for each of its commands, and two users.
fn populate(root: &Path) -> Result<()> {
    for directory in ["bin", "etc", "home/guest", "root", "tmp", "proc", "sys", "dev"] {
        let path = root.join(directory);
        fs::create_dir_all(&path).map_err(Error::file("create", &path))?;
    }
    let program = root.join("bin/busybox");
    fs::copy(BUSYBOX, &program).map_err(Error::file("copy", BUSYBOX))?;
    for command in tool::capture(Command::new(BUSYBOX).arg("--list"))?.lines().filter(|name| *name != "busybox") {
        let link = root.join("bin").join(command);
        symlink("busybox", &link).map_err(Error::file("create", &link))?;
    }
    for (name, content) in [("etc/passwd", PASSWD), ("etc/group", GROUP)] {
        let path = root.join(name);
        fs::write(&path, content).map_err(Error::file("write", &path))?;
    }
    Ok(())
}

/// `buildah` with a store of its own, so that it neither sees nor leaves anything in the user's.
pub(super) struct Buildah {
    pub(super) store: std::path::PathBuf,
}

impl Buildah {
    /// Makes an image with the files of `root` and the `config` options, and writes it to `reference`.
    fn commit(&self, root: &Path, config: &[&str], reference: &str) -> Result<()> {
        let container = self.run(&["from", "scratch"])?;
        let container = container.trim();
        self.run(&["copy", "--quiet", container, &root.to_string_lossy(), "/"])?;
        self.run(&[&["config"], config, &[container]].concat())?;
        self.run(&["commit", "--quiet", "--rm", "--format=oci", container, reference])?;
        Ok(())
    }

    /// Runs `buildah` and returns what it printed.
    pub(super) fn run(&self, arguments: &[&str]) -> Result<String> {
        let mut command = Command::new("buildah");
        command.arg("--root").arg(self.store.join("graph")).arg("--runroot").arg(self.store.join("run"));
        command.arg("--storage-driver=vfs").args(arguments).env("BUILDAH_ISOLATION", "chroot");
        tool::capture(&mut command)
    }
}
