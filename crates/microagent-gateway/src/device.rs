//! The stack's view of the link: one packet in, as many out as there is room for.

use crate::address::MTU;
use crate::ethernet::Kind;
use crate::link::Outbox;
use smoltcp::phy::{Checksum, DeviceCapabilities, Medium};
use smoltcp::time::Instant;

/// A device for the length of one call.
pub(crate) struct Port<'a> {
    pub packet: Option<&'a [u8]>,
    pub out: &'a mut Outbox,
}

pub(crate) struct Received<'a>(&'a [u8]);
pub(crate) struct Sent<'a>(&'a mut Outbox);

impl smoltcp::phy::Device for Port<'_> {
    type RxToken<'t>
        = Received<'t>
    where
        Self: 't;
    type TxToken<'t>
        = Sent<'t>
    where
        Self: 't;

    fn receive(&mut self, _: Instant) -> Option<(Received<'_>, Sent<'_>)> {
        self.packet.take().map(|packet| (Received(packet), Sent(self.out)))
    }

    fn transmit(&mut self, _: Instant) -> Option<Sent<'_>> {
        self.out.has_room().then_some(Sent(self.out))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ip;
        capabilities.max_transmission_unit = usize::from(MTU);
        // Nothing is corrupted between two processes. What we send has to be right: the guest does not know that.
        capabilities.checksum.ipv4 = Checksum::Tx;
        capabilities.checksum.tcp = Checksum::Tx;
        capabilities
    }
}

impl smoltcp::phy::RxToken for Received<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, read: F) -> R {
        read(self.0)
    }
}

impl smoltcp::phy::TxToken for Sent<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, write: F) -> R {
        self.0.frame(Kind::Ipv4, length, write)
    }
}
