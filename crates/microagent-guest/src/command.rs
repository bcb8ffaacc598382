//! The child side of a command: from the fork to the program.
//!
//! Everything that touches the workspace's files happens here, in a process of its own: a user database that is a FIFO or a
//! working directory on a file system that hangs holds up this command and nothing else. What goes wrong before the program
//! runs is written as a [`Refusal`] to the report pipe; the pipe closes silently when the program takes over.

use crate::lookup;
use crate::processors;
use crate::refusal::{quoted, refusal};
use crate::sys::{self, StringArray};
use crate::users::{User, UserError};
use microagent_protocol::{Exec, Refusal, RefusalCode};
use rustix::fd::{BorrowedFd, OwnedFd};
use rustix::fs::{FileType, Gid, Mode, OFlags, Uid, fchown, fstat};
use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, chdir, ioctl_tiocsctty, setrlimit, setsid, umask};
use rustix::stdio::{dup2_stderr, dup2_stdin, dup2_stdout, stderr, stdin, stdout};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};
use std::ffi::CString;
use std::io::Read;
use std::os::unix::fs::DirBuilderExt;

/// Largest user database read.
const MAX_DATABASE: u64 = 4 << 20;

/// Open files a command may have, and how far it may raise that itself. The low soft limit is what programs that use
/// `select(2)` or walk all possible descriptors need; servers raise it. The figures are those of systemd services.
pub(crate) const OPEN_FILES: Rlimit = Rlimit { current: Some(1024), maximum: Some(524_288) };

/// The command's ends of its pipes.
pub(crate) struct Pipes {
    /// Standard input; `/dev/null` if the host sends none.
    pub(crate) stdin: OwnedFd,
    /// Standard output.
    pub(crate) stdout: OwnedFd,
    /// Standard error.
    pub(crate) stderr: OwnedFd,
    /// Where a [`Refusal`] goes.
    pub(crate) report: OwnedFd,
}

impl Pipes {
    /// Makes them the standard streams of this process, and closes everything but them and the report: among the rest are the agent's ends of
    /// other commands' pipes, which must not stay open for as long as this process lives.
    pub(crate) fn connect(&self) -> rustix::io::Result<()> {
        dup2_stdin(&self.stdin)?;
        dup2_stdout(&self.stdout)?;
        dup2_stderr(&self.stderr)?;
        sys::close_all_but_standard_and(&self.report);
        Ok(())
    }
}

/// Turns this freshly forked process into the command.
pub(crate) fn become_command(exec: &Exec, workspace: BorrowedFd<'_>, pipes: &Pipes) -> ! {
    let refusal = match prepare(exec, workspace, pipes) {
        Ok(env) => start(exec, &env),
        Err(refusal) => refusal,
    };
    let text = serde_json::to_vec(&refusal).unwrap_or_default();
    // If the agent is gone the machine is ending, and this process with it.
    let _ = rustix::io::write(&pipes.report, &text);
    sys::exit_now(127)
}

/// Sets up everything but the program, and returns its environment.
fn prepare(exec: &Exec, workspace: BorrowedFd<'_>, pipes: &Pipes) -> Result<StringArray, Refusal> {
    // Enters the workspace's root too: the kernel sets it to the root of the name space.
    system("enter the workspace", move_into_link_name_space(workspace, Some(LinkNameSpaceType::Mount)))?;
    system("connect its standard streams", pipes.connect())?;
    system("start a session", setsid())?;
    if exec.tty.is_some() {
        system("take control of its terminal", ioctl_tiocsctty(stdin()))?;
    }
    sys::reset_signals();
    umask(Mode::from_raw_mode(0o022));
    system("limit open files", setrlimit(Resource::Nofile, OPEN_FILES))?;
    let user = find_user(&exec.user)?;
    system("hand over its pipes", own_pipes(exec, &user))?;
    make_directory(&exec.cwd)?;
    processors::use_all();
    become_user(&user)?;
    chdir(exec.cwd.as_str()).map_err(|error| {
        let what = format!("cannot enter working directory {} as user id {}: {error}", quoted(&exec.cwd), user.uid);
        refusal(RefusalCode::WorkingDirectory, what)
    })?;
    environment(exec, &user)
}

fn system<T>(action: &str, result: rustix::io::Result<T>) -> Result<T, Refusal> {
    result.map_err(|error| refusal(RefusalCode::System, format!("cannot {action} for the command: {error}")))
}

/// Finds a user of the workspace this process is in.
pub(crate) fn find_user(specification: &str) -> Result<User, Refusal> {
    User::resolve(specification, &read_database("/etc/passwd")?, &read_database("/etc/group")?)
        .map_err(|error: UserError| refusal(RefusalCode::UserUnknown, error))
}

