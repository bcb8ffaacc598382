//! Readers that leave, and signals that come.

use crate::command::{Home, Ran, wait_for};
use std::io::pipe;
use std::net::TcpListener;
use std::process::{Command, Stdio};

#[test]
fn a_reader_that_has_seen_enough_is_no_error() {
    let home = Home::new();
    for arguments in [&["--help"][..], &["profiles"], &["--json", "profiles"], &["--mode", "ax", "status", "nobody"]] {
        let (reader, writer) = pipe().unwrap();
        drop(reader);
        let output = home.command(arguments).stdout(writer).stderr(Stdio::piped()).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{arguments:?}");
        assert!(output.status.code().is_some(), "{arguments:?}");
    }
}

#[test]
fn a_signal_ends_a_pull_that_hangs() {
    for (name, status) in [("INT", 130), ("TERM", 143), ("HUP", 129)] {
        let registry = TcpListener::bind("127.0.0.1:0").unwrap();
        let image = format!("{}/team/app:1", registry.local_addr().unwrap());
        let home = Home::new();
        let mut command = home.command(&["--json", "image", "pull", &image]);
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        // From here on the command waits for an answer that never comes.
        wait_for(&registry);
        let (_connection, _) = registry.accept().unwrap();
        let sent = Command::new("kill").args([format!("-{name}"), child.id().to_string()]).status().unwrap();
        assert!(sent.success());
        let ran = Ran::from(child.wait_with_output().unwrap()).expect(status);
        assert_eq!(ran.json_error()["code"], "interrupted", "{name}");
    }
}
