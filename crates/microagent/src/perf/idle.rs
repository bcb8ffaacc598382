//! Machines that are up and have nothing to do.

use super::process::children;
use crate::interrupt::Listening;
use crate::{Client, Command, Error, Interrupt, RunIo, RunOptions, RunReport, Templates};
use std::io::{self, Write};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

/// Says that it runs, and sleeps for a lifetime.
const COMMAND: &str = "echo up; exec sleep 2000000000";

/// Some machines that idle, each run by a thread of its own. Dropping this ends them.
pub(super) struct IdleMachines {
    threads: Vec<JoinHandle<()>>,
    news: Receiver<News>,
    /// Ids of the engine processes.
    engines: Vec<u32>,
    interrupt: Interrupt,
    /// Passes the caller's interrupt on.
    _listening: Listening,
}

/// What the threads tell.
enum News {
    /// A guest's command runs.
    Up,
    /// A run is over, which none should be.
    Over(Box<Result<RunReport, Error>>),
}

impl IdleMachines {
    /// Starts `count` machines at once, and waits until all of them idle. Where machines come from a template, a run before them sees
    /// that there is one, so that they all come up in the same way.
    pub(super) fn start(client: &Client, options: &RunOptions, count: u32) -> Result<IdleMachines, Error> {
        if options.workspace.templates == Templates::On {
            let mut brief = RunOptions { command: Command::Shell("true".to_owned()), ..options.clone() };
            brief.workspace.entrypoint = None;
            client.run(&brief, RunIo::default())?;
        }
        let before = children()?;
        let (sender, news) = channel();
        let interrupt = Interrupt::new();
        let ours = interrupt.clone();
        let listening = options.workspace.interrupt.listen(move |_| ours.stop());
        let mut options = RunOptions { command: Command::Shell(COMMAND.to_owned()), ..options.clone() };
        options.workspace.entrypoint = None;
        options.workspace.interrupt = interrupt.clone();
        let threads = (0..count).map(|_| spawn(client.clone(), options.clone(), sender.clone())).collect();
        let mut machines = IdleMachines { threads, news, engines: Vec::new(), interrupt, _listening: listening };
        for _ in 0..count {
            match machines.news.recv() {
                Ok(News::Up) => {}
                Ok(News::Over(outcome)) => return Err(end(*outcome)),
                Err(_) => unreachable!("a sender is held here"),
            }
        }
        drop(sender);
        machines.engines = children()?.difference(&before).copied().collect();
        Ok(machines)
    }

    /// Ids of the engine processes.
    pub(super) fn engines(&self) -> &[u32] {
        &self.engines
    }

    /// Lets `time` pass. Fails as soon as one of the machines ends.
    pub(super) fn idle_for(&self, time: Duration) -> Result<(), Error> {
        match self.news.recv_timeout(time) {
            Err(RecvTimeoutError::Timeout) | Ok(News::Up) => Ok(()),
            Ok(News::Over(outcome)) => Err(end(*outcome)),
            Err(RecvTimeoutError::Disconnected) => Err(microagent_machine::Error::GuestLost.into()),
        }
    }
}

impl Drop for IdleMachines {
    fn drop(&mut self) {
        // The first asks, the second kills; nothing in these machines is worth waiting for.
        self.interrupt.stop();
        self.interrupt.stop();
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn spawn(client: Client, options: RunOptions, news: Sender<News>) -> JoinHandle<()> {
    std::thread::spawn(move || {
        let io = RunIo { stdout: Some(Box::new(Announcement(Some(news.clone())))), ..RunIo::default() };
        let outcome = client.run(&options, io);
        // Nobody listens any more when the machines are being ended.
        let _ = news.send(News::Over(Box::new(outcome)));
    })
}

/// Why a machine that should have idled did not.
fn end(outcome: Result<RunReport, Error>) -> Error {
    outcome.err().unwrap_or_else(|| microagent_machine::Error::GuestLost.into())
}

/// The standard output of a machine's command: its first byte is the news.
struct Announcement(Option<Sender<News>>);

impl Write for Announcement {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let Some(news) = self.0.take() {
            let _ = news.send(News::Up);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
