//! The thread: what comes from the guest, from the network and from the clock is given to whom it is for, turn by turn.
//!
//! A turn does a bounded amount of everything: what one read of the link gives, one event of each socket, one advance
//! of each flow that has something to do. So a flood on one side leaves the others their part.

use crate::address::GATEWAY;
use crate::channels::{Channels, Pair, Speaker};
use crate::dns::Transport;
use crate::edge::Edge;
use crate::ethernet::{self, Frame, Kind};
use crate::icmp::{self, Echo, Unreachable};
use crate::ipv4::{self, Packet, Unreadable};
use crate::limits::Limits;
use crate::link::{Ended, Inbox};
use crate::poll::{LINK, WAKE};
use crate::tcp::{Tcp, martian};
use crate::udp::{self, Datagram};
use crate::{dhcp, poll};
use microagent_egress::{Protocol, Reason, Verdict};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Port of resolvers.
const DNS_PORT: u16 = 53;

/// Everything that the thread has.
pub(crate) struct Network {
    edge: Edge,
    tcp: Tcp,
    channels: Channels,
    link: Arc<OwnedFd>,
    stopped: Arc<AtomicBool>,
}

impl Network {
    pub(crate) fn new(edge: Edge, limits: Limits, link: Arc<OwnedFd>, stopped: Arc<AtomicBool>) -> Network {
        let (tcp, channels) = (Tcp::new(limits.flows), Channels::new(limits.channels, edge.now));
        Network { edge, tcp, channels, link, stopped }
    }

    /// Works until the link ends, or it is told to stop.
    pub(crate) fn run(mut self) {
        let _ = self.work();
        self.edge.now = Instant::now();
        self.tcp.end(&self.edge);
        self.channels.end(&self.edge);
    }

    fn work(&mut self) -> Result<(), Ended> {
        let (mut inbox, mut has_more) = (Inbox::new(), true);
        while !self.stopped.load(Ordering::Acquire) {
            let timeout = if has_more || self.tcp.is_busy() && self.edge.out.has_room() {
                Some(Instant::now())
            } else {
                self.tcp.deadline().into_iter().chain(self.channels.deadline()).min()
            };
            let timeout = timeout.map(|at| at.saturating_duration_since(Instant::now()));
            let events = self.edge.poll.wait(timeout).map_err(|_| Ended)?;
            self.edge.now = Instant::now();
            for event in events {
                match event.token {
                    LINK => has_more |= event.read,
                    WAKE => self.woken(),
                    _ => self.ready(event),
                }
            }
            if has_more {
                has_more = inbox.fill(&self.link)?;
                while let Some(frame) = inbox.next()? {
                    self.frame(frame);
                }
            }
            self.turn()?;
        }
        Ok(())
    }

    /// Does what there is to do after everything that came.
    pub(crate) fn turn(&mut self) -> Result<(), Ended> {
        self.tcp.turn(&mut self.edge);
        self.channels.expire(&mut self.edge);
        self.edge.out.flush()
    }

    /// Lets time pass.
    pub(crate) fn wait(&mut self, time: Duration) {
        self.edge.now += time;
    }

    /// Another thread has something.
    fn woken(&mut self) {
        self.edge.poll.woken();
        for (token, answer) in self.edge.dns.answers() {
            match Asker::of(token) {
                Asker::Port(port) => udp::send(&mut self.edge.out, SocketAddrV4::new(GATEWAY, DNS_PORT), port, &answer),
                Asker::Flow(id) => self.tcp.answer(id, &answer),
            }
        }
        for id in self.edge.lookups.arrived(self.edge.now) {
            self.tcp.wake(id);
        }
    }

    /// A socket can be read or written.
    fn ready(&mut self, event: poll::Ready) {
        if !self.tcp.ready(event) {
            self.channels.receive(&mut self.edge, event.token);
        }
    }

    /// The guest sent a frame.
    pub(crate) fn frame(&mut self, frame: &[u8]) {
        match ethernet::open(frame) {
            Frame::Of(Kind::Arp, question) => ethernet::answer(question, &mut self.edge.out),
            Frame::Of(Kind::Ipv4, packet) => match Packet::read(packet) {
                Ok(packet) => self.packet(&packet),
                Err(Unreadable::Fragment) => self.odd("a fragment"),
                Err(Unreadable::Foreign) => self.odd("a packet from another address"),
                Err(Unreadable::Malformed) => {}
            },
            Frame::Of(Kind::Ipv6, _) => self.odd("IPv6"),
            Frame::Of(Kind::Other, _) => self.odd("neither IP nor ARP"),
            Frame::Foreign => self.odd("a frame from another address"),
            Frame::Of(Kind::Announcement, _) | Frame::Nothing => {}
        }
    }

