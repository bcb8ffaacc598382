use super::*;
use crate::Binding;
use microagent_protocol::{Fault, FaultReport};
use proptest::prelude::*;

const GOOD: [&str; 10] = [
    "env:GITHUB_TOKEN",
    "file:/run/secrets/key",
    "file:~/.netrc",
    "file:a#b:c",
    "dotenv:.env#KEY",
    "dotenv:/a#b/.env#KEY",
    "vault:secret/data/app#token",
    "vault:team/kv/data/a/b c#d.e",
    "vault:kv/data/data#data",
    "helper:op://vault/item/field",
];

#[test]
fn what_is_printed_and_what_serde_writes_is_what_was_read() {
    for text in GOOD {
        let reference: Reference = text.parse().unwrap();
        assert_eq!(reference.to_string(), text);
        let json = serde_json::to_string(&reference).unwrap();
        assert_eq!(json, serde_json::to_string(text).unwrap());
        assert_eq!(serde_json::from_str::<Reference>(&json).unwrap(), reference);
        assert!(text.starts_with(&format!("{}:", reference.scheme())));
    }
}

#[test]
fn what_lies_open_is_told_from_what_does_not() {
    let plain = |text: &str| text.parse::<Reference>().unwrap().is_plaintext();
    assert!(plain("env:A") && plain("file:a") && plain("dotenv:a#A"));
    assert!(!plain("vault:kv/data/a#b") && !plain("helper:a"));
}

#[test]
fn what_is_no_reference_is_refused() {
    for text in
        ["", "hunter2", "sk-ant-hunter2", "https://hunter2", ":hunter2", "ENV:A", " env:A", "vaults:kv/data/a#b"]
    {
        assert!(matches!(text.parse::<Reference>(), Err(Error::NoReference)), "{text}");
    }
    for text in [
        "env:",
        "env:1A",
        "env:hunter 2",
        "env: A",
        "file:",
        "file:a\0b",
        "file:a\nb",
        "dotenv:",
        "dotenv:.env",
        "dotenv:#KEY",
        "dotenv:.env#",
        "dotenv:.env#hunter-2",
        "vault:",
        "vault:#f",
        "vault:kv/data/a",
        "vault:kv/data/a#",
        "vault:kv/a#f",
        "vault:data/a#f",
        "vault:kv/data#f",
        "vault:kv/data/#f",
        "vault:/kv/data/a#f",
        "vault:kv//data/a#f",
        "vault:kv/data/../b#f",
        "vault:kv/data/./b#f",
        "helper:",
        "helper:--help",
    ] {
        let error = text.parse::<Reference>().unwrap_err();
        let scheme = text.split(':').next().unwrap();
        assert!(matches!(error, Error::BadReference { scheme: said, .. } if said == scheme), "{text}: {error}");
    }
    let long = format!("file:{}", "a".repeat(MAX_REFERENCE + 1));
    assert!(long.parse::<Reference>().is_err());
}

#[test]
fn a_value_where_a_reference_belongs_is_in_no_error_of_a_format_either() {
    for json in
        [r#""hunter-246813579""#, "246813579", "-246813579", "2468.13579", "[246813579]", r#"{"a": 246813579}"#, "true"]
    {
        let error = serde_json::from_str::<Reference>(json).unwrap_err().to_string();
        assert!(!error.contains("2468") && !error.contains("hunter") && !error.contains("true"), "{error}");
    }
    for yaml in ["hunter-246813579", "246813579", "2468.13579", "[246813579]", "{a: 246813579}"] {
        let error = serde_saphyr::from_str::<Vec<Reference>>(&format!("- env:A\n- {yaml}\n")).unwrap_err();
        // What reads YAML has to leave out the lines that it would show, as what reads workspace files does.
        let error = error.without_snippet();
        for error in [error.to_string(), format!("{error:?}")] {
            assert!(!error.contains("2468") && !error.contains("hunter"), "{error}");
        }
    }
}

/// Everything that anybody could print of `error`.
fn shown(error: &Error) -> String {
    let report = FaultReport::new(error);
    format!("{error} {error:?} {error:#?} {} {report:?} {:?}", error.code(), error.hint())
}

/// Whether eight bytes in a row of `value` can be read in `text`.
fn shows(text: &str, value: &str) -> bool {
    let value: Vec<char> = value.chars().collect();
    value.windows(8).any(|part| text.contains(&part.iter().collect::<String>()))
}

proptest! {
    #[test]
    fn parsing_never_panics(text in "\\PC*", scheme in "(env|file|dotenv|vault|helper):") {
        for text in [text.clone(), format!("{scheme}{text}"), format!("A={scheme}{text}")] {
            if let Ok(reference) = text.parse::<Reference>() {
                prop_assert_eq!(reference.to_string(), text.clone());
            }
            if let Ok(binding) = text.parse::<Binding>() {
                prop_assert_eq!(binding.to_string(), text);
            }
        }
    }

    #[test]
    fn no_error_of_parsing_repeats_a_value(
        value in "[A-Za-z0-9+/=_.#:~ -]{12,60}",
        scheme in "((env|file|dotenv|vault|helper):)?",
        name in "(NAME=)?",
    ) {
        if let Err(error) = format!("{scheme}{value}").parse::<Reference>() {
            prop_assert!(!shows(&shown(&error), &value), "{}", shown(&error));
        }
        // What is left of the first `=` is a name, where there is one.
        let right = if name.is_empty() { value.split_once('=').map_or(&*value, |(_, right)| right) } else { &*value };
        if let Err(error) = format!("{name}{scheme}{value}").parse::<Binding>() {
            prop_assert!(!shows(&shown(&error), right), "{}", shown(&error));
        }
    }
}
