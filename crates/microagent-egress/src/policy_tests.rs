use super::*;

fn policy(mode: Mode, allow: &[&str], passthrough: &[&str]) -> Policy {
    let hosts = |list: &[&str]| list.iter().map(|host| host.parse().unwrap()).collect();
    let rules = Rules { mode, allow: hosts(allow), passthrough: hosts(passthrough) };
    Policy::new(rules, vec!["203.0.113.7".parse().unwrap()]).unwrap()
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}

fn tcp(policy: &Policy, to: &str, of: &[&str]) -> Verdict {
    policy.connect(Protocol::Tcp, to.parse().unwrap(), &names(of))
}

const OPAQUE: Verdict = Verdict::Allow(Handling::Opaque);
const INSPECT: Verdict = Verdict::Allow(Handling::Inspect);

#[test]
fn guarded_allows_the_public_internet_and_nothing_inside() {
    let policy = policy(Mode::Guarded, &["api.example.com"], &[]);
    assert_eq!(tcp(&policy, "192.0.2.1:443", &[]), OPAQUE);
    assert_eq!(tcp(&policy, "192.0.2.1:443", &["api.example.com"]), INSPECT);
    for to in
        ["127.0.0.1:80", "10.0.0.1:80", "169.254.169.254:80", "203.0.113.7:22", "100.64.0.1:1", "[::ffff:10.0.0.1]:80"]
    {
        assert!(matches!(tcp(&policy, to, &[]), Verdict::Deny(Reason::Inside(_))), "{to}");
    }
    assert_eq!(tcp(&policy, "192.0.2.53:53", &[]), Verdict::Deny(Reason::ForeignResolver));
    assert_eq!(tcp(&policy, "192.0.2.53:853", &[]), Verdict::Deny(Reason::ForeignResolver));
    let udp = |to: &str| policy.connect(Protocol::Udp, to.parse().unwrap(), &[]);
    assert_eq!(udp("192.0.2.1:443"), Verdict::Deny(Reason::Quic));
    assert_eq!(udp("192.0.2.1:123"), OPAQUE);
}

#[test]
fn a_name_lifts_the_bar_of_a_private_network_and_of_nothing_else() {
    let policy = policy(Mode::Guarded, &["db.example"], &["10.9.9.9"]);
    assert_eq!(tcp(&policy, "10.0.0.5:443", &["db.example"]), INSPECT);
    assert_eq!(tcp(&policy, "10.9.9.9:5432", &[]), OPAQUE);
    for to in ["127.0.0.1:443", "169.254.169.254:80", "203.0.113.7:443", "0.0.0.0:1"] {
        assert!(matches!(tcp(&policy, to, &["db.example"]), Verdict::Deny(Reason::Inside(_))), "{to}");
    }
    // There, too, the name has to be said.
    let to = "10.0.0.5:443".parse().unwrap();
    let of = names(&["db.example"]);
    assert_eq!(policy.opening(to, &of, Opening::Other), Route::Deny(Reason::NotInspectable));
}

#[test]
fn strict_allows_a_listed_name_at_an_address_of_it() {
    let policy = policy(Mode::Strict, &["api.example.com"], &[".pinned.example"]);
    assert_eq!(tcp(&policy, "192.0.2.1:443", &["api.example.com"]), INSPECT);
    assert_eq!(tcp(&policy, "192.0.2.1:443", &[]), Verdict::Deny(Reason::NoName));
    assert_eq!(tcp(&policy, "192.0.2.1:443", &["other.example"]), Verdict::Deny(Reason::NotListed));
    assert_eq!(policy.lookup("other.example"), Verdict::Deny(Reason::NotListed));
    assert!(policy.lookup("a.pinned.example").is_allowed());
    let ping = |of: &[&str]| policy.connect(Protocol::Icmp, "192.0.2.1:0".parse().unwrap(), &names(of));
    assert_eq!(ping(&["api.example.com"]), Verdict::Deny(Reason::NotInspectable));
    assert_eq!(ping(&["a.pinned.example"]), OPAQUE);
}

#[test]
fn what_is_said_has_to_agree_with_what_was_looked_up() {
    let policy = policy(Mode::Strict, &["api.example.com"], &["pinned.example"]);
    let to = "192.0.2.1:443".parse().unwrap();
    let of = names(&["api.example.com", "pinned.example"]);
    let tls = |name, encrypted| policy.opening(to, &of, Opening::Tls { name, encrypted });
    assert_eq!(tls(Some("API.example.com."), true), Route::Intercept("api.example.com".into()));
    assert_eq!(tls(Some("pinned.example"), false), Route::Opaque);
    assert_eq!(tls(Some("pinned.example"), true), Route::Deny(Reason::EncryptedHello));
    assert_eq!(tls(Some("evil.example"), false), Route::Deny(Reason::NameMismatch));
    assert_eq!(tls(None, false), Route::Deny(Reason::NoServerName));
    let http = |host| policy.opening(to, &of, Opening::Http { host });
    assert_eq!(http(Some("evil.example")), Route::Deny(Reason::NameMismatch));
    assert_eq!(http(Some("api.example.com")), Route::Intercept("api.example.com".into()));
    assert_eq!(policy.opening(to, &names(&["api.example.com"]), Opening::Other), Route::Deny(Reason::NotInspectable));
    assert_eq!(policy.opening(to, &of, Opening::Other), Route::Opaque);
}

#[test]
fn off_looks_at_nothing_and_lists_nothing() {
    let policy = policy(Mode::Off, &[], &[]);
    assert_eq!(tcp(&policy, "10.0.0.1:53", &[]), OPAQUE);
    let rules = Rules { mode: Mode::Off, allow: vec!["a.example".parse().unwrap()], passthrough: vec![] };
    assert!(matches!(Policy::new(rules, vec![]), Err(Error::NothingToAllow)));
}

#[test]
fn passing_through_wins_over_being_looked_into() {
    let policy = policy(Mode::Guarded, &[".example.com"], &["pinned.example.com"]);
    assert!(policy.intercepts("a.example.com") && !policy.intercepts("pinned.example.com"));
}

#[test]
fn an_address_that_is_listed_takes_nothing_from_a_name_that_is_looked_into() {
    let (address, to) = ("192.0.2.1", "192.0.2.1:443".parse().unwrap());
    let of = names(&["api.example.com"]);
    for mode in [Mode::Guarded, Mode::Strict] {
        for (allow, passthrough) in
            [(vec!["api.example.com"], vec![address]), (vec!["api.example.com", address], vec!["pinned.example"])]
        {
            let policy = policy(mode, &allow, &passthrough);
            assert_eq!(tcp(&policy, "192.0.2.1:443", &["api.example.com"]), INSPECT);
            let said = |name| policy.opening(to, &of, Opening::Tls { name: Some(name), encrypted: false });
            assert_eq!(said("api.example.com"), Route::Intercept("api.example.com".into()));
            let quic = |of: &[&str]| policy.connect(Protocol::Udp, to, &names(of));
            assert_eq!(quic(&["api.example.com"]), Verdict::Deny(Reason::Quic));
            // Everything else there goes out, as it is listed.
            assert_eq!(said("other.example"), Route::Opaque);
            assert_eq!(policy.opening(to, &of, Opening::Other), Route::Opaque);
            assert_eq!(quic(&["other.example"]), OPAQUE);
            for of in [&["pinned.example"][..], &["other.example"], &[]] {
                assert_eq!(tcp(&policy, "192.0.2.1:443", of), OPAQUE);
            }
        }
    }
}