/// Reads a user database; one that does not exist is empty.
fn read_database(path: &str) -> Result<Vec<u8>, Refusal> {
    let refuse = |why: &dyn std::fmt::Display| {
        refusal(RefusalCode::UserUnknown, format!("cannot read `{path}` of the image: {why}"))
    };
    // Non-blocking, because a FIFO of that name would wait for a writer.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = match rustix::fs::open(path, flags, Mode::empty()) {
        Ok(file) => file,
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(Vec::new()),
        Err(error) => return Err(refuse(&error)),
    };
    let stat = fstat(&file).map_err(|error| refuse(&error))?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(refuse(&"it is not a regular file"));
    }
    let mut text = Vec::new();
    let count =
        std::fs::File::from(file).take(MAX_DATABASE + 1).read_to_end(&mut text).map_err(|error| refuse(&error))?;
    if count as u64 > MAX_DATABASE {
        return Err(refuse(&format_args!("it is larger than {} MiB", MAX_DATABASE >> 20)));
    }
    Ok(text)
}

/// Programs that have dropped their privileges open `/dev/stdout` anew, and that is a check of the pipe's owner.
fn own_pipes(exec: &Exec, user: &User) -> rustix::io::Result<()> {
    let owner = Some(Uid::from_raw(user.uid));
    if exec.stdin.is_some() && exec.tty.is_none() {
        fchown(stdin(), owner, None)?;
    }
    fchown(stdout(), owner, None)?;
    fchown(stderr(), owner, None)
}

fn make_directory(path: &str) -> Result<(), Refusal> {
    std::fs::DirBuilder::new().recursive(true).mode(0o755).create(path).map_err(|error| {
        refusal(RefusalCode::WorkingDirectory, format!("cannot make working directory {}: {error}", quoted(path)))
    })
}

fn become_user(user: &User) -> Result<(), Refusal> {
    let groups: Vec<Gid> = user.groups.iter().map(|&gid| Gid::from_raw(gid)).collect();
    let (uid, gid) = (Uid::from_raw(user.uid), Gid::from_raw(user.gid));
    system("set the groups", set_thread_groups(&groups))?;
    system("set the group", set_thread_res_gid(gid, gid, gid))?;
    system("set the user", set_thread_res_uid(uid, uid, uid))
}

fn environment(exec: &Exec, user: &User) -> Result<StringArray, Refusal> {
    let mut env = exec.env.clone();
    if !env.iter().any(|entry| entry.starts_with("HOME=")) {
        env.push(format!("HOME={}", user.home));
    }
    if exec.tty.is_some() && !env.iter().any(|entry| entry.starts_with("TERM=")) {
        env.push("TERM=xterm".to_owned());
    }
    strings("environment", env)
}

fn strings(what: &str, strings: Vec<String>) -> Result<StringArray, Refusal> {
    let strings: Result<Vec<CString>, _> = strings.into_iter().map(CString::new).collect();
    strings
        .map(StringArray::new)
        .map_err(|_| refusal(RefusalCode::BadRequest, format!("the command's {what} holds a NUL character")))
}

/// Runs the first program found. Returns when none runs, with the reason that says most.
fn start(exec: &Exec, env: &StringArray) -> Refusal {
    let argv = match strings("arguments", exec.argv.clone()) {
        Ok(argv) => argv,
        Err(refusal) => return refusal,
    };
    let program = exec.argv.first().map_or("", String::as_str);
    let path = lookup::path_of(&exec.env);
    let mut denied = None;
    for candidate in lookup::candidates(program, path) {
        match sys::execve(&candidate, &argv, env) {
            Errno::NOENT if rustix::fs::access(&candidate, rustix::fs::Access::EXISTS).is_ok() => {
                let what = format!("cannot run {}: the interpreter it names does not exist", quoted(program));
                return refusal(RefusalCode::CommandNotExecutable, what);
            }
            Errno::NOENT | Errno::NOTDIR | Errno::NAMETOOLONG | Errno::LOOP => {}
            Errno::ACCESS => denied = Some(Errno::ACCESS),
            error => return failure(program, error),
        }
    }
    match denied {
        Some(error) => failure(program, error),
        None if program.contains('/') => {
            refusal(RefusalCode::CommandNotFound, format!("command {} does not exist", quoted(program)))
        }
        None => {
            let what = format!("command {} is in no directory of `PATH` ({})", quoted(program), quoted(path));
            refusal(RefusalCode::CommandNotFound, what)
        }
    }
}

fn failure(program: &str, error: Errno) -> Refusal {
    let code = match error {
        Errno::TOOBIG => RefusalCode::BadRequest,
        Errno::AGAIN | Errno::NOMEM | Errno::MFILE | Errno::NFILE | Errno::IO => RefusalCode::System,
        _ => RefusalCode::CommandNotExecutable,
    };
    refusal(code, format!("cannot run {}: {error}", quoted(program)))
}
