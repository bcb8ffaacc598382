//! Programs that have values, and some that misbehave.

mod common;

use common::{PATIENCE, resolve, script, shown, value};
use microagent_secret::{Error, HelperError, MAX_BYTES, Sources};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{CWD, FileType, Mode, OFlags, mknodat, open};
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::time::Duration;
use tempfile::TempDir;

/// What a helper is given that does not end. Long enough for a shell to start on a busy host.
const SHORT: Duration = Duration::from_secs(3);

fn sources(dir: &TempDir, lines: &str) -> Sources {
    let program = script(dir.path(), "helper", lines);
    let path = std::env::var("PATH").unwrap();
    let directory = dir.path().to_str().unwrap();
    Sources::of_variables([
        ("MICROAGENT_SECRET_HELPER", program.to_str().unwrap()),
        ("PATH", &path),
        ("DIR", directory),
    ])
    .with_deadline(PATIENCE)
}

/// What is wrong with what a helper of these lines does. What it prints is nowhere in it.
fn problem(lines: &str) -> HelperError {
    let dir = tempfile::tempdir().unwrap();
    problem_of(&sources(&dir, lines))
}

fn problem_of(sources: &Sources) -> HelperError {
    let error = resolve(sources, "helper:a").unwrap_err();
    assert!(!shown(&error).contains("hunter") && shown(&error).contains("helper:a"), "{}", shown(&error));
    match error {
        Error::Helper { source, .. } => source,
        other => panic!("{other}"),
    }
}

/// A FIFO in `dir` that helpers hold open, to see when the last of them is gone.
struct Held(File);

impl Held {
    fn open(dir: &Path) -> Held {
        let path = dir.join("held");
        mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        Held(open(&path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty()).unwrap().into())
    }

    /// Everything that was written to it, once nobody can write more.
    fn until_let_go(mut self) -> String {
        let mut text = Vec::new();
        loop {
            let timeout = Timespec::try_from(PATIENCE).unwrap();
            let events = poll(&mut [PollFd::new(&self.0, PollFlags::IN)], Some(&timeout)).unwrap();
            assert_eq!(events, 1, "somebody lives on");
            let mut buffer = [0; 64];
            match self.0.read(&mut buffer).unwrap() {
                0 => return String::from_utf8(text).unwrap(),
                count => text.extend_from_slice(&buffer[..count]),
            }
        }
    }
}

#[test]
fn what_it_prints_is_the_value_without_one_line_end() {
    for (lines, expected) in [
        ("echo hunter2", "hunter2"),
        ("printf hunter2", "hunter2"),
        ("printf 'a\\r\\n'", "a"),
        ("printf 'a\\n\\n'", "a\n"),
        ("echo hunter2; echo noise >&2", "hunter2"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(value(&sources(&dir, lines), "helper:a"), expected, "{lines}");
    }
}

#[test]
fn it_gets_the_reference_as_its_one_argument_and_no_shell_reads_it() {
    let dir = tempfile::tempdir().unwrap();
    let sources = sources(&dir, "printf '%s|%s' \"$#\" \"$1\"");
    for text in ["op://vault/item", "a b", "$(touch x); `id` 'q' \"r\" \\ *", "a#b:c"] {
        assert_eq!(value(&sources, &format!("helper:{text}")), format!("1|{text}"));
    }
}

#[test]
fn it_has_nothing_to_read_and_the_variables_it_was_given() {
    let dir = tempfile::tempdir().unwrap();
    let sources = sources(&dir, "cat; printf '%s|%s' \"$DIR\" \"${HOME-unset}\"");
    assert_eq!(value(&sources, "helper:a"), format!("{}|unset", dir.path().display()));
}

#[test]
fn its_failure_is_one_whatever_it_printed() {
    for (lines, status) in [
        ("echo hunter2; echo hunter2 >&2; exit 3", "exit status: 3"),
        ("exec >&-; exit 4", "exit status: 4"),
        ("echo hunter2; kill -9 $$", "signal: 9"),
    ] {
        let problem = problem(lines);
        assert!(matches!(&problem, HelperError::Failed { .. }), "{lines}: {problem}");
        assert!(problem.to_string().contains(status), "{lines}: {problem}");
    }
}

#[test]
fn an_empty_value_is_none() {
    for lines in ["exit 0", "echo"] {
        let dir = tempfile::tempdir().unwrap();
        let error = resolve(&sources(&dir, lines), "helper:a").unwrap_err();
        assert!(matches!(&error, Error::Empty { reference } if reference == "helper:a"), "{lines}: {error}");
    }
}

#[test]
fn more_than_a_mebibyte_is_not_read() {
    let dir = tempfile::tempdir().unwrap();
    let whole = format!("head -c {MAX_BYTES} /dev/zero | tr '\\0' x");
    assert_eq!(value(&sources(&dir, &whole), "helper:a").len(), MAX_BYTES);
    assert!(matches!(problem(&format!("{whole}; echo x")), HelperError::TooLong));
    assert!(matches!(problem("exec cat /dev/zero"), HelperError::TooLong));
}

#[test]
fn one_that_does_not_end_is_killed_with_all_that_it_started() {
    for lines in [
        "sleep 600 & sleep 600",
        "exec >&-; sleep 600",
        "echo hunter2; trap '' TERM INT HUP; while :; do sleep 600; done",
    ] {
        let dir = tempfile::tempdir().unwrap();
        let held = Held::open(dir.path());
        let sources = sources(&dir, &format!("exec 3>\"$DIR/held\"; echo started >&3; {lines}")).with_deadline(SHORT);
        let problem = problem_of(&sources);
        assert!(matches!(problem, HelperError::TimedOut { deadline } if deadline == SHORT), "{lines}: {problem}");
        assert_eq!(held.until_let_go(), "started\n", "{lines}");
    }
}

#[test]
fn what_it_leaves_behind_is_not_waited_for_and_does_not_stay() {
    let dir = tempfile::tempdir().unwrap();
    let held = Held::open(dir.path());
    let sources = sources(&dir, "exec 3>\"$DIR/held\"; sleep 600 & echo started >&3; echo hunter2");
    assert_eq!(value(&sources, "helper:a"), "hunter2");
    assert_eq!(held.until_let_go(), "started\n");
}

#[test]
fn a_program_that_cannot_be_run_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let with = |program: &str| problem_of(&Sources::of_variables([("MICROAGENT_SECRET_HELPER", program)]));
    assert!(matches!(problem_of(&Sources::of_variables([("PATH", "/bin")])), HelperError::Unset));
    assert!(matches!(with(""), HelperError::Unset));
    assert!(matches!(with("cat"), HelperError::NotAbsolute));
    for path in [dir.path().join("missing"), dir.path().to_owned()] {
        let path = path.to_str().unwrap();
        let problem = with(path);
        assert!(matches!(problem, HelperError::NotRun { .. }) && problem.to_string().contains(path), "{problem}");
    }
}
