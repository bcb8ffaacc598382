//! Ports of the host that lead into a workspace, through the channel to its guest.

use super::places::{self, Places};
use super::relay::{self, Ends};
use crate::Error;
use microagent_machine::Channel;
use microagent_protocol::Request;
use microagent_state::ForwardRecord;
use rustix::net::{Shutdown, shutdown};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

/// Most connections at once, of all ports of a workspace. Each takes two threads.
const MAX_CONNECTIONS: usize = 512;

/// How long the guest may take to connect to its own port.
const CONNECT_LIMIT: Duration = Duration::from_secs(30);

/// How long to wait before accepting again when that failed: of descriptors that are free again no event tells.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

/// A port that is held, before there is a machine to lead to.
#[derive(Debug)]
pub(crate) struct Held {
    record: ForwardRecord,
    listener: TcpListener,
}

impl Held {
    /// Takes the port.
    pub(crate) fn new(record: ForwardRecord) -> Result<Held, Error> {
        let listens = record.listens();
        let listener =
            TcpListener::bind(listens).map_err(|source| Error::PortUnavailable { address: listens, source })?;
        Ok(Held { record, listener })
    }

    /// The mapping, with the port that was taken where any would do.
    pub(crate) fn mapping(&self) -> ForwardRecord {
        let host_port = self.listener.local_addr().map_or(self.record.host_port, |address| address.port());
        ForwardRecord { host_port, ..self.record }
    }
}

/// Ports that lead into a machine, until this is dropped.
#[derive(Debug, Default)]
pub(crate) struct Forwards(Vec<OwnedFd>);

impl Forwards {
    /// Begins to accept connections.
    pub(crate) fn open(held: &[Held], channel: &Channel) -> Result<Forwards, Error> {
        let places = Places::new(MAX_CONNECTIONS);
        let mut open = Forwards::default();
        for Held { record, listener } in held {
            let failed = |source| Error::PortUnavailable { address: record.listens(), source };
            let listener = listener.try_clone().map_err(failed)?;
            open.0.push(listener.try_clone().map_err(failed)?.into());
            let (channel, places, port) = (channel.clone(), places.clone(), record.guest_port);
            places::spawn(move || accept(&listener, &channel, &places, port));
        }
        Ok(open)
    }
}

impl Drop for Forwards {
    fn drop(&mut self) {
        for listener in &self.0 {
            // Whoever waits for connections is told that there will be none.
            let _ = shutdown(listener, Shutdown::Both);
        }
    }
}

fn accept(listener: &TcpListener, channel: &Channel, places: &Places, port: u16) {
    loop {
        match listener.accept() {
            Ok((stream, _)) => {
                let Some(place) = places.try_take() else {
                    relay::reset(&stream);
                    continue;
                };
                let channel = channel.clone();
                places::spawn(move || {
                    let _place = place;
                    connect(&channel, port, stream);
                });
            }
            // It has been closed.
            Err(error) if error.kind() == std::io::ErrorKind::InvalidInput => return,
            Err(_) => std::thread::sleep(ACCEPT_AGAIN),
        }
    }
}

fn connect(channel: &Channel, port: u16, stream: TcpStream) {
    let ends = Ends { input: channel.input(), output: channel.output() };
    let request = Request::Connect { port, input: ends.input.id(), output: ends.output.id() };
    let deadline = Instant::now() + CONNECT_LIMIT;
    match channel.call(&request).and_then(|call| call.wait(Some(deadline))) {
        Ok(_) => relay::relay(stream, ends),
        // As if nobody listened here.
        Err(_) => relay::reset(&stream),
    }
}
