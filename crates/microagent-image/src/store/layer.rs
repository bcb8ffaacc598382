//! One layer: fetched into the store once, verified, and unpacked on the way.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;

use microagent_protocol::Fault;

use crate::digest::{Algorithm, Digester};
use crate::manifest::Descriptor;
use crate::progress::{Event, Progress};
use crate::rootfs;
use crate::source::{Sink, Source};
use crate::{Cancellation, Digest, Error};

use super::lease::Lease;
use super::lock::FileLock;
use super::tail::{End, Tail};
use super::{ImageStore, files};

/// A layer as the base is built from it.
pub(super) struct UnpackedLayer {
    /// Its uncompressed tar, in a file without a name.
    pub(super) tar: File,
    /// Digest of the tar.
    pub(super) diff_id: Digest,
    /// Bytes of the tar.
    pub(super) size: u64,
}

/// What fetching a layer needs besides the layer.
pub(super) struct Fetching<'a> {
    pub(super) store: &'a ImageStore,
    pub(super) lease: &'a Lease,
    pub(super) source: &'a dyn Source,
    pub(super) cancellation: &'a Cancellation,
    pub(super) progress: &'a dyn Progress,
}

impl Fetching<'_> {
    /// Makes sure the store has the blob, and unpacks it.
    pub(super) fn layer(&self, descriptor: &Descriptor) -> Result<UnpackedLayer, Error> {
        let digest = &descriptor.digest;
        let waiting = || self.progress.event(Event::Waiting { digest });
        let _lock = FileLock::acquire(&self.store.lock_of(digest), self.cancellation, waiting)?;
        let blob = self.store.blob_path(digest);
        let unpacked = match self.stored(&blob, descriptor)? {
            Some(unpacked) => unpacked,
            None => self.download(&blob, descriptor)?,
        };
        self.progress.event(Event::Unpacked { digest, bytes: unpacked.size });
        Ok(unpacked)
    }

    /// Unpacks the blob if the store has it undamaged. One that is damaged is removed and counts as missing.
    fn stored(&self, blob: &Path, descriptor: &Descriptor) -> Result<Option<UnpackedLayer>, Error> {
        if !blob.exists() {
            return Ok(None);
        }
        let mut content = Content::open(blob, descriptor.digest.algorithm(), descriptor.size)?;
        if content.received != descriptor.size || content.digest() != descriptor.digest {
            files::remove(blob)?;
            return Ok(None);
        }
        let total = descriptor.size;
        self.progress.event(Event::Layer { digest: &descriptor.digest, done: total, total });
        self.unpack_while(&mut content, |_| Ok(()))?.unpacked.map(Some)
    }

    /// Downloads the blob, or the rest of it, and unpacks it meanwhile.
    ///
    /// What a broken transfer leaves is kept for the next attempt; anything that proves wrong is not.
    fn download(&self, blob: &Path, descriptor: &Descriptor) -> Result<UnpackedLayer, Error> {
        let partial = self.store.partial_path(&descriptor.digest);
        loop {
            let mut content = Content::open(&partial, descriptor.digest.algorithm(), descriptor.size)?;
            let resumed = content.received > 0;
            let Outcome { fetched, unpacked } =
                self.unpack_while(&mut content, |content| self.source.fetch(descriptor, content, self.cancellation))?;
            if let Err(error) = fetched {
                if !is_interruption(&error) {
                    files::remove(&partial)?;
                }
                return Err(error);
            }
            let found = content.digest();
            if found == descriptor.digest {
                let unpacked = unpacked.inspect_err(|_| drop(files::remove(&partial)))?;
                files::rename(&partial, blob)?;
                return Ok(unpacked);
            }
            files::remove(&partial)?;
            // The damage may be in what an earlier attempt left, so the whole is fetched once more.
            if !resumed {
                let what = format!("layer `{}`", descriptor.digest.short());
                return Err(Error::DigestMismatch { what, expected: descriptor.digest.clone(), found });
            }
        }
    }

    /// Unpacks `content` in a thread of its own while `fetch` adds to it.
    fn unpack_while(
        &self,
        content: &mut Content,
        fetch: impl FnOnce(&mut Content) -> Result<(), Error>,
    ) -> Result<Outcome, Error> {
        let tar = self.lease.temporary_file()?;
        let reading = content.file.try_clone().map_err(Error::io("reading", &content.path))?;
        let tail = Arc::clone(&content.tail);
        let (fetched, unpacked) = thread::scope(|scope| {
            let unpacking = scope.spawn(|| {
                let input = Cancellable { inner: tail.reader(&reading), cancellation: self.cancellation };
                rootfs::decompress(input, &tar, &self.store.limits)
            });
            let _abandon = tail.abandon_on_drop();
            let fetched = fetch(content);
            tail.close(if fetched.is_ok() { End::Complete } else { End::Abandoned });
            (fetched, unpacking.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
        });
        self.cancellation.check()?;
        let unpacked = unpacked
            .map_err(Error::from)
            .and_then(|unpacked| Ok(UnpackedLayer { tar, diff_id: unpacked.diff_id.parse()?, size: unpacked.size }));
        Ok(Outcome { fetched, unpacked })
    }
}

