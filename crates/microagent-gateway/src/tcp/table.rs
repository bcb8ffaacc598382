//! All connections of a machine.

use super::answering::Answering;
use super::connecting::Connecting;
use super::flow::{Ends, Flow, Next, Stage};
use super::guest::Guest;
use super::refusal::Refusal;
use super::relay::Bytes;
use super::segment::Segment;
use crate::address::{GATEWAY, is_on_link};
use crate::edge::Edge;
use crate::ipv4::Packet;
use crate::poll::{Ready, Token};
use microagent_egress::{Handling, Inside, Protocol, Reason, Verdict};
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr, SocketAddrV4};
use std::time::Instant;

/// Port of resolvers.
const DNS_PORT: u16 = 53;
/// Port where a refusal can be put in words that the guest's program shows.
const HTTP_PORT: u16 = 80;

/// A port of the guest, and where it connects to.
type Key = (u16, SocketAddrV4);

/// All connections of a machine.
pub(crate) struct Tcp {
    most: usize,
    flows: HashMap<Token, Entry>,
    keys: HashMap<Key, Token>,
    /// Those that have something to do, each once.
    ready: VecDeque<Token>,
    /// When those that wait have something to do anyway.
    timers: BTreeSet<(Instant, Token)>,
}

struct Entry {
    flow: Flow,
    key: Key,
    is_ready: bool,
    timer: Option<Instant>,
}

impl Tcp {
    pub(crate) fn new(most: usize) -> Tcp {
        Tcp { most, flows: HashMap::new(), keys: HashMap::new(), ready: VecDeque::new(), timers: BTreeSet::new() }
    }

    /// A segment came from the guest.
    pub(crate) fn receive(&mut self, edge: &mut Edge, packet: &Packet<'_>) {
        let Some(segment) = Segment::read(packet) else { return };
        let key = (segment.from, SocketAddrV4::new(packet.to, segment.to));
        let Some(id) = self.keys.get(&key).copied() else {
            match segment {
                Segment { opens: true, .. } => self.open(edge, packet, segment, key),
                Segment { resets: true, .. } => {}
                _ => edge.reset(packet.bytes),
            }
            return;
        };
        let Some(entry) = self.flows.get_mut(&id) else { return };
        match &mut entry.flow.ends.guest {
            // A connection of which only the goodbye is left makes way for a new one from the same port.
            Some(guest) if segment.opens && guest.is_over() => {
                self.remove(edge, id);
                self.open(edge, packet, segment, key);
                return;
            }
            Some(guest) => guest.receive(edge, packet.bytes),
            // Its answer is on the way.
            None if !segment.resets => return,
            None => return self.remove(edge, id),
        }
        self.wake(id);
    }

    /// The guest wants to connect.
    fn open(&mut self, edge: &mut Edge, packet: &Packet<'_>, segment: Segment, key: Key) {
        let (_, to) = key;
        if self.flows.len() >= self.most {
            edge.record.deny_rarely(Protocol::Tcp, Reason::TooMany, &format!("{} connections", self.most), edge.now);
            return edge.reset(packet.bytes);
        }
        if *to.ip() == GATEWAY {
            if to.port() != DNS_PORT {
                return edge.reset(packet.bytes);
            }
            let stage = Stage::Answering(Answering::new(edge.now));
            return self.answer_here(edge, packet, segment, key, Vec::new(), stage);
        }
        let names = edge.names(*to.ip());
        match martian(to).map_or_else(|| edge.policy.connect(Protocol::Tcp, SocketAddr::V4(to), &names), Verdict::Deny)
        {
            Verdict::Allow(handling) => self.connect(edge, packet, segment, key, names, handling),
            Verdict::Deny(reason) => {
                edge.record.deny(Protocol::Tcp, reason, edge.host(&names), to, edge.now);
                if to.port() != HTTP_PORT || martian(to).is_some() {
                    return edge.reset(packet.bytes);
                }
                let stage = Stage::Refusing(Refusal::to_be_asked(edge.now, reason));
                self.answer_here(edge, packet, segment, key, names, stage);
            }
        }
    }

    fn connect(
        &mut self,
        edge: &mut Edge,
        packet: &Packet<'_>,
        segment: Segment,
        key: Key,
        names: Vec<String>,
        handling: Handling,
    ) {
        let others = self.flows.len();
        let ends = Ends::new(edge, key.1, names);
        let connecting = Connecting::new(&ends, edge, segment.headers(packet), handling, others);
        self.add(key, Flow { ends, stage: Stage::Connecting(connecting) });
    }

