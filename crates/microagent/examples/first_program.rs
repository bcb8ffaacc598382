//! Boots a microVM, runs a command in it, tears it down.
//!
//! ```text
//! cargo run --example first_program -- docker.io/library/alpine:3.20
//! ```

use microagent::{Client, Command, Error, RunIo, RunOptions};

fn main() -> Result<(), Error> {
    let image = std::env::args().nth(1).unwrap_or_else(|| "docker.io/library/alpine:3.20".to_owned());
    let mut options = RunOptions::new(image);
    options.command = Command::Shell("echo hello from $(hostname), kernel $(uname -r)".to_owned());

    let report = Client::open(None)?.run(&options, RunIo::default())?;

    print!("{}", report.result.stdout);
    println!("exit code {} after {:.0} ms", report.result.exit_code, report.timing.total_ms);
    Ok(())
}
