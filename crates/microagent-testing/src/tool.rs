//! Running the tools that tests compare with.

use std::process::{Command, Stdio};

/// A command for `name`, with no input.
///
/// # Panics
///
/// If the program is not installed, naming the Debian package that has it.
pub fn tool(name: &str) -> Command {
    let search = std::env::var_os("PATH").unwrap_or_default();
    let installed = std::env::split_paths(&search).any(|directory| directory.join(name).is_file());
    let package = match name {
        "dig" => "bind9-dnsutils",
        "htpasswd" => "apache2-utils",
        "ip" => "iproute2",
        "ping" => "iputils-ping",
        other => other,
    };
    assert!(installed, "this test needs `{name}`: install it with `apt-get install {package}`");
    let mut command = Command::new(name);
    command.stdin(Stdio::null());
    command
}

/// Runs `command` to its end and returns what it printed.
///
/// # Panics
///
/// If it fails, with what it said.
pub fn run(command: &mut Command) -> Vec<u8> {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?} does not start: {error}"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?} failed: {said}{}", String::from_utf8_lossy(&output.stdout));
    output.stdout
}
