//! Copying between a workspace and the host.

use super::Files;
use crate::{Client, Error, Interrupt};
use microagent_machine::channel::{Input, Output};
use microagent_protocol::{Fault, FileKind, FileStat, Owner};
use microagent_state::Name;
use microagent_tar::{Ownership, UnpackOptions, Unpacked};
use serde::Serialize;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Code of what a guest gave up because nobody took it in.
const CANCELLED: &str = "cancelled";

/// As much as fits a frame of the channel.
const CHUNK: usize = microagent_protocol::frame::MAX_DATA;

/// Options of copying.
#[derive(Clone, Debug, Default)]
pub struct CopyOptions {
    /// Copy what a symbolic link at the end of the source's path leads to, instead of the link.
    pub follow: bool,
    /// `UID:GID` of everything that is copied into a workspace, instead of those it has.
    pub owner: Option<(u32, u32)>,
    /// Stops it from another thread.
    pub interrupt: Interrupt,
}

/// What was copied.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Copied {
    /// Files, directories and links.
    pub entries: u64,
    /// Bytes of files.
    pub bytes: u64,
    /// Device nodes and sockets that were left out.
    #[serde(skip_serializing_if = "is_zero")]
    pub skipped: u64,
    /// Files that lost their setuid or setgid bit.
    #[serde(skip_serializing_if = "is_zero")]
    pub stripped: u64,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// Where something goes: a directory that is there, and what it is called in it.
struct Place {
    directory: String,
    name: String,
}

impl Client {
    /// Copies a file or tree of the host into a workspace. Where `destination` is a directory, it goes into it; else it gets that name.
    /// A source that ends with `/.` stands for what is in a directory: that goes into `destination` itself, which is made if it is missing.
    pub fn copy_in(
        &self,
        source: &Path,
        name: &Name,
        destination: &str,
        options: &CopyOptions,
    ) -> Result<Copied, Error> {
        let unreadable = |error| Error::CopySource { path: source.to_owned(), source: error };
        let metadata = if options.follow { source.metadata() } else { source.symlink_metadata() };
        let metadata = metadata.map_err(unreadable)?;
        let called = base_name(source);
        let files = Files::open(self, name, &options.interrupt)?;
        let there = files.find(destination, true)?;
        // What is in a directory, and not the directory itself, goes by no name of its own.
        let place = place(destination, called.as_deref().unwrap_or("."), there.as_ref(), metadata.is_dir())?;
        let owner = options.owner.map_or(Owner::Keep, |(uid, gid)| Owner::As { uid, gid });
        let (input, pending) = files.unpack(&place.directory, owner)?;
        let output = BufWriter::with_capacity(CHUNK, input);
        let packed = microagent_tar::pack(source, place.name.as_bytes(), options.follow, output);
        // When the guest stops taking things in, that is all that is seen here: then the reason is its own.
        let refused = pending.wait();
        let packed = match packed {
            Err(microagent_tar::Error::Write(source)) => {
                return Err(refused.err().unwrap_or(Error::CopyStream { source }));
            }
            packed => packed?,
        };
        refused?;
        files.close()?;
        Ok(Copied { entries: packed.entries, bytes: packed.bytes, skipped: packed.skipped_sockets, stripped: 0 })
    }

    /// Unpacks a tar stream below a directory of a workspace.
    pub fn unpack_in(
        &self,
        mut archive: impl Read,
        name: &Name,
        directory: &str,
        options: &CopyOptions,
    ) -> Result<(), Error> {
        let files = Files::open(self, name, &options.interrupt)?;
        let owner = options.owner.map_or(Owner::Keep, |(uid, gid)| Owner::As { uid, gid });
        let (input, pending) = files.unpack(directory, owner)?;
        let sent = copy(&mut archive, &mut BufWriter::with_capacity(CHUNK, input));
        let refused = pending.wait();
        match sent {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => return Err(Error::CopyStream { source: error }),
            sent => refused.and(sent.map_err(|source| Error::CopyStream { source }))?,
        }
        files.close()
    }

    /// Copies a file or tree of a workspace to the host, by the same rules. It is not trusted: nothing outside of what is asked for is
    /// touched, devices are left out, and nothing is setuid. Whose it is, is kept where this process may decide that.
    pub fn copy_out(
        &self,
        name: &Name,
        source: &str,
        destination: &Path,
        options: &CopyOptions,
    ) -> Result<Copied, Error> {
        let files = Files::open(self, name, &options.interrupt)?;
        let stat = files.stat(source, options.follow)?;
        let called = base_name(Path::new(source)).unwrap_or_else(|| ".".to_owned());
        let (directory, root) = host_place(destination, &called, stat.kind == FileKind::Directory)?;
        let failed = |source| Error::CopyDestination { path: directory.clone(), source };
        let to = File::open(&directory).map_err(failed)?;
        let (output, pending) = files.pack(source, &root, options.follow)?;
        let unpacked = settle(unpack(&to, output, &root), pending.wait())?;
        files.close()?;
        Ok(Copied {
            entries: unpacked.entries,
            bytes: unpacked.bytes,
            skipped: unpacked.skipped_devices,
            stripped: unpacked.stripped_modes,
        })
    }

    /// Writes a file or tree of a workspace to `archive` as a tar stream.
    pub fn pack_out(
        &self,
        name: &Name,
        source: &str,
        mut archive: impl Write,
        options: &CopyOptions,
    ) -> Result<(), Error> {
        let files = Files::open(self, name, &options.interrupt)?;
        let root = base_name(Path::new(source)).unwrap_or_else(|| ".".to_owned());
        let (mut output, pending) = files.pack(source, &root, options.follow)?;
        let sent = drain(&mut output, &mut archive);
        drop(output);
        settle(sent.map_err(|source| Error::CopyStream { source }), pending.wait())?;
        files.close()
    }
}

