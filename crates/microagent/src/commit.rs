//! A new image from what a workspace changed.

use crate::files::Files;
use crate::progress::ImageEvents;
use crate::{Client, Error, Interrupt};
use microagent_image::{Commit, ConfigChanges, Digest, LayerCompression};
use microagent_state::Name;
use serde::Serialize;
use std::io::{self, Read};

/// Options of [`Client::commit`].
#[derive(Clone, Debug)]
pub struct CommitOptions {
    /// Name of the new image.
    pub target: String,
    /// How its layer is compressed.
    pub compression: LayerCompression,
    /// How it wants to be run, as far as that is not how the image does that the workspace was made from.
    pub changes: ConfigChanges,
    /// Stops it from another thread.
    pub interrupt: Interrupt,
}

impl CommitOptions {
    /// Makes `target`, and changes nothing but the files.
    pub fn new(target: impl Into<String>) -> CommitOptions {
        CommitOptions {
            target: target.into(),
            compression: LayerCompression::default(),
            changes: ConfigChanges::default(),
            interrupt: Interrupt::default(),
        }
    }
}

/// An image that was made from a workspace.
#[derive(Clone, Debug, Serialize)]
pub struct Committed {
    /// Name of the workspace.
    pub workspace: Name,
    /// The image, in full.
    pub image: String,
    /// Digest of its manifest.
    pub digest: String,
    /// The image it is made on.
    pub base: String,
    /// Digest of the manifest of that.
    pub base_digest: String,
}

impl Client {
    /// Makes an image of a workspace: the layers of its own image, and on top of them what the workspace changed. A workspace that runs may
    /// go on; what it writes meanwhile is in the image or not.
    pub fn commit(&self, name: &Name, options: &CommitOptions) -> Result<Committed, Error> {
        let record = self.state().find(name)?.status()?;
        if record.image_digest.is_empty() {
            return Err(Error::NoImage { name: name.to_string() });
        }
        let base: Digest = record.image_digest.parse()?;
        let target = options.target.parse()?;
        let files = Files::open(self, name, &options.interrupt)?;
        let (output, pending) = files.layer()?;
        let mut layer = Layer { output, pending: Some(pending) };
        let commit = Commit {
            base_name: record.image.parse().ok(),
            compression: options.compression,
            changes: options.changes.clone(),
            cancellation: options.interrupt.cancellation().clone(),
            ..Commit::new(base, target)
        };
        let committed = self.images().commit(&commit, &mut layer, &ImageEvents(self.progress()));
        drop(layer);
        // The machine of a workspace at rest comes to rest either way.
        let closed = files.close();
        let (image, _base) = committed?;
        closed?;
        Ok(Committed {
            workspace: name.clone(),
            image: image.reference.to_string(),
            digest: image.manifest_digest.to_string(),
            base: record.image,
            base_digest: record.image_digest,
        })
    }
}

/// The layer as the guest sends it. Its end is one only when the guest says that all of it was sent.
struct Layer<R> {
    output: R,
    pending: Option<crate::files::Pending>,
}

impl<R: Read> Read for Layer<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.output.read(buffer)?;
        if count == 0
            && let Some(pending) = self.pending.take()
        {
            pending.wait().map_err(io::Error::other)?;
        }
        Ok(count)
    }
}
