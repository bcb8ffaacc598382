//! Somebody who is not root, with an empty home.
//!
//! Installing packages is the only thing that needs root. Tests that run as root, as in CI, prove it by running the
//! product as `nobody`; tests that run as an ordinary user already are the proof.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::{Error, Result, setup};

/// User and group `nobody` in Debian: owns nothing, and is in no other group.
const NOBODY: u32 = 65_534;

/// An ordinary user's home, removed with this value.
#[derive(Debug)]
pub struct OrdinaryUser {
    home: TempDir,
}

impl OrdinaryUser {
    /// `nobody` if this process is root, else this user; in either case with a new home.
    pub fn new() -> Result<OrdinaryUser> {
        let home = tempfile::tempdir().map_err(Error::file("create a directory in", "/tmp"))?;
        hand_over(home.path())?;
        Ok(OrdinaryUser { home })
    }

    /// The home directory.
    pub fn home(&self) -> &Path {
        self.home.path()
    }

    /// Copies `program` into the home, because a clone may lie where only its owner can go.
    pub fn install(&self, program: &Path) -> Result<PathBuf> {
        let copy = self.home().join(program.file_name().unwrap_or_default());
        fs::copy(program, &copy).map_err(Error::file("copy", program))?;
        let mode = fs::Permissions::from_mode(0o755);
        fs::set_permissions(&copy, mode).map_err(Error::file("change", &copy))?;
        hand_over(&copy)?;
        Ok(copy)
    }

    /// A command that runs `program` as this user, at home, with nothing of this process's environment but `PATH`.
    pub fn command(&self, program: &Path) -> Command {
        let mut command = Command::new("setpriv");
        if setup::is_root() {
            let (user, group) = (format!("--reuid={NOBODY}"), format!("--regid={NOBODY}"));
            command.args([&user, &group, "--clear-groups", "--bounding-set=-all"]);
        }
        command.arg("--no-new-privs").arg(program).current_dir(self.home()).env_clear().env("HOME", self.home());
        command.envs(std::env::var_os("PATH").map(|path| ("PATH", path)));
        command
    }
}

/// Gives `path` to `nobody`, if this process is root.
fn hand_over(path: &Path) -> Result<()> {
    if setup::is_root() {
        chown(path, Some(NOBODY), Some(NOBODY)).map_err(Error::file("change the owner of", path))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tool;

    #[test]
    fn an_ordinary_user_is_not_root_and_writes_only_at_home() {
        let user = OrdinaryUser::new().unwrap();
        let shell = user.install(Path::new("/bin/sh")).unwrap();
        let script = "test $(id -u) != 0 && touch here && ! touch /etc/there 2>/dev/null && pwd";
        let printed = tool::capture(user.command(&shell).args(["-c", script])).unwrap();
        assert_eq!(Path::new(printed.trim_end()), user.home());
    }
}
