//! An internet for tests.

mod answer;
mod certificates;
mod journal;
mod namespace;
mod server;

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tempfile::TempDir;

pub use answer::Answer;
pub use journal::{Kind, Place, Seen};
pub use namespace::{Namespace, NeedsRoot};

use journal::Journal;
use server::Server;

/// A host and the internet it is on, in network namespaces: nothing in there is reached from outside, and nothing
/// outside from there.
///
/// The host is [`Internet::HOST`]. Out in the internet are the addresses `.10` to `.30` of the three networks for
/// documentation (RFC 5737), the resolver [`Internet::RESOLVER`], and what a real network keeps inside:
/// [`Internet::INSIDE`]. [`Internet::NOBODY`] is answered for with "unreachable", [`Internet::SILENT`] with nothing.
///
/// The same servers listen on every address out there, and once more on the host with all of its addresses, where
/// nothing of a guest is ever to arrive:
///
/// | port | what it does |
/// |---|---|
/// | 7, 7/udp, 123/udp, 443/udp | sends back what comes |
/// | 9, 9/udp | swallows it; the journal has the digest |
/// | 19 | reads a line with a number, and sends so many bytes of [`pattern`] (1 MiB if the other end only closes) |
/// | 22 | speaks first: `SSH-2.0-test`, then sends back what comes |
/// | 53, 53/udp, 853 | answers questions: see [`Internet::set_name`] |
/// | 80 | HTTP |
/// | 443, 8443 | HTTP over TLS; the certificate is for `*.example`, `*.example.com`, `example.com` and some in full |
/// | 3128 | HTTP, for `CONNECT` |
/// | 6666 | resets at once |
/// | 6667 | reads to the end, then answers with the number of bytes |
/// | 6668 | reads nothing |
/// | 9443 | HTTP over TLS with a certificate that has expired |
/// | 9444 | HTTP over TLS with a certificate for another name |
///
/// Over HTTP, `/` answers with the request, `host`, `client` and `headers` as JSON, `/headers` with the latter alone,
/// `/bytes/N` and `/chunked/N` with [`pattern`], `/close/N` with it, without a length; `/sha256` with the digest of the
/// body, `/echo` with the body, `/slow/MS` with ten bytes that far apart, `/redirect?to=URL`, `/status/N`; `/reset/N`
/// with half of a body and a reset, and `/upgrade` with whatever comes.
///
/// Names are `api`, `pinned`, `other`, `evil` and `www` of `.example`, at `192.0.2.10` to `192.0.2.14`; `example.com`
/// at `192.0.2.20`; `alias.example` for `api.example`; `big.example` with more addresses than fit into a datagram;
/// `inside.example`, `metadata.example`, `loopback.example` and `host.example` for what their names say.
#[derive(Debug)]
pub struct Internet {
    // In the order of dropping: servers hold on to namespaces.
    servers: [Server; 2],
    host: Namespace,
    net: Namespace,
    directory: TempDir,
    journal: Arc<Journal>,
}

/// The first `count` bytes of what is sent where nothing else is asked for.
pub fn pattern(count: usize) -> Vec<u8> {
    let period: Vec<u8> = (0..65521u32).map(|n| (n * 7 + (n >> 8)).to_le_bytes()[0]).collect();
    period.into_iter().cycle().take(count).collect()
}

