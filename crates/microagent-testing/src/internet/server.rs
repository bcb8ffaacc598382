//! The server program in one namespace.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use serde_json::Value;

use super::journal::{Journal, Place};
use super::namespace::Namespace;
use crate::tool::tool;

/// The name of the program in the directory of an internet.
pub(super) const PROGRAM: &str = "internet.py";

/// The distribution's own interpreter.
const PYTHON: &str = "/usr/bin/python3";

/// An interpreter that is started on a loaded machine, at the most.
const ANSWERS: Duration = Duration::from_mins(1);

/// A running server, killed on drop.
#[derive(Debug)]
pub(super) struct Server {
    place: Place,
    commands: Mutex<Commands>,
    journal: Arc<Journal>,
    // Dropped before the keeper is waited for.
    stop: Option<Sender<()>>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Debug)]
struct Commands {
    input: ChildStdin,
    last: u64,
}

impl Server {
    /// Starts it. It serves once it has carried out a first command. `interface` is where it looks at packets.
    pub(super) fn start(
        namespace: &Namespace,
        place: Place,
        directory: &Path,
        interface: &str,
        journal: &Arc<Journal>,
    ) -> Server {
        // What else is called so on `PATH` may be a version manager, which takes longer to start than all the rest.
        let system = Path::new(PYTHON).exists();
        let mut command = if system { Command::new(PYTHON) } else { tool("python3") };
        // Without the user's modules and settings.
        command
            .args(["-I", "-S"])
            .arg(directory.join(PROGRAM))
            .arg(directory)
            .arg(interface)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let (stop, stopped) = channel::<()>();
        let (started, start) = channel();
        // The program dies with the thread that started it, which therefore has to stay: a test may make this value on
        // a thread and use it on another.
        let keeper = namespace.enter(|| {
            thread::spawn(move || {
                let (mut process, input, output) = spawn(command);
                started.send((input, output)).expect("the program is waited for");
                // Nothing is ever sent.
                let _ = stopped.recv();
                // Both fail only if it is dead already.
                let _ = process.kill();
                let _ = process.wait();
            })
        });
        let (input, output) = start.recv().expect("the server starts");
        let reader = thread::spawn({
            let journal = Arc::clone(journal);
            move || {
                let lines = BufReader::new(output).lines().map_while(Result::ok);
                lines.for_each(|line| journal.line(place, &line));
                journal.end(place);
            }
        });
        let commands = Mutex::new(Commands { input, last: 0 });
        Server { place, commands, journal: Arc::clone(journal), stop: Some(stop), threads: vec![keeper, reader] }
    }

    /// Has a command carried out. What arrived before is in the journal then.
    pub(super) fn command(&self, mut command: Value) {
        let mut commands = self.commands.lock().unwrap_or_else(PoisonError::into_inner);
        commands.last += 1;
        let number = commands.last;
        command["id"] = number.into();
        writeln!(commands.input, "{command}").unwrap_or_else(|error| panic!("the server has died: {error}"));
        drop(commands);
        assert!(self.journal.done(self.place, number, ANSWERS), "the server at {:?} does not answer", self.place);
    }
}

fn spawn(mut command: Command) -> (Child, ChildStdin, ChildStdout) {
    let mut process = command.spawn().expect("starting python3");
    let (input, output) = (process.stdin.take(), process.stdout.take());
    (process, input.expect("its input is a pipe"), output.expect("its output is a pipe"))
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop = None;
        for thread in self.threads.drain(..) {
            // What a thread panicked of, it has said.
            let _ = thread.join();
        }
    }
}
