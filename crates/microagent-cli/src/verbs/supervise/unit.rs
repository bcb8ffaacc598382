//! The systemd user unit that supervises a workspace.

use crate::environment;
use crate::error::Error;
use crate::output::Text;
use microagent::Name;
use serde::Serialize;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Longer than the guest may take to come to rest.
const STOP_LIMIT_SECONDS: u32 = 180;

/// A unit, written or not.
pub(super) struct Unit {
    name: Name,
    file_name: String,
    path: PathBuf,
    state_dir: PathBuf,
}

/// What became of a unit.
#[derive(Serialize)]
pub(super) struct UnitReport {
    unit: String,
    path: PathBuf,
    installed: bool,
    /// Whether systemd was told.
    reloaded: bool,
}

impl Unit {
    /// The unit of a workspace, where systemd looks for those of a user.
    pub(super) fn new(name: &Name, state_dir: &Path) -> Result<Unit, Error> {
        let configuration = environment::path("XDG_CONFIG_HOME")
            .or_else(|| environment::path("HOME").map(|home| home.join(".config")))
            .ok_or_else(|| {
                Error::usage("there is no place for the unit: `HOME` is not set", "set `HOME` or `XDG_CONFIG_HOME`")
            })?;
        let file_name = format!("microagent-supervise-{name}.service");
        let path = configuration.join("systemd/user").join(&file_name);
        Ok(Unit { name: name.clone(), file_name, path, state_dir: state_dir.to_owned() })
    }

    /// Writes the unit.
    pub(super) fn install(&self, max_restarts: u32) -> Result<UnitReport, Error> {
        let program = std::env::current_exe().map_err(Error::system("find this program"))?;
        let unwritable = |source| Error::WriteFile { path: self.path.clone(), source };
        let directory = self.path.parent().unwrap_or(&self.path);
        fs::create_dir_all(directory).map_err(unwritable)?;
        // In one piece, or not at all.
        let unfinished = self.path.with_extension("service.new");
        fs::write(&unfinished, self.text(&program, max_restarts)).map_err(unwritable)?;
        fs::rename(&unfinished, &self.path).map_err(unwritable)?;
        Ok(self.report(true))
    }

    /// Removes the unit. One that is not there is no error.
    pub(super) fn remove(&self) -> Result<UnitReport, Error> {
        match fs::remove_file(&self.path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                Err(Error::WriteFile { path: self.path.clone(), source })
            }
            _ => Ok(self.report(false)),
        }
    }

    fn report(&self, installed: bool) -> UnitReport {
        UnitReport { unit: self.file_name.clone(), path: self.path.clone(), installed, reloaded: reload() }
    }

    fn text(&self, program: &Path, max_restarts: u32) -> String {
        let Unit { name, state_dir, .. } = self;
        let (program, state_dir) = (quoted(&program.to_string_lossy()), quoted(&state_dir.to_string_lossy()));
        format!(
            "\
[Unit]
Description=microagent workspace {name}

[Service]
Type=exec
ExecStart={program} --state-dir {state_dir} supervise {name} --max-restarts {max_restarts}
# The first signal is for the supervision alone: it halts the workspace.
KillMode=mixed
TimeoutStopSec={STOP_LIMIT_SECONDS}
# The workspace's own policy restarts it; this is for the supervision itself.
Restart=on-abnormal

[Install]
WantedBy=default.target
"
        )
    }
}

/// Has systemd look at its units again, where there is one to ask. Without one the file is there for later.
fn reload() -> bool {
    let reload = Command::new("systemctl")
        .args(["--user", "daemon-reload"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    reload.is_ok_and(|status| status.success())
}

/// One word of `ExecStart=`, with nothing in it that systemd would replace (systemd.service(5), "Command lines").
fn quoted(word: &str) -> String {
    let mut text = String::from('"');
    for character in word.chars() {
        match character {
            '"' | '\\' => text.extend(['\\', character]),
            '%' | '$' => text.extend([character, character]),
            '\n' => text.push_str("\\n"),
            _ => text.push(character),
        }
    }
    text.push('"');
    text
}

impl Text for UnitReport {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        let UnitReport { unit, path, installed, reloaded } = self;
        if !installed {
            return writeln!(out, "Removed: {}", path.display());
        }
        writeln!(out, "Written: {}", path.display())?;
        if !reloaded {
            writeln!(out, "Reload: systemctl --user daemon-reload")?;
        }
        writeln!(out, "Enable: systemctl --user enable --now {unit}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_in_a_path_means_anything_to_systemd() {
        let quoted = quoted("/home/a b/100% \"$HOME\"\\x");
        assert_eq!(quoted, r#""/home/a b/100%% \"$$HOME\"\\x""#);
    }
}
