//! A new image: the layers of another, and one on top of them.

use std::fs::File;
use std::io::{self, Read, Write};

use flate2::write::GzEncoder;

use crate::commit::{Commit, LayerCompression, NewLayer, derive};
use crate::digest::{Algorithm, Digester};
use crate::manifest::Document;
use crate::progress::{Event, Progress};
use crate::source::Resolved;
use crate::{BaseImage, Cancellation, Digest, Error, Image, Platform};

use super::admit::Stored;
use super::lock::FileLock;
use super::{ImageStore, files, names};

/// The layer while it is compressed.
const UNFINISHED: &str = "layer";
/// Bytes of the layer between two looks at the cancellation.
const STRIDE: usize = 256 * 1024;
/// Of 315 MB of programs and libraries, levels 1, 2 and 6 make 140, 116 and 108 MB in 3.3, 4.5 and 7.6 s.
const GZIP_LEVEL: u32 = 2;
/// Makes 101 MB of the same in 2.4 s; level 1 makes 113 MB in 1.4 s.
const ZSTD_LEVEL: i32 = 3;
/// Zeroes at the end of every tar archive.
const END_OF_ARCHIVE: usize = 1024;

impl ImageStore {
    /// Makes an image of `commit` and the uncompressed tar of its layer, and builds the base of it.
    ///
    /// The layer may come from a guest: it is read once, up to [`Limits::layer_bytes`](crate::rootfs::Limits), and merged
    /// over the base by the rules of any layer. When this fails or is stopped, the store has nothing of it.
    pub fn commit(
        &self,
        commit: &Commit,
        layer: &mut dyn Read,
        progress: &dyn Progress,
    ) -> Result<(Image, BaseImage), Error> {
        commit.cancellation.check()?;
        names::check_new(&commit.target)?;
        self.prepare()?;
        let base = self.commit_base(&commit.base)?;
        let lease = self.lease(&base.digests)?;
        // The base may have gone between the look at it and the lease.
        base.check(self)?;
        let path = lease.path().join(UNFINISHED);
        let file = files::create_file(&path)?;
        let compressing = Compressing { limit: self.limits.layer_bytes, cancellation: &commit.cancellation, progress };
        let new = compressing.run(layer, &file, commit.compression).map_err(|error| match error {
            Failure::Write(source) => Error::io("writing", &path)(source),
            Failure::Other(error) => error,
        })?;
        let (manifest, config) = derive(commit, &base.manifest, &base.config, base.platform, &new)?;
        let resolved = Resolved::made(commit.target.clone(), base.platform, manifest, config)?;
        // Claimed before it has its place, where nothing refers to it yet.
        let claim = self.lease(&resolved.digests())?;
        let outcome = self
            .place_layer(&path, &file, &new.digest, &commit.cancellation)
            .and_then(|()| self.admit(&resolved, &Stored, &commit.cancellation, progress));
        drop((claim, lease));
        outcome.inspect_err(|_| drop(self.discard(&resolved.digests())))
    }

    /// The image a commit starts from, by its manifest: it need not have a name any more.
    fn commit_base(&self, digest: &Digest) -> Result<CommitBase, Error> {
        let what = format!("the image `{}`", digest.short());
        if !self.blob_path(digest).exists() {
            return Err(Error::NotLocal { name: digest.to_string() });
        }
        let bytes = self.read_blob(digest, &what)?;
        let Document::Image(manifest) = Document::parse(&bytes, None, &what)? else {
            return Err(Error::InconsistentImage { what, reason: "its manifest is an index".to_owned() });
        };
        let config = self.read_blob(&manifest.config.digest, &what)?;
        let recorded = self.base_of(digest)?.map(|base| base.record.platform);
        let named = || self.index().map(|index| index.images.into_iter().find(|entry| entry.manifest == *digest));
        let platform = match recorded {
            Some(platform) => platform,
            None => named()?.map_or_else(Platform::host, |entry| entry.platform),
        };
        let own = [digest.clone(), manifest.config.digest.clone()];
        let digests = own.into_iter().chain(manifest.layers.iter().map(|layer| layer.digest.clone())).collect();
        Ok(CommitBase { what, manifest: *manifest, config, platform, digests })
    }

