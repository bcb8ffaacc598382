//! The child side of a task: work on files, in a process of its own.
//!
//! Like a command it enters the workspace, so that every path means there what it says, and like a command it can take as long as a file
//! system takes, be killed, and fill no memory but its own. Unlike one it stays the agent: nothing of the image is needed. Its report is the
//! reply.

use crate::command::Pipes;
use crate::refusal::{quoted, refusal};
use crate::workspace::Workspace;
use crate::{changes, ext4, processors, secret, sys};
use microagent_protocol::{FileKind, FileStat, Owner, Refusal, RefusalCode, Reply, Request};
use microagent_tar::{Error, Ownership, UnpackOptions};
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, Stat, open, statat};
use rustix::io::Errno;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::fs::File;
use std::path::Path;

/// What a report begins with.
const DONE: u8 = b'+';
const REFUSED: u8 = b'-';

/// Longest path Linux takes.
const PATH_MAX: usize = 4096;

/// Does what `request` asks, and reports.
pub(crate) fn perform(request: &Request, workspace: &Workspace, pipes: &Pipes) -> ! {
    let (outcome, text) = match prepare(request, workspace, pipes).and_then(|()| answer(request)) {
        Ok(reply) => (DONE, serde_json::to_vec(&reply)),
        Err(refused) => (REFUSED, serde_json::to_vec(&refused)),
    };
    let report = [&[outcome][..], &text.unwrap_or_default()].concat();
    // If the agent is gone the machine is ending, and this process with it.
    let _ = rustix::io::write(&pipes.report, &report);
    sys::exit_now(0)
}

/// What a report says: the reply, as the agent passes it on, or a refusal. `None` if the task did not come to report.
pub(crate) fn outcome(report: &[u8]) -> Option<Result<Vec<u8>, Refusal>> {
    match report.split_first()? {
        (&DONE, reply) => Some(Ok(reply.to_vec())),
        (_, refused) => serde_json::from_slice(refused).ok().map(Err),
    }
}

/// What belongs to the workspace as a whole lies outside of it.
fn prepare(request: &Request, workspace: &Workspace, pipes: &Pipes) -> Result<(), Refusal> {
    let system = |error| refusal(RefusalCode::System, format!("cannot get to work: {error}"));
    if matches!(request, Request::Stat { .. } | Request::Pack { .. } | Request::Unpack { .. } | Request::Secret { .. })
    {
        move_into_link_name_space(workspace.namespace(), Some(LinkNameSpaceType::Mount)).map_err(system)?;
    }
    if let Request::Secret { .. } = request {
        secret::enter(workspace)?;
    }
    pipes.connect().map_err(system)?;
    processors::use_all();
    Ok(())
}

fn answer(request: &Request) -> Result<Reply, Refusal> {
    match request {
        Request::Stat { path, follow } => stat(absolute(path)?, *follow).map(Reply::Stat),
        Request::Pack { path, name, follow, .. } => {
            microagent_tar::pack(absolute(path)?, name.as_bytes(), *follow, stdout())
                .map(|_| Reply::Done)
                .map_err(|error| refused(&error))
        }
        Request::Unpack { directory, owner, .. } => unpack(absolute(directory)?, *owner).map(|()| Reply::Done),
        Request::Changes { .. } => changes::list(stdout()).map(|()| Reply::Done),
        Request::PackLayer { .. } => changes::pack(stdout()).map(|()| Reply::Done),
        Request::Secret { name, user, .. } => secret::store(name, user).map(|()| Reply::Done),
        Request::Grow => ext4::grow().map(Reply::Grown),
        _ => Err(refusal(RefusalCode::UnknownVerb, "it is no task")),
    }
}

/// Standard output without a buffer: what is written to it is buffered already.
fn stdout() -> File {
    File::from(rustix::io::dup(rustix::stdio::stdout()).expect("a process of few descriptors can have one more"))
}

fn absolute(path: &str) -> Result<&Path, Refusal> {
    if path.starts_with('/') && path.len() < PATH_MAX && !path.contains('\0') {
        return Ok(Path::new(path));
    }
    let what = format!("path {} is not an absolute path of fewer than {PATH_MAX} bytes", quoted(path));
    Err(refusal(RefusalCode::BadRequest, what))
}

fn stat(path: &Path, follow: bool) -> Result<FileStat, Refusal> {
    let flags = if follow { AtFlags::empty() } else { AtFlags::SYMLINK_NOFOLLOW };
    let stat = statat(CWD, path, flags).map_err(|error| file_refused("look at", path, error))?;
    Ok(FileStat {
        kind: kind(&stat),
        size: if matches!(kind(&stat), FileKind::File | FileKind::Symlink) { stat.st_size.cast_unsigned() } else { 0 },
        mode: stat.st_mode & 0o7777,
        uid: stat.st_uid,
        gid: stat.st_gid,
        modified_ns: stat.st_mtime.saturating_mul(1_000_000_000).saturating_add_unsigned(stat.st_mtime_nsec),
    })
}

/// What kind of file it is.
pub(crate) fn kind(stat: &Stat) -> FileKind {
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => FileKind::File,
        FileType::Directory => FileKind::Directory,
        FileType::Symlink => FileKind::Symlink,
        _ => FileKind::Other,
    }
}

fn unpack(directory: &Path, owner: Owner) -> Result<(), Refusal> {
    let ownership = match owner {
        Owner::Keep => Ownership::Archive,
        Owner::As { uid, gid } => Ownership::As { uid, gid },
    };
    let opened = open(directory, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|error| file_refused("unpack into", directory, error))?;
    let archive =
        File::from(rustix::io::dup(rustix::stdio::stdin()).map_err(|error| file_refused("read", directory, error))?);
    microagent_tar::unpack(opened, archive, &UnpackOptions::faithful(ownership))
        .map(drop)
        .map_err(|error| refused(&error))
}

fn file_refused(action: &str, path: &Path, error: Errno) -> Refusal {
    let code = match error {
        Errno::NOTDIR => RefusalCode::FileConflict,
        error => code_of(error),
    };
    refusal(code, format!("cannot {action} {}: {error}", quoted(&path.to_string_lossy())))
}

/// Why files could not be packed or unpacked.
pub(crate) fn refused(error: &Error) -> Refusal {
    let errno = error.system().map(|error| Errno::from_io_error(error).unwrap_or(Errno::IO));
    let code = match (error, errno) {
        (_, Some(errno)) => code_of(errno),
        (Error::Conflict { .. } | Error::Unpackable { .. }, _) => RefusalCode::FileConflict,
        _ => RefusalCode::BadArchive,
    };
    let cause = std::error::Error::source(error).map(|cause| format!(": {cause}")).unwrap_or_default();
    refusal(code, format!("{error}{cause}"))
}

fn code_of(error: Errno) -> RefusalCode {
    match error {
        Errno::NOENT => RefusalCode::FileMissing,
        Errno::NOSPC | Errno::DQUOT => RefusalCode::DiskFull,
        Errno::NOMEM => RefusalCode::System,
        // Whoever took what was written has left.
        Errno::PIPE => RefusalCode::Cancelled,
        _ => RefusalCode::FileAccess,
    }
}
