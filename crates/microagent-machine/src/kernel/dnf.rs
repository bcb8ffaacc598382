//! The kernel packages of Fedora and its relatives, downloaded with dnf and never installed.

use std::fs;
use std::path::{Path, PathBuf};

use super::source::{Origin, Progress};
use super::{Error, Result, tool};

/// The package with the image.
const IMAGE: &str = "kernel-core";
/// Packages with modules a guest needs, newest split first: since Fedora 38 the essential ones are apart.
const MODULES: [&str; 2] = ["kernel-modules-core", "kernel-modules"];

/// Which kernel dnf offers, and its package files in `scratch`: none if `is_installed` says it is there already.
pub(super) fn fetch(
    dnf: &Path,
    scratch: &Path,
    is_installed: &dyn Fn(&Origin) -> Result<bool>,
    progress: &mut dyn FnMut(Progress),
) -> Result<(Origin, Vec<PathBuf>)> {
    progress(Progress::Resolving);
    let version =
        newest(dnf, IMAGE)?.ok_or_else(|| Error::NoPackage { manager: "dnf", looked_for: IMAGE.to_owned() })?;
    let origin = Origin::Package { manager: "dnf".to_owned(), package: IMAGE.to_owned(), version: version.clone() };
    if is_installed(&origin)? {
        return Ok((origin, Vec::new()));
    }
    let mut packages = vec![format!("{IMAGE}-{version}")];
    for modules in MODULES {
        if newest(dnf, &format!("{modules}-{version}"))?.is_some() {
            packages.push(format!("{modules}-{version}"));
            break;
        }
    }
    let into = scratch.join("rpms");
    fs::create_dir_all(&into).map_err(Error::io("create the directory", &into))?;
    progress(Progress::Downloading { what: packages.join(", "), received: 0, total: None });
    let mut download = tool::command(dnf, ["-q", "-y", "download", "--destdir"]);
    download.arg(&into).args(&packages);
    tool::run(download, |_| {})?;
    let files = fs::read_dir(&into)
        .and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>, _>>())
        .map_err(Error::io("list", &into))?;
    Ok((origin, files))
}

/// The version of the newest package matching `name`, if there is one.
fn newest(dnf: &Path, name: &str) -> Result<Option<String>> {
    let query = ["-q", "repoquery", "--latest-limit=1", "--arch", "x86_64", "--qf", "%{version}-%{release}\\n", name];
    let output = tool::output(tool::command(dnf, query))?;
    Ok(output.lines().map(str::trim).rfind(|line| !line.is_empty()).map(str::to_owned))
}
