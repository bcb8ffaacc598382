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
    pub(super) async fn blob(&self, descriptor: &Descriptor, sink: &mut dyn Sink, progress: &dyn Progress) -> Result<(), Error> {
        let mut attempt = 1;
        let mut last_failure_at = sink.received();
        loop {
            let error = match self.stream(descriptor, sink, progress).await {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            if !matches!(error, Error::Unreachable { .. }) {
                return Err(error);
            }
            if sink.received() - last_failure_at >= PROGRESS_WORTH_ANOTHER_TRY {
                attempt = 1;
            }
            last_failure_at = sink.received();
            attempt += 1;
            if attempt > MAX_ATTEMPTS {
                return Err(error);
            }
            progress.event(Event::Retrying { digest: &descriptor.digest, attempt });
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// One response body into the sink.
    async fn stream(&self, descriptor: &Descriptor, sink: &mut dyn Sink, progress: &dyn Progress) -> Result<(), Error> {
        let total = descriptor.size;
        let offset = sink.received();
        progress.event(Event::Layer { digest: &descriptor.digest, done: offset, total });
        if offset >= total {
            return Ok(());
        }
        let action = format!("fetching layer `{}`", descriptor.digest.short());
        let request = Request { path: format!("blobs/{}", descriptor.digest), accept: None, offset, action };
        let mut response = self.send(&request).await?;
        let mut skip = self.bytes_to_skip(&response, &request)?;
        if let Some(length) = response.content_length()
            && length.checked_add(offset - skip) != Some(total)
        {
            return Err(size_mismatch(descriptor, length.saturating_add(offset - skip)));
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
                action: request.action,
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
