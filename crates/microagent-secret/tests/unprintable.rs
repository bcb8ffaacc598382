//! What cannot be done with a value, and what is left of it in memory.

mod common;

use common::reference;
use microagent_secret::{Binding, Secret, Sources, dotenv};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::FileExt;
use zeroize::Zeroizing;

/// Whether `$type` implements `$bound`: an associated constant of the type itself, where its bound holds, comes before
/// that of a trait.
macro_rules! implements {
    ($type:ty: $($bound:tt)+) => {{
        struct Probe<T>(std::marker::PhantomData<T>);
        #[allow(dead_code, reason = "not looked at where the bound holds")]
        trait Otherwise {
            const HOLDS: bool = false;
        }
        impl<T> Otherwise for Probe<T> {}
        #[allow(dead_code, reason = "not there where it does not")]
        impl<T: $($bound)+> Probe<T> {
            const HOLDS: bool = true;
        }
        Probe::<$type>::HOLDS
    }};
}

#[test]
fn a_secret_has_no_way_out_but_the_one_that_says_so() {
    assert!(implements!(String: std::fmt::Display) && implements!(String: Clone), "the probe finds nothing");
    assert!(!implements!(Secret: std::fmt::Display));
    assert!(!implements!(Secret: serde::Serialize));
    assert!(!implements!(Secret: Clone));
    assert!(!implements!(Secret: PartialEq));
    assert!(!implements!(Secret: std::ops::Deref));
    assert!(!implements!(Secret: AsRef<[u8]>));
    assert!(!implements!(Sources: Clone));
    assert!(implements!(Secret: Send) && implements!(Sources: Sync));
}

#[test]
fn no_type_that_can_hold_a_value_shows_it() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join(".env"), "A=hunter2\n").unwrap();
    let sources = Sources::of_variables([("A", "hunter2"), ("VAULT_TOKEN", "hunter2")]).relative_to(dir.path());
    let bindings: Vec<Binding> = vec!["X=env:A".parse().unwrap()];
    let all = (
        sources.resolve(&reference("env:A")),
        sources.resolve_all(&bindings).unwrap(),
        dotenv::load(&dir.path().join(".env")).unwrap(),
        Some(Secret::new(b"hunter2".to_vec())),
        sources,
    );
    for text in [format!("{all:?}"), format!("{all:#?}")] {
        assert!(text.contains("Secret(..)") && text.contains("VAULT_TOKEN"), "{text}");
        // Neither as text nor as a list of bytes.
        assert!(!text.contains("hunter") && !text.contains("104"), "{text}");
    }
}

/// Needles are kept and looked for in another form, so that what looks for them is not what is found.
const MASK: u8 = 0x5a;

/// How often `masked` is somewhere in memory that this process can write to.
fn occurrences(masked: &[u8]) -> usize {
    let memory = File::open("/proc/self/mem").unwrap();
    let mut page = Zeroizing::new(vec![0; 1 << 14]);
    let nothing = vec![0; page.len()];
    let own = page.as_ptr().addr()..page.as_ptr().addr() + page.len();
    let mut count = 0;
    for line in BufReader::new(File::open("/proc/self/maps").unwrap()).lines() {
        let line = line.unwrap();
        let mut words = line.split_ascii_whitespace();
        let (from, to) = words.next().unwrap().split_once('-').unwrap();
        if !words.next().unwrap().starts_with("rw") {
            continue;
        }
        let (mut at, to) = (usize::from_str_radix(from, 16).unwrap(), usize::from_str_radix(to, 16).unwrap());
        while at < to {
            // Up to the buffer, and on behind it.
            let end = if at < own.start { to.min(own.start) } else { to };
            if own.contains(&at) {
                at = own.end;
                continue;
            }
            let want = page.len().min(end - at);
            // Some of it may be gone by now.
            let Ok(got) = memory.read_at(&mut page[..want], at as u64) else { break };
            // Most of memory is empty.
            if page[..got] != nothing[..got] {
                let is_there = |window: &[u8]| window.iter().zip(masked).all(|(byte, masked)| byte ^ MASK == *masked);
                count += page[..got].windows(masked.len()).filter(|window| is_there(window)).count();
            }
            page.fill(0);
            // One may lie across two pieces.
            at += if got == page.len() { got - masked.len() + 1 } else { got.max(1) };
        }
    }
    count
}

#[test]
fn nothing_of_a_value_is_left_in_memory() {
    let dir = tempfile::tempdir().unwrap();
    let value: BTreeMap<&str, Vec<u8>> = ["file:f", "dotenv:e#A", "dotenv:e#B", "helper:x"]
        .into_iter()
        .zip(1u8..)
        .map(|(text, salt)| {
            (text, (0..96u8).map(|index| (b'a' + index.wrapping_mul(salt * 7 + 4) % 23) ^ MASK).collect())
        })
        .collect();
    // The files are written by what leaves nothing either.
    let clear = |text: &str| Zeroizing::new(value[text].iter().map(|byte| byte ^ MASK).collect::<Vec<u8>>());
    let write = |name: &str, parts: &[&[u8]]| {
        use std::io::Write;
        let mut file = File::create(dir.path().join(name)).unwrap();
        for part in parts {
            file.write_all(part).unwrap();
        }
    };
    // Longer than a first buffer: what is moved is not left behind.
    write("f", &[&clear("file:f"), &[b'.'; 10_000]]);
    write("e", &[b"A=", &clear("dotenv:e#A"), b"\nB=\"\\t", &clear("dotenv:e#B"), b"\"\n"]);
    write("printed", &[&clear("helper:x")]);
    let helper = common::script(dir.path(), "helper", "cat \"$FILE\"");
    let (helper, printed, path) =
        (helper.to_str().unwrap(), dir.path().join("printed"), std::env::var("PATH").unwrap());
    let sources = Sources::of_variables([
        ("MICROAGENT_SECRET_HELPER", helper),
        ("FILE", printed.to_str().unwrap()),
        ("PATH", &path),
    ])
    .relative_to(dir.path());
    for (text, masked) in &value {
        assert_eq!(occurrences(masked), 0, "{text}: before it was read");
        let secret = sources.resolve(&reference(text)).unwrap();
        assert_eq!(occurrences(masked), 1, "{text}: while it is held");
        drop(secret);
        assert_eq!(occurrences(masked), 0, "{text}: after it was dropped");
    }
}