    fn packet(&mut self, packet: &Packet<'_>) {
        match packet.protocol {
            ipv4::TCP => self.tcp.receive(&mut self.edge, packet),
            ipv4::UDP => self.datagram(packet),
            ipv4::ICMP => self.echo(packet),
            other => self.odd(&format!("IP protocol {other}")),
        }
    }

    /// Something that has no place here: that it happens is worth a line, and not more.
    fn odd(&mut self, what: &str) {
        self.edge.record.deny_rarely(Protocol::Other, Reason::Protocol, what, self.edge.now);
    }

    fn datagram(&mut self, packet: &Packet<'_>) {
        let Some(datagram) = Datagram::read(packet.payload) else { return };
        let (to, edge) = (SocketAddrV4::new(packet.to, datagram.to), &mut self.edge);
        let for_dhcp = *to.ip() == GATEWAY || *to.ip() == udp::EVERYBODY;
        if for_dhcp && to.port() == dhcp::SERVER_PORT && datagram.from == dhcp::CLIENT_PORT {
            if let Some(answer) = dhcp::answer(datagram.data) {
                let from = SocketAddrV4::new(GATEWAY, dhcp::SERVER_PORT);
                let asker = SocketAddrV4::new(udp::EVERYBODY, dhcp::CLIENT_PORT);
                udp::send_to(&mut edge.out, from, asker, &answer);
            }
        } else if packet.from.is_unspecified() {
            self.odd("a packet without an address");
        } else if *to.ip() == GATEWAY && to.port() == DNS_PORT {
            let token = Asker::Port(datagram.from).token();
            if let Some(answer) = edge.dns.ask(datagram.data, Transport::Udp, token) {
                udp::send(&mut edge.out, to, datagram.from, &answer);
            }
        } else if *to.ip() == GATEWAY {
            icmp::unreachable(&mut edge.out, Unreachable::Port, packet.bytes);
        } else {
            self.pass(packet, (Speaker::Port(datagram.from), to), datagram.data);
        }
    }

    fn echo(&mut self, packet: &Packet<'_>) {
        let Some(echo) = Echo::request(packet.payload) else { return };
        if packet.to == GATEWAY {
            return echo.answer(&mut self.edge.out, GATEWAY);
        }
        self.pass(packet, (Speaker::Ident(echo.ident), SocketAddrV4::new(packet.to, 0)), &echo.to_send());
    }

    /// Sends `data` out, if it may.
    fn pass(&mut self, packet: &Packet<'_>, pair: Pair, data: &[u8]) {
        let ((speaker, to), edge) = (pair, &mut self.edge);
        if !self.channels.has(pair) {
            let (protocol, names) = (speaker.protocol(), edge.names(*to.ip()));
            let verdict = edge.policy.connect(protocol, SocketAddr::V4(to), &names);
            let host = edge.host(&names);
            if let Verdict::Deny(reason) = martian(to).map_or(verdict, Verdict::Deny) {
                edge.record.deny(protocol, reason, host, to, edge.now);
                if is_unicast(*to.ip()) {
                    icmp::unreachable(&mut edge.out, Unreachable::Prohibited, packet.bytes);
                }
                return;
            }
            if let Err(errno) = self.channels.open(edge, pair, host.clone()) {
                let reason = std::io::Error::from(errno).to_string();
                edge.record.fail_rarely(protocol, host, to, reason, edge.now);
                return icmp::unreachable(&mut edge.out, Unreachable::Host, packet.bytes);
            }
        }
        self.channels.send(&mut self.edge, pair, data);
    }
}

/// Nobody is told of what he sent to many (RFC 1122, 3.2.2).
fn is_unicast(address: Ipv4Addr) -> bool {
    !(address.is_multicast() || address.is_broadcast())
}

/// Who asked a question, in the number that comes back with the answer.
enum Asker {
    /// A port of the guest, by datagram.
    Port(u16),
    /// A connection.
    Flow(poll::Token),
}

impl Asker {
    fn of(token: u64) -> Asker {
        if token & 1 == 1 { Asker::Flow(token >> 1) } else { Asker::Port((token >> 1) as u16) }
    }

    fn token(&self) -> u64 {
        match self {
            Asker::Port(port) => u64::from(*port) << 1,
            Asker::Flow(id) => id << 1 | 1,
        }
    }
}
