//! What a command finds: its words, its variables, its directory and its user.

use super::workspace::{Case, NAME, Workspace, name};
use crate::host::SHELLLESS;
use microagent::{ExecOptions, Fault, RunIo};

/// The kernel's limit of one word (`execve(2)`): 32 pages, with the byte that ends it.
const LONGEST_WORD: usize = 32 * 4096 - 1;

#[test]
fn a_command_gets_its_words_variables_directory_and_user() {
    Workspace::start().check(CASES);
}

/// Prints its words, each followed by a line that is no word.
const PRINT: &str = r#"for word in "$@"; do printf '%s\n--\n' "$word"; done"#;

fn printed(box_: &Workspace, words: &[&str]) -> String {
    box_.exec(&[], &[&["/bin/sh", "-c", PRINT, "sh"], words].concat()).expect(0).text()
}

const CASES: &[Case] = &[
    ("words keep spaces, lines, quotes and nothing at all", |box_| {
        let words = ["two words", "", " ", "a\nb\n", "\t", "'\"`$HOME\\", "--", "-c", "*", "a=b"];
        assert_eq!(printed(box_, &words), words.map(|word| format!("{word}\n--\n")).concat());
    }),
    ("words keep every script", |box_| {
        let words = ["żółć", "日本語", "👩‍👩‍👧", "\u{202e}rtl", "e\u{301}"];
        assert_eq!(printed(box_, &words), words.map(|word| format!("{word}\n--\n")).concat());
    }),
    ("there may be thousands of words", |box_| {
        let words: Vec<String> = (0..4096).map(|number| number.to_string()).collect();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let line = ["/bin/sh", "-c", "echo $# ${4096}", "sh"];
        assert_eq!(box_.exec(&[], &[&line[..], &words].concat()).expect(0).text(), "4096 4095\n");
    }),
    ("the longest word that Linux takes is taken", |box_| {
        let word = "x".repeat(LONGEST_WORD);
        let text = box_.exec(&[], &["/bin/echo", "-n", &word]).expect(0).text();
        assert!(text == word, "{} bytes", text.len());
    }),
    ("a word that is too long is an error that says so", |box_| {
        let options = ExecOptions::new(["/bin/echo".to_owned(), "x".repeat(LONGEST_WORD + 1)]);
        let error = box_.client().exec(&name(), &options, RunIo::default()).unwrap_err();
        assert!(error.to_string().contains("131071"), "{error}");
    }),
    ("more words than a message holds are an error that says so", |box_| {
        let options =
            ExecOptions::new(std::iter::once("/bin/echo".to_owned()).chain((0..50).map(|_| "x".repeat(100_000))));
        let error = box_.client().exec(&name(), &options, RunIo::default()).unwrap_err();
        assert!(error.to_string().contains("bytes"), "{error} ({})", error.code());
    }),
    ("variables are on top of the image's", |box_| {
        let flags = ["-e", "FROM_IMAGE=no", "-e", "EMPTY=", "-e", "EQUALS=a=b=c", "-e", "LINES=a\nb"];
        let text = box_.exec(&flags, &["env"]).expect(0).text();
        for line in ["FROM_IMAGE=no\n", "EMPTY=\n", "EQUALS=a=b=c\n", "LINES=a\nb\n", "HOME=/root\n"] {
            assert!(text.contains(line), "{line:?} is not in {text}");
        }
        assert!(box_.exec(&[], &["env"]).expect(0).text().contains("FROM_IMAGE=yes\n"));
    }),
    ("a variable is taken from here, and has to be there", |box_| {
        let mut command = box_.command(&["-e", "TAKEN"], &["env"]);
        let ran = super::workspace::finish(command.env("TAKEN", "from here").spawn().unwrap()).expect(0);
        assert!(ran.text().contains("TAKEN=from here\n"));
        let ran = box_.exec(&["-e", "NOT_SET_ANYWHERE"], &["env"]).expect(125);
        assert!(ran.stderr.contains("NOT_SET_ANYWHERE"), "{}", ran.stderr);
    }),
    ("nothing of this process's environment leaks", |box_| {
        let mut command = box_.command(&[], &["env"]);
        let ran = super::workspace::finish(command.env("SECRET_HERE", "leaked").spawn().unwrap()).expect(0);
        assert!(!ran.text().contains("SECRET_HERE"));
    }),
    ("a directory to start in is entered, and made where it is missing", |box_| {
        assert_eq!(box_.exec(&["-w", "/etc"], &["pwd"]).expect(0).text(), "/etc\n");
        assert_eq!(box_.exec(&["--cwd", "/made/for/it"], &["pwd"]).expect(0).text(), "/made/for/it\n");
    }),
    ("a directory to start in that is a file is an error", |box_| {
        let ran = box_.exec(&["-w", "/etc/passwd"], &["pwd"]).expect(125);
        assert!(ran.stderr.contains("/etc/passwd"), "{}", ran.stderr);
    }),
    ("a user is found by name, with its groups", |box_| {
        let text = box_.exec(&["-u", "agent"], &["id"]).expect(0).text();
        assert_eq!(text, "uid=1000(agent) gid=1000(agent) groups=2000(extra)\n");
        assert_eq!(box_.exec(&["-u", "agent"], &["/bin/sh", "-c", "echo $HOME"]).expect(0).text(), "/home\n");
    }),
    ("a user may be a number, known or not", |box_| {
        assert_eq!(box_.exec(&["-u", "1000"], &["id", "-u"]).expect(0).text(), "1000\n");
        assert_eq!(box_.exec(&["-u", "4242:4343"], &["id"]).expect(0).text(), "uid=4242 gid=4343\n");
    }),
    ("an unknown user is an error that names it", |box_| {
        let ran = box_.exec(&["-u", "nobody-here"], &["id"]).expect(125);
        assert!(ran.stderr.contains("nobody-here"), "{}", ran.stderr);
    }),
    ("another user has no way into what is root's", |box_| {
        box_.sh("echo secret > /root/only; chmod 600 /root/only").expect(0);
        box_.exec(&["-u", "agent"], &["cat", "/root/only"]).expect(1);
    }),
];

#[test]
fn a_workspace_without_a_shell_runs_what_it_has() {
    let workspace = Workspace::start_with(&["--image", SHELLLESS]);
    assert_eq!(workspace.exec(&[], &["/echo", "alone"]).expect(0).text(), "alone\n");
    let missing = workspace.exec(&[], &["/bin/sh", "-c", "true"]).expect(127);
    assert!(missing.stderr.contains("/bin/sh"), "{}", missing.stderr);
    let missing = workspace.microagent(["connect", NAME, "--send", "true"]).expect(127);
    assert!(missing.stderr.contains("/bin/sh"), "{}", missing.stderr);
}
