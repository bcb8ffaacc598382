//! Frames, and who has which address (RFC 826).

use crate::address::{GATEWAY, GATEWAY_MAC, GUEST, GUEST_MAC};
use crate::link::Outbox;
use std::net::Ipv4Addr;

/// Bytes of the header of a frame.
pub(crate) const HEADER: usize = 14;
/// A request and an answer.
const REQUEST: [u8; 2] = [0, 1];
const ANSWER: [u8; 2] = [0, 2];
/// What precedes that: of ethernet and IPv4 addresses, of six and four bytes.
const ARP_OPENING: [u8; 6] = [0, 1, 8, 0, 6, 4];
/// Bytes of one.
const ARP: usize = 28;

/// What a frame carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Ipv4,
    Arp,
    Ipv6,
    /// An engine that goes on from a frozen machine says this, for switches to learn where it is: there are none.
    Announcement,
    Other,
}

impl Kind {
    pub(crate) fn number(self) -> u16 {
        match self {
            Kind::Ipv4 => 0x0800,
            Kind::Arp => 0x0806,
            Kind::Ipv6 => 0x86dd,
            Kind::Announcement => 0x8035,
            Kind::Other => 0xffff,
        }
    }

    fn of(number: u16) -> Kind {
        [Kind::Ipv4, Kind::Arp, Kind::Ipv6, Kind::Announcement]
            .into_iter()
            .find(|kind| kind.number() == number)
            .unwrap_or(Kind::Other)
    }
}

/// A frame that the guest sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Frame<'a> {
    /// With that in it.
    Of(Kind, &'a [u8]),
    /// Under an address that is not its own.
    Foreign,
    /// For somebody who is not here, or none at all.
    Nothing,
}

/// Reads one.
pub(crate) fn open(frame: &[u8]) -> Frame<'_> {
    let Some((header, payload)) = frame.split_first_chunk::<HEADER>() else { return Frame::Nothing };
    // The lowest bit is that of addresses of many.
    let to_us = header[..6] == GATEWAY_MAC || header[0] & 1 == 1;
    match to_us {
        false => Frame::Nothing,
        true if header[6..12] != GUEST_MAC => Frame::Foreign,
        true => Frame::Of(Kind::of(u16::from_be_bytes([header[12], header[13]])), payload),
    }
}

/// Answers the question who has the gateway's address. All others are off the link.
pub(crate) fn answer(question: &[u8], out: &mut Outbox) {
    let Some(question) = question.first_chunk::<ARP>() else { return };
    let from = Ipv4Addr::new(question[14], question[15], question[16], question[17]);
    let is_guest = question[8..14] == GUEST_MAC && (from == GUEST || from.is_unspecified());
    if question[..6] != ARP_OPENING || question[6..8] != REQUEST || !is_guest || question[24..28] != GATEWAY.octets() {
        return;
    }
    out.frame(Kind::Arp, ARP, |answer| {
        answer[..6].copy_from_slice(&ARP_OPENING);
        answer[6..8].copy_from_slice(&ANSWER);
        answer[8..14].copy_from_slice(&GATEWAY_MAC);
        answer[14..18].copy_from_slice(&GATEWAY.octets());
        answer[18..28].copy_from_slice(&question[8..18]);
    });
}
