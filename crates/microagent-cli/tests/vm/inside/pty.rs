//! A terminal that a test sits at.

use super::workspace::{LIMIT, NAME, Workspace};
use microagent_testing::tool;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Termios, Winsize, tcgetattr, tcsetwinsize};
use std::ffi::OsStr;
use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::process::Child;

/// A terminal, and the command that was started at it.
pub(super) struct Terminal {
    screen: File,
    /// The command's end, which keeps the terminal's modes when the command has gone.
    line: File,
    before: Vec<u8>,
    shown: String,
    seen: usize,
    pub(super) child: Child,
}

impl Terminal {
    /// Starts `microagent ARGUMENTS` at a terminal of its own, which is its controlling one.
    pub(super) fn start(workspace: &Workspace, arguments: &[&str]) -> Terminal {
        let screen = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&screen).unwrap();
        unlockpt(&screen).unwrap();
        let name = ptsname(&screen, Vec::new()).unwrap();
        let line = File::options().read(true).write(true).open(OsStr::from_bytes(name.as_bytes())).unwrap();
        tcsetwinsize(&screen, size(30, 100)).unwrap();
        let before = modes(&line);
        let end = || line.try_clone().unwrap();
        let command = workspace.host.command(arguments);
        let mut at_terminal = tool("setsid");
        at_terminal.arg("--ctty").arg(command.get_program()).args(command.get_args()).env("TERM", "xterm");
        let child = at_terminal.stdin(end()).stdout(end()).stderr(end()).spawn().unwrap();
        Terminal { screen: screen.into(), line, before, shown: String::new(), seen: 0, child }
    }

    /// Starts `microagent exec FLAGS box -- ARGV`.
    pub(super) fn exec(workspace: &Workspace, argv: &[&str]) -> Terminal {
        Terminal::start(workspace, &[&["exec", "-it", NAME, "--"], argv].concat())
    }

    pub(super) fn keys(&mut self, keys: impl AsRef<[u8]>) {
        self.screen.write_all(keys.as_ref()).unwrap();
    }

    pub(super) fn resize(&self, rows: u16, columns: u16) {
        tcsetwinsize(&self.screen, size(rows, columns)).unwrap();
    }

    /// Waits until `text` is shown after what was waited for before, and returns what came before it.
    #[track_caller]
    pub(super) fn wait_for(&mut self, text: &str) -> String {
        loop {
            if let Some(at) = self.shown[self.seen..].find(text) {
                let before = self.shown[self.seen..self.seen + at].to_owned();
                self.seen += at + text.len();
                return before;
            }
            let limit = Timespec { tv_sec: LIMIT.as_secs().cast_signed(), tv_nsec: 0 };
            let ready = poll(&mut [PollFd::new(&self.screen, PollFlags::IN)], Some(&limit)).unwrap();
            assert_eq!(ready, 1, "never saw {text:?}: {:?}", &self.shown[self.seen..]);
            let mut chunk = [0; 4096];
            let count = self.screen.read(&mut chunk).unwrap();
            self.shown.push_str(&String::from_utf8_lossy(&chunk[..count]));
        }
    }

    /// Waits for the command's end, which has to be `status`, and fails unless the terminal is as it was.
    #[track_caller]
    pub(super) fn expect(mut self, status: i32) {
        let ended = super::workspace::status(&mut self.child);
        assert_eq!(ended, Some(status), "{:?}", &self.shown[self.seen..]);
        assert_eq!(modes(&self.line), self.before, "the terminal is not what it was");
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn size(rows: u16, columns: u16) -> Winsize {
    Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }
}

/// What the terminal does with what passes.
fn modes(line: &File) -> Vec<u8> {
    let Termios { input_modes, output_modes, control_modes, local_modes, .. } = tcgetattr(line).unwrap();
    format!("{input_modes:?} {output_modes:?} {control_modes:?} {local_modes:?}").into_bytes()
}
