//! Services of the host that a workspace reaches: a socket in the workspace for each, and nothing else of the host behind it.

use super::places::{self, Places};
use super::relay::{self, Ends};
use microagent_machine::{Channel, Error};
use microagent_protocol::{RefusalCode, Request};
use microagent_state::MediationRecord;
use std::io;
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

/// Most connections to one service at once.
const MAX_CONNECTIONS: usize = 256;

/// How long to wait before asking again.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

/// How long a service may take to accept a connection.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);

/// Fails if a service that is not optional cannot be reached.
pub(super) fn check(mediations: &[MediationRecord]) -> Result<(), crate::Error> {
    for mediation in mediations.iter().filter(|mediation| !mediation.optional) {
        connect(&mediation.target).map_err(|source| crate::Error::MediationUnreachable {
            port: mediation.port,
            target: mediation.target.clone(),
            source,
        })?;
    }
    Ok(())
}

/// Serves the socket of `mediation` for as long as the machine lives.
pub(super) fn serve(channel: &Channel, mediation: &MediationRecord) {
    let target = mediation.target.clone();
    serve_socket(channel, mediation.socket(), MAX_CONNECTIONS, move |ends| {
        // A service that cannot be reached is a connection that ends at once.
        if let Ok(stream) = connect(&target) {
            relay::relay(stream, ends);
        }
    });
}

/// Has `answer` see to each connection that a process of the workspace makes to `socket`, to so many of them at once, for as long as the
/// machine lives.
pub(super) fn serve_socket(
    channel: &Channel,
    socket: String,
    at_once: usize,
    answer: impl Fn(Ends) + Send + Sync + 'static,
) {
    let (channel, answer) = (channel.clone(), Arc::new(answer));
    places::spawn(move || {
        let places = Places::new(at_once);
        loop {
            let place = places.take();
            let Some(ends) = accept(&channel, &socket) else { return };
            let answer = Arc::clone(&answer);
            places::spawn(move || {
                let _place = place;
                answer(ends);
            });
        }
    });
}

/// Waits for a process of the workspace to connect to `socket`; `None` when that cannot happen any more.
fn accept(channel: &Channel, socket: &str) -> Option<Ends> {
    loop {
        let ends = Ends { input: channel.input(), output: channel.output() };
        let request = Request::Accept { socket: socket.to_owned(), input: ends.input.id(), output: ends.output.id() };
        match channel.call(&request).and_then(|call| call.wait(None)) {
            Ok(_) => return Some(ends),
            // The guest has no room for it now, and nothing tells when it has again.
            Err(Error::Refused(refusal)) if refusal.code == RefusalCode::System => std::thread::sleep(ACCEPT_AGAIN),
            Err(_) => return None,
        }
    }
}

fn connect(target: &str) -> io::Result<TcpStream> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in target.to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, CONNECT_LIMIT) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}
