//! Handing out the one address (RFC 2131): whoever asks gets it, for a day.

use crate::address::{GATEWAY, GUEST, GUEST_MAC, MTU, PREFIX};
use smoltcp::wire::{DhcpMessageType, DhcpOption, DhcpPacket, DhcpRepr, EthernetAddress};
use std::net::Ipv4Addr;

/// Ports of servers and clients.
pub(crate) const SERVER_PORT: u16 = 67;
pub(crate) const CLIENT_PORT: u16 = 68;
/// Seconds that an address may be used.
const LEASE: u32 = 24 * 60 * 60;
/// The options that tell the resolver and the MTU (RFC 2132, 3.8 and 5.1).
const RESOLVER: u8 = 6;
const INTERFACE_MTU: u8 = 26;

/// The answer to `question`, if it is one that has an answer.
pub(crate) fn answer(question: &[u8]) -> Option<Vec<u8>> {
    let question = DhcpPacket::new_checked(question).ok()?;
    let question = DhcpRepr::parse(&question).ok()?;
    if question.client_hardware_address != EthernetAddress(GUEST_MAC) {
        return None;
    }
    let wanted = question.requested_ip.or((!question.client_ip.is_unspecified()).then_some(question.client_ip));
    let of_another = question.server_identifier.is_some_and(|server| server != GATEWAY);
    let message_type = match question.message_type {
        DhcpMessageType::Discover => DhcpMessageType::Offer,
        DhcpMessageType::Request if of_another => return None,
        DhcpMessageType::Request if wanted.is_some_and(|wanted| wanted != GUEST) => DhcpMessageType::Nak,
        DhcpMessageType::Request | DhcpMessageType::Inform => DhcpMessageType::Ack,
        _ => return None,
    };
    let gives = message_type != DhcpMessageType::Nak;
    let mtu = MTU.to_be_bytes();
    let resolver = GATEWAY.octets();
    let options = [DhcpOption { kind: RESOLVER, data: &resolver }, DhcpOption { kind: INTERFACE_MTU, data: &mtu }];
    let repr = DhcpRepr {
        message_type,
        transaction_id: question.transaction_id,
        secs: 0,
        client_hardware_address: question.client_hardware_address,
        client_ip: question.client_ip,
        your_ip: if gives { GUEST } else { Ipv4Addr::UNSPECIFIED },
        server_ip: GATEWAY,
        router: gives.then_some(GATEWAY),
        subnet_mask: gives.then(|| Ipv4Addr::from_bits(u32::MAX << (32 - u32::from(PREFIX)))),
        relay_agent_ip: Ipv4Addr::UNSPECIFIED,
        broadcast: question.broadcast,
        requested_ip: None,
        client_identifier: None,
        server_identifier: Some(GATEWAY),
        parameter_request_list: None,
        dns_servers: None,
        max_size: None,
        lease_duration: gives.then_some(LEASE),
        renew_duration: None,
        rebind_duration: None,
        additional_options: if gives { &options } else { &[] },
    };
    let mut bytes = vec![0; repr.buffer_len()];
    repr.emit(&mut DhcpPacket::new_unchecked(&mut bytes)).ok()?;
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn question(message_type: DhcpMessageType, requested_ip: Option<Ipv4Addr>) -> Vec<u8> {
        let repr = DhcpRepr {
            message_type,
            transaction_id: 7,
            secs: 0,
            client_hardware_address: EthernetAddress(GUEST_MAC),
            client_ip: Ipv4Addr::UNSPECIFIED,
            your_ip: Ipv4Addr::UNSPECIFIED,
            server_ip: Ipv4Addr::UNSPECIFIED,
            router: None,
            subnet_mask: None,
            relay_agent_ip: Ipv4Addr::UNSPECIFIED,
            broadcast: false,
            requested_ip,
            client_identifier: None,
            server_identifier: None,
            parameter_request_list: None,
            dns_servers: None,
            max_size: None,
            lease_duration: None,
            renew_duration: None,
            rebind_duration: None,
            additional_options: &[],
        };
        let mut bytes = vec![0; repr.buffer_len()];
        repr.emit(&mut DhcpPacket::new_unchecked(&mut bytes)).unwrap();
        bytes
    }

    fn answered(question: &[u8]) -> (DhcpMessageType, Ipv4Addr, Option<Ipv4Addr>) {
        let bytes = answer(question).unwrap();
        let packet = DhcpPacket::new_checked(&bytes).unwrap();
        let repr = DhcpRepr::parse(&packet).unwrap();
        assert_eq!(repr.transaction_id, 7);
        (repr.message_type, repr.your_ip, repr.dns_servers.and_then(|servers| servers.first().copied()))
    }

    #[test]
    fn whoever_asks_gets_the_one_address() {
        let offer = answered(&question(DhcpMessageType::Discover, None));
        assert_eq!(offer, (DhcpMessageType::Offer, GUEST, Some(GATEWAY)));
        assert_eq!(answered(&question(DhcpMessageType::Request, Some(GUEST))).0, DhcpMessageType::Ack);
        let other = answered(&question(DhcpMessageType::Request, Some(Ipv4Addr::new(10, 43, 0, 3))));
        assert_eq!(other, (DhcpMessageType::Nak, Ipv4Addr::UNSPECIFIED, None));
        assert!(answer(&question(DhcpMessageType::Release, None)).is_none());
    }

    proptest! {
        #[test]
        fn no_bytes_are_too_odd(mut bytes in proptest::collection::vec(any::<u8>(), 0..40), at in 200usize..300) {
            let mut whole = question(DhcpMessageType::Discover, Some(GUEST));
            whole.truncate(at.min(whole.len()));
            let _ = answer(&bytes);
            whole.append(&mut bytes);
            let _ = answer(&whole);
        }
    }
}
