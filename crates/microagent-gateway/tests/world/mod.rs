//! A guest, a host and an internet, in network namespaces, with a gateway between guest and host.
//!
//! ```text
//! guest: eth0 10.43.0.2/29 ── tap ── relay ── link ── Gateway, in a thread on the host: net0 203.0.113.1 ── Internet
//! ```
//!
//! The guest is whatever runs in its namespace: real programs by [`World::guest_command`], or code of the test by
//! [`World::enter_guest`]. What went out is in the internet's journal, what was decided in [`World::events`].

#![allow(dead_code, reason = "each test binary uses its part")]

mod line;
mod relay;
mod tap;

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::Arc;
use std::time::{Duration, Instant};

use microagent_egress::{Event, Happened, Log, Policy, Reason, Rules};
use microagent_gateway::dns::Resolver;
use microagent_gateway::proxy::Proxies;
use microagent_gateway::{Gateway, Options};
use microagent_testing::{Internet, Namespace, run};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::inotify;
use tempfile::TempDir;

pub(crate) use line::{Line, Weather};
use relay::Relay;

/// What is only ever reached by a defect.
pub(crate) const DEADLINE: Duration = Duration::from_mins(1);

/// The guest.
pub(crate) const GUEST: Ipv4Addr = Ipv4Addr::new(10, 43, 0, 2);
/// Its gateway and resolver.
pub(crate) const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 43, 0, 1);
/// The guest's hardware address.
pub(crate) const GUEST_MAC: [u8; 6] = [0x52, 0x54, 0x00, 0x12, 0x34, 0x56];
/// The gateway's.
pub(crate) const GATEWAY_MAC: [u8; 6] = [0x52, 0x54, 0x00, 0x12, 0x34, 0x01];
/// Bytes of a packet on the link, at the most.
pub(crate) const MTU: u32 = 65520;

/// Everything a gateway is between. Gone on drop.
pub(crate) struct World {
    // In the order of dropping.
    gateway: Option<Gateway>,
    relay: Relay,
    guest: Namespace,
    internet: Internet,
    directory: TempDir,
}

impl World {
    /// One with these rules, and no proxies or interception. None where this user may not have one, which is said.
    pub(crate) fn new(rules: Rules) -> Option<World> {
        World::with(rules, |_, _| ())
    }

    /// One with these rules and what `change` makes of the options.
    pub(crate) fn with(rules: Rules, change: impl FnOnce(&mut Options, &Internet)) -> Option<World> {
        let internet = match Internet::start() {
            Ok(internet) => internet,
            Err(reason) => {
                eprintln!("{reason}");
                return None;
            }
        };
        let directory = tempfile::tempdir().expect("creating a temporary directory");
        let log = Log::open(&directory.path().join(LOG)).expect("beginning the record");
        let mut options = Options {
            policy: Policy::new(rules, vec![Internet::HOST.into()]).expect("rules that can be meant"),
            log: Arc::new(log),
            resolver: Resolver::with(vec![SocketAddr::new(Internet::RESOLVER.into(), 53)], vec![], vec![]),
            proxies: Proxies::none(),
            intercept: None,
        };
        change(&mut options, &internet);
        let (guest, tap) = guest();
        let (ours, guests) = UnixStream::pair().expect("making the link");
        let link = OwnedFd::from(ours);
        let gateway = internet.enter_host(|| Gateway::start(link, options)).expect("starting the gateway");
        let relay = Relay::start(tap, guests);
        Some(World { gateway: Some(gateway), relay, guest, internet, directory })
    }

    /// The internet and the host.
    pub(crate) fn internet(&self) -> &Internet {
        &self.internet
    }

    /// A command that runs `program` on the guest. Its resolver is the gateway.
    pub(crate) fn guest_command(&self, program: &str) -> Command {
        self.guest.command(program)
    }

    /// Runs `inside` on a thread that is on the guest. What it opens and the threads it starts stay there.
    pub(crate) fn enter_guest<T: Send>(&self, inside: impl FnOnce() -> T + Send) -> T {
        self.guest.enter(inside)
    }

    /// The guest's namespace.
    pub(crate) fn guest(&self) -> &Namespace {
        &self.guest
    }

    /// A connection from the guest. Reading and writing wait for [`DEADLINE`] at the most.
    pub(crate) fn connect(&self, to: &str) -> io::Result<TcpStream> {
        let to: SocketAddr = to.parse().expect("an address with a port");
        let stream = self.enter_guest(|| TcpStream::connect_timeout(&to, DEADLINE))?;
        stream.set_read_timeout(Some(DEADLINE))?;
        stream.set_write_timeout(Some(DEADLINE))?;
        Ok(stream)
    }

    /// The addresses that the guest is told for `name`. After this, they count as addresses of it.
    pub(crate) fn look_up(&self, name: &str) -> Vec<Ipv4Addr> {
        let printed = run(self.guest_command("dig").args(["+short", "+tries=1", "+timeout=60", name]));
        String::from_utf8_lossy(&printed).lines().filter_map(|line| line.parse().ok()).collect()
    }

