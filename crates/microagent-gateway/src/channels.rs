//! Datagrams that leave: one socket of the host for each pair of a port of the guest and an address, connected, so that
//! nobody else's answers are taken for that one's; and the same for echo requests.

use crate::edge::Edge;
use crate::icmp::{self, Echo, Unreachable};
use crate::poll::Token;
use crate::udp;
use microagent_egress::Protocol;
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, ipproto};
use std::collections::HashMap;
use std::net::SocketAddrV4;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

/// How long one is kept that nobody uses.
const IDLE: Duration = Duration::from_mins(1);
/// The same where one question gets one answer, and the next comes from another port.
const IDLE_DNS: Duration = Duration::from_secs(10);
const DNS_PORT: u16 = 53;
/// How often those are looked for.
const SWEEP: Duration = Duration::from_secs(5);
/// Most answers of one channel that are taken in a row.
const BURST: usize = 64;
/// Longest datagram, and so the place for one.
const MAX_DATAGRAM: usize = 65_536;

/// Who speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Speaker {
    /// A port of the guest.
    Port(u16),
    /// A program that pings.
    Ident(u16),
}

impl Speaker {
    pub(crate) fn protocol(self) -> Protocol {
        match self {
            Speaker::Port(_) => Protocol::Udp,
            Speaker::Ident(_) => Protocol::Icmp,
        }
    }
}

/// Who speaks with whom. An echo has no port: there it is 0.
pub(crate) type Pair = (Speaker, SocketAddrV4);

struct Channel {
    pair: Pair,
    socket: OwnedFd,
    host: Option<String>,
    used: Instant,
    sent: u64,
    received: u64,
}

/// All channels.
pub(crate) struct Channels {
    most: usize,
    open: HashMap<Token, Channel>,
    pairs: HashMap<Pair, Token>,
    sweep: Instant,
    place: Box<[u8]>,
}

impl Channels {
    pub(crate) fn new(most: usize, now: Instant) -> Channels {
        let place = vec![0; MAX_DATAGRAM].into_boxed_slice();
        Channels { most, open: HashMap::new(), pairs: HashMap::new(), sweep: now + SWEEP, place }
    }

    /// Whether there is one for `pair`: it was decided on, then.
    pub(crate) fn has(&self, pair: Pair) -> bool {
        self.pairs.contains_key(&pair)
    }

    /// Makes one.
    pub(crate) fn open(&mut self, edge: &mut Edge, pair: Pair, host: Option<String>) -> Result<(), Errno> {
        if self.open.len() >= self.most
            && let Some(oldest) = self.open.iter().min_by_key(|(_, channel)| channel.used).map(|(id, _)| *id)
        {
            self.close(edge, oldest);
        }
        let (speaker, to) = pair;
        let protocol = matches!(speaker, Speaker::Ident(_)).then_some(ipproto::ICMP);
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = rustix::net::socket_with(AddressFamily::INET, SocketType::DGRAM, flags, protocol)?;
        rustix::net::connect(&socket, &to)?;
        let id = edge.number();
        edge.poll.add_reader(&socket, id)?;
        edge.record.allow(speaker.protocol(), host.clone(), to, None);
        self.pairs.insert(pair, id);
        self.open.insert(id, Channel { pair, socket, host, used: edge.now, sent: 0, received: 0 });
        Ok(())
    }

    /// Sends `data` there. What does not get through is lost, as datagrams are; but that nobody listens the guest is
    /// told.
    pub(crate) fn send(&mut self, edge: &mut Edge, pair: Pair, data: &[u8]) {
        let Some(channel) = self.pairs.get(&pair).and_then(|id| self.open.get_mut(id)) else { return };
        channel.used = edge.now;
        match rustix::net::send(&channel.socket, data, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
            Ok(count) => channel.sent += count as u64,
            Err(errno) => channel.failed(edge, errno),
        }
    }

    /// Takes the answers that came to the channel `id`. Whether there is that channel.
    pub(crate) fn receive(&mut self, edge: &mut Edge, id: Token) -> bool {
        let Some(channel) = self.open.get_mut(&id) else { return false };
        for _ in 0..BURST {
            let (count, whole) = match rustix::net::recv(&channel.socket, &mut self.place[..], RecvFlags::DONTWAIT) {
                Ok(read) => read,
                Err(Errno::AGAIN | Errno::INTR) => break,
                Err(errno) => {
                    channel.failed(edge, errno);
                    continue;
                }
            };
            channel.used = edge.now;
            channel.received += whole as u64;
            let data = &self.place[..count];
            match channel.pair {
                (Speaker::Port(port), from) => udp::send(&mut edge.out, from, port, data),
                (Speaker::Ident(ident), from) => {
                    if let Some(reply) = Echo::reply(data) {
                        Echo { ident, ..reply }.answer(&mut edge.out, *from.ip());
                    }
                }
            }
        }
        true
    }

    /// Closes those that nobody uses.
    pub(crate) fn expire(&mut self, edge: &mut Edge) {
        if edge.now < self.sweep {
            return;
        }
        self.sweep = edge.now + SWEEP;
        let idle = |channel: &Channel| {
            let patience = if channel.pair.1.port() == DNS_PORT { IDLE_DNS } else { IDLE };
            edge.now.duration_since(channel.used) >= patience
        };
        let gone: Vec<Token> = self.open.iter().filter(|(_, channel)| idle(channel)).map(|(id, _)| *id).collect();
        for id in gone {
            self.close(edge, id);
        }
    }

    /// When to look for them next.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        (!self.open.is_empty()).then_some(self.sweep)
    }

    /// Closes all.
    pub(crate) fn end(&mut self, edge: &Edge) {
        for id in self.open.keys().copied().collect::<Vec<_>>() {
            self.close(edge, id);
        }
    }

    fn close(&mut self, edge: &Edge, id: Token) {
        let Some(channel) = self.open.remove(&id) else { return };
        self.pairs.remove(&channel.pair);
        let (speaker, to) = channel.pair;
        edge.record.close(speaker.protocol(), channel.host, to, channel.sent, channel.received);
    }
}

impl Channel {
    /// Passes on what the network says of a datagram.
    fn failed(&self, edge: &mut Edge, errno: Errno) {
        let what = match errno {
            Errno::CONNREFUSED => Unreachable::Port,
            Errno::NETUNREACH => Unreachable::Network,
            Errno::HOSTUNREACH => Unreachable::Host,
            _ => return,
        };
        if let (Speaker::Port(port), to) = self.pair {
            icmp::unreachable(&mut edge.out, what, &udp::quoted(port, to));
        }
    }
}