/// What came of fetching and unpacking at the same time. The caller decides which one matters: bytes that were fetched
/// completely may be the wrong ones, and that is why they do not unpack.
struct Outcome {
    fetched: Result<(), Error>,
    unpacked: Result<UnpackedLayer, Error>,
}

/// Whether the same pull may get further another time, so that what it has is worth keeping.
pub(super) fn is_interruption(error: &Error) -> bool {
    matches!(error, Error::Cancelled) || error.retryable()
}

/// The compressed bytes of a layer in their file, hashed as they come.
struct Content {
    file: File,
    path: PathBuf,
    received: u64,
    digester: Digester,
    tail: Arc<Tail>,
}

impl Content {
    /// Opens or creates the file at `path`. What it already holds, up to `size` bytes, counts as received.
    fn open(path: &Path, algorithm: Algorithm, size: u64) -> Result<Content, Error> {
        let failed = || Error::io("opening", path);
        let options = File::options().read(true).write(true).create(true).truncate(false).mode(0o600).open(path);
        let mut file = options.map_err(failed())?;
        if file.metadata().map_err(failed())?.len() > size {
            file.set_len(0).map_err(failed())?;
        }
        let mut digester = Digester::new(algorithm);
        let received = hash(&mut file, &mut digester).map_err(Error::io("reading", path))?;
        Ok(Content { file, path: path.to_owned(), received, digester, tail: Arc::new(Tail::new(received)) })
    }

    /// Digest of everything received so far.
    fn digest(&self) -> Digest {
        self.digester.clone().finish()
    }
}

impl Sink for Content {
    fn received(&self) -> u64 {
        self.received
    }

    fn accept(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.file.write_all(bytes).map_err(Error::io("writing", &self.path))?;
        self.digester.update(bytes);
        self.received += bytes.len() as u64;
        self.tail.grow(self.received);
        Ok(())
    }
}

/// Feeds all of `file` to `digester`, and leaves it positioned at its end.
fn hash(file: &mut File, digester: &mut Digester) -> io::Result<u64> {
    let mut buffer = vec![0; 256 * 1024];
    let mut total = 0;
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(total),
            read => {
                digester.update(&buffer[..read]);
                total += read as u64;
            }
        }
    }
}

/// A reader that fails once its work is cancelled.
struct Cancellable<'a, R> {
    inner: R,
    cancellation: &'a Cancellation,
}

impl<R: Read> Read for Cancellable<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.cancellation.is_cancelled() {
            return Err(io::Error::other("the work was cancelled"));
        }
        self.inner.read(buffer)
    }
}
