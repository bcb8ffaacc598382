//! The registry client: pull and push of the OCI distribution specification.
//!
//! [`Registry`] is a connection to one repository. Its calls block; inside, a small runtime drives the network, and it
//! exists only between [`Registry::connect`] and the end of the pull or push, so that a warm run never pays for it. Calls may be
//! made from several threads at once, which is how layers travel in parallel.
//!
//! | file | idea |
//! |---|---|
//! | `session` | one request, with authentication, retries and cancellation |
//! | `transfer` | a blob: resumed where it stopped, never longer than announced |
//! | `upload` | a blob on its way there, and the manifest after it |
//! | `challenge`, `token` | what a registry asks for when it says 401, and getting it |
//! | `credentials` | Docker's `config.json` and credential helpers |
//! | `trust` | which certificates are believed, and when none are needed |
//! | `failure` | what went wrong, told apart by cause |
//!
//! There is a well-kept client crate for this protocol. What it leaves to its user is most of what matters here: byte
//! limits, resuming, refresh tokens, certificates per registry and failures told apart. What remains is a handful of
//! URLs, so this is written directly on an HTTP client.

mod challenge;
mod credentials;
mod failure;
mod session;
mod token;
mod transfer;
mod trust;
mod upload;

use std::future::Future;

use tokio::runtime::Runtime;

use crate::manifest::{Descriptor, Document, Manifest};
use crate::progress::{Event, Progress};
use crate::source::{Resolved, Sink, Source};
use crate::{Cancellation, Digest, Error, Platform, PullOptions, Reference};

use session::Session;
pub(crate) use upload::{Delivery, StoredBlob};

/// Indexes may point to indexes. Builders nest once; deeper is somebody playing games.
const MAX_INDEX_DEPTH: usize = 3;

/// What is to be done with a repository, and so what to ask the right for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    Pull,
    Push,
}

impl Purpose {
    /// What a token must allow.
    fn actions(self) -> &'static str {
        match self {
            Purpose::Pull => "pull",
            Purpose::Push => "pull,push",
        }
    }
}

/// One repository of one registry, reached once and used by several threads.
pub(crate) struct Registry<'a> {
    // `None` only while being dropped.
    runtime: Option<Runtime>,
    session: Session,
    reference: &'a Reference,
    cancellation: &'a Cancellation,
    progress: &'a dyn Progress,
}

impl<'a> Registry<'a> {
    /// Prepares to pull from the registry of `reference`.
    pub(crate) fn connect(
        reference: &'a Reference,
        options: &'a PullOptions,
        progress: &'a dyn Progress,
    ) -> Result<Registry<'a>, Error> {
        Registry::connect_to(reference, options, Purpose::Pull, progress)
    }

    /// Prepares to push to the registry of `reference`.
    pub(crate) fn connect_to_push(
        reference: &'a Reference,
        options: &'a PullOptions,
        progress: &'a dyn Progress,
    ) -> Result<Registry<'a>, Error> {
        Registry::connect_to(reference, options, Purpose::Push, progress)
    }

    fn connect_to(
        reference: &'a Reference,
        options: &'a PullOptions,
        purpose: Purpose,
        progress: &'a dyn Progress,
    ) -> Result<Registry<'a>, Error> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("registry")
            .enable_all()
            .build()
            .map_err(Error::io("starting the network thread for", std::path::Path::new(reference.registry())))?;
        let session = wait(&runtime, &options.cancellation, Session::open(reference, options, purpose))?;
        Ok(Registry { runtime: Some(runtime), session, reference, cancellation: &options.cancellation, progress })
    }

    /// Finds out what the reference means today on `platform`: its manifest and config, both verified.
    pub(crate) fn resolve(&self, platform: Platform) -> Result<Resolved, Error> {
        self.progress.event(Event::Resolving { reference: self.reference });
        self.block_on(self.resolve_on(platform))
    }

    async fn resolve_on(&self, platform: Platform) -> Result<Resolved, Error> {
        let what = format!("`{}`", self.reference.familiar());
        let mut index_digest = None;
        let mut fetched = self.session.manifest(&self.reference.selector(), self.reference.digest()).await?;
        for _ in 0..MAX_INDEX_DEPTH {
            match Document::parse(&fetched.bytes, fetched.media_type.as_deref(), &what)? {
                Document::Image(manifest) => return self.with_config(*manifest, fetched, index_digest, platform).await,
                Document::Index(index) => {
                    let chosen = index.choose(platform, &what)?.digest.clone();
                    index_digest.get_or_insert(fetched.digest);
                    fetched = self.session.manifest(&chosen.to_string(), Some(&chosen)).await?;
                }
            }
        }
        Err(Error::LimitExceeded {
            what: format!("nested indexes in {what}"),
            limit: MAX_INDEX_DEPTH as u64,
            found: MAX_INDEX_DEPTH as u64 + 1,
        })
    }

    async fn with_config(
        &self,
        manifest: Manifest,
        fetched: Fetched,
        index_digest: Option<Digest>,
        platform: Platform,
    ) -> Result<Resolved, Error> {
        let config_bytes = self.session.small_blob(&manifest.config).await?;
        Resolved::new(
            self.reference.clone(),
            platform,
            fetched.bytes,
            fetched.digest,
            index_digest,
            manifest,
            config_bytes,
        )
    }

    /// Makes sure the repository has the blob. `sources` are other repositories of the registry it may be in.
    pub(crate) fn deliver(
        &self,
        blob: &StoredBlob<'_>,
        sources: &[String],
        cancellation: &Cancellation,
    ) -> Result<Delivery, Error> {
        let Some(runtime) = &self.runtime else { return Err(Error::Cancelled) };
        wait(runtime, cancellation, self.session.deliver(blob, sources, self.progress))
    }

    /// Gives the manifest, whose blobs are all there, the name of the reference.
    pub(crate) fn publish(&self, manifest: &[u8], media_type: &str, digest: &Digest) -> Result<(), Error> {
        self.block_on(self.session.publish(manifest, media_type, digest))
    }

    fn block_on<T>(&self, future: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        match &self.runtime {
            Some(runtime) => wait(runtime, self.cancellation, future),
            None => Err(Error::Cancelled),
        }
    }
}

impl Source for Registry<'_> {
    fn fetch(&self, descriptor: &Descriptor, sink: &mut dyn Sink, cancellation: &Cancellation) -> Result<(), Error> {
        let Some(runtime) = &self.runtime else { return Err(Error::Cancelled) };
        wait(runtime, cancellation, self.session.blob(descriptor, sink, self.progress))
    }
}

impl Drop for Registry<'_> {
    fn drop(&mut self) {
        // A resolver call that hangs must not hold up its caller; nothing else can still be running.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

fn wait<T>(
    runtime: &Runtime,
    cancellation: &Cancellation,
    future: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    runtime.block_on(async {
        tokio::select! {
            biased;
            () = cancellation.cancelled() => Err(Error::Cancelled),
            outcome = future => outcome,
        }
    })
}

/// A manifest or index as it came, already verified.
struct Fetched {
    bytes: Vec<u8>,
    media_type: Option<String>,
    digest: Digest,
}