    /// What `curl` on the guest makes of `arguments`. It trusts the internet's authority.
    pub(crate) fn curl(&self, arguments: &[&str]) -> Output {
        let mut command = self.guest_command("curl");
        command.args(["--silent", "--show-error", "--noproxy", "*", "--max-time", "60", "--cacert"]);
        command.arg(self.internet.ca_file()).args(arguments).output().expect("running curl")
    }

    /// Lets the guest speak IPv6, on its own link.
    pub(crate) fn enable_ipv6(&self) {
        for variable in ["all", "default", "eth0"] {
            self.guest.set(&format!("ipv6/conf/{variable}/disable_ipv6"), "0");
        }
        self.guest.ip("address add fd43::2/64 dev eth0 nodad\nroute add default via fd43::1 dev eth0");
    }

    /// Sends a frame as if the guest had, addresses and all. False if the link is over.
    pub(crate) fn send_frame(&self, frame: &[u8]) -> bool {
        let length = u32::try_from(frame.len()).expect("a frame").to_be_bytes();
        self.send_bytes(&[&length, frame].concat())
    }

    /// Sends an IPv4 or IPv6 packet in a frame from the guest to the gateway.
    pub(crate) fn send_packet(&self, packet: &[u8]) -> bool {
        let kind: u16 = if packet.first().is_some_and(|first| first >> 4 == 6) { 0x86dd } else { 0x0800 };
        self.send_frame(&[&GATEWAY_MAC[..], &GUEST_MAC, &kind.to_be_bytes(), packet].concat())
    }

    /// Sends bytes on the link that need not be a frame. False if the link is over.
    pub(crate) fn send_bytes(&self, bytes: &[u8]) -> bool {
        self.relay.send(bytes)
    }

    /// Whether the gateway has ended the link.
    pub(crate) fn is_link_over(&self) -> bool {
        self.relay.is_over()
    }

    /// Drops the gateway. All that it has to say is in the events then.
    pub(crate) fn stop_gateway(&mut self) {
        self.gateway = None;
    }

    /// The file of the events.
    pub(crate) fn log(&self) -> PathBuf {
        self.directory.path().join(LOG)
    }

    /// What has been decided until now.
    pub(crate) fn events(&self) -> Vec<Event> {
        Log::read(&self.log(), 0).expect("reading the record").0
    }

    /// The first event that `wanted` is true of, when it is there.
    ///
    /// # Panics
    ///
    /// If it is not there within [`DEADLINE`], with everything that is.
    pub(crate) fn wait_for_event(&self, mut wanted: impl FnMut(&Event) -> bool) -> Event {
        let watch = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK).expect("inotify");
        inotify::add_watch(&watch, self.log(), inotify::WatchFlags::MODIFY).expect("watching the record");
        let end = Instant::now() + DEADLINE;
        loop {
            let events = self.events();
            if let Some(event) = events.iter().find(|event| wanted(event)) {
                return event.clone();
            }
            let left = end.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "no such event within {DEADLINE:?}, but these:\n{}", lines(&events));
            let left = left.try_into().expect("a minute");
            let mut ready = [PollFd::from_borrowed_fd(watch.as_fd(), PollFlags::IN)];
            poll(&mut ready, Some(&left)).expect("waiting for the record");
            // What changed does not matter; that it did is taken note of.
            let _ = rustix::io::read(&watch, &mut [0u8; 4096]);
        }
    }

    /// The first event that says that something to `host`, a name or an address, was denied, and why.
    pub(crate) fn wait_for_denial(&self, host: &str, reason: Reason) -> Event {
        let address = host.parse::<IpAddr>().ok();
        self.wait_for_event(|event| {
            let is_host = event.host.as_deref() == Some(host) || (address.is_some() && event.address == address);
            event.event == Happened::Deny && is_host && event.reason == Some(reason)
        })
    }

    /// That nothing came of the guest's attempts at `address`: no server has seen anything there.
    ///
    /// # Panics
    ///
    /// If one has, with what it was and what was decided.
    pub(crate) fn assert_untouched(&self, address: &str) {
        let address: Ipv4Addr = address.parse().expect("an address");
        let seen: Vec<String> = self.internet.seen_at(address).iter().map(ToString::to_string).collect();
        assert!(seen.is_empty(), "{address} was reached:\n{}\n{}", seen.join("\n"), lines(&self.events()));
    }
}

const LOG: &str = "egress.jsonl";

fn lines(events: &[Event]) -> String {
    let lines: Vec<String> = events.iter().map(|event| serde_json::to_string(event).expect("an event")).collect();
    lines.join("\n")
}

/// A guest that knows its addresses, and the other end of its device.
fn guest() -> (Namespace, std::fs::File) {
    let guest = Namespace::new("guest").expect("the internet could be made, so this can");
    guest.set("ipv6/conf/all/disable_ipv6", "1");
    guest.set("ipv6/conf/default/disable_ipv6", "1");
    let tap = guest.enter(|| tap::open("eth0")).expect("making the guest's device");
    let mac = GUEST_MAC.map(|byte| format!("{byte:02x}")).join(":");
    guest.ip(&format!(
        "link set eth0 address {mac} mtu {MTU} up\naddress add {GUEST}/29 dev eth0\nroute add default via {GATEWAY}\n"
    ));
    guest.set_resolver(GATEWAY.into());
    (guest, tap)
}
