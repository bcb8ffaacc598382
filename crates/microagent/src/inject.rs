//! Files of the host that are put into a workspace before its set-up steps are run.
//!
//! They are captured when the workspace is made, as one archive in its directory: what its set-up finds, now or when it is tried again, is
//! what was there then.

use crate::{Error, FileSpec};
use microagent_machine::Channel;
use microagent_protocol::{Owner, Request};
use microagent_state::Workspace;
use microagent_tar::{Kind, Metadata, Writer};
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::PathBuf;
use std::time::Instant;

/// Keeps what the files hold now.
pub(crate) fn capture(workspace: &Workspace, files: &[FileSpec]) -> Result<(), Error> {
    if files.is_empty() {
        return Ok(());
    }
    let path = archive(workspace);
    let unwritable = microagent_state::Error::io("write", &path);
    let create = || File::options().write(true).create(true).truncate(true).mode(0o600).open(&path);
    let mut writer = Writer::new(create().map_err(unwritable)?);
    for FileSpec { source, destination, mode } in files {
        let unreadable = |error| Error::ReadFile { option: "files", path: source.clone(), source: error };
        let file = File::open(source).map_err(unreadable)?;
        let metadata = file.metadata().map_err(unreadable)?;
        let entry = Metadata {
            mode: (mode & 0o7777) as u16,
            mtime: metadata.mtime(),
            mtime_nanos: u32::try_from(metadata.mtime_nsec()).unwrap_or_default(),
            ..Metadata::default()
        };
        let name = destination.trim_start_matches('/').as_bytes();
        writer.entry(name, Kind::File(metadata.len()), &entry)?;
        writer.data_of(&file, metadata.len(), name)?;
    }
    writer.finish()?;
    Ok(())
}

/// Puts them into the workspace of a guest that is up, if there are any.
pub(crate) fn inject(channel: &Channel, workspace: &Workspace, deadline: Option<Instant>) -> Result<(), Error> {
    let path = archive(workspace);
    let mut captured = match File::open(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        opened => opened.map_err(microagent_state::Error::io("read", &path))?,
    };
    let mut input = channel.input();
    let request = Request::Unpack { directory: "/".to_owned(), input: input.id(), owner: Owner::Keep };
    let call = channel.call(&request)?;
    let sent = io::copy(&mut captured, &mut input).and_then(|_| input.flush());
    drop(input);
    // The guest's own reason comes first: when it stops taking things in, that is all that is seen here.
    call.wait(deadline)?;
    sent.map_err(|source| Error::CopyStream { source })
}

/// Keeps those of one workspace for another.
pub(crate) fn copy(from: &Workspace, to: &Workspace) -> Result<(), Error> {
    let (source, target) = (archive(from), archive(to));
    match std::fs::copy(&source, &target) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        copied => Ok(copied.map(drop).map_err(microagent_state::Error::io("copy", source))?),
    }
}

/// Forgets them: they are in the workspace.
pub(crate) fn forget(workspace: &Workspace) {
    // What stays is never looked at again.
    let _ = std::fs::remove_file(archive(workspace));
}

fn archive(workspace: &Workspace) -> PathBuf {
    workspace.path().join("files.tar")
}