    /// Moves the compressed layer to where layers are.
    fn place_layer(
        &self,
        unfinished: &std::path::Path,
        file: &File,
        digest: &Digest,
        cancellation: &Cancellation,
    ) -> Result<(), Error> {
        file.sync_all().map_err(Error::io("writing", unfinished))?;
        let _lock = FileLock::acquire(&self.lock_of(digest), cancellation, || ())?;
        files::rename(unfinished, &self.blob_path(digest))
    }
}

struct CommitBase {
    what: String,
    manifest: crate::manifest::Manifest,
    config: Vec<u8>,
    platform: Platform,
    digests: Vec<Digest>,
}

impl CommitBase {
    fn check(&self, store: &ImageStore) -> Result<(), Error> {
        match self.digests.iter().find(|digest| !store.blob_path(digest).exists()) {
            None => Ok(()),
            Some(missing) => {
                let reason = format!("`{}` of it is not in the store; pull the image again", missing.short());
                Err(Error::InconsistentImage { what: self.what.clone(), reason })
            }
        }
    }
}

/// Why compressing came to an end. Only the caller knows the name of the file.
enum Failure {
    Write(io::Error),
    Other(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        Failure::Other(error)
    }
}

struct Compressing<'a> {
    limit: u64,
    cancellation: &'a Cancellation,
    progress: &'a dyn Progress,
}

impl Compressing<'_> {
    /// Compresses `layer` into `file` and takes both digests on the way.
    fn run(&self, layer: &mut dyn Read, file: &File, compression: LayerCompression) -> Result<NewLayer, Failure> {
        let output = Hashing { file, digester: Digester::new(Algorithm::Sha256), size: 0 };
        let (diff_id, output) = match compression {
            LayerCompression::Gzip => {
                let mut encoder = GzEncoder::new(output, flate2::Compression::new(GZIP_LEVEL));
                let diff_id = self.copy(layer, &mut encoder)?;
                (diff_id, encoder.finish().map_err(Failure::Write)?)
            }
            LayerCompression::Zstd => {
                let mut encoder = zstd::Encoder::new(output, ZSTD_LEVEL).map_err(Failure::Write)?;
                let diff_id = self.copy(layer, &mut encoder)?;
                (diff_id, encoder.finish().map_err(Failure::Write)?)
            }
        };
        Ok(NewLayer { digest: output.digester.finish(), size: output.size, diff_id })
    }

    /// Feeds `encoder` all of `layer` and returns its digest. A layer without the mark of its end is one whose sender died.
    fn copy(&self, layer: &mut dyn Read, encoder: &mut dyn Write) -> Result<Digest, Failure> {
        let mut digester = Digester::new(Algorithm::Sha256);
        let mut buffer = vec![0; STRIDE];
        let (mut bytes, mut trailing_zeroes) = (0, 0);
        loop {
            self.cancellation.check()?;
            let read = match layer.read(&mut buffer) {
                Ok(0) if trailing_zeroes >= END_OF_ARCHIVE => return Ok(digester.finish()),
                Ok(0) => {
                    let error =
                        crate::rootfs::Error::TruncatedArchive { needed: bytes + END_OF_ARCHIVE as u64, length: bytes };
                    return Err(Error::from(error).into());
                }
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(Error::from(crate::rootfs::Error::ReadLayer(error)).into()),
            };
            bytes += read as u64;
            if bytes > self.limit {
                let error = crate::rootfs::Error::Limit { what: "layer_bytes", limit: self.limit, found: bytes };
                return Err(Error::from(error).into());
            }
            let zeroes = buffer[..read].iter().rev().take_while(|byte| **byte == 0).take(END_OF_ARCHIVE).count();
            trailing_zeroes = if zeroes == read { trailing_zeroes + read } else { zeroes };
            digester.update(&buffer[..read]);
            encoder.write_all(&buffer[..read]).map_err(Failure::Write)?;
            self.progress.event(Event::Compressing { bytes });
        }
    }
}

/// A file that is hashed while it is written.
struct Hashing<'a> {
    file: &'a File,
    digester: Digester,
    size: u64,
}

impl Write for Hashing<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.digester.update(&bytes[..written]);
        self.size += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}
