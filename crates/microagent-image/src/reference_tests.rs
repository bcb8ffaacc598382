use proptest::prelude::*;

use super::*;

const HEX: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

fn full(input: &str) -> String {
    input.parse::<Reference>().unwrap_or_else(|error| panic!("{input}: {error}")).to_string()
}

fn refusal(input: &str) -> (usize, &'static str) {
    match input.parse::<Reference>() {
        Err(Error::InvalidReference { position, reason, .. }) => (position, reason),
        other => panic!("{input:?} gave {other:?}"),
    }
}

#[test]
fn short_names_mean_what_docker_means_by_them() {
    assert_eq!(full("alpine"), "docker.io/library/alpine:latest");
    assert_eq!(full("alpine:3.20"), "docker.io/library/alpine:3.20");
    assert_eq!(full("org/app"), "docker.io/org/app:latest");
    assert_eq!(full("index.docker.io/alpine"), "docker.io/library/alpine:latest");
    assert_eq!(full("docker.io/org/app:1"), "docker.io/org/app:1");
    assert_eq!(full("localhost/app"), "localhost/app:latest");
    assert_eq!(full("Host/app"), "Host/app:latest");
    assert_eq!(full("127.0.0.1:5000/a/b_c/d--e:v1"), "127.0.0.1:5000/a/b_c/d--e:v1");
    assert_eq!(full("[::1]:5000/app"), "[::1]:5000/app:latest");
}

#[test]
fn a_digest_replaces_the_default_tag_and_stands_beside_a_given_one() {
    assert_eq!(full(&format!("alpine@sha256:{HEX}")), format!("docker.io/library/alpine@sha256:{HEX}"));
    let both: Reference = format!("alpine:3@sha256:{HEX}").parse().unwrap();
    assert_eq!(both.tag(), Some("3"));
    assert!(both.is_pinned());
    assert_eq!(both.selector(), format!("sha256:{HEX}"));
}

#[test]
fn familiar_names_drop_only_what_parsing_adds_back() {
    for (input, familiar) in [
        ("docker.io/library/alpine:3", "alpine:3"),
        ("docker.io/org/app", "org/app:latest"),
        ("docker.io/localhost/app:1", "docker.io/localhost/app:1"),
        ("127.0.0.1:5000/library/app:1", "127.0.0.1:5000/library/app:1"),
    ] {
        let reference: Reference = input.parse().unwrap();
        assert_eq!(reference.familiar(), familiar);
        assert_eq!(familiar.parse::<Reference>().unwrap(), reference);
    }
}

#[test]
fn refusals_point_at_the_offending_character() {
    assert_eq!(refusal("").0, 1);
    assert_eq!(refusal("Alpine"), (1, "a repository is lower case"));
    assert_eq!(refusal("org/my app").0, 7);
    assert_eq!(refusal("alpine:").0, 8);
    assert_eq!(refusal("alpine:-x").0, 8);
    assert_eq!(refusal("alpine@sha256:beef").0, 8);
    assert_eq!(refusal("docker://alpine").0, 7);
    assert_eq!(refusal("a/../b").0, 3);
    assert_eq!(refusal("a//b").0, 3);
    assert_eq!(refusal("a._b").0, 2);
    assert_eq!(refusal("-a").0, 1);
    assert_eq!(refusal("a-").0, 2);
    assert_eq!(refusal("host:99999/a").0, 5);
    assert_eq!(refusal("[::1/a").0, 5);
    assert_eq!(refusal(&"a".repeat(300)).0, 1);
}

#[test]
fn only_this_machine_counts_as_loopback() {
    for input in ["localhost/a", "localhost:5000/a", "127.0.0.1:5000/a", "127.9.9.9/a", "[::1]:80/a"] {
        assert!(input.parse::<Reference>().unwrap().is_loopback(), "{input}");
    }
    for input in ["alpine", "127.0.0.1.example.org/a", "10.0.0.1/a", "localhost.example.org/a"] {
        assert!(!input.parse::<Reference>().unwrap().is_loopback(), "{input}");
    }
}

proptest! {
    #[test]
    fn parsing_never_panics(input in "\\PC{0,80}") {
        drop(input.parse::<Reference>());
    }

    #[test]
    fn near_misses_never_panic(input in "[a-zA-Z0-9._/:@\\[\\]é-]{0,60}") {
        drop(input.parse::<Reference>());
    }

    #[test]
    fn display_parses_back_to_the_same_value(
        name in "([a-z]{1,5}\\.[a-z]{1,4}|localhost|[a-z]{1,4}:[1-9][0-9]{0,3})/[a-z0-9]{1,5}((\\.|_|__|-{1,3}|/)[a-z0-9]{1,4}){0,3}|[a-z0-9]{1,5}((_|__|-{1,3}|/)[a-z0-9]{1,4}){0,3}",
        selector in "(:[A-Za-z0-9_][A-Za-z0-9_.-]{0,9})?(@sha256:[0-9a-f]{64})?",
    ) {
        let reference: Reference = format!("{name}{selector}").parse().unwrap();
        prop_assert_eq!(&reference.to_string().parse::<Reference>().unwrap(), &reference);
        prop_assert_eq!(&reference.familiar().parse::<Reference>().unwrap(), &reference);
    }
}
