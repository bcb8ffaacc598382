//! Running a package manager: no terminal, no translation, its complaint kept for the error.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::{Error, Result};

/// How much of a package manager's standard error is looked at for the message.
const LONGEST_COMPLAINT: u64 = 64 << 10;

/// The program called `name` in `PATH`.
pub(super) fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|directory| directory.join(name)).find(|candidate| candidate.is_file())
}

/// A command that speaks the C locale and cannot ask questions.
pub(super) fn command<A: AsRef<OsStr>>(program: &Path, arguments: impl IntoIterator<Item = A>) -> Command {
    let mut command = Command::new(program);
    command.args(arguments).env("LC_ALL", "C").env("DEBIAN_FRONTEND", "noninteractive").stdin(Stdio::null());
    command
}

/// Runs `command`, hands each line of its standard output to `line`, and fails if it does.
pub(super) fn run(mut command: Command, mut line: impl FnMut(&str)) -> Result<()> {
    let program = PathBuf::from(command.get_program());
    let starting = Error::io("run", &program);
    // A file, not a pipe: nobody has to read it while standard output is being read.
    let mut complaint = tempfile::tempfile().map_err(Error::io("create a temporary file in", &std::env::temp_dir()))?;
    let stderr = complaint.try_clone().map_err(Error::io("run", &program))?;
    let mut child = command.stdout(Stdio::piped()).stderr(stderr).spawn().map_err(starting)?;
    if let Some(stdout) = child.stdout.take() {
        for text in BufReader::new(stdout).lines().map_while(Result::ok) {
            line(&text);
        }
    }
    let status = child.wait().map_err(Error::io("wait for", &program))?;
    if status.success() {
        return Ok(());
    }
    let mut text = Vec::new();
    let read =
        complaint.seek(SeekFrom::Start(0)).and_then(|_| complaint.take(LONGEST_COMPLAINT).read_to_end(&mut text));
    read.map_err(Error::io("read what was reported by", &program))?;
    let text = String::from_utf8_lossy(&text);
    Err(Error::PackageManager {
        command: describe(&command),
        status: status.to_string(),
        message: last_complaint(&text).to_owned(),
    })
}

/// Runs `command` and returns its standard output.
pub(super) fn output(command: Command) -> Result<String> {
    let mut output = String::new();
    run(command, |line| {
        output.push_str(line);
        output.push('\n');
    })?;
    Ok(output)
}

/// The program's name and its first argument: enough to recognise it, without a screen of options.
fn describe(command: &Command) -> String {
    let program = Path::new(command.get_program()).file_name().unwrap_or_default().to_string_lossy().into_owned();
    match command.get_args().find(|argument| !argument.as_encoded_bytes().starts_with(b"-")) {
        Some(argument) => format!("{program} {}", argument.to_string_lossy()),
        None => program,
    }
}

/// The last line that says something, an `E:` line of apt before any other.
fn last_complaint(text: &str) -> &str {
    let lines = || text.lines().rev().map(str::trim).filter(|line| !line.is_empty());
    lines().find_map(|line| line.strip_prefix("E: ")).or_else(|| lines().next()).unwrap_or("it said nothing")
}
