//! An index with an image for each of two architectures. The one that this host cannot run says so if it is run.

use std::fs;
use std::path::Path;

use super::Layout;
use super::busybox::Buildah;
use crate::packages::BUSYBOX;
use crate::{Error, Result};

const TAG: &str = "1";
const INDEX: &str = "multi-arch";
const ARCHITECTURES: [&str; 2] = ["amd64", "arm64"];

pub(super) fn make(layout: &Layout, files: &Path) -> Result<()> {
    let buildah = Buildah { store: files.join("store") };
    buildah.run(&["manifest", "create", INDEX])?;
    for architecture in ARCHITECTURES {
        let name = files.join(architecture);
        fs::write(&name, architecture).map_err(Error::file("write", &name))?;
        let container = buildah.run(&["from", &format!("--arch={architecture}"), "scratch"])?;
        let container = container.trim();
        buildah.run(&["copy", "--quiet", container, BUSYBOX, "/bin/cat"])?;
        buildah.run(&["copy", "--quiet", container, &name.to_string_lossy(), "/architecture"])?;
        let platform = [&format!("--arch={architecture}"), "--os=linux"];
        buildah.run(&["config", platform[0], platform[1], "--cmd=/bin/cat /architecture", container])?;
        buildah.run(&["commit", "--quiet", "--rm", "--format=oci", "--manifest", INDEX, container])?;
    }
    buildah.run(&["manifest", "push", "--quiet", "--all", "--format=oci", INDEX, &layout.reference(TAG)])?;
    Ok(())
}
