//! What all flows share: the way to the guest, the rules, and the record.

use crate::address::{GATEWAY, PREFIX};
use crate::device::Port;
use crate::dns::{DnsServer, Resolver};
use crate::link::Outbox;
use crate::lookups::Lookups;
use crate::poll::{FIRST_FLOW, Poll, Token};
use crate::proxy::Proxies;
use crate::record::Record;
use crate::{Error, Intercept, Options};
use microagent_egress::Policy;
use smoltcp::iface::{Config, Interface, SocketSet};
use smoltcp::wire::{HardwareAddress, IpCidr};
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Instant;

/// What all flows share.
pub(crate) struct Edge {
    pub out: Outbox,
    pub poll: Poll,
    pub policy: Policy,
    pub record: Record,
    pub dns: DnsServer,
    pub lookups: Lookups,
    pub proxies: Proxies,
    pub intercept: Option<Arc<dyn Intercept>>,
    /// The time of this turn.
    pub now: Instant,
    interface: Interface,
    epoch: Instant,
    last: Token,
}

impl Edge {
    pub(crate) fn new(link: Arc<OwnedFd>, poll: Poll, options: Options) -> Result<Edge, Error> {
        let Options { policy, log, resolver, proxies, intercept } = options;
        let mut out = Outbox::new(link);
        let interface = interface(&mut out)?;
        let dns = DnsServer::new(Resolver::clone(&resolver), policy.clone(), Arc::clone(&log), poll.wake());
        let lookups = Lookups::new(resolver, poll.wake());
        let (record, now) = (Record::new(log), Instant::now());
        let epoch = now;
        Ok(Edge {
            out,
            poll,
            policy,
            record,
            dns,
            lookups,
            proxies,
            intercept,
            now,
            interface,
            epoch,
            last: FIRST_FLOW,
        })
    }

    /// A number that no flow had.
    pub(crate) fn number(&mut self) -> Token {
        self.last += 1;
        self.last
    }

    /// The names that our resolver gave `address` for.
    pub(crate) fn names(&mut self, address: Ipv4Addr) -> Vec<String> {
        let now = self.now;
        self.dns.names().of(IpAddr::V4(address), now)
    }

    /// The one of `names` that a reader of the record would know the connection by.
    pub(crate) fn host(&self, names: &[String]) -> Option<String> {
        names.iter().find(|name| self.policy.intercepts(name)).or(names.first()).cloned()
    }

    /// Gives the packet to the one socket in `sockets`, or, where there is none that wants it, resets its connection.
    pub(crate) fn receive(&mut self, packet: &[u8], sockets: &mut SocketSet<'_>) {
        let (now, mut port) = (self.stack_now(), Port { packet: Some(packet), out: &mut self.out });
        self.interface.poll_ingress_single(now, &mut port, sockets);
    }

    /// Resets the connection that a segment is of.
    pub(crate) fn reset(&mut self, segment: &[u8]) {
        self.receive(segment, &mut SocketSet::new(Vec::new()));
    }

    /// Sends what the socket in `sockets` has to send. Whether that was all.
    pub(crate) fn send(&mut self, sockets: &mut SocketSet<'_>) -> bool {
        let (now, mut port) = (self.stack_now(), Port { packet: None, out: &mut self.out });
        while port.out.has_room() {
            if self.interface.poll_egress(now, &mut port, sockets) == smoltcp::iface::PollResult::None {
                return true;
            }
        }
        false
    }

    /// When the socket in `sockets` has something to do by itself.
    pub(crate) fn deadline(&mut self, sockets: &SocketSet<'_>) -> Option<Instant> {
        let now = self.stack_now();
        let delay = self.interface.poll_delay(now, sockets)?;
        Some(self.now + delay.into())
    }

    fn stack_now(&self) -> smoltcp::time::Instant {
        let elapsed = self.now.duration_since(self.epoch).as_micros();
        smoltcp::time::Instant::from_micros(i64::try_from(elapsed).unwrap_or(i64::MAX))
    }
}

/// A stack that answers for every address.
fn interface(out: &mut Outbox) -> Result<Interface, Error> {
    let mut seed = [0; 8];
    getrandom::fill(&mut seed)
        .map_err(|error| Error::System { doing: "get random numbers", source: std::io::Error::other(error) })?;
    let mut config = Config::new(HardwareAddress::Ip);
    // Sequence numbers begin there.
    config.random_seed = u64::from_ne_bytes(seed);
    let mut port = Port { packet: None, out };
    let mut interface = Interface::new(config, &mut port, smoltcp::time::Instant::ZERO);
    interface.update_ip_addrs(|addresses| {
        let _ = addresses.push(IpCidr::new(GATEWAY.into(), PREFIX));
    });
    interface.set_any_ip(true);
    Ok(interface)
}
