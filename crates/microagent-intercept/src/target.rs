//! Where the requests of one connection go.

use crate::denial::{BodyError, Denial};
use crate::scan::Scanned;
use hyper::body::Incoming;
use hyper::client::conn::{TrySendError, http1, http2};
use hyper::http::{Request, Response};
use std::error::Error as _;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::Mutex;

/// A server, or why there is none.
pub(crate) struct Target {
    to: To,
    /// Whether it has answered before: one that closes then has only let the connection idle.
    is_used: AtomicBool,
}

enum To {
    /// Nobody, for this reason, which is in the record already.
    Nobody(Denial),
    /// A server of HTTP/1, one request after the other.
    Http1(Mutex<http1::SendRequest<Scanned>>),
    /// A server of HTTP/2.
    Http2(http2::SendRequest<Scanned>),
}

/// Why a request has no answer.
pub(crate) enum Failed {
    /// For this reason, which the guest is told.
    Denied(Denial),
    /// As if the server had not: the guest is told nothing and sees the connection, or the stream, end.
    Dropped(BodyError),
}

impl Target {
    pub(crate) fn nobody(denial: Denial) -> Target {
        Target::of(To::Nobody(denial))
    }

    pub(crate) fn http1(sender: http1::SendRequest<Scanned>) -> Target {
        Target::of(To::Http1(Mutex::new(sender)))
    }

    pub(crate) fn http2(sender: http2::SendRequest<Scanned>) -> Target {
        Target::of(To::Http2(sender))
    }

    fn of(to: To) -> Target {
        Target { to, is_used: AtomicBool::new(false) }
    }

    /// Why there is no server.
    pub(crate) fn denial(&self) -> Option<&Denial> {
        match &self.to {
            To::Nobody(denial) => Some(denial),
            To::Http1(_) | To::Http2(_) => None,
        }
    }

    /// Sends `request`, and waits for the head of the answer.
    pub(crate) async fn send(&self, request: Request<Scanned>) -> Result<Response<Incoming>, Failed> {
        let sent = match &self.to {
            To::Nobody(denial) => return Err(Failed::Denied(denial.clone())),
            To::Http1(sender) => {
                let mut sender = sender.lock().await;
                sender.ready().await.map_err(|error| self.unanswered(error, true))?;
                sender.try_send_request(request).await
            }
            To::Http2(sender) => {
                let mut sender = sender.clone();
                sender.ready().await.map_err(|error| self.unanswered(error, true))?;
                sender.try_send_request(request).await
            }
        };
        match sent {
            Ok(answer) => {
                self.is_used.store(true, Ordering::Relaxed);
                Ok(answer)
            }
            Err(error) => Err(self.unsent(error)),
        }
    }

    fn unsent(&self, mut error: TrySendError<Request<Scanned>>) -> Failed {
        let is_whole = error.take_message().is_some();
        self.unanswered(error.into_error(), is_whole)
    }

    /// `is_whole` is whether the server has seen nothing of the request.
    fn unanswered(&self, error: hyper::Error, is_whole: bool) -> Failed {
        if matches!(self.to, To::Http2(_)) && is_whole {
            return Failed::Dropped(BodyError::new(h2::Error::from(h2::Reason::REFUSED_STREAM)));
        }
        // The server's reset is the guest's: it says whether to try again.
        if is_reset(&error) {
            return Failed::Dropped(BodyError::new(error));
        }
        // A client that meets a connection which was closed meanwhile knows what to do about it; of an answer it does not.
        let is_closed = error.is_closed() || error.is_canceled() || error.is_incomplete_message();
        if self.is_used.load(Ordering::Relaxed) && (is_whole || is_closed) {
            return Failed::Dropped(BodyError::new(error));
        }
        Failed::Denied(Denial::Failed(told(&error)))
    }
}

/// Whether a stream of HTTP/2 was reset by the other end.
fn is_reset(error: &hyper::Error) -> bool {
    let cause = error.source().and_then(|cause| cause.downcast_ref::<h2::Error>());
    cause.is_some_and(|cause| cause.is_reset() && cause.is_remote())
}

/// An error of the connection, with its cause, in one line.
fn told(error: &hyper::Error) -> String {
    let cause = error.source().map_or(String::new(), |cause| format!(": {cause}"));
    format!("{error}{cause}")
}
