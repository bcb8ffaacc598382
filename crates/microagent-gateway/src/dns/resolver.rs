//! Looking names up as the host does.

use super::LookupError;
use super::configuration::Configuration;
use super::exchange::{self, Failure};
use super::reply::Reply;
use microagent_egress::is_name;
use simple_dns::rdata::{A, AAAA, CNAME, RData};
use simple_dns::{CLASS, Name, QCLASS, QTYPE, Question, RCODE, ResourceRecord, TYPE};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long a server has. Most answer within a tenth of it; the guest asks again after five seconds (resolv.conf(5)).
const SERVER_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a whole lookup takes at most: past two repetitions by the guest nobody waits any more.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(10);
/// How often each server is asked where none answers: datagrams get lost.
const ROUNDS: usize = 2;
/// For how long what is in the host's file of names holds, in seconds: it may change any time.
const HOSTS_TTL: u32 = 60;

/// The host's way to look names up. Copies are cheap, and one.
#[derive(Clone, Debug)]
pub struct Resolver(Arc<Source>);

#[derive(Debug)]
enum Source {
    Files { resolv: PathBuf, hosts: PathBuf, read: Mutex<Option<(Stamps, Arc<Configuration>)>> },
    Given(Arc<Configuration>),
}

/// What changes when a file does: when it was written and how long it is, and which one it is, for those that are replaced.
type Stamp = Option<(i64, i64, u64, u64)>;
type Stamps = [Stamp; 2];

impl Resolver {
    /// By `/etc/resolv.conf` and `/etc/hosts`, read anew when they change.
    pub fn of_host() -> Resolver {
        Resolver::of_files(Path::new("/etc/resolv.conf"), Path::new("/etc/hosts"))
    }

    /// By files like these two.
    pub(super) fn of_files(resolv: &Path, hosts: &Path) -> Resolver {
        Resolver(Arc::new(Source::Files { resolv: resolv.to_owned(), hosts: hosts.to_owned(), read: Mutex::new(None) }))
    }

    /// By these servers, domains to search for names of one part, and addresses that are known.
    pub fn with(servers: Vec<SocketAddr>, search: Vec<String>, hosts: Vec<(String, IpAddr)>) -> Resolver {
        let mut configuration = Configuration { servers, search, ..Configuration::default() };
        for (name, address) in hosts {
            configuration.hosts.entry(name.to_ascii_lowercase()).or_default().push(address);
        }
        Resolver(Arc::new(Source::Given(Arc::new(configuration))))
    }

    /// The addresses of `name`, for ourselves: it may be an address already. Those of IPv6 are asked for where there is no other. Waits for
    /// the answer, for ten seconds at most each.
    pub fn addresses(&self, name: &str) -> Result<Vec<IpAddr>, LookupError> {
        if let Ok(address) = name.parse() {
            return Ok(vec![address]);
        }
        let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
        if !is_name(&name) {
            return Err(LookupError::BadName { name });
        }
        if is_localhost(&name) {
            return Ok(vec![Ipv4Addr::LOCALHOST.into()]);
        }
        if let Some(addresses) = self.configuration().hosts.get(&name) {
            return Ok(addresses.clone());
        }
        for kind in [TYPE::A, TYPE::AAAA] {
            let reply = self.lookup(&name, kind)?;
            let addresses: Vec<IpAddr> = reply.records.iter().filter_map(address).collect();
            if !addresses.is_empty() {
                return Ok(addresses);
            }
        }
        Err(LookupError::NoAddress { name })
    }

