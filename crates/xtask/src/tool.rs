//! Running other people's programs: shown to the developer, or captured and shown only when they fail.

use std::ffi::OsStr;
use std::io::{self, Write as _};
use std::process::{Command, Output, Stdio};

use crate::{Error, Result};

/// Runs `command` on the terminal, after printing it. Fails if it does.
pub fn show(command: &mut Command) -> Result<()> {
    let line = line(command);
    eprintln!("$ {line}");
    let status = command.status().map_err(start(command))?;
    if status.success() { Ok(()) } else { Err(Error::Tool { line, status }) }
}

/// Runs `command` out of sight and returns what it wrote to standard output. Shows everything it wrote if it fails.
pub fn capture(command: &mut Command) -> Result<String> {
    let output = output(command)?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let mut terminal = io::stderr().lock();
    // A terminal that cannot be written to must not hide the failure itself.
    let _ = terminal.write_all(&output.stdout).and_then(|()| terminal.write_all(&output.stderr));
    Err(Error::Tool { line: line(command), status: output.status })
}

/// Runs `command` out of sight, with nothing to read, and returns how it ended and what it wrote.
pub fn output(command: &mut Command) -> Result<Output> {
    command.stdin(Stdio::null()).output().map_err(start(command))
}

/// The error for a `command` that could not be started.
pub(crate) fn start(command: &Command) -> impl FnOnce(io::Error) -> Error + use<> {
    let program = command.get_program().to_string_lossy().into_owned();
    move |source| Error::Start { program, source }
}

/// Whether `program` can be found the way the shell finds it.
pub fn is_installed(program: &str) -> bool {
    // The superuser's directories hold tools that anyone may run, and are often not on an ordinary user's `PATH`.
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut directories = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]);
    directories.any(|directory| directory.join(program).is_file())
}

/// `command` as one would type it.
pub fn line(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(quote).collect::<Vec<_>>().join(" ")
}

/// `word` as the shell reads it back.
pub fn quote(word: &OsStr) -> String {
    let word = word.to_string_lossy();
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_=/.,:@+%".contains(&byte);
    if !word.is_empty() && word.bytes().all(plain) {
        return word.into_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quoted_word_is_read_back_by_the_shell_as_it_was() {
        for word in ["plain", "", "two words", "it's", "$HOME `id` \"x\" \\", "a\nb"] {
            let script = format!("printf %s {}", quote(OsStr::new(word)));
            assert_eq!(capture(Command::new("sh").arg("-c").arg(script)).unwrap(), word);
        }
    }

    #[test]
    fn a_failing_tool_is_an_error_that_names_it() {
        let error = capture(Command::new("sh").args(["-c", "exit 3"])).unwrap_err();
        assert_eq!(error.to_string(), "`sh -c 'exit 3'` failed: exit status: 3");
    }
}
