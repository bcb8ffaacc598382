//! Values in variables and files.

mod common;

use common::{cause, resolve, shown, value};
use microagent_secret::{Binding, Error, MAX_BYTES, Sources, dotenv};
use rustix::fs::{CWD, FileType, Mode, mknodat};
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;

fn none() -> Sources {
    Sources::of_variables([("", "")])
}

#[test]
fn a_variable_is_its_value_to_the_last_byte() {
    let sources = Sources::of_variables([("A", &b"hunter2\n"[..]), ("B", b"\xff"), ("EMPTY", b"")]);
    assert_eq!(value(&sources, "env:A"), "hunter2\n");
    assert_eq!(resolve(&sources, "env:B").unwrap().expose(), b"\xff");
    assert!(matches!(resolve(&sources, "env:C"), Err(Error::Unset { variable }) if variable.as_str() == "C"));
    assert!(matches!(resolve(&sources, "env:EMPTY"), Err(Error::Empty { reference }) if reference == "env:EMPTY"));
}

#[test]
fn a_file_is_its_content_without_one_line_end() {
    let dir = tempfile::tempdir().unwrap();
    let sources = none().relative_to(dir.path());
    for (content, expected) in [("a\n", "a"), ("a\r\n", "a"), ("a\n\n", "a\n"), (" a", " a"), ("a\nb\n", "a\nb")] {
        std::fs::write(dir.path().join("f"), content).unwrap();
        assert_eq!(value(&sources, "file:f"), expected, "{content:?}");
    }
    for content in ["", "\n", "\r\n"] {
        std::fs::write(dir.path().join("f"), content).unwrap();
        assert!(matches!(resolve(&sources, "file:f"), Err(Error::Empty { .. })), "{content:?}");
    }
}

#[test]
fn paths_start_at_the_base_or_at_home_or_at_the_root() {
    let (base, home) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    std::fs::create_dir(base.path().join("~x")).unwrap();
    for (path, content) in
        [(base.path().join("f"), "base"), (home.path().join("f"), "home"), (base.path().join("~x/f"), "x")]
    {
        std::fs::write(path, content).unwrap();
    }
    std::fs::write(home.path().join("e"), "KEY=dotenv").unwrap();
    let sources = Sources::of_variables([("HOME", home.path().to_str().unwrap())]).relative_to(base.path());
    assert_eq!(value(&sources, "file:f"), "base");
    assert_eq!(value(&sources, "file:~/f"), "home");
    assert_eq!(value(&sources, "file:~x/f"), "x");
    assert_eq!(value(&sources, "dotenv:~/e#KEY"), "dotenv");
    assert_eq!(value(&sources, &format!("file:{}/f", home.path().display())), "home");
    assert!(matches!(cause(&none(), "file:~/f"), Error::NoHome));
}

#[test]
fn only_a_regular_file_is_read_and_nothing_is_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    mknodat(CWD, at("fifo"), FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    let _socket = UnixListener::bind(at("socket")).unwrap();
    symlink("fifo", at("link-to-fifo")).unwrap();
    symlink("/dev/zero", at("link-to-device")).unwrap();
    std::fs::create_dir(at("directory")).unwrap();
    let sources = none().relative_to(dir.path());
    for name in ["fifo", "socket", "link-to-fifo", "link-to-device", "directory", "/dev/null", "/dev/zero"] {
        for text in [format!("file:{name}"), format!("dotenv:{name}#KEY")] {
            let error = cause(&sources, &text);
            assert!(matches!(error, Error::BadFile { .. }), "{text}: {error}");
        }
    }
    std::fs::write(at("real"), "hunter2").unwrap();
    symlink("real", at("link")).unwrap();
    assert_eq!(value(&sources, "file:link"), "hunter2");
    symlink("loop", at("loop")).unwrap();
    for name in ["loop", "missing", "real/x"] {
        let error = cause(&sources, &format!("file:{name}"));
        assert!(matches!(&error, Error::File { doing: "open", .. }) && shown(&error).contains(name), "{error}");
    }
    // The kernel's own have no size, and content all the same.
    assert!(!value(&sources, "file:/proc/sys/kernel/ostype").is_empty());
}

#[test]
fn a_mebibyte_is_read_and_no_more() {
    let dir = tempfile::tempdir().unwrap();
    let sources = none().relative_to(dir.path());
    std::fs::write(dir.path().join("f"), vec![b'x'; MAX_BYTES]).unwrap();
    assert_eq!(value(&sources, "file:f").len(), MAX_BYTES);
    std::fs::write(dir.path().join("f"), vec![b'x'; MAX_BYTES + 1]).unwrap();
    let error = cause(&sources, "file:f");
    assert!(matches!(error, Error::BadFile { reason, .. } if reason.contains("1 MiB")));
}

#[test]
fn a_key_of_a_dotenv_file_is_had_alone_and_all_of_them_together() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(".env");
    std::fs::write(&path, "export A='hunter2'\nB=\nA=last # of two\n").unwrap();
    let sources = none().relative_to(dir.path());
    assert_eq!(value(&sources, "dotenv:.env#A"), "last");
    assert!(matches!(resolve(&sources, "dotenv:.env#B"), Err(Error::Empty { .. })));
    assert!(matches!(cause(&sources, "dotenv:.env#C"), Error::NoKey { key, .. } if key.as_str() == "C"));
    assert!(matches!(dotenv::load(&path), Err(Error::Empty { .. })));
    std::fs::write(&path, "A=1\nB=2\n").unwrap();
    let names: Vec<_> = dotenv::load(&path).unwrap().into_iter().map(|(name, _)| name.to_string()).collect();
    assert_eq!(names, ["A", "B"]);
    std::fs::write(&path, "A=1\nhunter2\n").unwrap();
    let error = cause(&sources, "dotenv:.env#A");
    assert!(matches!(error, Error::BadLine { line: 2, .. }) && !shown(&error).contains("hunter"), "{error}");
}

#[test]
fn all_bindings_are_resolved_or_the_one_that_cannot_be_is_named() {
    let sources = Sources::of_variables([("A", "hunter2"), ("B", "hunter3")]);
    let bindings = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<Binding>>();
    let secrets = sources.resolve_all(&bindings(&["Y=env:B", "X=env:A"])).unwrap();
    let all: Vec<_> = secrets.iter().map(|(name, secret)| (name.as_str(), secret.text().unwrap())).collect();
    assert_eq!(all, [("X", "hunter2"), ("Y", "hunter3")]);
    assert!(!format!("{secrets:?}").contains("hunter"));

    let error = sources.resolve_all(&bindings(&["X=env:A", "Y=env:C"])).unwrap_err();
    assert!(matches!(&error, Error::Binding { name, .. } if name.as_str() == "Y"), "{error}");
    assert!(shown(&error).contains("`Y`") && shown(&error).contains("env:C") && !shown(&error).contains("hunter"));
    // Whatever else is wrong.
    let error = sources.resolve_all(&bindings(&["X=env:C", "X=env:A"])).unwrap_err();
    assert!(matches!(&error, Error::Twice { name } if name.as_str() == "X"), "{error}");
}
