//! Disks that take the place of a workspace's own: all of them, or none.
//!
//! New disks are made in a directory of the workspace, `restoring`. Before they are moved to where they belong, the old ones get a second
//! name beside them, and `undo.json` says which is which. When all have been moved the directory is renamed, which is the moment from which
//! there is no way back. Whoever takes the workspace next and finds the directory under its first name moves the old ones back.

use crate::{Error, Workspace};
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// Where the directory is from the moment on from which the new disks are the workspace's.
const RESTORED: &str = "restored";

/// Which disk was where.
const UNDO: &str = "undo.json";

impl Workspace {
    /// Moves new disks, which lie in the directory [`Workspace::RESTORING`], to where they belong. Needs the lease.
    pub fn swap_disks(&self, moves: &[(PathBuf, PathBuf)]) -> Result<(), Error> {
        let directory = self.path().join(Workspace::RESTORING);
        let mut undo: Vec<(String, PathBuf)> = Vec::new();
        for (number, (_, path)) in moves.iter().enumerate() {
            let old = format!("old-{number}");
            match fs::hard_link(path, directory.join(&old)) {
                Ok(()) => undo.push((old, path.clone())),
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(source) => return Err(Error::io("keep the disk", path)(source)),
            }
        }
        let bytes = serde_json::to_vec(&undo).expect("paths of a state directory are text");
        write_whole(&directory, UNDO, &bytes)?;
        for (new, path) in moves {
            fs::rename(new, path).map_err(Error::io("put the disk in its place", path))?;
        }
        let done = self.path().join(RESTORED);
        fs::rename(&directory, &done).map_err(Error::io("rename", &directory))?;
        // What stays is removed by whoever comes next.
        let _ = fs::remove_dir_all(done);
        Ok(())
    }

    /// Finishes or takes back what somebody left who was to move disks and died. Needs the lease.
    pub fn settle_disks(&self) -> Result<(), Error> {
        let directory = self.path().join(Workspace::RESTORING);
        if let Some(bytes) = read_if_there(&directory.join(UNDO))? {
            let undo: Vec<(String, PathBuf)> = serde_json::from_slice(&bytes)
                .map_err(|error| Error::BadRecord { path: directory.join(UNDO), reason: error.to_string() })?;
            for (old, path) in undo {
                match fs::rename(directory.join(old), &path) {
                    Err(error) if error.kind() != ErrorKind::NotFound => {
                        return Err(Error::io("put the disk back in its place", &path)(error));
                    }
                    // It was moved back already.
                    _ => {}
                }
            }
        }
        for left in [directory, self.path().join(RESTORED)] {
            match fs::remove_dir_all(&left) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(Error::io("remove", &left)(error)),
                _ => {}
            }
        }
        Ok(())
    }
}

fn read_if_there(path: &Path) -> Result<Option<Vec<u8>>, Error> {
    match fs::read(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        read => read.map(Some).map_err(Error::io("read", path)),
    }
}

/// Writes a file that is there whole or not at all.
fn write_whole(directory: &Path, name: &str, bytes: &[u8]) -> Result<(), Error> {
    let (new, path) = (directory.join(format!("{name}.new")), directory.join(name));
    let write = || {
        fs::write(&new, bytes)?;
        fs::File::open(&new)?.sync_all()?;
        fs::rename(&new, &path)
    };
    write().map_err(Error::io("write", &path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Name, StateDir};

    struct Scratch {
        _directory: tempfile::TempDir,
        workspace: Workspace,
        moves: Vec<(PathBuf, PathBuf)>,
    }

    impl Scratch {
        fn new() -> Scratch {
            let directory = tempfile::tempdir().unwrap();
            let workspace = StateDir::open(directory.path()).unwrap().create(&Name::new("box").unwrap()).unwrap();
            let restoring = workspace.path().join(Workspace::RESTORING);
            fs::create_dir(&restoring).unwrap();
            let moves = ["one", "two"].map(|name| (restoring.join(name), workspace.path().join(name)));
            for (new, path) in &moves {
                fs::write(new, "new").unwrap();
                fs::write(path, "old").unwrap();
            }
            Scratch { _directory: directory, workspace, moves: moves.to_vec() }
        }

        fn disks(&self) -> Vec<String> {
            self.moves.iter().map(|(_, path)| fs::read_to_string(path).unwrap()).collect()
        }

        fn is_clean(&self) -> bool {
            [Workspace::RESTORING, RESTORED].iter().all(|name| !self.workspace.path().join(name).exists())
        }
    }

    #[test]
    fn all_disks_are_moved_and_nothing_is_left() {
        let scratch = Scratch::new();
        scratch.workspace.swap_disks(&scratch.moves).unwrap();
        assert_eq!(scratch.disks(), ["new", "new"]);
        assert!(scratch.is_clean());
        scratch.workspace.settle_disks().unwrap();
        assert_eq!(scratch.disks(), ["new", "new"]);
    }

    #[test]
    fn half_a_move_is_taken_back_however_often_that_is_interrupted() {
        let scratch = Scratch::new();
        // The second cannot be moved, as if its mover had died before it.
        let missing = (scratch.workspace.path().join("nowhere"), scratch.moves[1].1.clone());
        scratch.workspace.swap_disks(&[scratch.moves[0].clone(), missing]).unwrap_err();
        assert_eq!(scratch.disks(), ["new", "old"]);
        // The first had been moved back when the next one died.
        let restoring = scratch.workspace.path().join(Workspace::RESTORING);
        fs::rename(restoring.join("old-0"), &scratch.moves[0].1).unwrap();
        scratch.workspace.settle_disks().unwrap();
        assert_eq!(scratch.disks(), ["old", "old"]);
        assert!(scratch.is_clean());
    }

    #[test]
    fn disks_that_were_not_moved_are_removed() {
        let scratch = Scratch::new();
        scratch.workspace.settle_disks().unwrap();
        assert_eq!(scratch.disks(), ["old", "old"]);
        assert!(scratch.is_clean());
    }
}
