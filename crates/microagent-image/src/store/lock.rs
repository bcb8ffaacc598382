//! Locks on files: between threads, between processes, and released by the kernel when their owner dies.

use std::fs::{File, TryLockError};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::thread;

use crate::{Cancellation, Error};

/// A lock file that is held until this is dropped.
#[derive(Debug)]
pub(super) struct FileLock {
    _file: File,
}

impl FileLock {
    /// Takes the lock if nobody holds it.
    pub(super) fn try_acquire(path: &Path) -> Result<Option<FileLock>, Error> {
        loop {
            let file = open(path).map_err(Error::io("opening the lock", path))?;
            match file.try_lock() {
                Ok(()) if is_current(&file, path) => return Ok(Some(FileLock { _file: file })),
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Ok(None),
                Err(TryLockError::Error(error)) => return Err(Error::io("taking the lock", path)(error)),
            }
        }
    }

    /// Takes the lock, waiting for its holder if there is one. `waiting` is called before the first wait.
    pub(super) fn acquire(path: &Path, cancellation: &Cancellation, waiting: impl FnOnce()) -> Result<FileLock, Error> {
        let mut waiting = Some(waiting);
        loop {
            if let Some(lock) = FileLock::try_acquire(path)? {
                return Ok(lock);
            }
            cancellation.check()?;
            if let Some(waiting) = waiting.take() {
                waiting();
            }
            let file = open(path).map_err(Error::io("opening the lock", path))?;
            let file = wait(file, path, cancellation)?;
            if is_current(&file, path) {
                return Ok(FileLock { _file: file });
            }
        }
    }
}

fn open(path: &Path) -> io::Result<File> {
    File::options().create(true).truncate(false).write(true).mode(0o600).open(path)
}

/// Whether the locked file is still the one at `path`. The cleaner removes lock files nobody holds, and a lock on a
/// removed file excludes nobody.
fn is_current(file: &File, path: &Path) -> bool {
    let identity = |metadata: std::fs::Metadata| (metadata.dev(), metadata.ino());
    match (file.metadata(), path.metadata()) {
        (Ok(held), Ok(named)) => identity(held) == identity(named),
        _ => false,
    }
}

/// Blocks until the lock on `file` is held or `cancellation` is turned on.
///
/// Waiting for a lock cannot be interrupted, so a thread does it. Cancelled, it is left behind: it ends by itself,
/// releasing the lock unused, when the holder lets go.
fn wait(file: File, path: &Path, cancellation: &Cancellation) -> Result<File, Error> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().build().map_err(Error::io("waiting for the lock", path))?;
    let (sender, receiver) = tokio::sync::oneshot::channel();
    let waiter = thread::Builder::new().name("lock".to_owned());
    let spawned = waiter.spawn(move || {
        let outcome = file.lock().map(|()| file);
        // The receiver is gone if the wait was cancelled.
        let _ = sender.send(outcome);
    });
    spawned.map_err(Error::io("waiting for the lock", path))?;
    runtime.block_on(async {
        tokio::select! {
            biased;
            () = cancellation.cancelled() => Err(Error::Cancelled),
            outcome = receiver => {
                let outcome = outcome.unwrap_or_else(|_| Err(io::Error::other("the waiting thread ended early")));
                outcome.map_err(Error::io("waiting for the lock", path))
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn lock_is_exclusive_and_passes_to_who_waits() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lock");
        let held = FileLock::try_acquire(&path).unwrap().unwrap();
        assert!(FileLock::try_acquire(&path).unwrap().is_none());
        let (sender, waiting) = mpsc::channel();
        thread::scope(|scope| {
            let waiter = scope.spawn(|| FileLock::acquire(&path, &Cancellation::new(), || sender.send(()).unwrap()));
            waiting.recv().unwrap();
            drop(held);
            waiter.join().unwrap().unwrap();
        });
    }

    #[test]
    fn waiting_ends_when_cancelled_though_the_lock_stays_held() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lock");
        let _held = FileLock::try_acquire(&path).unwrap().unwrap();
        let cancellation = Cancellation::new();
        let outcome = FileLock::acquire(&path, &cancellation, || cancellation.cancel());
        assert!(matches!(outcome, Err(Error::Cancelled)));
    }

    #[test]
    fn lock_on_a_removed_file_is_not_taken_for_the_lock() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lock");
        let held = FileLock::try_acquire(&path).unwrap().unwrap();
        let (sender, waiting) = mpsc::channel();
        thread::scope(|scope| {
            let waiter = scope.spawn(|| FileLock::acquire(&path, &Cancellation::new(), || sender.send(()).unwrap()));
            waiting.recv().unwrap();
            std::fs::remove_file(&path).unwrap();
            drop(held);
            let _lock = waiter.join().unwrap().unwrap();
            assert!(FileLock::try_acquire(&path).unwrap().is_none());
        });
    }
}
