//! Secrets: files in memory that one user can read.

use crate::command;
use crate::refusal::{quoted, refusal};
use microagent_protocol::{Refusal, RefusalCode, SECRETS};
use rustix::fs::{CWD, Gid, Mode, OFlags, Uid, fchown, openat, renameat};
use rustix::io::Errno;
use std::fs::File;
use std::io::{Read, Write};

/// Largest value that is taken.
const MAX_VALUE: u64 = 1 << 20;

/// Longest name.
const MAX_NAME: usize = 128;

/// Writes what comes from standard input to the file of that name, for `user` alone. A reader finds the value that was there before, or
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
    let directory = openat(CWD, SECRETS, OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty());
    let directory = directory.map_err(failed)?;
    fchown(&directory, owner.0, owner.1).map_err(failed)?;
    let mut value = Vec::new();
    std::io::stdin().lock().take(MAX_VALUE + 1).read_to_end(&mut value).map_err(io)?;
    if value.len() as u64 > MAX_VALUE {
        return Err(refusal(RefusalCode::BadRequest, format!("the secret {} is larger than 1 MiB", quoted(name))));
    }
    let new = format!(".{name}.new");
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut file = File::from(openat(&directory, new.as_str(), flags, Mode::from_raw_mode(0o400)).map_err(failed)?);
    file.write_all(&value).map_err(io)?;
    fchown(&file, owner.0, owner.1).map_err(failed)?;
    renameat(&directory, new.as_str(), &directory, name).map_err(failed)
}
