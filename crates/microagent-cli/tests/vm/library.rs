//! The library's first program does what it says.

use crate::host::{BUSYBOX, Host, Ran};
use std::path::Path;
use std::process::Command;

#[test]
fn the_first_program_boots_a_machine_and_tears_it_down() {
    let host = Host::new();
    // Cargo builds examples with the tests, but tells nobody where.
    let program = Path::new(env!("CARGO_BIN_EXE_microagent")).with_file_name("examples").join("first_program");
    let output = Command::new(&program).arg(BUSYBOX).env("MICROAGENT_STATE_DIR", host.state()).output();
    let ran: Ran = output.unwrap_or_else(|error| panic!("{}: {error}", program.display())).into();
    let said = ran.expect(0).text();
    assert!(said.starts_with("hello from run-"), "{said}");
    assert!(said.contains("exit code 0 after "), "{said}");
    host.assert_nothing_left();
}
