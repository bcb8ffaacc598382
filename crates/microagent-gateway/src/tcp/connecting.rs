//! Connecting with the other end, while the guest waits: it gets its answer when we have ours, and the same.

use super::flow::{Ends, Stage, Step};
use super::guest::Guest;
use super::opening::Opening;
use super::upstream::{Read, Upstream};
use crate::edge::Edge;
use crate::icmp::{self, Unreachable};
use crate::proxy::{Handshake, Progress, ProxyServer};
use microagent_egress::{Handling, Protocol};
use rustix::io::Errno;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// How long it may take. A guest gives up after two minutes at most; most programs much earlier.
const PATIENCE: Duration = Duration::from_mins(1);

/// What is known of a connection that is not there yet.
pub(crate) struct Connecting {
    syn: Vec<u8>,
    handling: Handling,
    proxy: Option<ProxyServer>,
    handshake: Option<Handshake>,
    others: usize,
    until: Instant,
}

impl Connecting {
    /// One for the segment `syn`, while there are `others`.
    pub(crate) fn new(ends: &Ends, edge: &Edge, syn: Vec<u8>, handling: Handling, others: usize) -> Connecting {
        let proxy = edge.proxies.for_target(ends.host.as_deref(), SocketAddr::V4(ends.to)).cloned();
        Connecting { syn, handling, proxy, handshake: None, others, until: edge.now + PATIENCE }
    }

    pub(crate) fn advance(&mut self, ends: &mut Ends, edge: &mut Edge) -> Step {
        if edge.now >= self.until {
            return self.fail(ends, edge, &format!("no answer within {} s", PATIENCE.as_secs()), Answer::Silence);
        }
        let Some(upstream) = &mut ends.upstream else { return self.begin(ends, edge) };
        match upstream.is_connected() {
            Ok(false) => return Step::Wait(Some(self.until)),
            Err(errno) => return self.refused(ends, edge, errno),
            Ok(true) => {}
        }
        let Some(proxy) = &self.proxy else { return self.accept(ends, edge) };
        let handshake = self.handshake.get_or_insert_with(|| Handshake::new(proxy, SocketAddr::V4(ends.to)));
        match tunnel(handshake, upstream) {
            Ok(None) => Step::Wait(Some(self.until)),
            Ok(Some(rest)) => {
                upstream.put_back(rest);
                self.accept(ends, edge)
            }
            Err(reason) => self.fail(ends, edge, &reason, Answer::Reset),
        }
    }

    fn begin(&mut self, ends: &mut Ends, edge: &mut Edge) -> Step {
        let to = match &self.proxy {
            None => SocketAddr::V4(ends.to),
            Some(proxy) => match edge.lookups.address(&proxy.host, proxy.port, ends.id, edge.now) {
                Ok(Some(address)) => address,
                Ok(None) => return Step::Wait(Some(self.until)),
                Err(reason) => {
                    let reason = format!("the proxy `{}` is not to be found: {reason}", proxy.host);
                    return self.fail(ends, edge, &reason, Answer::Reset);
                }
            },
        };
        match Upstream::connect(to).and_then(|upstream| edge.poll.add(upstream.fd(), ends.id).map(|()| upstream)) {
            Ok(upstream) => ends.upstream = Some(upstream),
            Err(errno) => return self.refused(ends, edge, errno),
        }
        Step::Wait(Some(self.until))
    }

    fn accept(&mut self, ends: &mut Ends, edge: &mut Edge) -> Step {
        match Guest::accept(edge, ends.to, &self.syn, self.others) {
            Ok(guest) => ends.guest = Some(guest),
            Err(errno) => return self.fail(ends, edge, &errno.to_string(), Answer::Reset),
        }
        if self.handling == Handling::Inspect {
            return Step::To(Stage::Opening(Opening::new()));
        }
        ends.announce(edge, None);
        Step::To(Stage::Relaying)
    }

    fn refused(&self, ends: &Ends, edge: &mut Edge, errno: Errno) -> Step {
        let answer = match errno {
            Errno::NETUNREACH => Answer::Unreachable(Unreachable::Network),
            Errno::HOSTUNREACH | Errno::ACCESS | Errno::PERM => Answer::Unreachable(Unreachable::Host),
            Errno::TIMEDOUT => Answer::Silence,
            _ => Answer::Reset,
        };
        let reason = std::io::Error::from(errno).to_string();
        match &self.proxy {
            None => self.fail(ends, edge, &reason, answer),
            // That the proxy is out of reach says nothing about the server.
            Some(proxy) => self.fail(ends, edge, &format!("proxy `{}`: {reason}", proxy.host), Answer::Reset),
        }
    }

    fn fail(&self, ends: &Ends, edge: &mut Edge, reason: &str, answer: Answer) -> Step {
        edge.record.fail(Protocol::Tcp, ends.host.clone(), ends.to, reason.to_owned());
        match answer {
            Answer::Silence => {}
            Answer::Reset => edge.reset(&self.syn),
            Answer::Unreachable(what) => icmp::unreachable(&mut edge.out, what, &self.syn),
        }
        Step::Gone
    }
}

/// What the guest hears of a failure.
#[derive(Clone, Copy, Debug)]
enum Answer {
    Silence,
    Reset,
    Unreachable(Unreachable),
}

/// Speaks with a proxy as far as that goes; in the end, what the server said after it.
fn tunnel(handshake: &mut Handshake, upstream: &mut Upstream) -> Result<Option<Vec<u8>>, String> {
    while !handshake.to_send().is_empty() {
        let count = upstream.write(handshake.to_send());
        if count == 0 {
            break;
        }
        handshake.sent(count);
    }
    let mut place = [0; 4096];
    loop {
        let count = match upstream.read(&mut place) {
            Read::Bytes(count) => count,
            Read::Later => return Ok(None),
            Read::End | Read::Reset => return Err("the proxy closed the connection".to_owned()),
        };
        match handshake.received(&place[..count]).map_err(|error| error.to_string())? {
            Progress::More => {}
            Progress::Open { rest } => return Ok(Some(rest)),
        }
    }
}
