//! A gateway as a guest sees it whose kernel does as it likes: frame after frame, through the stack and back.

use crate::address::{GATEWAY, GATEWAY_MAC, GUEST, GUEST_MAC};
use crate::edge::Edge;
use crate::ethernet::{HEADER, Kind};
use crate::limits::Limits;
use crate::link::Inbox;
use crate::network::Network;
use crate::poll::Poll;
use crate::proxy::Proxies;
use crate::{Options, dns, ipv4};
use microagent_egress::{Log, Mode, Policy, Rules};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use smoltcp::wire::{Ipv4Packet, TcpPacket, TcpSeqNumber};
use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

/// Where the sequence of a guest's stream begins.
const FIRST: i32 = i32::MAX - 1000;
/// Bytes of the header of a segment without options.
const SEGMENT: usize = 20;
/// Port of the one service that a guest has a connection with when nothing is let out: the resolver's.
const PORT: u16 = 53;

/// A gateway that lets nothing out, with the guest's end of its link.
pub struct Wire {
    network: Network,
    link: OwnedFd,
    inbox: Inbox,
    /// Where the streams of the gateway begin, by port of the guest: without that no guest gets far.
    theirs: HashMap<u16, TcpSeqNumber>,
}

/// A segment to the resolver.
#[derive(Clone, Copy, Debug)]
pub struct Said<'a> {
    /// Port of the guest.
    pub port: u16,
    /// Where it is in the guest's stream, whose first byte is at 0, and its opening before that.
    pub at: i32,
    /// How much of the other stream it acknowledges.
    pub acknowledged: i32,
    /// How much it takes.
    pub window: u16,
    /// As in RFC 9293, 3.1.
    pub flags: u8,
    /// Of which the first forty bytes count.
    pub options: &'a [u8],
    /// What is said.
    pub data: &'a [u8],
}

impl Wire {
    /// One that writes to `log`.
    pub fn new(log: Arc<Log>) -> Wire {
        let (ours, link) = socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)
            .expect("there are descriptors enough");
        let rules = Rules { mode: Mode::Strict, ..Rules::default() };
        let options = Options {
            policy: Policy::new(rules, vec![]).expect("these rules can be meant"),
            log,
            resolver: dns::Resolver::with(vec![], vec![], vec![]),
            proxies: Proxies::none(),
            intercept: None,
        };
        let (ours, poll) = (Arc::new(ours), Poll::new().expect("there are descriptors enough"));
        let edge = Edge::new(Arc::clone(&ours), poll, options).expect("there are random numbers");
        let network = Network::new(edge, Limits { flows: 8, channels: 8 }, ours, Arc::new(AtomicBool::new(false)));
        Wire { network, link, inbox: Inbox::new(), theirs: HashMap::new() }
    }

    /// Sends a frame as it is.
    pub fn frame(&mut self, bytes: &[u8]) {
        self.network.frame(bytes);
    }

    /// Sends a packet of `protocol`.
    pub fn packet(&mut self, to: Ipv4Addr, protocol: u8, payload: &[u8]) {
        let payload = &payload[..payload.len().min(usize::from(crate::address::MTU) - ipv4::HEADER)];
        let mut header = [0; ipv4::HEADER];
        ipv4::write_header(&mut header, GUEST, to, protocol, payload.len());
        let kind = Kind::Ipv4.number().to_be_bytes();
        self.frame(&[&GATEWAY_MAC[..], &GUEST_MAC, &kind, &header, payload].concat());
    }

    /// Sends a segment to the resolver.
    pub fn segment(&mut self, said: &Said<'_>) {
        let options = &said.options[..said.options.len().min(40) & !3];
        let length = SEGMENT + options.len();
        let mut bytes = [&[0; SEGMENT][..], options, said.data].concat();
        let mut segment = TcpPacket::new_unchecked(&mut bytes);
        segment.set_src_port(said.port);
        segment.set_dst_port(PORT);
        segment.set_seq_number(TcpSeqNumber(FIRST.wrapping_add(said.at).wrapping_add(1)));
        let theirs = self.theirs.get(&said.port).map_or(0, |seq| seq.0);
        segment.set_ack_number(TcpSeqNumber(theirs.wrapping_add(said.acknowledged)));
        segment.set_header_len(length as u8);
        segment.set_window_len(said.window);
        bytes[13] = said.flags;
        self.packet(GATEWAY, ipv4::TCP, &bytes);
    }

    /// Lets the gateway work, `time` later, and gives the frames that it sends.
    pub fn turn(&mut self, time: Duration) -> Vec<Vec<u8>> {
        self.network.wait(time);
        let mut frames = Vec::new();
        while self.network.turn().is_ok() && self.inbox.fill(&self.link).is_ok_and(|any| any) {
            while let Ok(Some(frame)) = self.inbox.next() {
                frames.push(frame.to_vec());
            }
        }
        for frame in &frames {
            self.note(frame);
        }
        frames
    }

    /// Takes note of where a stream begins.
    fn note(&mut self, frame: &[u8]) {
        assert!(frame[..6] == GUEST_MAC && frame[6..12] == GATEWAY_MAC, "a frame of ours is for the guest");
        if frame[12..HEADER] != Kind::Ipv4.number().to_be_bytes() {
            return;
        }
        let packet = Ipv4Packet::new_checked(&frame[HEADER..]).expect("a packet of ours is one");
        if packet.next_header() == smoltcp::wire::IpProtocol::Tcp {
            let segment = TcpPacket::new_checked(packet.payload()).expect("a segment of ours is one");
            if segment.syn() {
                self.theirs.insert(segment.dst_port(), segment.seq_number() + 1);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_that_does_as_it_should_is_answered() {
        let dir = tempfile::tempdir().unwrap();
        let mut wire = Wire::new(Arc::new(Log::open(&dir.path().join("log")).unwrap()));
        let mut said = Said {
            port: 1000,
            at: -1,
            acknowledged: 0,
            window: 60_000,
            flags: 2,
            options: &[2, 4, 5, 0xb4],
            data: &[],
        };
        wire.segment(&said);
        assert!(!wire.turn(Duration::ZERO).is_empty());
        // `a.example`, of which nothing is known: refused is an answer.
        let question = b"\x00\x1b\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x01a\x07example\x00\x00\x01\x00\x01";
        said = Said { at: 0, flags: 0x18, options: &[], data: question, ..said };
        wire.segment(&said);
        let frames = wire.turn(Duration::ZERO);
        assert!(frames.iter().any(|frame| frame.windows(2).any(|two| two == b"\x12\x34")), "{frames:?}");
    }
}
