//! Placeholders on their way out.
//!
//! One that is compressed, or encoded in another way than a URI's, is not found. What is looked for is a mistake of a client's, and no
//! secret: the placeholder of a credential says nothing but its name.

use crate::denial::BodyError;
use crate::swap::PLACEHOLDER_PREFIX;
use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::http::{HeaderMap, Uri};
use memchr::memmem;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

const PREFIX: &[u8] = PLACEHOLDER_PREFIX.as_bytes();

/// Where in the head of a request a placeholder is, for people.
pub(crate) fn find_in_head(uri: &Uri, fields: &HeaderMap) -> Option<String> {
    let path = uri.path_and_query().map_or("", |path| path.as_str());
    let decoded: Vec<u8> = percent_encoding::percent_decode_str(path).collect();
    if holds(path.as_bytes()) || holds(&decoded) {
        return Some("it is in the URI".to_owned());
    }
    let (name, _) = fields.iter().find(|(name, value)| holds(name.as_str().as_bytes()) || holds(value.as_bytes()))?;
    Some(format!("it is in the header `{name}`"))
}

/// Whether there is one in `bytes`.
fn holds(bytes: &[u8]) -> bool {
    memmem::find(bytes, PREFIX).is_some()
}

/// A body that ends with an error where there is a placeholder in it, if it is looked at.
pub(crate) struct Scanned {
    body: Option<Incoming>,
    window: Window,
    rest: Rest,
    found: Option<Box<dyn FnOnce() + Send>>,
}

/// What is left of a body in which a placeholder was found.
#[derive(Clone, Default)]
pub(crate) struct Rest(Arc<Mutex<Option<Incoming>>>);

impl Rest {
    /// The rest, if one was found.
    pub(crate) fn take(&self) -> Option<Incoming> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// What [`Scanned`] ends with.
#[derive(Debug, thiserror::Error)]
#[error("the body holds a placeholder")]
pub(crate) struct Found;

impl Scanned {
    /// `body`, and where its rest will be if there is one in it. `found` is called then; without it nothing is looked for.
    pub(crate) fn new(body: Incoming, found: Option<Box<dyn FnOnce() + Send>>) -> (Scanned, Rest) {
        let rest = Rest::default();
        (Scanned { body: Some(body), window: Window::default(), rest: rest.clone(), found }, rest)
    }
}

impl Body for Scanned {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let scanned = &mut *self;
        let Some(body) = &mut scanned.body else { return Poll::Ready(None) };
        let frame = match ready!(Pin::new(body).poll_frame(cx)) {
            None => return Poll::Ready(None),
            Some(frame) => frame.map_err(BodyError::new)?,
        };
        if scanned.found.is_none() {
            return Poll::Ready(Some(Ok(frame)));
        }
        let found = match (frame.data_ref(), frame.trailers_ref()) {
            (Some(data), _) => scanned.window.pass(data),
            (None, Some(trailers)) => trailers.values().any(|value| holds(value.as_bytes())),
            (None, None) => false,
        };
        if found {
            if let Some(found) = scanned.found.take() {
                found();
            }
            *scanned.rest.0.lock().unwrap_or_else(PoisonError::into_inner) = scanned.body.take();
            return Poll::Ready(Some(Err(BodyError::new(Found))));
        }
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map(Body::size_hint).unwrap_or_default()
    }
}

/// The end of what has passed, where a placeholder may have begun.
#[derive(Default)]
struct Window {
    bytes: [u8; PREFIX.len() - 1],
    length: usize,
}

impl Window {
    /// Whether one is in what has passed with `data`.
    fn pass(&mut self, data: &[u8]) -> bool {
        let begin = &data[..data.len().min(PREFIX.len() - 1)];
        let mut seam = [0; 2 * (PREFIX.len() - 1)];
        let joint = self.length + begin.len();
        seam[..self.length].copy_from_slice(&self.bytes[..self.length]);
        seam[self.length..joint].copy_from_slice(begin);
        if holds(&seam[..joint]) || holds(data) {
            return true;
        }
        let last = if data.len() < self.bytes.len() { &seam[..joint] } else { data };
        self.length = last.len().min(self.bytes.len());
        self.bytes[..self.length].copy_from_slice(&last[last.len() - self.length..]);
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::http::HeaderValue;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn it_is_found_however_the_body_is_cut(
            before in "[a-m-]{0,40}",
            after in "[a-m-]{0,40}",
            cuts in proptest::collection::vec(0..120usize, 0..20),
            has in any::<bool>(),
        ) {
            let text = if has { format!("{before}{PLACEHOLDER_PREFIX}{after}") } else { format!("{before}{after}") };
            let mut cuts: Vec<usize> = cuts.into_iter().filter(|cut| *cut < text.len()).collect();
            cuts.sort_unstable();
            cuts.push(text.len());
            let (mut window, mut from, mut found) = (Window::default(), 0, false);
            for cut in cuts {
                found |= window.pass(&text.as_bytes()[from..cut]);
                from = cut;
            }
            prop_assert_eq!(found, has);
        }
    }

    #[test]
    fn it_is_found_in_a_uri_and_in_a_header_whatever_it_is_encoded_as() {
        let none = HeaderMap::new();
        for uri in ["/?key=microagent-swap-openai", "/microagent%2Dswap%2Dopenai", "https://h/a?%6dicroagent-swap-x"] {
            assert!(find_in_head(&uri.parse().unwrap(), &none).is_some(), "{uri}");
        }
        assert_eq!(find_in_head(&"/microagent-swa?p-".parse().unwrap(), &none), None);
        let mut fields = HeaderMap::new();
        fields.insert("x-key", HeaderValue::from_static("Bearer microagent-swap-openai"));
        assert_eq!(find_in_head(&"/".parse().unwrap(), &fields).unwrap(), "it is in the header `x-key`");
    }
}
