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
    /// A request failed in a way that may pass and is repeated.
    Retrying {
        /// What is fetched.
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
