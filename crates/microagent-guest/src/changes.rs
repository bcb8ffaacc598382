//! What a workspace changed against its image.
//!
//! Overlayfs puts everything that was changed into the upper directory: a changed file whole, a deleted one as a device with the number
//! zero, a directory that hides the one below it with an attribute that says so. So only that directory is walked, and what is found in
//! it compared with what is below. A file that was opened for writing and left as it was is no change, nor is a directory for what was
//! changed in it.

mod compare;
mod walk;

use crate::refusal::refusal;
use crate::task;
use crate::workspace::DISK;
use microagent_protocol::{Change, ChangeKind, Refusal, RefusalCode};
use microagent_tar::{Error, Packer};
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;
use std::ffi::CStr;
use std::io::{BufWriter, Write};
use std::path::Path;
use walk::{Found, Layers, What};

/// A file of this prefix in a layer removes its namesake in lower ones, and one of this name all that lower ones have in its directory (OCI
/// image specification, `layer.md`).
const WHITEOUT: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";

/// Attributes of overlayfs' own, which mean nothing elsewhere.
const PRIVATE: [&[u8]; 2] = [b"trusted.overlay.", b"user.overlay."];

/// Whether an attribute is the file's and not overlayfs'.
fn is_of_file(name: &[u8]) -> bool {
    !PRIVATE.iter().any(|private| name.starts_with(private))
}

/// Writes the changes as lines of JSON.
pub(crate) fn list(output: impl Write) -> Result<(), Refusal> {
    let mut output = BufWriter::new(output);
    let written = |error: std::io::Error| task::refused(&Error::Write(error));
    walk(&mut |found| {
        let Some(change) = found.change else { return Ok(()) };
        let line = Change {
            path: format!("/{}", String::from_utf8_lossy(found.path)),
            change,
            kind: found.kind,
            size: if change == ChangeKind::Deleted { 0 } else { found.size },
        };
        let line = serde_json::to_vec(&line).expect("a change has only string keys");
        output.write_all(&line).and_then(|()| output.write_all(b"\n")).map_err(written)
    })?;
    output.flush().map_err(written)
}

/// Writes the changes as a layer.
pub(crate) fn pack(output: impl Write) -> Result<(), Refusal> {
    let mut packer = Packer::new(output, is_of_file);
    let done = |result: Result<(), Error>| result.map_err(|error| task::refused(&error));
    walk(&mut |found| {
        let Found { at, name, path, .. } = *found;
        done(match found.what {
            What::Deleted { needs_mark } => {
                let (parents, name) = path.split_at(path.iter().rposition(|byte| *byte == b'/').map_or(0, |at| at + 1));
                if needs_mark { packer.add_mark(&[parents, WHITEOUT, name].concat()) } else { Ok(()) }
            }
            What::Directory { .. } if path.is_empty() && found.change.is_none() => Ok(()),
            What::Directory { needs_mark } => {
                let added = packer.add_one(at, name, if path.is_empty() { b"." } else { path });
                let mut mark = || packer.add_mark(&[path, b"/", OPAQUE].concat());
                if needs_mark { added.and_then(|()| mark()) } else { added }
            }
            What::Other if found.change.is_none() => Ok(()),
            What::Other => packer.add_one(at, name, path),
        })
    })?;
    packer.finish().map(drop).map_err(|error| task::refused(&error))
}

fn walk(visit: &mut walk::Visit<'_>) -> Result<(), Refusal> {
    let failed = |error| cannot_read(b"", error);
    let disk = open(CWD, DISK).map_err(failed)?;
    // What is not on the disk yet may be refused there for lack of room.
    rustix::fs::syncfs(&disk).map_err(failed)?;
    let layers = Layers::open(Path::new(DISK)).map_err(failed)?;
    walk::walk(&layers, visit)
}

fn open(at: impl rustix::fd::AsFd, path: &str) -> rustix::io::Result<rustix::fd::OwnedFd> {
    openat(at, path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

fn cannot_read(path: &[u8], error: Errno) -> Refusal {
    let path = microagent_tar::printable(path);
    refusal(RefusalCode::FileAccess, format!("cannot read what the workspace changed at `/{path}`: {error}"))
}

/// The name of a directory in itself.
const ITSELF: &CStr = c".";
