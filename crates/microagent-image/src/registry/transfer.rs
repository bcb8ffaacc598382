//! A blob on its way from the registry: resumed where it stopped, never longer than announced.

use std::time::Duration;

use reqwest::header::CONTENT_RANGE;
use reqwest::{Response, StatusCode};

use crate::Error;
use crate::manifest::Descriptor;
use crate::progress::{Event, Progress};
use crate::source::Sink;

use super::session::{MAX_ATTEMPTS, Request, Session};

/// A transfer that breaks is given a new set of attempts once it got this much further.
const PROGRESS_WORTH_ANOTHER_TRY: u64 = 1024 * 1024;
/// Pause before a broken transfer is continued.
const PAUSE: Duration = Duration::from_millis(250);

impl Session {
    /// Feeds `sink` the rest of the blob, continuing after interruptions.
    pub(super) async fn blob(
        &self,
        descriptor: &Descriptor,
        sink: &mut dyn Sink,
        progress: &dyn Progress,
    ) -> Result<(), Error> {
        let (digest, total) = (&descriptor.digest, descriptor.size);
        progress.event(Event::Layer { digest, done: sink.received(), total });
        let mut attempt = 1;
        while sink.received() < total {
            let offset = sink.received();
            let action = format!("fetching layer `{}`", digest.short());
            let request = Request { offset, ..Request::get(format!("blobs/{digest}"), action) };
            // A request that cannot be made has been repeated already; only a body that breaks off is continued here.
            let response = self.send(&request).await?;
            let error = match self.receive(response, &request, descriptor, sink, progress).await {
                Ok(()) => return Ok(()),
                Err(error) if matches!(error, Error::Unreachable { .. }) => error,
                Err(error) => return Err(error),
            };
            attempt = if sink.received() - offset >= PROGRESS_WORTH_ANOTHER_TRY { 2 } else { attempt + 1 };
            if attempt > MAX_ATTEMPTS {
                return Err(error);
            }
            progress.event(Event::Retrying { digest, attempt });
            tokio::time::sleep(PAUSE).await;
        }
        Ok(())
    }

    /// One response body into the sink.
    async fn receive(
        &self,
        mut response: Response,
        request: &Request<'_>,
        descriptor: &Descriptor,
        sink: &mut dyn Sink,
        progress: &dyn Progress,
    ) -> Result<(), Error> {
        let total = descriptor.size;
        let mut skip = self.bytes_to_skip(&response, request)?;
        let before = request.offset - skip;
        if let Some(length) = response.content_length()
            && length.checked_add(before) != Some(total)
        {
            return Err(size_mismatch(descriptor, length.saturating_add(before)));
        }
        while let Some(chunk) = response.chunk().await.map_err(|error| self.failure(error, &request.action))? {
            let skipped = skip.min(chunk.len() as u64);
            skip -= skipped;
            let fresh = &chunk[usize::try_from(skipped).unwrap_or(chunk.len())..];
            let received = sink.received() + fresh.len() as u64;
            if received > total {
                return Err(size_mismatch(descriptor, received));
            }
            if !fresh.is_empty() {
                sink.accept(fresh)?;
                progress.event(Event::Layer { digest: &descriptor.digest, done: received, total });
            }
        }
        if sink.received() < total {
            return Err(Error::Unreachable {
                host: self.reference.registry().to_owned(),
                action: request.action.clone(),
                source: format!("the connection ended after {} of {total} bytes", sink.received()).into(),
            });
        }
        Ok(())
    }

    /// How many bytes at the start of the body are already here. A server may ignore a range and send everything.
    fn bytes_to_skip(&self, response: &Response, request: &Request<'_>) -> Result<u64, Error> {
        if response.status() != StatusCode::PARTIAL_CONTENT {
            return Ok(request.offset);
        }
        let start = response.headers().get(CONTENT_RANGE).and_then(|value| range_start(value.to_str().ok()?));
        if start == Some(request.offset) {
            return Ok(0);
        }
        Err(Error::RegistryProtocol {
            host: self.reference.registry().to_owned(),
            action: request.action.clone(),
            reason: format!("it was asked to continue at byte {} and did something else", request.offset),
        })
    }
}

/// The first byte of a `Content-Range: bytes START-END/TOTAL`.
fn range_start(value: &str) -> Option<u64> {
    value.strip_prefix("bytes ")?.split('-').next()?.trim().parse().ok()
}

fn size_mismatch(descriptor: &Descriptor, found: u64) -> Error {
    let what = format!("layer `{}`", descriptor.digest.short());
    Error::SizeMismatch { what, expected: descriptor.size, found }
}
