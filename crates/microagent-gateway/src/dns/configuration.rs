//! What the host is told about names: `/etc/resolv.conf` (resolv.conf(5)) and `/etc/hosts` (hosts(5)).

use microagent_egress::is_name;
use std::collections::HashMap;
use std::fs::{self, File};
use std::io::Read;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV6};
use std::path::Path;

/// As many servers as are ever asked (`MAXNS`), and domains that are searched (resolv.conf(5) had this limit, and a lookup its time).
const MAX_SERVERS: usize = 3;
const MAX_SEARCH: usize = 6;
/// Dots of a name that is whole, where nothing is said, and the most that can be said (`RES_MAXNDOTS`, resolv.conf(5)).
const NDOTS: usize = 1;
const MAX_NDOTS: usize = 15;
/// Most bytes of either file. Lists of thousands of hosts that are not to be reached are about 2 MiB.
const MAX_FILE: u64 = 16 << 20;
const PORT: u16 = 53;

/// Both files, understood.
#[derive(Debug, PartialEq)]
pub(super) struct Configuration {
    /// In the order in which they are asked.
    pub(super) servers: Vec<SocketAddr>,
    /// What may be missing at the end of a name.
    pub(super) search: Vec<String>,
    /// A name with fewer dots is searched for before it is taken for a whole one.
    pub(super) ndots: usize,
    /// Addresses of names, in lower case, that no server is asked about.
    pub(super) hosts: HashMap<String, Vec<IpAddr>>,
}

impl Default for Configuration {
    fn default() -> Configuration {
        Configuration { servers: Vec::new(), search: Vec::new(), ndots: NDOTS, hosts: HashMap::new() }
    }
}

impl Configuration {
    /// That of the files at `resolv` and `hosts`. A file that is missing says nothing.
    pub(super) fn load(resolv: &Path, hosts: &Path) -> Configuration {
        let mut configuration = parse_resolv(&read(resolv));
        if configuration.servers.is_empty() {
            // As resolv.conf(5) has it.
            configuration.servers.push((Ipv4Addr::LOCALHOST, PORT).into());
        }
        for (name, address) in parse_hosts(&read(hosts)) {
            configuration.hosts.entry(name).or_default().push(address);
        }
        configuration
    }

    /// Names to ask for, in this order, where `name` is looked up. Unlike glibc, one with dots enough is not searched for when there is no
    /// such name: what a guest makes up is not told to the domains of the host.
    pub(super) fn candidates(&self, name: &str) -> Vec<String> {
        let dots = name.matches('.').count();
        let searched = self.search.iter().map(|domain| format!("{name}.{domain}")).filter(|name| is_name(name));
        let whole = std::iter::once(name.to_owned());
        if dots < self.ndots {
            searched.chain(whole).collect()
        } else if dots == 0 {
            whole.chain(searched).collect()
        } else {
            whole.collect()
        }
    }
}

