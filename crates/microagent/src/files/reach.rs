//! The way to the files of a workspace.

use crate::boot::session::Session;
use crate::boot::{BringUp, Parts, Stopwatch};
use crate::control::Connection;
use crate::interrupt::Listening;
use crate::network::Purpose;
use crate::{Client, Error, Interrupt, Templates};
use microagent_machine::channel::{Call, Input, Output};
use microagent_protocol::supervisor::{Answer, Ask};
use microagent_protocol::{FileStat, Owner, Reply, Request};
use microagent_state::{Name, Phase, Workspace, WorkspaceRecord};

/// Whoever can reach the files.
pub(crate) enum Files {
    /// The supervisor of a workspace that runs.
    Live(Connection, #[expect(dead_code, reason = "it is held, so that an interrupt ends the conversation")] Listening),
    /// A machine that was booted for it.
    AtRest(Box<Maintenance>),
}

/// A workspace at rest, in a machine of its own for as long as its files are needed. Its lease is held meanwhile, so nobody starts it.
pub(crate) struct Maintenance {
    session: Session,
    /// An interrupt ends the machine, and with it whatever is waited for.
    _killed: Listening,
    pub(crate) workspace: Workspace,
    pub(crate) record: WorkspaceRecord,
}

/// Something that was asked for, on its way.
pub(crate) enum Pending {
    Live(Call),
    AtRest(Call),
}

impl Files {
    /// Finds the way.
    pub(crate) fn open(client: &Client, name: &Name, interrupt: &Interrupt) -> Result<Files, Error> {
        let workspace = client.state().find(name)?;
        if workspace.status()?.phase.is_live() {
            match Connection::open(&workspace) {
                Ok(connection) => {
                    let hang_up = connection.hang_up();
                    return Ok(Files::Live(connection, interrupt.listen(move |_| hang_up.close())));
                }
                // It came to rest in between.
                Err(Error::WrongState { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Files::AtRest(Box::new(Maintenance::boot(client, name, interrupt)?)))
    }

    /// What is known of the file at `path`.
    pub(crate) fn stat(&self, path: &str, follow: bool) -> Result<FileStat, Error> {
        let path = path.to_owned();
        let unexpected = |what: String| Error::from(microagent_machine::Error::ProtocolViolation { what });
        match self {
            Files::Live(connection, _) => match connection.ask(&Ask::Stat { path, follow }, None)? {
                Answer::Stat(stat) => Ok(stat),
                other => Err(Connection::unexpected(&other)),
            },
            Files::AtRest(machine) => match machine.call(&Request::Stat { path, follow })?.wait(None)? {
                Reply::Stat(stat) => Ok(stat),
                other => Err(unexpected(format!("a question about a file was answered with {other:?}"))),
            },
        }
    }

    /// The same, where a file that is not there is none.
    pub(crate) fn find(&self, path: &str, follow: bool) -> Result<Option<FileStat>, Error> {
        match self.stat(path, follow) {
            Err(error) if microagent_protocol::Fault::code(&error) == "file_missing" => Ok(None),
            stat => stat.map(Some),
        }
    }

    /// Has the tree at `path` sent as an archive in which it is called `name`.
    pub(crate) fn pack(&self, path: &str, name: &str, follow: bool) -> Result<(Output, Pending), Error> {
        let (path, name) = (path.to_owned(), name.to_owned());
        let (same_path, same_name) = (path.clone(), name.clone());
        self.send(
            |output| Ask::Pack { path, name, follow, output },
            |output| Request::Pack { path: same_path, name: same_name, follow, output },
        )
    }

    /// Has an archive unpacked below `directory`.
    pub(crate) fn unpack(&self, directory: &str, owner: Owner) -> Result<(Input, Pending), Error> {
        let directory = directory.to_owned();
        match self {
            Files::Live(connection, _) => {
                let input = connection.input();
                let ask = Ask::Unpack { directory, input: input.id(), owner };
                Ok((input, Pending::Live(connection.call(&ask)?)))
            }
            Files::AtRest(machine) => {
                let input = machine.session.machine().channel().input();
                let request = Request::Unpack { directory, input: input.id(), owner };
                Ok((input, Pending::AtRest(machine.call(&request)?)))
            }
        }
    }

    /// Has the differences to the image sent, one JSON object a line.
    pub(crate) fn changes(&self) -> Result<(Output, Pending), Error> {
        self.send(|output| Ask::Changes { output }, |output| Request::Changes { output })
    }

    /// Has the differences to the image sent as a layer of an OCI image.
    pub(crate) fn layer(&self) -> Result<(Output, Pending), Error> {
        self.send(|output| Ask::PackLayer { output }, |output| Request::PackLayer { output })
    }

    fn send(
        &self,
        ask: impl FnOnce(u32) -> Ask,
        request: impl FnOnce(u32) -> Request,
    ) -> Result<(Output, Pending), Error> {
        match self {
            Files::Live(connection, _) => {
                let output = connection.output();
                let call = connection.call(&ask(output.id()))?;
                Ok((output, Pending::Live(call)))
            }
            Files::AtRest(machine) => {
                let output = machine.session.machine().channel().output();
                let call = machine.call(&request(output.id()))?;
                Ok((output, Pending::AtRest(call)))
            }
        }
    }

    /// Is done with them. What was written to a workspace at rest is on its disk then.
    pub(crate) fn close(self) -> Result<(), Error> {
        match self {
            Files::Live(..) => Ok(()),
            Files::AtRest(machine) => machine.close(),
        }
    }
}

impl Pending {
    /// Waits until it was done.
    pub(crate) fn wait(&self) -> Result<(), Error> {
        match self {
            Pending::AtRest(call) => Ok(call.wait(None).map(drop)?),
            Pending::Live(call) => match call.answer(None)? {
                Answer::Failed(report) => Err(Error::Supervisor(Box::new(report))),
                _ => Ok(()),
            },
        }
    }
}

impl Maintenance {
    /// Boots a machine for a workspace at rest. Neither its set-up nor its service is run.
    pub(crate) fn boot(client: &Client, name: &Name, interrupt: &Interrupt) -> Result<Maintenance, Error> {
        let (workspace, record) = client.hold(name)?;
        if record.phase == Phase::Quarantined {
            let name = name.to_string();
            return Err(Error::WrongState { name, state: record.phase, doing: "reach the files of" });
        }
        Maintenance::of(client, workspace, record, interrupt)
    }

    /// The same, of one that is held already.
    pub(crate) fn of(
        client: &Client,
        workspace: Workspace,
        record: WorkspaceRecord,
        interrupt: &Interrupt,
    ) -> Result<Maintenance, Error> {
        let mut watch = Stopwatch::start();
        let (kernel, guest_init) = (Some(record.kernel_path.as_path()), record.guest_init.as_deref());
        let parts = Parts::gather(client, Some(&record.backend), kernel, guest_init, &mut watch)?;
        let mut boot = BringUp::new(client, parts, Templates::On, interrupt.clone(), watch, Purpose::Maintenance);
        let session = boot.bring_up(&workspace, &record, None, None);
        boot.finish_template();
        let session = session?;
        let killed = interrupt.kills(session.machine());
        Ok(Maintenance { session, _killed: killed, workspace, record })
    }

    /// Asks the guest.
    pub(crate) fn call(&self, request: &Request) -> Result<Call, Error> {
        Ok(self.session.machine().channel().call(request)?)
    }

    /// Has everything on disk, and ends the machine.
    pub(crate) fn close(mut self) -> Result<(), Error> {
        let rested = self.session.shut_down();
        self.session.kill();
        rested
    }
}
