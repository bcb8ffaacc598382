//! A blob on its way to the registry: not sent if it is there, taken from another repository where the registry lets it,
//! else sent in one request.

use std::fs::File;
use std::future::Future;
use std::io::Read;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use reqwest::header::LOCATION;
use reqwest::{Method, Response, StatusCode, Url};
use tokio::sync::watch;

use crate::digest::Digester;
use crate::manifest::Descriptor;
use crate::progress::{Event, Progress};
use crate::{Digest, Error};

use super::session::{Content, Request, Retries, Session, Target};

/// How long a registry may take nothing, or think about a blob that it has taken: it hashes and stores a large one before
/// it answers.
const IDLE_TIMEOUT: Duration = Duration::from_mins(3);
/// Bytes read from the file at a time.
const CHUNK: usize = 256 * 1024;
/// Repositories a blob is asked for before it is sent: each costs a round trip.
const MOUNT_SOURCES: usize = 2;
/// The header by which a registry says what it has stored.
const CONTENT_DIGEST: &str = "docker-content-digest";

/// A blob in a file of the store.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StoredBlob<'a> {
    pub(crate) descriptor: &'a Descriptor,
    pub(crate) path: &'a Path,
}

/// How a blob came to be at the registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Delivery {
    Uploaded,
    Mounted,
    Present,
}

/// What came of asking the registry to take a blob from another repository.
enum Mount {
    Done,
    /// It would rather have it sent there.
    Begun(Url),
    Refused,
}

impl Session {
    /// Makes sure the registry has the blob. `sources` are other repositories it may be in.
    pub(super) async fn deliver(
        &self,
        blob: &StoredBlob<'_>,
        sources: &[String],
        progress: &dyn Progress,
    ) -> Result<Delivery, Error> {
        let (digest, total) = (&blob.descriptor.digest, blob.descriptor.size);
        if self.has(digest).await? {
            progress.event(Event::Uploaded { digest, done: total, total });
            return Ok(Delivery::Present);
        }
        let mut begun = None;
        for source in sources.iter().take(MOUNT_SOURCES) {
            match self.mount(digest, source).await? {
                Mount::Done => {
                    progress.event(Event::Uploaded { digest, done: total, total });
                    return Ok(Delivery::Mounted);
                }
                Mount::Begun(url) => begun = Some(url),
                Mount::Refused => {}
            }
        }
        let mut retries = Retries::new();
        loop {
            let error = match self.upload(blob, begun.take(), progress).await {
                Ok(()) => return Ok(Delivery::Uploaded),
                Err(error) => error,
            };
            let Some(pause) = self.pause_before_retry(&mut retries, &error) else { return Err(error) };
            progress.event(Event::Retrying { digest, attempt: retries.coming_attempt() });
            tokio::time::sleep(pause).await;
        }
    }

    /// Whether the repository has the blob. A registry that will not say gets it sent.
    async fn has(&self, digest: &Digest) -> Result<bool, Error> {
        let request = Request {
            method: Method::HEAD,
            ..Request::get(format!("blobs/{digest}"), format!("looking for `{}`", digest.short()))
        };
        match self.send(&request).await {
            Ok(_) => Ok(true),
            Err(error) if will_fail_again(&error) => Err(error),
            Err(_) => Ok(false),
        }
    }

    /// Asks the registry to take the blob from another repository. Whatever keeps it from doing so, sending works as well.
    async fn mount(&self, digest: &Digest, source: &str) -> Result<Mount, Error> {
        let mut url = self.url("blobs/uploads/")?;
        url.query_pairs_mut().append_pair("mount", &digest.to_string()).append_pair("from", source);
        let action = format!("taking `{}` from `{source}`", digest.short());
        match self.send(&Request::post(url, action.clone())).await {
            Ok(response) if response.status() == StatusCode::CREATED => Ok(Mount::Done),
            Ok(response) => Ok(Mount::Begun(self.upload_url(&response, &action)?)),
            Err(error) if will_fail_again(&error) => Err(error),
            Err(_) => Ok(Mount::Refused),
        }
    }

    /// Sends the blob, from its first byte to its last: to `begun`, or to where the registry then says.
    async fn upload(&self, blob: &StoredBlob<'_>, begun: Option<Url>, progress: &dyn Progress) -> Result<(), Error> {
        let digest = &blob.descriptor.digest;
        let action = format!("sending `{}`", digest.short());
        let mut url = if let Some(url) = begun {
            url
        } else {
            let begun = self.send(&Request::post(self.url("blobs/uploads/")?, action.clone())).await?;
            self.upload_url(&begun, &action)?
        };
        url.query_pairs_mut().append_pair("digest", &digest.to_string());
        let (sent, mut news) = watch::channel(0);
        let damaged = Arc::new(AtomicBool::new(false));
        let body = || FileBody::open(blob, sent.clone(), Arc::clone(&damaged));
        let request = Request {
            method: Method::PUT,
            target: Target::Url(url),
            content: Some(Content { media_type: "application/octet-stream", body: &body }),
            ..Request::get(String::new(), action)
        };
        let outcome = self.watched(self.attempt(&request), &mut news, blob.descriptor, &request.action, progress).await;
        if damaged.load(Ordering::Relaxed) {
            return Err(Error::damaged_blob(digest));
        }
        self.check_stored(&outcome?, digest, &format!("`{}`", digest.short()))
    }