impl Internet {
    /// The host's own address.
    pub const HOST: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);
    /// The host's resolver.
    pub const RESOLVER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 53);
    /// The addresses of servers that no guest is to reach without being told so.
    pub const INSIDE: [Ipv4Addr; 4] = [
        Ipv4Addr::new(10, 9, 9, 9),
        Ipv4Addr::new(169, 254, 169, 254),
        Ipv4Addr::new(172, 16, 5, 5),
        Ipv4Addr::new(100, 64, 1, 1),
    ];
    /// An address that no machine has.
    pub const NOBODY: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 99);
    /// An address that swallows everything.
    pub const SILENT: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 200);

    /// Makes one.
    ///
    /// # Panics
    ///
    /// If root cannot either, naming what is missing.
    pub fn start() -> Result<Internet, NeedsRoot> {
        let (host, net) = (Namespace::new("host")?, Namespace::new("net")?);
        connect(&host, &net);
        host.set_resolver(Internet::RESOLVER.into());
        let directory = tempfile::tempdir().expect("creating a temporary directory");
        certificates::make(directory.path());
        let program = directory.path().join(server::PROGRAM);
        std::fs::write(program, include_str!("../internet.py")).expect("writing the server program");
        let journal = Arc::new(Journal::default());
        let start =
            |namespace, place, interface| Server::start(namespace, place, directory.path(), interface, &journal);
        let servers = [start(&net, Place::Net, "host0"), start(&host, Place::Host, "lo")];
        let internet = Internet { servers, host, net, directory, journal };
        // Both are on their way by now.
        internet.set_usual_names();
        Ok(internet)
    }

    /// A command that runs `program` on the host.
    pub fn host_command(&self, program: &str) -> Command {
        self.host.command(program)
    }

    /// Runs `inside` on a thread that is on the host. What it opens and the threads it starts stay there.
    pub fn enter_host<T: Send>(&self, inside: impl FnOnce() -> T + Send) -> T {
        self.host.enter(inside)
    }

    /// The host's namespace.
    pub fn host(&self) -> &Namespace {
        &self.host
    }

    /// The namespace of everything else.
    pub fn net(&self) -> &Namespace {
        &self.net
    }

    /// The certificate of the authority that all servers have theirs from, in PEM.
    pub fn ca_pem(&self) -> String {
        std::fs::read_to_string(self.ca_file()).expect("reading the certificate")
    }

    /// The file that [`Internet::ca_pem`] is in.
    pub fn ca_file(&self) -> PathBuf {
        self.directory.path().join("ca.crt")
    }

    /// Sets what is answered to questions for `name`, from now on and for everybody.
    pub fn set_name(&self, name: &str, answer: &Answer) {
        for server in &self.servers {
            server.command(json!({ "name": name, "turns": answer.to_json() }));
        }
    }

    /// What has been seen until now. Every packet, connection and datagram that had arrived when this was called is in
    /// it; of what connections bring, that which was read.
    pub fn journal(&self) -> Vec<Seen> {
        for server in &self.servers {
            server.command(json!({}));
        }
        self.journal.all()
    }

    /// What has been seen at `address`, on any port.
    pub fn seen_at(&self, address: Ipv4Addr) -> Vec<Seen> {
        self.journal().into_iter().filter(|seen| seen.local.ip() == address).collect()
    }

    /// The first thing in the journal that `wanted` is true of, when it is there.
    ///
    /// # Panics
    ///
    /// If it is not there at the end of `deadline`, with everything that is.
    pub fn wait_for(&self, wanted: impl FnMut(&Seen) -> bool, deadline: Duration) -> Seen {
        let found = self.journal.wait_for(deadline, wanted);
        found.unwrap_or_else(|| {
            let seen: Vec<String> = self.journal().iter().map(Seen::to_string).collect();
            panic!("not seen within {deadline:?}, but this:\n{}", seen.join("\n"))
        })
    }

    fn set_usual_names(&self) {
        let hosts = [
            ("api.example", "192.0.2.10"),
            ("pinned.example", "192.0.2.11"),
            ("other.example", "192.0.2.12"),
            ("evil.example", "192.0.2.13"),
            ("www.example", "192.0.2.14"),
            ("example.com", "192.0.2.20"),
            ("inside.example", "10.9.9.9"),
            ("metadata.example", "169.254.169.254"),
            ("loopback.example", "127.0.0.1"),
            ("host.example", "203.0.113.1"),
        ];
        for (name, address) in hosts {
            self.set_name(name, &Answer::addresses(&[address]));
        }
        self.set_name("alias.example", &Answer::alias("api.example"));
        self.set_name("big.example", &Answer::big());
    }
}

/// Joins the two, and gives out the addresses.
fn connect(host: &Namespace, net: &Namespace) {
    for namespace in [host, net] {
        namespace.set("ipv6/conf/all/disable_ipv6", "1");
        namespace.set("ipv6/conf/default/disable_ipv6", "1");
    }
    // Lets everybody ping without being root, as most distributions do.
    host.set("ipv4/ping_group_range", "0 2147483647");
    // Forwarding is what makes it answer for addresses that nobody has, and always.
    net.set("ipv4/ip_forward", "1");
    net.set("ipv4/icmp_ratelimit", "0");
    let gateway = Ipv4Addr::new(203, 0, 113, 254);
    host.ip(&format!(
        "link add net0 type veth peer name host0 netns {}\naddress add {}/24 dev net0\nlink set net0 up\n",
        net.name(),
        Internet::HOST
    ));
    let public = ["192.0.2", "198.51.100", "203.0.113"].into_iter();
    let public = public.flat_map(|network| (10..=30).map(move |n| format!("{network}.{n}")));
    let special =
        [&Internet::INSIDE[..], &[Internet::RESOLVER]].concat().into_iter().map(|address| address.to_string());
    let addresses = public.chain(special).map(|address| format!("address add {address}/32 dev lo"));
    let up = format!("address add {gateway}/24 dev host0\nlink set host0 up");
    let routes = format!("route add unreachable default\nroute add blackhole {}", Internet::SILENT);
    net.ip(&[up].into_iter().chain(addresses).chain([routes]).collect::<Vec<_>>().join("\n"));
    host.ip(&format!("route add default via {gateway}\n"));
}