fn read(path: &Path) -> String {
    let mut bytes = Vec::new();
    if let Ok(file) = File::open(path) {
        // What cannot be read says nothing.
        let _ = file.take(MAX_FILE).read_to_end(&mut bytes);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn parse_resolv(text: &str) -> Configuration {
    let Configuration { mut servers, mut search, mut ndots, hosts } = Configuration::default();
    for line in text.lines() {
        let mut words = line.split_ascii_whitespace();
        match words.next() {
            Some("nameserver") => servers.extend(words.next().and_then(server)),
            // The last line wins; `domain` is a list of one.
            Some("search") => search = words.filter_map(domain).collect(),
            Some("domain") => search = words.take(1).filter_map(domain).collect(),
            Some("options") => ndots = words.filter_map(dots).next_back().unwrap_or(ndots),
            _ => {}
        }
    }
    servers.truncate(MAX_SERVERS);
    search.truncate(MAX_SEARCH);
    Configuration { servers, search, ndots, hosts }
}

/// The number of the option `ndots:N`.
fn dots(option: &str) -> Option<usize> {
    let number: usize = option.strip_prefix("ndots:")?.parse().ok()?;
    Some(number.min(MAX_NDOTS))
}

/// An address, of IPv6 with the interface that it is on (RFC 4007, 11).
fn server(text: &str) -> Option<SocketAddr> {
    let Some((address, zone)) = text.split_once('%') else { return Some((text.parse::<IpAddr>().ok()?, PORT).into()) };
    let is_interface =
        zone.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.@:".contains(&byte)) && zone != "..";
    let index_file = is_interface.then(|| format!("/sys/class/net/{zone}/ifindex"));
    let index = || fs::read_to_string(index_file?).ok()?.trim().parse().ok();
    let scope = zone.parse().ok().or_else(index)?;
    Some(SocketAddrV6::new(address.parse().ok()?, PORT, 0, scope).into())
}

fn domain(text: &str) -> Option<String> {
    let domain = text.trim_matches('.').to_ascii_lowercase();
    is_name(&domain).then_some(domain)
}

fn parse_hosts(text: &str) -> Vec<(String, IpAddr)> {
    let mut hosts = Vec::new();
    for line in text.lines() {
        let line = line.split('#').next().unwrap_or_default();
        let mut words = line.split_ascii_whitespace();
        let Some(Ok(address)) = words.next().map(str::parse::<IpAddr>) else { continue };
        hosts.extend(words.filter_map(domain).map(|name| (name, address)));
    }
    hosts
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn servers_and_domains_are_read_as_the_manual_has_them() {
        let text = "# c\n; c\nnameserver 192.0.2.1\nnameserver\t2001:db8::1 # x\nnameserver fe80::1%7\nnameserver 192.0.2.9\n\
                    domain x.example\nsearch A.example. b.example ..\noptions rotate\nnameserverx 192.0.2.3\nnameserver junk\n";
        let Configuration { servers, search, ndots, .. } = parse_resolv(text);
        let expected: Vec<SocketAddr> =
            ["192.0.2.1:53", "[2001:db8::1]:53", "[fe80::1%7]:53"].iter().map(|text| text.parse().unwrap()).collect();
        assert_eq!(servers, expected);
        assert_eq!((search, ndots), (vec!["a.example".to_owned(), "b.example".to_owned()], NDOTS));
        assert_eq!(parse_resolv("search a\ndomain b c\n").search, ["b"]);
        assert!(matches!(server("fe80::1%lo"), Some(SocketAddr::V6(v6)) if v6.scope_id() == 1));
        assert_eq!(server("fe80::1%../../x"), None);
    }

    #[test]
    fn hosts_have_many_names_and_addresses() {
        let text = "127.0.0.1\tlocalhost\n192.0.2.7 A.example a # b.example\n2001:db8::7 a.example\n#192.0.2.8 c\nx y\n192.0.2.9\n";
        let hosts = parse_hosts(text);
        assert_eq!(hosts.iter().filter(|(name, _)| name == "a.example").count(), 2);
        assert!(hosts.iter().all(|(name, _)| ["localhost", "a.example", "a"].contains(&name.as_str())));
    }

    #[test]
    fn a_host_without_files_asks_itself() {
        let configuration = Configuration::load(Path::new("/none/resolv.conf"), Path::new("/none/hosts"));
        assert_eq!(configuration.servers, ["127.0.0.1:53".parse().unwrap()]);
    }

    #[test]
    fn how_many_dots_a_whole_name_has_is_for_the_host_to_say() {
        let ndots = |text: &str| parse_resolv(text).ndots;
        assert_eq!(ndots("options ndots:5 edns0\noptions timeout:1\n"), 5);
        assert_eq!(ndots("options ndots:5\noptions rotate ndots:2 ndots:3\n"), 3);
        assert_eq!(ndots("options ndots:99\n"), MAX_NDOTS);
        for text in ["", "options\n", "options ndots:\n", "options ndots:x\n", "options ndots:-1 ndots\n"] {
            assert_eq!(ndots(text), NDOTS, "{text}");
        }
    }

    #[test]
    fn a_name_with_fewer_dots_than_the_host_says_is_searched_for_first() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let candidates = |ndots: usize, name: &str| {
            std::fs::write(file.path(), format!("search a.example b.example\noptions ndots:{ndots}\n")).unwrap();
            Configuration::load(file.path(), Path::new("/none/hosts")).candidates(name)
        };
        assert_eq!(candidates(2, "db.c"), ["db.c.a.example", "db.c.b.example", "db.c"]);
        assert_eq!(candidates(2, "x.db.c"), ["x.db.c"]);
        assert_eq!(candidates(5, "a.b.c.d.e"), ["a.b.c.d.e.a.example", "a.b.c.d.e.b.example", "a.b.c.d.e"]);
        assert_eq!(candidates(5, "a.b.c.d.e.f"), ["a.b.c.d.e.f"]);
        assert_eq!(candidates(0, "db"), ["db", "db.a.example", "db.b.example"]);
        assert_eq!(candidates(0, "db.c"), ["db.c"]);
    }

    #[test]
    fn domains_are_searched_for_names_of_one_part() {
        let configuration =
            Configuration { search: vec!["a.example".into(), "b.example".into()], ..Configuration::default() };
        assert_eq!(configuration.candidates("db"), ["db.a.example", "db.b.example", "db"]);
        assert_eq!(configuration.candidates("db.c"), ["db.c"]);
        assert_eq!(configuration.candidates(&"x".repeat(63)).len(), 3);
    }

    proptest! {
        #[test]
        fn any_text_is_a_configuration(text in "(nameserver|search|domain|options|ndots:|[0-9.:%]{1,9}|\\PC{0,5}|[ \t\n#])*") {
            prop_assert!(parse_resolv(&text).ndots <= MAX_NDOTS);
            for (name, _) in parse_hosts(&text) {
                prop_assert!(is_name(&name));
            }
        }
    }
}
