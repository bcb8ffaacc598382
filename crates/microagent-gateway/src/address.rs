//! Who is who on the link. It has two ends, so nothing is learnt: everything is fixed, and the same in every machine.

use std::net::Ipv4Addr;

/// The guest's address.
pub const GUEST: Ipv4Addr = Ipv4Addr::new(10, 43, 0, 2);
/// The gateway's: the guest's router and resolver.
pub const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 43, 0, 1);
/// Bits of the network that both are in.
pub const PREFIX: u8 = 29;
/// Most bytes of an IP packet. As large as the guest's stack takes it (65535 less what Linux keeps for headers), since
/// a packet costs the same whatever its size, and the link neither loses nor corrupts any.
pub const MTU: u16 = 65520;
/// The guest's ethernet address.
pub const GUEST_MAC: [u8; 6] = [0x52, 0x54, 0x00, 0x12, 0x34, 0x56];
/// The gateway's.
pub const GATEWAY_MAC: [u8; 6] = [0x52, 0x54, 0x00, 0x12, 0x34, 0x01];

/// Whether `address` is of the network that guest and gateway are in.
pub(crate) fn is_on_link(address: Ipv4Addr) -> bool {
    let host_bits = 32 - u32::from(PREFIX);
    address.to_bits() >> host_bits == GATEWAY.to_bits() >> host_bits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_link_is_eight_addresses() {
        assert!(is_on_link(GUEST) && is_on_link(Ipv4Addr::new(10, 43, 0, 7)));
        assert!(!is_on_link(Ipv4Addr::new(10, 43, 0, 8)) && !is_on_link(Ipv4Addr::new(10, 42, 255, 255)));
    }
}