    /// Accepts a connection that has no other end.
    fn answer_here(
        &mut self,
        edge: &mut Edge,
        packet: &Packet<'_>,
        segment: Segment,
        key: Key,
        names: Vec<String>,
        stage: Stage,
    ) {
        let mut ends = Ends::new(edge, key.1, names);
        match Guest::accept(edge, key.1, &segment.headers(packet), usize::MAX) {
            Ok(guest) => ends.guest = Some(guest),
            Err(_) => return edge.reset(packet.bytes),
        }
        self.add(key, Flow { ends, stage });
    }

    fn add(&mut self, key: Key, flow: Flow) {
        let id = flow.ends.id;
        self.keys.insert(key, id);
        self.flows.insert(id, Entry { flow, key, is_ready: false, timer: None });
        self.wake(id);
    }

    /// Something happened to the socket of a flow. Whether there is that flow.
    pub(crate) fn ready(&mut self, ready: Ready) -> bool {
        let Some(entry) = self.flows.get_mut(&ready.token) else { return false };
        if let Some(upstream) = &mut entry.flow.ends.upstream {
            upstream.ready(ready.read, ready.write);
        }
        self.wake(ready.token);
        true
    }

    /// The resolver has an answer for a flow.
    pub(crate) fn answer(&mut self, id: Token, answer: &[u8]) {
        if let Some(Entry { flow: Flow { stage: Stage::Answering(answering), .. }, .. }) = self.flows.get_mut(&id) {
            answering.answer(answer);
            self.wake(id);
        }
    }

    /// Flow `id` has something to do.
    pub(crate) fn wake(&mut self, id: Token) {
        if let Some(entry) = self.flows.get_mut(&id)
            && !std::mem::replace(&mut entry.is_ready, true)
        {
            self.ready.push_back(id);
        }
    }

    /// Lets every flow that has something to do, do it, as long as the link has room.
    pub(crate) fn turn(&mut self, edge: &mut Edge) {
        while let Some((at, id)) = self.timers.first().copied()
            && at <= edge.now
        {
            self.timers.remove(&(at, id));
            if let Some(entry) = self.flows.get_mut(&id) {
                entry.timer = None;
            }
            self.wake(id);
        }
        for _ in 0..self.ready.len() {
            if !edge.out.has_room() {
                return;
            }
            let Some(id) = self.ready.pop_front() else { return };
            self.advance(edge, id);
        }
    }

    fn advance(&mut self, edge: &mut Edge, id: Token) {
        let Some(entry) = self.flows.get_mut(&id) else { return };
        entry.is_ready = false;
        match entry.flow.advance(edge) {
            Next::Gone => self.remove(edge, id),
            Next::Again => self.wake(id),
            Next::Wait(until) if until != entry.timer => {
                if let Some(at) = std::mem::replace(&mut entry.timer, until) {
                    self.timers.remove(&(at, id));
                }
                self.timers.extend(until.map(|at| (at, id)));
            }
            Next::Wait(_) => {}
        }
    }

    /// Whether somebody has something to do.
    pub(crate) fn is_busy(&self) -> bool {
        !self.ready.is_empty()
    }

    /// When somebody will have.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.timers.first().map(|(at, _)| *at)
    }

    /// Ends all.
    pub(crate) fn end(&mut self, edge: &Edge) {
        for id in self.flows.keys().copied().collect::<Vec<_>>() {
            self.remove(edge, id);
        }
    }

    fn remove(&mut self, edge: &Edge, id: Token) {
        let Some(mut entry) = self.flows.remove(&id) else { return };
        self.keys.remove(&entry.key);
        if let Some(at) = entry.timer {
            self.timers.remove(&(at, id));
        }
        if matches!(entry.flow.stage, Stage::Opening(_)) {
            // The server was connected with, though nothing was said.
            entry.flow.ends.announce(edge, None);
        }
        entry.flow.ends.close(edge);
    }
}

impl Ends {
    fn new(edge: &mut Edge, to: SocketAddrV4, names: Vec<String>) -> Ends {
        let (id, host) = (edge.number(), edge.host(&names));
        Ends { id, to, names, host, guest: None, upstream: None, bytes: Bytes::default(), announced: false }
    }
}

/// Why nothing may go `to` there, whatever the rules: an address that means something else to the host than to the
/// guest, or nothing.
pub(crate) fn martian(to: SocketAddrV4) -> Option<Reason> {
    if is_on_link(*to.ip()) {
        return Some(Reason::Inside(Inside::Private));
    }
    match Inside::of(IpAddr::V4(*to.ip()), &[])? {
        class @ (Inside::Loopback | Inside::Unspecified | Inside::Multicast | Inside::Reserved) => {
            Some(Reason::Inside(class))
        }
        _ => None,
    }
}
