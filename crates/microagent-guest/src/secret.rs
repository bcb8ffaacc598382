//! Secrets: files in memory that one user can read.

use crate::command;
use crate::refusal::{quoted, refusal};
use crate::workspace::Workspace;
use microagent_protocol::{Refusal, RefusalCode, SECRETS, wipe};
use rustix::fs::{CWD, Gid, Mode, OFlags, Uid, fchown, openat, renameat};
use rustix::io::Errno;
use rustix::process::fchdir;
use std::fs::File;
use std::io::{Read, Write};

/// Largest value that is taken.
const MAX_VALUE: u64 = 1 << 20;

/// So much more room keeps reading from stopping for a look, by way of the stack, at whether that was all.
const ROOM_TO_SPARE: usize = 4096;

/// Longest name.
const MAX_NAME: usize = 128;

/// Enters the directory of secrets, which is not found by its path: the workspace may have mounted something else over it, and what is
/// written there would not be found again when secrets are to go.
pub(crate) fn enter(workspace: &Workspace) -> Result<(), Refusal> {
    let secrets = workspace.private.secrets.as_ref().ok_or(Errno::NOENT);
    secrets.and_then(fchdir).map_err(|error| {
        refusal(RefusalCode::FileAccess, format!("cannot enter the directory of secrets `{SECRETS}`: {error}"))
    })
}

/// Writes what comes from standard input to the file of that name in the directory this process has entered, for `user` alone. A reader finds the value that was there before, or
/// this one.
pub(crate) fn store(name: &str, user: &str) -> Result<(), Refusal> {
    let letters = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    if name.is_empty() || name.len() > MAX_NAME || !name.bytes().all(letters) {
        let what = format!("secret {} is not named by 1 to {MAX_NAME} letters, digits and `_`", quoted(name));
        return Err(refusal(RefusalCode::BadRequest, what));
    }
    let user = command::find_user(user)?;
    let failed = |error: Errno| {
        let code = if error == Errno::NOSPC { RefusalCode::DiskFull } else { RefusalCode::FileAccess };
        refusal(code, format!("cannot write the secret {}: {error}", quoted(name)))
    };
    let io = |error: std::io::Error| failed(Errno::from_io_error(&error).unwrap_or(Errno::IO));
    let owner = (Some(Uid::from_raw(user.uid)), Some(Gid::from_raw(user.gid)));
    let directory = openat(CWD, c".", OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).map_err(failed)?;
    fchown(&directory, owner.0, owner.1).map_err(failed)?;
    let value = Value::read().map_err(io)?;
    if value.0.len() as u64 > MAX_VALUE {
        return Err(refusal(RefusalCode::BadRequest, format!("the secret {} is larger than 1 MiB", quoted(name))));
    }
    let new = format!(".{name}.new");
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut file = File::from(openat(&directory, new.as_str(), flags, Mode::from_raw_mode(0o400)).map_err(failed)?);
    file.write_all(&value.0).map_err(io)?;
    fchown(&file, owner.0, owner.1).map_err(failed)?;
    renameat(&directory, new.as_str(), &directory, name).map_err(failed)
}

/// A value on its way to its file. Nothing of it stays in memory.
struct Value(Vec<u8>);

impl Value {
    /// Reads one from standard input, past the buffer that this has, and into room enough for all of it: growing would leave some behind.
    fn read() -> std::io::Result<Value> {
        let input = File::from(rustix::io::dup(rustix::stdio::stdin())?);
        let mut value = Value(Vec::with_capacity(MAX_VALUE as usize + ROOM_TO_SPARE));
        input.take(MAX_VALUE + 1).read_to_end(&mut value.0)?;
        Ok(value)
    }
}

impl Drop for Value {
    fn drop(&mut self) {
        wipe(&mut self.0);
    }
}
