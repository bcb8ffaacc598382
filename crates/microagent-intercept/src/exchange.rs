//! One request and its answer.

use crate::connection::{Answered, Connection};
use crate::denial::{Answer, BodyError, Denial};
use crate::gate::{LINGER_TIME, REFUSAL_FIELD, Refusal, Signals};
use crate::headers::{Hop, say_websocket};
use crate::interceptor::{Place, Shared};
use crate::scan::{self, Scanned};
use crate::swap::{Live, Rendered};
use crate::target::{Failed, Target};
use crate::{request, upgrade};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::http::header::{CONNECTION, HOST};
use hyper::http::request::Parts;
use hyper::http::uri::{Parts as UriParts, PathAndQuery, Scheme};
use hyper::http::{HeaderValue, Request, Response, StatusCode, Uri, Version};
use hyper::upgrade::OnUpgrade;
use microagent_egress::{Event, Happened, Protocol, Reason};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::time::timeout;

/// What the requests of one connection share.
pub(crate) struct Exchange {
    shared: Arc<Shared>,
    connection: Connection,
    target: Target,
    swaps: Vec<Arc<Live>>,
    signals: Arc<Signals>,
    place: Arc<Place>,
    /// The credentials that are in the record.
    recorded: Mutex<Vec<String>>,
}

/// A request as the server is to have it.
struct Prepared {
    parts: Parts,
    hop: Hop,
    guest: Option<OnUpgrade>,
    rendered: Vec<Rendered>,
}

impl Exchange {
    pub(crate) fn new(shared: &Arc<Shared>, connection: &Connection, target: Target, place: &Arc<Place>) -> Exchange {
        Exchange {
            shared: Arc::clone(shared),
            connection: connection.clone(),
            target,
            swaps: shared.swaps.of(&connection.name),
            signals: Arc::default(),
            place: Arc::clone(place),
            recorded: Mutex::default(),
        }
    }

    pub(crate) fn signals(&self) -> Arc<Signals> {
        Arc::clone(&self.signals)
    }

    /// Answers `request`, with the server's answer or in its place. Fails where the connection, or the stream, is to end without one.
    pub(crate) async fn answer(&self, request: Request<Incoming>) -> Answered {
        let (parts, body) = request.into_parts();
        let version = parts.version;
        if let Some(denial) = self.known(&parts) {
            return Ok(self.refuse(version, &denial, Some(body)));
        }
        let prepared = match self.prepare(parts).await {
            Ok(prepared) => prepared,
            Err(denial) => return Ok(self.deny(version, &denial, Some(body))),
        };
        // An agent may tell the service it uses what its environment is, placeholder and all; a service without a credential is not meant.
        let found = self.swaps.is_empty().then(|| self.recorder(&Denial::found_in_body()));
        let (body, rest) = Scanned::new(body, found);
        let Prepared { parts, hop, guest, rendered } = prepared;
        let passed = match self.target.send(Request::from_parts(parts, body)).await {
            Ok(answer) => {
                if answer.status() == StatusCode::UNAUTHORIZED {
                    self.reject(&rendered).await;
                }
                self.give(answer, hop, guest, &rendered)
            }
            Err(failed) => Err(failed),
        };
        self.signals.expect_upgrade(false);
        match (passed, rest.take(), self.signals.refusal()) {
            (Ok(answer), ..) => Ok(answer),
            (Err(_), Some(rest), _) => Ok(self.refuse(version, &Denial::found_in_body(), Some(rest))),
            (Err(_), None, Some(Refusal::Broken)) => Ok(self.refuse(version, &Refusal::Broken.into(), None)),
            (Err(Failed::Denied(denial)), None, _) => Ok(self.deny(version, &denial, None)),
            (Err(Failed::Dropped(error)), None, _) => Err(error),
        }
    }

    /// Why there is no answer to a request, where that is in the record already or will be: what the gate refused is written down when the
    /// connection is over, whether or not it could be answered.
    fn known(&self, parts: &Parts) -> Option<Denial> {
        let refused = parts.headers.contains_key(REFUSAL_FIELD).then(|| self.signals.refusal()).flatten();
        refused.map(Denial::from).or_else(|| self.target.denial().cloned())
    }

    /// Checks a request, and makes of it what the server is to have.
    async fn prepare(&self, mut parts: Parts) -> Result<Prepared, Denial> {
        request::check(&parts, &self.connection)?;
        let guest = parts.extensions.remove::<OnUpgrade>();
        let hop = Hop::strip(&mut parts.headers);
        self.signals.expect_upgrade(hop.websocket && parts.version < Version::HTTP_2);
        hop.say(&mut parts.headers, parts.version);
        let rendered = self.credentials().await?;
        for credential in &rendered {
            credential.set(&mut parts.headers);
        }
        if let Some(detail) = scan::find_in_head(&parts.uri, &parts.headers) {
            return Err(Denial::with(Reason::Placeholder, detail));
        }
        parts.uri = self.target_uri(&parts.uri, parts.version)?;
        if parts.version < Version::HTTP_2 {
            parts.version = Version::HTTP_11;
        } else {
            parts.headers.remove(HOST);
        }
        for credential in &rendered {
            self.record_swap(credential.credential());
        }
        Ok(Prepared { parts, hop, guest, rendered })
    }

