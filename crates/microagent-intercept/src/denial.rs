//! Answers in the place of a server's.

use crate::gate::Refusal;
use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use hyper::http::{HeaderValue, Response, StatusCode};
use microagent_egress::{Event, Happened, Protocol, Reason};

/// What ends a body, or a request, without an answer. The cause is kept, since it says what a stream is reset with.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct BodyError(#[source] Box<dyn std::error::Error + Send + Sync>);

impl BodyError {
    pub(crate) fn new(cause: impl std::error::Error + Send + Sync + 'static) -> BodyError {
        BodyError(Box::new(cause))
    }
}

/// A body on its way to the guest.
pub(crate) type Answer = Response<UnsyncBoxBody<Bytes, BodyError>>;

/// Why there is no answer of the server's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Denial {
    /// It is not allowed; and more about it.
    Denied(Reason, Option<String>),
    /// The head of the request is too long.
    TooLarge,
    /// It took too long.
    TooSlow,
    /// The server did not answer as it should.
    Failed(String),
    /// The credential of that name could not be had.
    NoCredential(String, String),
    /// The credential of that name would be seen by whoever is on the way.
    Plaintext(String),
}

impl From<Refusal> for Denial {
    fn from(refusal: Refusal) -> Denial {
        match refusal {
            Refusal::Malformed(detail) => Denial::with(Reason::Malformed, detail),
            Refusal::TooLarge => Denial::TooLarge,
            Refusal::TooSlow => Denial::TooSlow,
            Refusal::Broken => Denial::with(Reason::Malformed, "its chunks are none"),
        }
    }
}

impl Denial {
    /// A denial for `reason`, with more about it.
    pub(crate) fn with(reason: Reason, detail: impl Into<String>) -> Denial {
        Denial::Denied(reason, Some(detail.into()))
    }

    /// That a placeholder is in the body of a request.
    pub(crate) fn found_in_body() -> Denial {
        Denial::with(Reason::Placeholder, "it is in the body")
    }

    fn status(&self) -> StatusCode {
        match self {
            Denial::Denied(Reason::NameMismatch, _) => StatusCode::MISDIRECTED_REQUEST,
            Denial::Denied(Reason::Malformed, _) => StatusCode::BAD_REQUEST,
            Denial::Denied(Reason::Certificate, _) | Denial::Failed(_) | Denial::NoCredential(..) => {
                StatusCode::BAD_GATEWAY
            }
            Denial::Denied(..) | Denial::Plaintext(_) => StatusCode::FORBIDDEN,
            Denial::TooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Denial::TooSlow => StatusCode::REQUEST_TIMEOUT,
        }
    }

    fn text(&self, host: &str) -> String {
        match self {
            Denial::Denied(reason, detail) => {
                let detail = detail.as_ref().map_or(String::new(), |detail| format!(": {detail}"));
                let (name, hint) = (reason.name(), reason.hint());
                format!("microagent: egress to {host} denied: {reason}{detail} ({name}). {hint}\n")
            }
            Denial::Plaintext(name) => {
                format!("microagent: the credential `{name}` for {host} is not sent in the clear. use `https`\n")
            }
            Denial::TooLarge => {
                let limit = crate::limits::HEAD_BYTES >> 10;
                format!(
                    "microagent: the head of the request to {host} is longer than {limit} KiB. send fewer or shorter headers\n"
                )
            }
            Denial::TooSlow => {
                format!("microagent: the head of the request to {host} did not come in time. send it at once\n")
            }
            Denial::Failed(reason) => format!("microagent: {host} did not answer: {reason}. try again later\n"),
            Denial::NoCredential(name, reason) => {
                format!(
                    "microagent: the credential `{name}` for {host} could not be had: {reason}. see the log of egress on the host\n"
                )
            }
        }
    }

    /// As it is written down.
    pub(crate) fn event(&self) -> Event {
        let (event, credential, detail) = match self {
            Denial::Denied(reason, detail) => (Event::deny(Protocol::Http, *reason), None, detail.as_deref()),
            Denial::TooLarge => (Event::deny(Protocol::Http, Reason::Malformed), None, Some("its head is too long")),
            Denial::TooSlow => {
                (Event::deny(Protocol::Http, Reason::Malformed), None, Some("its head did not come in time"))
            }
            Denial::Failed(reason) => (Event::now(Happened::Error, Protocol::Http), None, Some(reason.as_str())),
            Denial::NoCredential(name, reason) => {
                (Event::now(Happened::SwapError, Protocol::Http), Some(name), Some(reason.as_str()))
            }
            Denial::Plaintext(name) => {
                let detail = Some("the connection is not encrypted");
                (Event::now(Happened::SwapError, Protocol::Http), Some(name), detail)
            }
        };
        Event { detail: detail.map(str::to_owned), credential: credential.cloned(), ..event }
    }

    /// As an answer of `host`'s.
    pub(crate) fn answer(&self, host: &str) -> Answer {
        let body = Full::new(Bytes::from(self.text(host)));
        let mut answer = Response::new(body.map_err(|never| match never {}).boxed_unsync());
        *answer.status_mut() = self.status();
        let fields = answer.headers_mut();
        fields.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        fields.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        answer
    }
}
