//! The kernel package of Debian, Ubuntu and their relatives, downloaded with apt and never installed.
//!
//! apt's own lists are used where they serve. Where they are missing, or name a version the mirror no longer has, the
//! download is repeated with lists of our own below the scratch folder, which needs no root.

use std::fs;
use std::path::{Path, PathBuf};

use super::source::{Origin, Progress};
use super::{Error, Result, tool};

/// Packages that depend on the current kernel, best for a virtual machine first: Debian's cloud kernel, Ubuntu's, and
/// the general one of either.
const META_PACKAGES: [&str; 4] =
    ["linux-image-cloud-amd64", "linux-image-virtual", "linux-image-amd64", "linux-image-generic"];

/// Debian ships modules with the image; Ubuntu puts them into a package of this prefix.
const MODULES_PREFIX: &str = "linux-modules-";

/// Which kernel apt offers, and its package files in `scratch`: none if `is_installed` says it is there already.
pub(super) fn fetch(
    apt_get: &Path,
    scratch: &Path,
    is_installed: &dyn Fn(&Origin) -> Result<bool>,
    progress: &mut dyn FnMut(Progress),
) -> Result<(Origin, Vec<PathBuf>)> {
    progress(Progress::Resolving);
    let system = Apt { get: apt_get.to_owned(), cache: apt_get.with_file_name("apt-cache"), options: Vec::new() };
    let with_system_lists = system.fetch(&scratch.join("system"), is_installed, progress);
    if with_system_lists.is_ok() {
        return with_system_lists;
    }
    progress(Progress::Resolving);
    let own = system.with_own_lists(&scratch.join("apt"))?;
    // One unreachable third-party repository makes the update fail and the rest of the lists still serve, so its error
    // counts only if the package cannot be had afterwards.
    let updated = own.update();
    own.fetch(&scratch.join("own"), is_installed, progress).map_err(|error| updated.err().unwrap_or(error))
}

/// apt, with its own state or with one of ours.
struct Apt {
    get: PathBuf,
    cache: PathBuf,
    options: Vec<String>,
}

/// A package and what its index entry says of it.
struct Listed {
    name: String,
    version: String,
    size: u64,
    depends: Vec<String>,
}

impl Apt {
    fn with_own_lists(&self, state: &Path) -> Result<Apt> {
        for directory in ["state/lists/partial", "cache/archives/partial", "log"] {
            let path = state.join(directory);
            fs::create_dir_all(&path).map_err(Error::io("create the directory", &path))?;
        }
        let below = |directory: &str| state.join(directory).display().to_string();
        let options = [
            format!("Dir::State={}", below("state")),
            format!("Dir::State::lists={}", below("state/lists")),
            "Dir::State::status=/var/lib/dpkg/status".to_owned(),
            format!("Dir::Cache={}", below("cache")),
            format!("Dir::Cache::archives={}", below("cache/archives")),
            format!("Dir::Log={}", below("log")),
            "Acquire::Languages=none".to_owned(),
            "Acquire::Retries=2".to_owned(),
            // The state folder is private to this user, also if that is root.
            "APT::Sandbox::User=root".to_owned(),
        ];
        let options = options.into_iter().flat_map(|option| ["-o".to_owned(), option]).collect();
        Ok(Apt { get: self.get.clone(), cache: self.cache.clone(), options })
    }

    fn update(&self) -> Result<()> {
        tool::run(self.command(&self.get, &["-qq", "update"]), |_| {})
    }

    fn fetch(
        &self,
        into: &Path,
        is_installed: &dyn Fn(&Origin) -> Result<bool>,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<(Origin, Vec<PathBuf>)> {
        let packages = self.kernel_packages()?;
        let image = &packages[0];
        let origin =
            Origin::Package { manager: "apt".to_owned(), package: image.name.clone(), version: image.version.clone() };
        if is_installed(&origin)? {
            return Ok((origin, Vec::new()));
        }
        fs::create_dir_all(into).map_err(Error::io("create the directory", into))?;
        for package in &packages {
            self.download(package, into, progress)?;
        }
        let files = fs::read_dir(into)
            .and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>, _>>())
            .map_err(Error::io("list", into))?;
        Ok((origin, files))
    }