    /// Writes `denial` down, and answers with it. `rest` is what is left of the request.
    fn deny(&self, version: Version, denial: &Denial, rest: Option<Incoming>) -> Answer {
        self.write(denial.event());
        self.refuse(version, denial, rest)
    }

    fn refuse(&self, version: Version, denial: &Denial, rest: Option<Incoming>) -> Answer {
        let mut answer = denial.answer(&self.connection.name);
        if version < Version::HTTP_2 {
            // A client that is wrong about one request is wrong about where the next begins, perhaps.
            answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            self.signals.linger();
        } else if let Some(rest) = rest {
            // A reset, with the answer hardly out, is all that some clients would see.
            tokio::spawn(timeout(LINGER_TIME, read_for_nothing(rest)));
        }
        answer
    }

    /// What writes `denial` down when it comes to it, which may be after the answer.
    fn recorder(&self, denial: &Denial) -> Box<dyn FnOnce() + Send> {
        let (log, event) = (Arc::clone(&self.shared.log), self.connection.event(denial.event()));
        Box::new(move || log.write(&Event { at: Event::now(event.event, event.protocol).at, ..event }))
    }

    /// Does not use tokens again that the server has not taken.
    async fn reject(&self, rendered: &[Rendered]) {
        for (live, rendered) in self.swaps.iter().zip(rendered) {
            live.reject(rendered).await;
        }
    }

    /// The credentials for this host, for one request.
    async fn credentials(&self) -> Result<Vec<Rendered>, Denial> {
        let mut all = Vec::with_capacity(self.swaps.len());
        for live in &self.swaps {
            if !self.connection.tls {
                return Err(Denial::Plaintext(live.name.clone()));
            }
            match live.render(&self.shared.tokens).await {
                Ok(rendered) => all.push(rendered),
                Err(reason) => return Err(Denial::NoCredential(live.name.clone(), reason)),
            }
        }
        Ok(all)
    }

    /// `uri` as it is said to the server: the path alone in HTTP/1 (RFC 9112, 3.2.1), and all of it in HTTP/2.
    fn target_uri(&self, uri: &Uri, version: Version) -> Result<Uri, Denial> {
        let mut parts = UriParts::default();
        parts.path_and_query = Some(uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/")));
        if version >= Version::HTTP_2 {
            parts.scheme = Some(if self.connection.tls { Scheme::HTTPS } else { Scheme::HTTP });
            // It has been checked to be this host's; one without is made of `Host`, which was as well.
            parts.authority = uri.authority().cloned().or_else(|| self.connection.name.parse().ok());
        }
        Uri::from_parts(parts).map_err(|_| Denial::with(Reason::Malformed, "its target is none"))
    }

    /// The guest's answer, made of the server's.
    fn give(
        &self,
        answer: Response<Incoming>,
        hop: Hop,
        guest: Option<OnUpgrade>,
        rendered: &[Rendered],
    ) -> Result<Answer, Failed> {
        let is_upgrade = answer.status() == StatusCode::SWITCHING_PROTOCOLS;
        let version = answer.version();
        let (mut parts, body) = answer.into_parts();
        let server = parts.extensions.remove::<OnUpgrade>();
        let said = Hop::strip(&mut parts.headers);
        for credential in rendered {
            credential.hide(&mut parts.headers);
        }
        if is_upgrade {
            let (Some(guest), Some(server), true) = (guest, server, hop.websocket && said.websocket) else {
                let reason = "it switched to a protocol that was not asked for".to_owned();
                return Err(Failed::Denied(Denial::Failed(reason)));
            };
            say_websocket(&mut parts.headers);
            self.signals.upgrade();
            tokio::spawn(upgrade::pass(guest, server, Arc::clone(&self.place)));
            let body = Empty::new().map_err(|never| match never {}).boxed_unsync();
            return Ok(Response::from_parts(parts, body));
        }
        if said.close || version == Version::HTTP_10 {
            parts.headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        parts.version = Version::default();
        Ok(Response::from_parts(parts, body.map_err(BodyError::new).boxed_unsync()))
    }

    fn record_swap(&self, name: &str) {
        let mut recorded = self.recorded.lock().unwrap_or_else(PoisonError::into_inner);
        if !recorded.iter().any(|known| known == name) {
            recorded.push(name.to_owned());
            let event = Event::now(Happened::Swap, Protocol::Http);
            self.write(Event { credential: Some(name.to_owned()), ..event });
        }
    }

    fn write(&self, event: Event) {
        self.shared.log.write(&self.connection.event(event));
    }
}

async fn read_for_nothing(mut body: Incoming) {
    while let Some(Ok(_)) = body.frame().await {}
}
