//! Answering the guest.

use super::names::{self, Names};
use super::query::{self, Query};
use super::reply::{Reply, address};
use super::resolver::{is_localhost, owned, record};
use super::{LookupError, Resolver};
use crate::address::GATEWAY;
use crate::quiet::Quiet;
use microagent_egress::{Event, Happened, Inside, Log, Mode, Policy, Protocol, Reason, Verdict, is_name};
use simple_dns::rdata::{A, PTR, RData};
use simple_dns::{QTYPE, RCODE, TYPE};
use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// Most questions that are with the host's servers at a time.
const MAX_QUESTIONS: usize = 64;
/// Bytes of the stack of a thread that asks one: the largest thing on it is the buffer of a line.
const STACK: usize = 256 << 10;
/// How long a line about a name stands for others like it. A program asks twice at once, for both kinds of addresses.
const SAME: Duration = Duration::from_secs(1);
/// How often it is written down that there are too many questions.
const FLOOD_PAUSE: Duration = Duration::from_mins(1);
/// By this much the guest's memory of an answer is shorter than ours, which begins first.
const TTL_MARGIN: u32 = 5;
/// For how long what never changes holds, in seconds.
const FIXED_TTL: u32 = 3600;
/// What the gateway is called, which the guest's questions are sent to.
const GATEWAY_NAME: &str = "gateway.microagent.internal";
const GATEWAY_REVERSED: &str = "1.0.43.10.in-addr.arpa";

/// How a question came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// In a datagram.
    Udp,
    /// In a connection.
    Tcp,
}

/// Answers the questions of one guest, and remembers what it answered.
pub struct DnsServer {
    resolver: Resolver,
    policy: Policy,
    log: Arc<Log>,
    names: Names,
    quiet: Quiet<(String, Option<Reason>)>,
    /// Questions whose answers have not been taken.
    in_flight: usize,
    flooded: Option<Instant>,
    done: Arc<Done>,
}

/// Where the threads that ask leave what they were told.
struct Done {
    outcomes: Mutex<Vec<Outcome>>,
    wake: Arc<OwnedFd>,
}

struct Outcome {
    token: u64,
    query: Query,
    result: Result<Reply, LookupError>,
}

impl DnsServer {
    /// One that asks `resolver` what `policy` allows. `wake`, an eventfd, is written to when there are [answers](DnsServer::answers).
    pub fn new(resolver: Resolver, policy: Policy, log: Arc<Log>, wake: Arc<OwnedFd>) -> DnsServer {
        DnsServer {
            resolver,
            policy,
            log,
            names: Names::new(),
            quiet: Quiet::new(SAME),
            in_flight: 0,
            flooded: None,
            done: Arc::new(Done { outcomes: Mutex::new(Vec::new()), wake }),
        }
    }

    /// A question from the guest. The answer to it, if there is one at once; otherwise it will be among the [answers](DnsServer::answers),
    /// with its `token`.
    pub fn ask(&mut self, question: &[u8], transport: Transport, token: u64) -> Option<Vec<u8>> {
        let query = match query::parse(question, transport) {
            Ok(query) => query,
            Err(answer) => return Some(answer),
        };
        let QTYPE::TYPE(kind) = query.question.qtype else { return Some(query.refused()) };
        if let Some(answer) = own(&query, kind) {
            return Some(answer);
        }
        let verdict = self.policy.lookup(&query.name);
        let denied = match verdict {
            Verdict::Deny(reason) => Some(reason),
            Verdict::Allow(_) if !is_name(&query.name) => Some(Reason::Malformed),
            Verdict::Allow(_) => None,
        };
        if let Some(reason) = denied {
            self.deny(&Event::deny(Protocol::Dns, reason).of_host(&query.name));
            return Some(query.refused());
        }
        match kind {
            // There is no way to an address of IPv6; and whoever cannot learn the keys of a server cannot hide its name (RFC 9848).
            TYPE::AAAA | TYPE::HTTPS | TYPE::SVCB => return Some(query.answer(RCODE::NoError, &[])),
            TYPE::OPT | TYPE::NULL | TYPE::Unknown(_) => return Some(query.answer(RCODE::NotImplemented, &[])),
            _ => {}
        }
        let answer = query.clone();
        if self.in_flight >= MAX_QUESTIONS {
            self.note_flood();
            return Some(answer.answer(RCODE::ServerFailure, &[]));
        }
        if self.send(query, kind, token).is_err() {
            return Some(answer.answer(RCODE::ServerFailure, &[]));
        }
        self.in_flight += 1;
        None
    }

