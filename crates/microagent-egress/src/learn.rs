//! From what was attempted to a policy, and back.

use crate::{Event, Handling, Happened, Host, Opening, Policy, Protocol, Reason, Route, Verdict};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::{IpAddr, SocketAddr};

/// The smallest policy file under which everything in `events` that can be allowed would be, in `strict` mode, with a comment about each
/// line.
pub fn suggest(events: &[Event]) -> String {
    let (mut allow, mut passthrough, mut never) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
    for event in events {
        let is_attempt = matches!(event.event, Happened::Allow | Happened::Deny);
        if !is_attempt || event.protocol == Protocol::Http {
            continue;
        }
        if let Some(reason) = event.reason.filter(|reason| !can_be_listed(*reason)) {
            never.entry((event.peer(), reason.name())).or_insert((reason, 0_u64)).1 += 1;
            continue;
        }
        let host = event.host.as_deref().and_then(|host| host.parse::<Host>().ok());
        let Some(host) = host.or(event.address.map(Host::Address)) else { continue };
        // What is neither TLS nor HTTP cannot be looked into, and an address has no name to be looked into by.
        let is_opaque = matches!(host, Host::Address(_))
            || event.reason == Some(Reason::NotInspectable)
            || (event.protocol == Protocol::Tcp && !is_web(event.port))
            || matches!(event.protocol, Protocol::Udp | Protocol::Icmp);
        let list = if is_opaque { &mut passthrough } else { &mut allow };
        list.entry(host).or_insert_with(Vec::new).push(event);
    }
    // A host that has to be passed through is on that list alone.
    allow.retain(|host, _| !passthrough.contains_key(host));
    let mut text =
        "# What was attempted, as an egress policy: use it with `--egress strict --egress-policy`.\n".to_owned();
    list(&mut text, "allow", &allow);
    list(&mut text, "passthrough", &passthrough);
    if !never.is_empty() {
        text.push_str("# No list can allow these:\n");
        for ((peer, _), (reason, times)) in never {
            let _ = writeln!(text, "#   {peer}: {reason} ({times}x)");
        }
    }
    text
}

fn is_web(port: Option<u16>) -> bool {
    matches!(port, Some(80 | 443 | 8080 | 8443))
}

fn can_be_listed(reason: Reason) -> bool {
    match reason {
        Reason::NotListed | Reason::NoName | Reason::NotInspectable => true,
        Reason::Inside(class) => class.can_be_listed(),
        _ => false,
    }
}

fn list(text: &mut String, key: &str, hosts: &BTreeMap<Host, Vec<&Event>>) {
    if hosts.is_empty() {
        let _ = writeln!(text, "{key}: []");
        return;
    }
    let _ = writeln!(text, "{key}:");
    for (host, events) in hosts {
        let denied = events.iter().filter(|event| event.event == Happened::Deny).count();
        let mut spoken: Vec<String> = events
            .iter()
            .filter(|event| event.protocol != Protocol::Dns)
            .map(|event| event.port.map_or(event.protocol.to_string(), |port| format!("{} {port}", event.protocol)))
            .collect();
        spoken.sort();
        spoken.dedup();
        spoken.truncate(4);
        let spoken = if spoken.is_empty() { "looked up".to_owned() } else { spoken.join(", ") };
        let first = events.iter().map(|event| event.at).min().unwrap_or_default();
        let _ = writeln!(
            text,
            "  # {spoken}: {} times since {first:.0}{}",
            events.len(),
            if denied > 0 { format!(", denied {denied} times") } else { String::new() },
        );
        let _ = writeln!(text, "  - \"{host}\"");
    }
}

/// What a policy makes of something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome<'a> {
    /// What happened.
    pub event: &'a Event,
    /// What would happen.
    pub denied: Option<Reason>,
}

impl Outcome<'_> {
    /// Whether it would be otherwise than it was.
    pub fn differs(&self) -> bool {
        self.denied.is_some() != (self.event.event == Happened::Deny)
    }
}

/// What `policy` would have made of each attempt in `events`.
pub fn replay<'a>(policy: &Policy, events: &'a [Event]) -> Vec<Outcome<'a>> {
    let attempts = events.iter().filter(|event| matches!(event.event, Happened::Allow | Happened::Deny));
    attempts.map(|event| Outcome { event, denied: verdict(policy, event) }).collect()
}

fn verdict(policy: &Policy, event: &Event) -> Option<Reason> {
    if let Some(reason) = event.reason.filter(|reason| !can_be_listed(*reason)) {
        // It is about how something was said, not to whom.
        let by_policy = match reason {
            Reason::Inside(class) => class.can_be_listed(),
            reason => matches!(reason, Reason::ForeignResolver | Reason::Quic),
        };
        if !by_policy {
            return Some(reason);
        }
    }
    let host = event.host.clone();
    if let Some(host) = host.as_deref()
        && let Verdict::Deny(reason) = policy.lookup(host)
    {
        return Some(reason);
    }
    let address: IpAddr = event.address?;
    let to = SocketAddr::new(address, event.port.unwrap_or_default());
    let names: Vec<String> = host.into_iter().collect();
    match policy.connect(event.protocol, to, &names) {
        Verdict::Deny(reason) => Some(reason),
        Verdict::Allow(Handling::Opaque) => None,
        Verdict::Allow(Handling::Inspect) => {
            let name = names.first().map(String::as_str);
            let opening = if is_web(event.port) && event.reason != Some(Reason::NotInspectable) {
                Opening::Tls { name, encrypted: false }
            } else {
                Opening::Other
            };
            match policy.opening(to, &names, opening) {
                Route::Deny(reason) => Some(reason),
                Route::Opaque | Route::Intercept(_) => None,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Inside, Mode, PolicyFile, Rules};

    fn events() -> Vec<Event> {
        let to = |text: &str| text.parse::<SocketAddr>().unwrap();
        let allow = |protocol| Event::now(Happened::Allow, protocol);
        vec![
            allow(Protocol::Tcp).with(Some("api.example.com".into()), to("192.0.2.1:443")),
            allow(Protocol::Tcp).with(Some("git.example.com".into()), to("192.0.2.2:22")),
            Event::deny(Protocol::Dns, Reason::NotListed).of_host("pypi.example"),
            allow(Protocol::Udp).with(None, to("192.0.2.9:123")),
            Event::deny(Protocol::Tcp, Reason::Inside(Inside::LinkLocal)).with(None, to("169.254.169.254:80")),
            Event::deny(Protocol::Tcp, Reason::Inside(Inside::Private))
                .with(Some("db.example".into()), to("10.0.0.5:5432")),
        ]
    }

    #[test]
    fn what_is_suggested_allows_what_was_attempted_and_no_more() {
        let events = events();
        let text = suggest(&events);
        let file = PolicyFile::parse(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
        let hosts = |list: &[Host]| list.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(hosts(&file.allow), ["api.example.com", "pypi.example"], "{text}");
        assert_eq!(hosts(&file.passthrough), ["db.example", "git.example.com", "192.0.2.9"], "{text}");
        assert!(text.contains("169.254.169.254:80"), "{text}");
        let mut rules = Rules { mode: Mode::Strict, ..Rules::default() };
        file.add_to(&mut rules);
        let policy = Policy::new(rules, vec![]).unwrap();
        let denied: Vec<_> = replay(&policy, &events).into_iter().map(|outcome| outcome.denied.is_some()).collect();
        assert_eq!(denied, [false, false, false, false, true, false]);
    }
}