    /// Where to send a blob, according to the answer to the request to begin.
    fn upload_url(&self, begun: &Response, action: &str) -> Result<Url, Error> {
        let refuse = |reason: &str| Error::RegistryProtocol {
            host: self.reference.registry().to_owned(),
            action: action.to_owned(),
            reason: reason.to_owned(),
        };
        let location = begun.headers().get(LOCATION).and_then(|value| value.to_str().ok());
        let location = location.ok_or_else(|| refuse("it does not say where to send the blob"))?;
        let mut url = begun.url().join(location).map_err(|_| refuse("it names no place to send the blob to"))?;
        // A registry behind a proxy that ends TLS may not know how it is reached.
        if begun.url().scheme() == "https" && url.scheme() == "http" && url.host() == begun.url().host() {
            let same_port = url.port().is_none() || url.port() == begun.url().port();
            if same_port && url.set_port(begun.url().port()).is_ok() {
                let _ = url.set_scheme("https");
            }
        }
        if url.scheme() == "https" || (url.scheme() == "http" && self.plain_allowed) {
            return Ok(url);
        }
        Err(refuse("it wants the blob sent without HTTPS"))
    }

    /// Waits for the answer to a request that sends a blob, telling how far it is, for as long as it gets further.
    async fn watched(
        &self,
        request: impl Future<Output = Result<Response, Error>>,
        news: &mut watch::Receiver<u64>,
        descriptor: &Descriptor,
        action: &str,
        progress: &dyn Progress,
    ) -> Result<Response, Error> {
        tokio::pin!(request);
        loop {
            tokio::select! {
                outcome = &mut request => return outcome,
                Ok(()) = news.changed() => {
                    let (digest, done, total) = (&descriptor.digest, *news.borrow_and_update(), descriptor.size);
                    progress.event(Event::Uploaded { digest, done, total });
                }
                () = tokio::time::sleep(IDLE_TIMEOUT) => {
                    return Err(Error::Unreachable {
                        host: self.reference.registry().to_owned(),
                        action: action.to_owned(),
                        source: format!("nothing happened for {} s", IDLE_TIMEOUT.as_secs()).into(),
                    });
                }
            }
        }
    }

    /// Makes `digest` known by the tag of the reference.
    pub(super) async fn publish(&self, manifest: &[u8], media_type: &str, digest: &Digest) -> Result<(), Error> {
        let what = format!("the manifest of `{}`", self.reference.familiar());
        let body = || Ok(reqwest::Body::from(manifest.to_vec()));
        let path = format!("manifests/{}", self.reference.selector());
        let request = Request {
            method: Method::PUT,
            content: Some(Content { media_type, body: &body }),
            ..Request::get(path, format!("sending {what}"))
        };
        let response = self.send(&request).await?;
        if response.headers().contains_key(CONTENT_DIGEST) {
            return self.check_stored(&response, digest, &what);
        }
        // It is not obliged to say what it stored, but to give it back.
        self.manifest(&self.reference.selector(), Some(digest)).await.map(drop)
    }

    /// Compares what the registry says it stored with what was sent.
    fn check_stored(&self, response: &Response, expected: &Digest, what: &str) -> Result<(), Error> {
        let stored =
            response.headers().get(CONTENT_DIGEST).and_then(|value| value.to_str().ok()?.parse::<Digest>().ok());
        match stored {
            Some(found) if found.algorithm() == expected.algorithm() && found != *expected => {
                let what = format!("{what}, as registry `{}` stored it,", self.reference.registry());
                Err(Error::DigestMismatch { what, expected: expected.clone(), found })
            }
            _ => Ok(()),
        }
    }
}

/// Whether a failure is one of the connection, which the next request would share.
fn will_fail_again(error: &Error) -> bool {
    let connection = matches!(error, Error::Unreachable { .. } | Error::NameNotResolved { .. } | Error::Tls { .. });
    connection || matches!(error, Error::RateLimited { .. } | Error::Cancelled)
}

/// A file as the body of a request, hashed while it is read.
struct FileBody {
    file: File,
    remaining: u64,
    /// Taken when everything has been read.
    digester: Option<Digester>,
    expected: Digest,
    sent: watch::Sender<u64>,
    damaged: Arc<AtomicBool>,
}

impl FileBody {
    fn open(blob: &StoredBlob<'_>, sent: watch::Sender<u64>, damaged: Arc<AtomicBool>) -> Result<reqwest::Body, Error> {
        let Descriptor { digest, size, .. } = blob.descriptor;
        let file = File::open(blob.path).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => Error::damaged_blob(digest),
            _ => Error::io("opening", blob.path)(error),
        })?;
        if file.metadata().map_err(Error::io("reading", blob.path))?.len() != *size {
            return Err(Error::damaged_blob(digest));
        }
        let digester = Some(Digester::new(digest.algorithm()));
        sent.send_replace(0);
        Ok(reqwest::Body::wrap(FileBody { file, remaining: *size, digester, expected: digest.clone(), sent, damaged }))
    }

    /// The next bytes; an error when the file does not have what its name says, before the last of them are sent.
    fn next(&mut self) -> std::io::Result<Option<Bytes>> {
        let wanted = usize::try_from(self.remaining).unwrap_or(CHUNK).min(CHUNK);
        let mut chunk = vec![0; wanted];
        if wanted > 0 {
            self.file.read_exact(&mut chunk)?;
        }
        self.remaining -= wanted as u64;
        if let Some(digester) = &mut self.digester {
            digester.update(&chunk);
        }
        if self.remaining == 0
            && let Some(digester) = self.digester.take()
            && digester.finish() != self.expected
        {
            return Err(std::io::Error::other("the stored blob is damaged"));
        }
        self.sent.send_modify(|sent| *sent += wanted as u64);
        Ok((wanted > 0).then(|| Bytes::from(chunk)))
    }
}

impl Body for FileBody {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        // Read where it is needed: the file was written a moment ago or is read ahead, and waits for nobody.
        let chunk = self.next().inspect_err(|_| self.damaged.store(true, Ordering::Relaxed));
        Poll::Ready(chunk.transpose().map(|chunk| chunk.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        self.remaining == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.remaining)
    }
}
