//! What a connection to a listed name opens with, and where it goes for that.
//!
//! Nothing that the guest says leaves before that is known. There is no need for haste either: whoever speaks first
//! tells what it is, be it the guest or the server; and a guest under emulation may need seconds for its first word.

use super::flow::{Ends, Stage, Step};
use super::refusal::{Refusal, Tongue};
use super::upstream::{Read, Upstream};
use crate::edge::Edge;
use crate::opening::{Sniffed, settle, sniff};
use crate::{Connection, Intercept};
use microagent_egress::{Opening as Said, Protocol, Reason, Route, is_name};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

/// How long somebody who has begun to speak has until it is clear what.
const PATIENCE: Duration = Duration::from_secs(10);

/// A connection that nobody knows the kind of.
pub(crate) struct Opening {
    until: Option<Instant>,
}

impl Opening {
    pub(crate) fn new() -> Opening {
        Opening { until: None }
    }

    pub(crate) fn advance(&mut self, ends: &mut Ends, edge: &mut Edge) -> Step {
        let (Some(guest), Some(upstream)) = (&mut ends.guest, &mut ends.upstream) else { return Step::Gone };
        if guest.has_finished() {
            // It wants to hear, and says nothing.
            return route(ends, edge, &Sniffed::Other);
        }
        let has_ended = guest.has_said_all();
        let said = guest.said();
        if said.is_empty() {
            return match upstream.peek() {
                Read::Later => Step::Wait(None),
                Read::Bytes(_) => route(ends, edge, &Sniffed::Other),
                // Whatever the guest would say now, nobody would hear it.
                Read::End | Read::Reset => {
                    ends.announce(edge, None);
                    ends.abort(edge)
                }
            };
        }
        let until = *self.until.get_or_insert(edge.now + PATIENCE);
        let sniffed = if has_ended || edge.now >= until { settle(said) } else { sniff(said) };
        if sniffed == Sniffed::More { Step::Wait(Some(until)) } else { route(ends, edge, &sniffed) }
    }
}

fn route(ends: &mut Ends, edge: &mut Edge, sniffed: &Sniffed) -> Step {
    let (said, name, tongue) = match sniffed {
        Sniffed::Tls { name, encrypted } => {
            (Said::Tls { name: name.as_deref(), encrypted: *encrypted }, name.clone(), Tongue::Tls)
        }
        Sniffed::Http { host } => (Said::Http { host: host.as_deref() }, host.clone(), Tongue::Http),
        Sniffed::Other | Sniffed::More => (Said::Other, None, Tongue::Other),
    };
    let name = name.filter(|name| is_name(name));
    let route = edge.policy.opening(SocketAddr::V4(ends.to), &ends.names, said);
    match route {
        Route::Opaque => {
            ends.host = name.filter(|name| ends.names.contains(name)).or(ends.host.take());
            ends.announce(edge, Some(false));
            Step::To(Stage::Relaying)
        }
        Route::Intercept(name) => match edge.intercept.clone() {
            Some(intercept) if !ends.upstream.as_ref().is_some_and(Upstream::has_spoken) => {
                ends.host = Some(name.clone());
                hand_over(ends, edge, &*intercept, name, tongue == Tongue::Tls)
            }
            // Nobody to look, or a server that has spoken before it was asked, and not TLS or HTTP by that.
            _ => deny(ends, edge, Reason::NotInspectable, Some(name), tongue),
        },
        Route::Deny(reason) => deny(ends, edge, reason, name, tongue),
    }
}

fn deny(ends: &mut Ends, edge: &mut Edge, reason: Reason, name: Option<String>, tongue: Tongue) -> Step {
    let host = name.or_else(|| ends.host.clone());
    edge.record.deny(Protocol::Tcp, reason, host.clone(), ends.to, edge.now);
    // The server was connected with, and heard nothing.
    ends.upstream = None;
    ends.announced = false;
    let host = host.unwrap_or_else(|| ends.to.ip().to_string());
    match tongue {
        Tongue::Other => ends.abort(edge),
        tongue => Step::To(Stage::Refusing(Refusal::new(edge.now, reason, &host, tongue))),
    }
}

/// Gives the server's end to an interceptor, and puts that in its place.
fn hand_over(ends: &mut Ends, edge: &mut Edge, intercept: &dyn Intercept, name: String, tls: bool) -> Step {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let pair = socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None);
    let pair = pair.and_then(|(ours, theirs)| edge.poll.add(&ours, ends.id).map(|()| (ours, theirs)));
    let (ours, theirs) = match pair {
        Ok(pair) => pair,
        Err(errno) => {
            edge.record.fail(Protocol::Tcp, ends.host.clone(), ends.to, std::io::Error::from(errno).to_string());
            return ends.abort(edge);
        }
    };
    let Some(server) = ends.upstream.replace(Upstream::open(ours)) else { return Step::Gone };
    edge.poll.forget(server.fd());
    ends.announce(edge, Some(true));
    let connection = Connection { name, address: SocketAddr::V4(ends.to), tls };
    intercept.take(connection, UnixStream::from(theirs), server.into_fd());
    Step::To(Stage::Relaying)
}
