//! What a pull or build tells its caller while it runs.

use crate::{Digest, Reference};

/// Something that happened. Rates and percentages are the consumer's to compute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event<'a> {
    /// The registry is being asked what the reference means.
    Resolving {
        /// The reference.
        reference: &'a Reference,
    },
    /// The image is known; its layers are fetched next.
    Resolved {
        /// Digest of its manifest.
        manifest_digest: &'a Digest,
        /// How many layers it has.
        layers: usize,
        /// Bytes of all layers as they are sent.
        bytes: u64,
    },
    /// Another process is fetching or building the same content; this one waits for it.
    Waiting {
        /// The content.
        digest: &'a Digest,
    },
    /// More of a layer is here. `done` never falls and ends at `total`.
    Layer {
        /// Digest of the layer as it is sent.
        digest: &'a Digest,
        /// Bytes that are here.
        done: u64,
        /// Bytes of the layer.
        total: u64,
    },
    /// An image is being sent to a registry.
    Pushing {
        /// The name it gets there.
        reference: &'a Reference,
        /// How many layers it has.
        layers: usize,
        /// Bytes of all layers as they are sent; those the registry has are not.
        bytes: u64,
    },
    /// More of a blob is at the registry. `done` starts again when the blob must be sent again, and is `total` at once when
    /// the registry has it already.
    Uploaded {
        /// Digest of the blob.
        digest: &'a Digest,
        /// Bytes that are there.
        done: u64,
        /// Bytes of the blob.
        total: u64,
    },
    /// A request failed in a way that may pass and is repeated.
    Retrying {
        /// What is fetched or sent.
        digest: &'a Digest,
        /// The number of the coming attempt, from 2.
        attempt: u32,
    },
    /// A layer is verified and unpacked.
    Unpacked {
        /// Digest of the layer as it is sent.
        digest: &'a Digest,
        /// Bytes of its uncompressed tar.
        bytes: u64,
    },
    /// A layer that is being committed is read and compressed.
    Compressing {
        /// Bytes of its tar so far.
        bytes: u64,
    },
    /// The base image is being built from the unpacked layers.
    Building {
        /// Bytes of all unpacked layers.
        bytes: u64,
    },
    /// The base image is in place.
    Built {
        /// Bytes of the base image.
        bytes: u64,
    },
}

/// Hears what happens. Called from several threads at once, often; it should return quickly.
pub trait Progress: Sync {
    /// Takes note of `event`.
    fn event(&self, event: Event<'_>);
}

/// Ignores every event.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Progress for Silent {
    fn event(&self, _event: Event<'_>) {}
}
