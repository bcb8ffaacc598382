//! From what was attempted to a policy, and back.

use crate::{Event, Handling, Happened, Host, Inside, Opening, Policy, Protocol, Reason, Route, Verdict};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::{IpAddr, SocketAddr};

/// The smallest policy file under which everything in `events` that can be allowed would be, in `strict` mode, with a comment about each
/// line. Into connections to the hosts in `swapped` a credential is put, so they are looked into whatever is attempted.
pub fn suggest(events: &[Event], swapped: &[Host]) -> String {
    let (mut allow, mut passthrough, mut never) = (Listed::new(), Listed::new(), Never::new());
    let mut uninspectable = Never::new();
    for event in events {
        let is_attempt = matches!(event.event, Happened::Allow | Happened::Deny);
        if !is_attempt || event.protocol == Protocol::Http {
            continue;
        }
        if let Some(reason) = unlistable(event) {
            never.add(event, reason);
            continue;
        }
        let host = event.host.as_deref().and_then(|host| host.parse::<Host>().ok());
        let Some(host) = host.or(event.address.map(Host::Address)) else { continue };
        // What is neither TLS nor HTTP cannot be looked into, and an address has no name to be looked into by.
        let is_opaque = matches!(host, Host::Address(_))
            || event.reason == Some(Reason::NotInspectable)
            || (event.protocol == Protocol::Tcp && !is_web(event.port))
            || matches!(event.protocol, Protocol::Udp | Protocol::Icmp);
        let is_swapped = matches!(&host, Host::Exact(name) if swapped.iter().any(|host| host.has_name(name)));
        if is_opaque && is_swapped {
            uninspectable.add(event, Reason::NotInspectable);
            continue;
        }
        let list = if is_opaque { &mut passthrough } else { &mut allow };
        list.entry(host).or_default().push(event);
    }
    // A host that has to be passed through is on that list alone.
    allow.retain(|host, _| !passthrough.contains_key(host));
    let named = named(events, |name| {
        let host = Host::Exact(name.to_owned());
        allow.contains_key(&host) || passthrough.contains_key(&host) || swapped.iter().any(|host| host.has_name(name))
    });
    let mut text =
        "# What was attempted, as an egress policy: use it with `--egress strict --egress-policy`.\n".to_owned();
    list(&mut text, "allow", &allow);
    let by_address = passthrough.extract_if(.., |host, _| named.contains_key(host)).collect::<Listed<'_>>();
    list(&mut text, "passthrough", &passthrough);
    if !by_address.is_empty() {
        text.push_str(
            "# Left out, since they are addresses of a name that is listed, by which they are to be reached:\n",
        );
        for (address, events) in by_address {
            let _ = writeln!(text, "#   {address}: {} ({}x)", named[&address], events.len());
        }
    }
    uninspectable.tell(&mut text, "Left out, since a credential is put in there, for which everything is looked into");
    never.tell(&mut text, "No list can allow these");
    text
}

/// Hosts of a list, each with what was attempted.
type Listed<'a> = BTreeMap<Host, Vec<&'a Event>>;

/// What a policy cannot allow, and how often it was attempted.
struct Never(BTreeMap<(String, &'static str), (Reason, u64)>);

impl Never {
    fn new() -> Never {
        Never(BTreeMap::new())
    }

    fn add(&mut self, event: &Event, reason: Reason) {
        self.0.entry((event.peer(), reason.name())).or_insert((reason, 0)).1 += 1;
    }

    fn tell(self, text: &mut String, why: &str) {
        if !self.0.is_empty() {
            let _ = writeln!(text, "# {why}:");
        }
        for ((peer, _), (reason, times)) in self.0 {
            let _ = writeln!(text, "#   {peer}: {reason} ({times}x)");
        }
    }
}

/// The addresses that are paired with a name that `is_listed`, and such a name: listed themselves, whatever is spoken there would go out,
/// whoever is meant.
fn named(events: &[Event], is_listed: impl Fn(&str) -> bool) -> BTreeMap<Host, &str> {
    let pairs = events.iter().filter_map(|event| Some((Host::Address(event.address?), event.host.as_deref()?)));
    pairs.filter(|(_, name)| is_listed(name)).collect()
}

/// Why no list can allow what was attempted. Where nothing is denied, its address tells.
fn unlistable(event: &Event) -> Option<Reason> {
    let inside = event.address.and_then(|address| Inside::of(address, &[])).map(Reason::Inside);
    [event.reason, inside].into_iter().flatten().find(|reason| !can_be_listed(*reason))
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

fn list(text: &mut String, key: &str, hosts: &Listed<'_>) {
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
    use crate::{Mode, PolicyFile, Rules};

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
        let text = suggest(&events, &[]);
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

    fn learned(events: &[Event], swapped: &[&str]) -> (String, Vec<String>, Vec<String>) {
        let swapped: Vec<Host> = swapped.iter().map(|host| host.parse().unwrap()).collect();
        let text = suggest(events, &swapped);
        let file = PolicyFile::parse(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
        let hosts = |list: &[Host]| list.iter().map(ToString::to_string).collect::<Vec<_>>();
        (text, hosts(&file.allow), hosts(&file.passthrough))
    }

    fn went_out(host: Option<&str>, to: &str) -> Event {
        Event::now(Happened::Allow, Protocol::Tcp).with(host.map(str::to_owned), to.parse().unwrap())
    }

    #[test]
    fn an_address_of_a_name_that_is_listed_is_not() {
        let events = [
            went_out(None, "192.0.2.1:443"),
            went_out(Some("api.example.com"), "192.0.2.1:443"),
            went_out(None, "192.0.2.2:443"),
        ];
        let (text, allow, passthrough) = learned(&events, &[]);
        assert_eq!((allow, passthrough), (vec!["api.example.com".to_owned()], vec!["192.0.2.2".to_owned()]), "{text}");
        assert!(text.contains("#   192.0.2.1: api.example.com (1x)"), "{text}");
    }

    #[test]
    fn a_host_with_a_credential_is_looked_into_whatever_was_attempted() {
        let events =
            [went_out(Some("api.example.com"), "192.0.2.1:443"), went_out(Some("api.example.com"), "192.0.2.1:22")];
        let (text, allow, passthrough) = learned(&events, &[".example.com"]);
        assert_eq!((allow, passthrough), (vec!["api.example.com".to_owned()], vec![]), "{text}");
        assert!(text.contains("#   api.example.com:22: "), "{text}");
        assert_eq!(learned(&events, &[]).2, ["api.example.com"]);
    }

    #[test]
    fn what_went_out_where_nothing_was_denied_is_not_listed_where_no_list_can_allow_it() {
        let events = [went_out(None, "127.0.0.1:80"), went_out(Some("meta.example"), "169.254.169.254:80")];
        let (text, allow, passthrough) = learned(&events, &[]);
        assert!(allow.is_empty() && passthrough.is_empty(), "{text}");
        let never = text.split("# No list can allow these:\n").nth(1).unwrap();
        assert!(never.contains("127.0.0.1:80") && never.contains("meta.example:80"), "{text}");
    }
}
