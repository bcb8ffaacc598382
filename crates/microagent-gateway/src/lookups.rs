//! The addresses of proxies, which are asked for on threads of their own: a resolver may take its time, and the link
//! does not wait.

use crate::dns::Resolver;
use crate::poll::Token;
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

/// How long an answer is good for.
const FRESH: Duration = Duration::from_mins(1);

/// What is known of the address of a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Lookup {
    /// It is being asked for.
    Pending,
    /// There is one.
    Known(IpAddr),
    /// There is none.
    Failed(String),
}

/// Addresses of the few hosts that the host itself names as proxies.
pub(crate) struct Lookups {
    resolver: Resolver,
    wake: Arc<OwnedFd>,
    known: HashMap<String, (Instant, Lookup)>,
    waiting: Vec<Token>,
    sender: Sender<(String, Lookup)>,
    answers: Receiver<(String, Lookup)>,
}

impl Lookups {
    pub(crate) fn new(resolver: Resolver, wake: Arc<OwnedFd>) -> Lookups {
        let (sender, answers) = channel();
        Lookups { resolver, wake, known: HashMap::new(), waiting: Vec::new(), sender, answers }
    }

    /// The address of `host` and `port`. Where that has to be waited for, `flow` is told of by [`Lookups::arrived`].
    pub(crate) fn address(
        &mut self,
        host: &str,
        port: u16,
        flow: Token,
        now: Instant,
    ) -> Result<Option<SocketAddr>, String> {
        if let Ok(address) = host.parse() {
            return Ok(Some(SocketAddr::new(address, port)));
        }
        let known =
            self.known.get(host).filter(|(at, lookup)| *lookup == Lookup::Pending || now.duration_since(*at) < FRESH);
        match known.map(|(_, lookup)| lookup) {
            Some(Lookup::Known(address)) => return Ok(Some(SocketAddr::new(*address, port))),
            Some(Lookup::Failed(reason)) => return Err(reason.clone()),
            Some(Lookup::Pending) => {}
            None => self.ask(host.to_owned(), now)?,
        }
        self.waiting.push(flow);
        Ok(None)
    }

    fn ask(&mut self, host: String, now: Instant) -> Result<(), String> {
        let (resolver, wake, sender) = (self.resolver.clone(), Arc::clone(&self.wake), self.sender.clone());
        let asked = host.clone();
        let ask = move || {
            let lookup = match resolver.addresses(&asked) {
                Ok(addresses) => {
                    first(&addresses).map_or_else(|| Lookup::Failed("it has no address".to_owned()), Lookup::Known)
                }
                Err(error) => Lookup::Failed(error.to_string()),
            };
            let _ = sender.send((asked, lookup));
            let _ = rustix::io::write(&*wake, &1u64.to_ne_bytes());
        };
        let started = std::thread::Builder::new().name("gateway-lookup".to_owned()).spawn(ask);
        started.map_err(|error| error.to_string())?;
        self.known.insert(host, (now, Lookup::Pending));
        Ok(())
    }

    /// The flows that can go on.
    pub(crate) fn arrived(&mut self, now: Instant) -> Vec<Token> {
        let mut any = false;
        while let Ok((host, lookup)) = self.answers.try_recv() {
            self.known.insert(host, (now, lookup));
            any = true;
        }
        // A flow whose answer is another one asks again, and waits again.
        if any { std::mem::take(&mut self.waiting) } else { Vec::new() }
    }
}

/// IPv4 where there is a choice: whoever has no IPv6 still gets IPv6 addresses from resolvers.
fn first(addresses: &[IpAddr]) -> Option<IpAddr> {
    addresses.iter().find(|address| address.is_ipv4()).or(addresses.first()).copied()
}
