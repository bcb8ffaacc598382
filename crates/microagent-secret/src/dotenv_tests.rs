use super::*;
use proptest::prelude::*;

fn loaded(text: &[u8]) -> Result<Vec<(String, Vec<u8>)>, Error> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(".env");
    std::fs::write(&path, text).unwrap();
    Ok(load(&path)?.into_iter().map(|(name, value)| (name.to_string(), value.expose().to_vec())).collect())
}

/// The one value of a file of one line.
fn value(line: &str) -> String {
    let mut entries = loaded(line.as_bytes()).unwrap_or_else(|error| panic!("{line}: {error}"));
    assert_eq!(entries.len(), 1, "{line}");
    String::from_utf8(entries.remove(0).1).unwrap()
}

#[test]
fn values_are_read_as_they_are_written() {
    for (line, expected) in [
        ("KEY=value", "value"),
        ("export KEY=value", "value"),
        ("export\tKEY=value", "value"),
        ("  KEY = value  ", "value"),
        ("KEY=value\r", "value"),
        ("KEY=a=b==", "a=b=="),
        ("KEY=a b", "a b"),
        ("KEY=a#b", "a#b"),
        ("KEY=#ab", "#ab"),
        ("KEY=a # b", "a"),
        ("KEY=a\t#b", "a"),
        ("KEY=a\"b'c", "a\"b'c"),
        ("KEY=$HOME\\n", "$HOME\\n"),
        ("KEY='a # \\n $B \"'", "a # \\n $B \""),
        ("KEY='a' # why", "a"),
        ("KEY=' a '", " a "),
        ("KEY=\"a # 'b'\"", "a # 'b'"),
        ("KEY=\"a\\nb\\tc\\\"d\\\\e\\$f $G\"\t", "a\nb\tc\"d\\e$f $G"),
        ("export=5", "5"),
        ("exported=5", "5"),
        ("\u{feff}KEY=value", "value"),
        ("KEY=pässwörd", "pässwörd"),
    ] {
        assert_eq!(value(line), expected, "{line}");
    }
}

#[test]
fn comments_and_empty_lines_say_nothing_and_the_last_of_a_key_counts() {
    let entries = loaded(b"# A=0\n\nB=1\r\n\t\nA=2\n  # x\nB='3'\n").unwrap();
    assert_eq!(entries, [("B".to_owned(), b"3".to_vec()), ("A".to_owned(), b"2".to_vec())]);
    assert!(loaded(b"").unwrap().is_empty());
    assert_eq!(loaded(b"A=\xff\xfe").unwrap()[0].1, [0xff, 0xfe]);
}

#[test]
fn a_malformed_line_is_named_by_its_number_alone() {
    for line in [
        "hunter2",
        "export hunter2",
        "=hunter2",
        "1A=hunter2",
        "A-B=hunter2",
        "export A B=hunter2",
        "A='hunter2",
        "A=\"hunter2",
        "A=\"hunter2\\",
        "A=\"hunter2\\\"",
        "A='hunter2' hunter2",
        "A=\"hunter2\"hunter2",
        "A='hunter2'#hunter2",
        "A=\"hunter2\\x\"",
        "hunter2\u{e4}=1",
    ] {
        let error = loaded(format!("OK=1\n# fine\n{line}\nOK=2\n").as_bytes()).unwrap_err();
        assert!(matches!(error, Error::BadLine { line: 3, .. }), "{line}: {error}");
        assert!(!format!("{error} {error:?}").contains("hunter"), "{error}");
    }
}

#[test]
fn an_empty_value_is_refused_by_its_key_and_only_where_it_is_wanted() {
    for line in ["KEY=", "KEY=''", "KEY=\"\"", "KEY= # nothing"] {
        let error = loaded(line.as_bytes()).unwrap_err();
        assert!(matches!(&error, Error::Empty { reference } if reference.ends_with("#KEY")), "{line}: {error}");
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(".env");
    std::fs::write(&path, "A=\nB=1\n").unwrap();
    assert_eq!(find(&path, &"B".parse().unwrap()).unwrap().expose(), b"1");
    assert!(matches!(find(&path, &"C".parse().unwrap()), Err(Error::NoKey { .. })));
}

proptest! {
    #[test]
    fn no_line_panics_or_is_repeated(line in "([A-Z]=)?[\"'#\\\\ ]?[a-z0-9\"'#\\\\$= ]{12,40}") {
        if let Err(reason) = entry(line.as_bytes()) {
            prop_assert!(!reason.contains(line.trim()));
        }
    }

    #[test]
    fn every_text_can_be_written_in_double_quotes(text in "[^\r\n\0]{1,40}") {
        let quoted = text.replace('\\', "\\\\").replace('"', "\\\"").replace('\t', "\\t");
        let (_, value) = entry(format!("KEY=\"{quoted}\"").as_bytes()).unwrap().unwrap();
        prop_assert_eq!(value.expose(), text.as_bytes());
    }
}
