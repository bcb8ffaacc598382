//! The user-mode network of a machine: the guest's ethernet ends in this process.
//!
//! No root, no TAP device, no helper program. Frames come over a socket ([`Gateway::start`]); connections in them are
//! ended by a TCP stack of our own, and what they carry goes on through ordinary sockets of the host, if the [`Policy`]
//! says so. Nothing is routed: a packet that nobody here understands goes nowhere.
//!
//! The guest is [`address::GUEST`], we are [`address::GATEWAY`]: its router, and its only resolver ([`dns`]). What that
//! told is what names of addresses are known by, and so what a policy of names can be held against.
//!
//! A connection is decided on when its first segment arrives; the guest gets no answer before the server gave one, so
//! refused is refused, and silence is silence. One that is to be looked into goes through an [`Intercept`], which
//! another crate has; one that goes out through a proxy of the host is opened by it ([`proxy`]), to the very address
//! that was decided on.
//!
//! One thread does it all, and waits for nobody. What a guest can make it hold is bounded.

pub mod address;
mod channels;
mod device;
mod dhcp;
mod dialer;
pub mod dns;
mod edge;
mod error;
mod ethernet;
#[doc(hidden)]
pub mod fuzzing;
mod icmp;
mod ipv4;
mod limits;
mod link;
mod lookups;
mod network;
mod opening;
mod poll;
pub mod proxy;
mod quiet;
mod record;
mod tcp;
mod udp;

pub use dialer::Dialer;
pub use error::Error;
pub use opening::{Sniffed, settle, sniff};

use edge::Edge;
use limits::Limits;
use microagent_egress::{Log, Policy};
use network::Network;
use poll::Poll;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

/// What a gateway goes by.
pub struct Options {
    /// What may leave.
    pub policy: Policy,
    /// Where it is written what did, and what did not.
    pub log: Arc<Log>,
    /// The host's resolver.
    pub resolver: dns::Resolver,
    /// The host's proxies.
    pub proxies: proxy::Proxies,
    /// Who looks into connections. Without one, those that are to be looked into are denied.
    pub intercept: Option<Arc<dyn Intercept>>,
}

/// What looks into connections.
pub trait Intercept: Send + Sync {
    /// Takes a connection over: speaks with the guest on `guest`, and with the server on `upstream`, a TCP socket that
    /// is connected already, to the very address that was decided on. Both are non-blocking. It must not wait.
    fn take(&self, connection: Connection, guest: UnixStream, upstream: OwnedFd);
}

/// A connection that is to be looked into.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connection {
    /// The name that the guest said, which is one of the address's.
    pub name: String,
    /// Where it goes.
    pub address: SocketAddr,
    /// Whether it opens with TLS. Otherwise it opens with HTTP.
    pub tls: bool,
}

/// A running gateway. It ends when this is dropped, or when the link ends.
#[derive(Debug)]
pub struct Gateway {
    stopped: Arc<AtomicBool>,
    wake: Arc<OwnedFd>,
    thread: Option<JoinHandle<()>>,
}

impl Gateway {
    /// Starts one at our end of a link: a stream socket in which each ethernet frame comes after its length, four
    /// bytes, the highest first.
    pub fn start(link: OwnedFd, options: Options) -> Result<Gateway, Error> {
        let limits = Limits::of_process();
        let link = Arc::new(link);
        let poll = Poll::new().map_err(Error::system("make an epoll instance"))?;
        poll.add(&*link, poll::LINK).map_err(Error::system("wait on the link"))?;
        let (wake, stopped) = (poll.wake(), Arc::new(AtomicBool::new(false)));
        let network = Network::new(Edge::new(Arc::clone(&link), poll, options)?, limits, link, Arc::clone(&stopped));
        let thread = std::thread::Builder::new().name("gateway".to_owned()).spawn(move || network.run());
        let thread = thread.map_err(|source| Error::System { doing: "start a thread", source })?;
        Ok(Gateway { stopped, wake, thread: Some(thread) })
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::Release);
        let _ = rustix::io::write(&*self.wake, &1u64.to_ne_bytes());
        if let Some(thread) = self.thread.take() {
            // It has nothing to say that the record does not have.
            let _ = thread.join();
        }
    }
}
