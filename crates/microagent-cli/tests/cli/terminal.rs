//! What is different when a person sits at a real terminal.

use crate::command::{self, Home};
use crate::workspaces::home_with;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use std::ffi::OsStr;
use std::fs::File;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::ffi::OsStrExt;
use std::process::{Command, Stdio};

/// Both ends of a terminal.
struct Terminal {
    screen: File,
    shown: String,
}

impl Terminal {
    /// A terminal, and the end a program is attached to.
    fn open() -> (Terminal, File) {
        let screen = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&screen).unwrap();
        unlockpt(&screen).unwrap();
        tcsetwinsize(&screen, Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
        let name = ptsname(&screen, Vec::new()).unwrap();
        let program = File::options().read(true).write(true).open(OsStr::from_bytes(name.as_bytes())).unwrap();
        (Terminal { screen: File::from(screen), shown: String::new() }, program)
    }

    /// Waits until `text` was shown, or the program is gone.
    fn wait_for(&mut self, text: &str) {
        let mut chunk = [0; 4096];
        while !self.shown.contains(text) {
            command::wait_for(&self.screen);
            // A terminal nobody is attached to any more answers with an error.
            let Ok(count @ 1..) = self.screen.read(&mut chunk) else { panic!("never saw {text:?}: {:?}", self.shown) };
            self.shown.push_str(&String::from_utf8_lossy(&chunk[..count]));
        }
    }
}

/// Waits for a plain request to `registry`, which is never answered. A client that tries TLS first is told, as by every HTTP server, that
/// this makes no sense.
fn hang(registry: &TcpListener) -> TcpStream {
    let mut request = [0; 4096];
    loop {
        command::wait_for(registry);
        let (mut connection, _) = registry.accept().unwrap();
        let length = connection.read(&mut request).unwrap_or(0);
        if request[..length].starts_with(b"GET ") {
            return connection;
        }
        connection.write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").unwrap();
    }
}

#[test]
fn what_takes_long_is_shown_and_cleared() {
    let registry = TcpListener::bind("127.0.0.1:0").unwrap();
    let image = format!("{}/team/app:1", registry.local_addr().unwrap());
    let (mut terminal, program) = Terminal::open();
    let home = Home::new();
    let mut command = home.command(&["image", "pull", &image]);
    let mut child = command.env("TERM", "xterm").stdout(Stdio::null()).stderr(program).spawn().unwrap();
    drop(command);
    let _connection = hang(&registry);
    terminal.wait_for(&format!("resolving {image}"));
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    terminal.wait_for("interrupted");
    assert_eq!(child.wait().unwrap().code(), Some(130));
    let (_, after) = terminal.shown.rsplit_once("resolving").unwrap();
    let (between, _) = after.split_once("Error:").unwrap();
    assert!(between.contains("\u{1b}[2K"), "the line was not cleared: {between:?}");
    assert!(!terminal.shown.contains("0/0"), "the line is not ours: {:?}", terminal.shown);
}

#[test]
fn deleting_asks_and_takes_no_for_an_answer() {
    let home = home_with("research", true);
    for (answer, status, left) in [("n\n", 1, true), ("\n", 1, true), ("yes\n", 0, false)] {
        let (mut terminal, program) = Terminal::open();
        let mut command = home.command(&["delete", "research"]);
        let mut child =
            command.stdin(program.try_clone().unwrap()).stdout(Stdio::null()).stderr(program).spawn().unwrap();
        drop(command);
        terminal.wait_for("Delete research and everything in it? [y/N] ");
        terminal.screen.write_all(answer.as_bytes()).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(status), "{answer:?}");
        assert_eq!(home.state_dir().join("workspaces/research").exists(), left, "{answer:?}");
    }
}

#[test]
fn colours_are_for_terminals_that_want_them() {
    let shown = |arguments: &[&str], variables: &[(&str, &str)]| {
        let (mut terminal, program) = Terminal::open();
        let home = Home::new();
        let mut command = home.command(arguments);
        let mut child = command.env("TERM", "xterm").envs(variables.iter().copied()).stderr(program).spawn().unwrap();
        drop(command);
        terminal.wait_for("microagent list");
        child.wait().unwrap();
        terminal.shown
    };
    assert!(shown(&["status", "nobody"], &[]).contains("\u{1b}["));
    assert!(!shown(&["--no-color", "status", "nobody"], &[]).contains("\u{1b}["));
    assert!(!shown(&["status", "nobody"], &[("NO_COLOR", "1")]).contains("\u{1b}["));
}