    /// The package with the image, then those with its modules.
    fn kernel_packages(&self) -> Result<Vec<Listed>> {
        let image = META_PACKAGES
            .iter()
            .filter_map(|meta| self.show(meta))
            .flat_map(|meta| meta.depends)
            .filter(|name| name.starts_with("linux-image-"))
            .find_map(|name| self.show(&name))
            .ok_or_else(|| Error::NoPackage { manager: "apt", looked_for: META_PACKAGES.join(", ") })?;
        let modules: Vec<Listed> = image
            .depends
            .iter()
            .filter(|name| name.starts_with(MODULES_PREFIX))
            .filter_map(|name| self.show(name))
            .collect();
        Ok(std::iter::once(image).chain(modules).collect())
    }

    /// The index entry of `package`. apt's failure to find one is an answer, not an error.
    fn show(&self, package: &str) -> Option<Listed> {
        let output = tool::output(self.command(&self.cache, &["show", "--no-all-versions", package])).ok()?;
        Listed::parse(&output)
    }

    fn download(&self, package: &Listed, into: &Path, progress: &mut dyn FnMut(Progress)) -> Result<()> {
        let exact = format!("{}={}", package.name, package.version);
        let mut command = self.command(&self.get, &["-qq", "-o", "APT::Status-Fd=1", "download", &exact]);
        command.current_dir(into);
        let mut reported = None;
        let mut report = |received| {
            if reported.replace(received) == Some(received) {
                return;
            }
            progress(Progress::Downloading { what: package.name.clone(), received, total: Some(package.size) });
        };
        report(0);
        tool::run(command, |line| {
            if let Some(received) = received(line, package.size) {
                report(received);
            }
        })?;
        report(package.size);
        Ok(())
    }

    fn command(&self, program: &Path, arguments: &[&str]) -> std::process::Command {
        tool::command(program, self.options.iter().map(String::as_str).chain(arguments.iter().copied()))
    }
}

impl Listed {
    /// Reads the first stanza of what `apt-cache show` prints.
    fn parse(stanza: &str) -> Option<Listed> {
        let field = |name: &str| {
            let mut lines = stanza.lines().take_while(|line| !line.is_empty());
            lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
        };
        Some(Listed {
            name: field("Package")?.to_owned(),
            version: field("Version")?.to_owned(),
            size: field("Size")?.parse().ok()?,
            depends: field("Depends").unwrap_or_default().split(',').filter_map(first_alternative).collect(),
        })
    }
}

/// The package name in one clause of a dependency: `linux-image-6.1 (= 6.1.1) | linux-image` is `linux-image-6.1`.
fn first_alternative(clause: &str) -> Option<String> {
    clause.split(['|', ' ', '(', ':']).find(|word| !word.is_empty()).map(str::to_owned)
}

/// The bytes received according to a status line of apt: `dlstatus:<number>:<percent>:<text>`.
fn received(line: &str, size: u64) -> Option<u64> {
    let percent = line.strip_prefix("dlstatus:")?.split(':').nth(1)?;
    let whole: u64 = percent.split('.').next()?.parse().ok()?;
    Some(size.saturating_mul(whole.min(100)) / 100)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_entry_gives_version_size_and_dependencies() {
        let listed = Listed::parse(
            "Package: linux-image-6.8.0-31-generic\nSize: 14000000\nVersion: 6.8.0-31.31\n\
             Depends: kmod, linux-base (>= 4.5ubuntu1~16.04.1), linux-modules-6.8.0-31-generic | other\n\nPackage: next\n",
        )
        .unwrap();
        assert_eq!((listed.version.as_str(), listed.size), ("6.8.0-31.31", 14_000_000));
        assert_eq!(listed.depends, ["kmod", "linux-base", "linux-modules-6.8.0-31-generic"]);
    }

    #[test]
    fn status_lines_become_bytes() {
        assert_eq!(received("dlstatus:1:50.0000:Retrieving file 1 of 1", 1000), Some(500));
        assert_eq!(received("pmstatus:dpkg:50:", 1000), None);
        assert_eq!(received("dlstatus:1:nan:", 1000), None);
    }
}
