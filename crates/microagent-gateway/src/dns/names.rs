//! Which names our resolver gave an address for.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

/// Most addresses that are remembered.
const MAX_ADDRESSES: usize = 4096;
/// Most names of one of them. Hosts of content networks share an address among more, of which a machine uses a few at a time.
const MAX_NAMES: usize = 16;
/// A client connects with what it looked up a while ago, even where the answer was to hold for no time at all.
pub(super) const MIN_LIFETIME: Duration = Duration::from_mins(1);
/// Longer than this nobody is bound by an answer that may have been forged.
pub(super) const MAX_LIFETIME: Duration = Duration::from_hours(1);

/// Names by address. What is older than its lifetime is not told; what is more than fits takes the place of the oldest.
#[derive(Debug, Default)]
pub struct Names {
    addresses: HashMap<Ipv4Addr, Known>,
    /// Addresses in the order in which they were given.
    order: BTreeMap<u64, Ipv4Addr>,
    given: u64,
}

#[derive(Debug)]
struct Known {
    /// The latest is last.
    names: Vec<(String, Instant)>,
    order: u64,
}

impl Names {
    /// Knows none.
    pub fn new() -> Names {
        Names::default()
    }

    /// That at `now`, `addresses` were given for `name` for as long as `ttl`, within reason.
    pub fn add(&mut self, name: &str, addresses: &[Ipv4Addr], ttl: Duration, now: Instant) {
        let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
        let until = now + lifetime(ttl);
        for address in addresses {
            self.given += 1;
            let known = self.addresses.entry(*address).or_insert(Known { names: Vec::new(), order: 0 });
            self.order.remove(&known.order);
            self.order.insert(self.given, *address);
            known.order = self.given;
            // What was promised for longer still holds.
            let before = known.names.iter().position(|(known, _)| *known == name);
            let until = before.map_or(until, |at| until.max(known.names.remove(at).1));
            if known.names.len() == MAX_NAMES {
                known.names.remove(0);
            }
            known.names.push((name.clone(), until));
        }
        while self.addresses.len() > MAX_ADDRESSES {
            let Some((_, oldest)) = self.order.pop_first() else { return };
            self.addresses.remove(&oldest);
        }
    }

    /// The names that `address` was given for, and whose time is not up at `now`. The latest is first.
    pub fn of(&mut self, address: IpAddr, now: Instant) -> Vec<String> {
        let IpAddr::V4(address) = address.to_canonical() else { return Vec::new() };
        let Some(known) = self.addresses.get_mut(&address) else { return Vec::new() };
        known.names.retain(|(_, until)| *until > now);
        if known.names.is_empty() {
            self.order.remove(&known.order);
            self.addresses.remove(&address);
            return Vec::new();
        }
        known.names.iter().rev().map(|(name, _)| name.clone()).collect()
    }
}

/// For how long names are remembered whose answer holds for `ttl`.
pub(super) fn lifetime(ttl: Duration) -> Duration {
    ttl.clamp(MIN_LIFETIME, MAX_LIFETIME)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADDRESS: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);

    fn seconds(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    #[test]
    fn an_address_has_the_names_it_was_given_for_and_no_others() {
        let (mut names, now) = (Names::new(), Instant::now());
        names.add("API.example.com.", &[ADDRESS], seconds(300), now);
        names.add("other.example", &[ADDRESS, Ipv4Addr::new(192, 0, 2, 2)], seconds(300), now);
        assert_eq!(names.of(ADDRESS.into(), now), ["other.example", "api.example.com"]);
        assert_eq!(names.of("::ffff:192.0.2.1".parse().unwrap(), now).len(), 2);
        assert_eq!(names.of("192.0.2.2".parse().unwrap(), now), ["other.example"]);
        assert!(names.of("192.0.2.3".parse().unwrap(), now).is_empty());
        assert!(names.of("2001:db8::1".parse().unwrap(), now).is_empty());
    }

    #[test]
    fn a_name_whose_lifetime_is_over_is_none() {
        let (mut names, now) = (Names::new(), Instant::now());
        names.add("short.example", &[ADDRESS], seconds(0), now);
        assert_eq!(names.of(ADDRESS.into(), now + seconds(59)), ["short.example"]);
        assert!(names.of(ADDRESS.into(), now + seconds(60)).is_empty());
        names.add("long.example", &[ADDRESS], seconds(1 << 31), now);
        assert_eq!(names.of(ADDRESS.into(), now + seconds(3599)), ["long.example"]);
        assert!(names.of(ADDRESS.into(), now + seconds(3600)).is_empty());
        assert!(names.addresses.is_empty() && names.order.is_empty());
    }

    #[test]
    fn a_shorter_answer_takes_nothing_back() {
        let (mut names, now) = (Names::new(), Instant::now());
        names.add("a.example", &[ADDRESS], seconds(1000), now);
        names.add("a.example", &[ADDRESS], seconds(1), now + seconds(1));
        assert_eq!(names.of(ADDRESS.into(), now + seconds(999)), ["a.example"]);
    }

    #[test]
    fn a_flood_of_names_and_addresses_pushes_the_oldest_out() {
        let (mut names, now) = (Names::new(), Instant::now());
        for count in 0..40 {
            names.add(&format!("{count}.example"), &[ADDRESS], seconds(60), now);
        }
        let kept = names.of(ADDRESS.into(), now);
        assert_eq!((kept.len(), kept[0].as_str(), kept[15].as_str()), (MAX_NAMES, "39.example", "24.example"));
        for count in 0..5000u32 {
            names.add("many.example", &[Ipv4Addr::from_bits(0x0a00_0000 + count)], seconds(60), now);
            // Used all the time, so never the oldest.
            names.add("busy.example", &[Ipv4Addr::new(192, 0, 2, 9)], seconds(60), now);
        }
        assert_eq!((names.addresses.len(), names.order.len()), (MAX_ADDRESSES, MAX_ADDRESSES));
        assert!(names.of(ADDRESS.into(), now).is_empty());
        assert_eq!(names.of("192.0.2.9".parse().unwrap(), now), ["busy.example"]);
        assert_eq!(names.of(Ipv4Addr::from_bits(0x0a00_0000 + 4999).into(), now), ["many.example"]);
    }
}