/// What became of a copy to the host, by both sides' accounts. The guest's own reason comes first, because when it stops sending, that is all
/// that is seen here; but that it was not listened to any more has its reason here.
fn settle<T>(taken: Result<T, Error>, sent: Result<(), Error>) -> Result<T, Error> {
    match (taken, sent) {
        (Err(taken), Err(sent)) if sent.code() == CANCELLED => Err(taken),
        (_, Err(sent)) => Err(sent),
        (taken, Ok(())) => taken,
    }
}

/// Unpacks what a guest sends. All of it has to be `root`, or in it.
fn unpack(to: &File, output: Output, root: &str) -> Result<Unpacked, Error> {
    let ownership = if rustix::process::geteuid().is_root() { Ownership::Archive } else { Ownership::Caller };
    let within = (root != ".").then(|| root.as_bytes().to_vec());
    let options = UnpackOptions { ownership, within, ..UnpackOptions::default() };
    Ok(microagent_tar::unpack(to, output, &options)?)
}

fn copy(from: &mut impl Read, to: &mut BufWriter<Input>) -> io::Result<()> {
    io::copy(from, to)?;
    to.flush()
}

/// Passes chunks on as they come, without copying them.
pub(super) fn drain(from: &mut Output, to: &mut impl Write) -> io::Result<()> {
    while let Some(chunk) = from.next_chunk()? {
        to.write_all(&chunk)?;
    }
    to.flush()
}

/// What a path calls the thing it leads to; `None` when it means what is in a directory.
fn base_name(path: &Path) -> Option<String> {
    let bytes = path.as_os_str().as_bytes();
    if bytes.ends_with(b"/.") || bytes == b"." || bytes == b"/" {
        return None;
    }
    path.file_name().map(|name| name.to_string_lossy().into_owned())
}

/// Where in a workspace something goes that is called `called`.
fn place(destination: &str, called: &str, there: Option<&FileStat>, is_directory: bool) -> Result<Place, Error> {
    let bad = |reason: &str| Error::BadDestination { path: destination.to_owned(), reason: reason.to_owned() };
    if !destination.starts_with('/') {
        return Err(bad("a path in the guest starts with `/`"));
    }
    match there.map(|stat| stat.kind) {
        Some(FileKind::Directory) => {
            return Ok(Place { directory: destination.to_owned(), name: called.to_owned() });
        }
        Some(_) if is_directory => return Err(bad("it is a file, and a directory cannot take its place")),
        None if destination.ends_with('/') && !is_directory => return Err(bad("there is no such directory")),
        _ => {}
    }
    let trimmed = destination.trim_end_matches('/');
    let (directory, name) = trimmed.rsplit_once('/').ok_or_else(|| bad("it names no file"))?;
    if name.is_empty() || name == "." || name == ".." {
        return Err(bad("it names no file"));
    }
    let directory = if directory.is_empty() { "/" } else { directory };
    Ok(Place { directory: directory.to_owned(), name: name.to_owned() })
}

/// Where on the host something goes that is called `called`: a directory that is there, and its name in it.
fn host_place(destination: &Path, called: &str, is_directory: bool) -> Result<(PathBuf, String), Error> {
    let bad =
        |reason: &str| Error::BadDestination { path: destination.display().to_string(), reason: reason.to_owned() };
    match destination.metadata() {
        Ok(there) if there.is_dir() => return Ok((destination.to_owned(), called.to_owned())),
        Ok(_) if is_directory => return Err(bad("it is a file, and a directory cannot take its place")),
        Err(_) if destination.as_os_str().as_bytes().ends_with(b"/") && !is_directory => {
            return Err(bad("there is no such directory"));
        }
        _ => {}
    }
    let name = destination.file_name().and_then(OsStr::to_str).ok_or_else(|| bad("it names no file"))?;
    let parent = destination.parent().filter(|parent| !parent.as_os_str().is_empty());
    Ok((parent.unwrap_or(Path::new(".")).to_owned(), name.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stat(kind: FileKind) -> FileStat {
        FileStat { kind, size: 0, mode: 0, uid: 0, gid: 0, modified_ns: 0 }
    }

    fn placed(destination: &str, there: Option<FileKind>, is_directory: bool) -> Option<(String, String)> {
        let there = there.map(stat);
        let place = place(destination, "src", there.as_ref(), is_directory).ok()?;
        Some((place.directory, place.name))
    }

    #[test]
    fn a_copy_goes_where_cp_would_put_it() {
        use FileKind::{Directory, File};
        let to = |directory: &str, name: &str| Some((directory.to_owned(), name.to_owned()));
        assert_eq!(placed("/work", Some(Directory), false), to("/work", "src"));
        assert_eq!(placed("/work/", Some(Directory), true), to("/work/", "src"));
        assert_eq!(placed("/work/new", None, false), to("/work", "new"));
        assert_eq!(placed("/new", None, true), to("/", "new"));
        assert_eq!(placed("/new/", None, true), to("/", "new"));
        assert_eq!(placed("/old", Some(File), false), to("/", "old"));
        assert_eq!(placed("/old", Some(File), true), None);
        assert_eq!(placed("/new/", None, false), None);
        assert_eq!(placed("relative", None, false), None);
        assert_eq!(placed("/a/..", None, false), None);
    }

    #[test]
    fn a_source_that_means_what_is_in_a_directory_has_no_name() {
        assert_eq!(base_name(Path::new("/a/b")), Some("b".to_owned()));
        assert_eq!(base_name(Path::new("/a/b/")), Some("b".to_owned()));
        for contents in ["/a/.", ".", "/"] {
            assert_eq!(base_name(Path::new(contents)), None, "{contents}");
        }
    }
}