    /// The answers that have come, each with its token. What they say is among the [names](DnsServer::names) now.
    pub fn answers(&mut self) -> Vec<(u64, Vec<u8>)> {
        let outcomes = std::mem::take(&mut *self.done.outcomes.lock().unwrap_or_else(PoisonError::into_inner));
        self.in_flight -= outcomes.len();
        outcomes.into_iter().map(|outcome| (outcome.token, self.conclude(&outcome.query, outcome.result))).collect()
    }

    /// Which names addresses were given for.
    pub fn names(&mut self) -> &mut Names {
        &mut self.names
    }

    fn send(&self, query: Query, kind: TYPE, token: u64) -> std::io::Result<()> {
        let (resolver, done) = (self.resolver.clone(), self.done.clone());
        let ask = move || {
            let result = resolver.lookup(&query.name, kind);
            done.outcomes.lock().unwrap_or_else(PoisonError::into_inner).push(Outcome { token, query, result });
            // That it cannot be written to is that it has been, 2^64 times.
            let _ = rustix::io::write(&*done.wake, &1u64.to_ne_bytes());
        };
        thread::Builder::new().name("dns".to_owned()).stack_size(STACK).spawn(ask).map(drop)
    }

    /// Makes the answer of what was found, and remembers it.
    fn conclude(&mut self, query: &Query, result: Result<Reply, LookupError>) -> Vec<u8> {
        let mut reply = match result {
            Ok(reply) => reply,
            Err(error) => {
                if self.quiet.is_new((query.name.clone(), None), Instant::now()) {
                    let event = Event::now(Happened::Error, Protocol::Dns).of_host(&query.name);
                    self.log.write(&Event { detail: Some(error.to_string()), ..event });
                }
                return query.answer(RCODE::ServerFailure, &[]);
            }
        };
        self.drop_rebound(&query.name, &mut reply);
        let ttl = reply.ttl();
        let lifetime = names::lifetime(Duration::from_secs(ttl.into()));
        self.names.add(&query.name, &reply.addresses(), lifetime, Instant::now());
        let ttl = ttl.min(u32::try_from(lifetime.as_secs()).unwrap_or(u32::MAX) - TTL_MARGIN);
        for record in &mut reply.records {
            record.ttl = ttl;
            // In whatever case the guest asked, it expects the same back.
            if record.name == query.question.qname {
                record.name = query.question.qname.clone();
            }
        }
        query.answer(reply.rcode, &reply.records)
    }

    /// Takes addresses out that lead to whoever connects to them. Nobody's server means them, but one that wants its visitors to attack
    /// themselves does. Others that are inside are decided on when there is a connection to them.
    fn drop_rebound(&mut self, name: &str, reply: &mut Reply) {
        if self.policy.rules().mode == Mode::Off {
            return;
        }
        let rebound = |class| matches!(class, Inside::Loopback | Inside::Unspecified | Inside::LinkLocal);
        let mut dropped = Vec::new();
        reply.records.retain(|record| {
            let Some(address) = address(record) else { return true };
            let class = Inside::of(address.into(), &[]).filter(|class| rebound(*class));
            dropped.extend(class.map(|class| (address, class)));
            class.is_none()
        });
        for (address, class) in dropped {
            let event = Event::deny(Protocol::Dns, Reason::Inside(class)).of_host(name);
            self.deny(&Event { address: Some(address.into()), ..event });
        }
    }

    fn note_flood(&mut self) {
        let now = Instant::now();
        if self.flooded.is_none_or(|at| now.duration_since(at) >= FLOOD_PAUSE) {
            self.flooded = Some(now);
            self.log.write(&Event::deny(Protocol::Dns, Reason::TooMany));
        }
    }

    fn deny(&mut self, event: &Event) {
        let host = event.host.clone().unwrap_or_default();
        if self.quiet.is_new((host, event.reason), Instant::now()) {
            self.log.write(event);
        }
    }
}

/// The answer about names that are the same in every machine.
fn own(query: &Query, kind: TYPE) -> Option<Vec<u8>> {
    let address = match query.name.as_str() {
        GATEWAY_NAME => GATEWAY,
        name if is_localhost(name) => Ipv4Addr::LOCALHOST,
        GATEWAY_REVERSED => {
            let name = RData::PTR(PTR(owned(GATEWAY_NAME)));
            let records = [record(query.question.qname.clone(), FIXED_TTL, name)];
            return Some(query.answer(RCODE::NoError, if kind == TYPE::PTR { &records } else { &[] }));
        }
        _ => return None,
    };
    let records = [record(query.question.qname.clone(), FIXED_TTL, RData::A(A::from(address)))];
    Some(query.answer(RCODE::NoError, if kind == TYPE::A { &records } else { &[] }))
}