    /// The records of that kind that `name`, which is a [name](is_name), has. Waits for the answer.
    pub(super) fn lookup(&self, name: &str, kind: TYPE) -> Result<Reply, LookupError> {
        let configuration = self.configuration();
        if kind == TYPE::A
            && let Some(records) = of_hosts(&configuration, name)
        {
            return Ok(Reply { rcode: RCODE::NoError, records });
        }
        let deadline = Instant::now() + LOOKUP_TIMEOUT;
        let mut result = Ok(Reply { rcode: RCODE::NameError, records: Vec::new() });
        for candidate in configuration.candidates(name) {
            let qname = owned(&candidate);
            let question = Question::new(qname.clone(), QTYPE::TYPE(kind), QCLASS::CLASS(CLASS::IN), false);
            match ask(&configuration.servers, &question, deadline) {
                Ok(mut reply) if reply.records.iter().any(|record| record.rdata.type_code() == kind) => {
                    if candidate != name {
                        let ttl = reply.ttl();
                        reply.records.insert(0, record(owned(name), ttl, RData::CNAME(CNAME(qname))));
                    }
                    return Ok(reply);
                }
                // What one domain's servers cannot tell may be what was meant: there is no such name only if all say so.
                Ok(reply) if candidate == name => result = result.map(|_| reply),
                Ok(_) => {}
                Err(reason) => result = Err(LookupError::NoAnswer { name: candidate, reason }),
            }
        }
        result
    }

    fn configuration(&self) -> Arc<Configuration> {
        match &*self.0 {
            Source::Given(configuration) => configuration.clone(),
            Source::Files { resolv, hosts, read } => {
                let stamps = [stamp(resolv), stamp(hosts)];
                let mut read = read.lock().unwrap_or_else(PoisonError::into_inner);
                match &*read {
                    Some((then, configuration)) if *then == stamps => configuration.clone(),
                    _ => {
                        let configuration = Arc::new(Configuration::load(resolv, hosts));
                        *read = Some((stamps, configuration.clone()));
                        configuration
                    }
                }
            }
        }
    }
}

/// Asks the servers, one after the other, until one knows.
fn ask(servers: &[SocketAddr], question: &Question<'static>, deadline: Instant) -> Result<Reply, String> {
    let mut reason = "the host has no server to ask".to_owned();
    for _ in 0..ROUNDS {
        let mut any_silent = false;
        for server in servers {
            let now = Instant::now();
            if now >= deadline {
                return Err(reason);
            }
            match exchange::ask(*server, question, deadline.min(now + SERVER_TIMEOUT)) {
                Ok(reply) if matches!(reply.rcode, RCODE::NoError | RCODE::NameError) => return Ok(reply),
                Ok(reply) => reason = format!("{server} answered {:?}", reply.rcode),
                Err(Failure::Silent) => {
                    any_silent = true;
                    reason = format!("{server} did not answer in time");
                }
                Err(Failure::Said(what)) => reason = format!("{server}: {what}"),
            }
        }
        if !any_silent {
            break;
        }
    }
    Err(reason)
}

/// Whether `name` is the host that asks, whoever does (RFC 6761, 6.3).
pub(super) fn is_localhost(name: &str) -> bool {
    name == "localhost" || name.ends_with(".localhost")
}

/// A record of the internet.
pub(super) fn record(name: Name<'static>, ttl: u32, rdata: RData<'static>) -> ResourceRecord<'static> {
    ResourceRecord::new(name, CLASS::IN, ttl, rdata)
}

/// `name` as it is on the wire. Nothing is escaped in a [name](is_name).
pub(super) fn owned(name: &str) -> Name<'static> {
    Name::new_unchecked(name).into_owned()
}

fn of_hosts(configuration: &Configuration, name: &str) -> Option<Vec<ResourceRecord<'static>>> {
    let records = configuration.hosts.get(name)?.iter().filter_map(|address| match address {
        IpAddr::V4(v4) => Some(record(owned(name), HOSTS_TTL, RData::A(A::from(*v4)))),
        IpAddr::V6(_) => None,
    });
    // Servers may know others, where there are only those of IPv6.
    Some(records.collect::<Vec<_>>()).filter(|records| !records.is_empty())
}

fn address(record: &ResourceRecord<'_>) -> Option<IpAddr> {
    match &record.rdata {
        RData::A(A { address }) => Some(Ipv4Addr::from_bits(*address).into()),
        RData::AAAA(AAAA { address }) => Some(std::net::Ipv6Addr::from_bits(*address).into()),
        _ => None,
    }
}

fn stamp(path: &Path) -> Stamp {
    let metadata = std::fs::metadata(path).ok()?;
    Some((metadata.mtime(), metadata.mtime_nsec(), metadata.len(), metadata.ino()))
}
