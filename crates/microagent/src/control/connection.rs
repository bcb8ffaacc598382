//! The client's end of the conversation with a supervisor.

use crate::Error;
use crate::supervisor::socket;
use microagent_machine::Channel;
use microagent_machine::channel::{Input, Output};
use microagent_protocol::supervisor::{Answer, Ask, Greeting, SUPERVISOR_PROTOCOL_VERSION};
use microagent_state::Workspace;
use serde::Serialize;
use std::io::ErrorKind;
use std::time::{Duration, Instant};

/// How long a supervisor that is on its way up may take to listen. Its guest boots meanwhile.
const UP_LIMIT: Duration = Duration::from_mins(5);

/// How long to wait for news of a supervisor that does not listen, before looking whether there is one.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// How long a supervisor may take to greet a client.
const GREETING_LIMIT: Duration = Duration::from_mins(1);

/// A connection to the supervisor of a workspace that runs. Processes that were started on it end with it, unless they are detached.
pub struct Connection {
    channel: Channel,
    greeting: Greeting,
}

impl Connection {
    /// Connects. One that is on its way up is waited for.
    pub(crate) fn open(workspace: &Workspace) -> Result<Connection, Error> {
        let name = workspace.name().to_string();
        let watch = workspace.watch()?;
        let deadline = Instant::now() + UP_LIMIT;
        let stream = loop {
            match socket::connect(workspace) {
                Ok(stream) => break stream,
                Err(error) if !matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => {
                    return Err(Error::Socket { source: error });
                }
                Err(source) => {
                    let record = workspace.status()?;
                    let state = record.phase;
                    if !state.is_live() {
                        return Err(Error::WrongState { name, state, doing: "reach" });
                    }
                    // Only a supervisor names its sessions: this is a workspace that `run` holds itself.
                    if record.session.is_none() {
                        return Err(microagent_state::Error::InUse { name }.into());
                    }
                    let now = Instant::now();
                    if now >= deadline {
                        return Err(Error::Socket { source });
                    }
                    // One that was killed at this very moment says nothing any more.
                    watch.changed(Some(deadline.min(now + LOOK_AGAIN)))?;
                }
            }
        };
        let lost = |error| lost(&name, error);
        let channel = Channel::open(stream)?;
        let greeting: Greeting = channel.greeting(Instant::now() + GREETING_LIMIT).map_err(lost)?;
        if greeting.protocol != SUPERVISOR_PROTOCOL_VERSION {
            return Err(Error::SupervisorVersion {
                name,
                ours: SUPERVISOR_PROTOCOL_VERSION,
                theirs: greeting.protocol,
            });
        }
        Ok(Connection { channel, greeting })
    }

    /// What the supervisor said first.
    pub fn greeting(&self) -> &Greeting {
        &self.greeting
    }

    /// Asks, and waits for the answer, at most until `deadline`.
    pub fn ask(&self, ask: &Ask, deadline: Option<Instant>) -> Result<Answer, Error> {
        self.send(ask)?.wait(deadline)
    }

    /// Asks. The answer is waited for on what is returned.
    pub(crate) fn send(&self, ask: &impl Serialize) -> Result<Asked<'_>, Error> {
        let call = self.channel.call(ask).map_err(|error| lost(&self.greeting.workspace, error))?;
        Ok(Asked { connection: self, call })
    }

    /// Asks, for an answer that is waited for elsewhere.
    pub(crate) fn call(&self, ask: &Ask) -> Result<microagent_machine::channel::Call, Error> {
        self.channel.call(ask).map_err(|error| lost(&self.greeting.workspace, error))
    }

    /// A new stream from the supervisor; its id goes into a request.
    pub fn output(&self) -> Output {
        self.channel.output()
    }

    /// A new stream to the supervisor; its id goes into a request.
    pub fn input(&self) -> Input {
        self.channel.input()
    }

    /// A handle that can end the conversation.
    pub(crate) fn hang_up(&self) -> Channel {
        self.channel.clone()
    }

    /// Ends the conversation: whoever waits for something on it stops waiting.
    pub fn close(&self) {
        self.channel.close();
    }

    /// That the supervisor answered with something else than what was asked for.
    pub(crate) fn unexpected(answer: &Answer) -> Error {
        let what = format!("the supervisor answered with {answer:?}");
        microagent_machine::Error::ProtocolViolation { what }.into()
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.channel.close();
    }
}

/// Something that was asked.
pub(crate) struct Asked<'a> {
    connection: &'a Connection,
    call: microagent_machine::channel::Call,
}

impl Asked<'_> {
    /// Waits for the answer, at most until `deadline`.
    pub(crate) fn wait(&self, deadline: Option<Instant>) -> Result<Answer, Error> {
        match self.call.answer(deadline).map_err(|error| lost(&self.connection.greeting.workspace, error))? {
            Answer::Failed(report) => Err(Error::Supervisor(Box::new(report))),
            answer => Ok(answer),
        }
    }
}

fn lost(name: &str, error: microagent_machine::Error) -> Error {
    match error {
        microagent_machine::Error::GuestLost => Error::SupervisorLost { name: name.to_owned(), said: String::new() },
        error => error.into(),
    }
}
