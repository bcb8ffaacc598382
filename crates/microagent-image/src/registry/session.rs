//! One request to a registry: authenticated, repeated when that may help, and its refusals understood.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue, RANGE, RETRY_AFTER, WWW_AUTHENTICATE};
use reqwest::{Body, Method, Response, StatusCode, Url};
use tokio::sync::Mutex;

use crate::manifest::{DOCKER_INDEX, DOCKER_MANIFEST, Descriptor, MAX_DOCUMENT, OCI_INDEX, OCI_MANIFEST};
use crate::{Digest, Error, PullOptions, Reference};

use super::challenge::Challenge;
use super::credentials::{Credentials, DockerConfig};
use super::{Fetched, Purpose, failure, token, trust};

/// How often a request is made before its failure is final.
pub(super) const MAX_ATTEMPTS: u32 = 5;
/// Pause before the second attempt; it doubles from there. In all: under four seconds.
const FIRST_BACKOFF: Duration = Duration::from_millis(250);
/// The longest a registry may make us wait before its rate limit is reported instead.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(10);
/// Longest explanation taken from an error response.
const MAX_ERROR_BODY: usize = 16 * 1024;

/// A repository, how to reach it and what it has let us do so far.
pub(super) struct Session {
    pub(super) client: reqwest::Client,
    pub(super) reference: Reference,
    pub(super) purpose: Purpose,
    /// Whether credentials may travel over plain HTTP, and content may come over it.
    pub(super) plain_allowed: bool,
    /// The client for what takes long to send.
    uploader: reqwest::Client,
    root: Url,
    credentials: Option<Credentials>,
    authorization: Mutex<Option<HeaderValue>>,
    contacted: AtomicBool,
}

/// One request, to be made as often as needed.
pub(super) struct Request<'a> {
    pub(super) method: Method,
    pub(super) target: Target,
    pub(super) accept: Option<&'a str>,
    /// The first byte wanted.
    pub(super) offset: u64,
    pub(super) content: Option<Content<'a>>,
    /// What is being done, for errors.
    pub(super) action: String,
}

/// Where a request goes.
pub(super) enum Target {
    /// A path below the repository: `manifests/latest`, `blobs/sha256:...`.
    Path(String),
    /// Where the registry said.
    Url(Url),
}

/// What a request sends. Its body is made anew for each attempt.
#[derive(Clone, Copy)]
pub(super) struct Content<'a> {
    pub(super) media_type: &'a str,
    pub(super) body: &'a (dyn Fn() -> Result<Body, Error> + Sync),
}

impl Request<'_> {
    /// Asks for what is at `path`.
    pub(super) fn get(path: String, action: String) -> Self {
        let (method, target) = (Method::GET, Target::Path(path));
        Request { method, target, accept: None, offset: 0, content: None, action }
    }

    /// Asks to begin something.
    pub(super) fn post(url: Url, action: String) -> Self {
        Request { method: Method::POST, target: Target::Url(url), ..Request::get(String::new(), action) }
    }

    fn changes(&self) -> bool {
        matches!(self.method, Method::POST | Method::PUT)
    }
}

/// How often something has been tried.
pub(super) struct Retries {
    attempts: u32,
    backoff: Duration,
}

impl Retries {
    pub(super) fn new() -> Retries {
        Retries { attempts: 1, backoff: FIRST_BACKOFF }
    }

    /// The number of the attempt after the one that failed.
    pub(super) fn coming_attempt(&self) -> u32 {
        self.attempts
    }
}

impl Session {
    pub(super) async fn open(reference: &Reference, options: &PullOptions, purpose: Purpose) -> Result<Session, Error> {
        let endpoint = trust::connect(reference, options).await?;
        let docker_config = DockerConfig::load(options.docker_config.as_deref())?;
        Ok(Session {
            credentials: docker_config.credentials(reference).await?,
            client: endpoint.client,
            uploader: endpoint.uploader,
            root: endpoint.root,
            reference: reference.clone(),
            purpose,
            plain_allowed: options.insecure || reference.is_loopback(),
            authorization: Mutex::new(None),
            contacted: AtomicBool::new(false),
        })
    }

    /// Fetches the manifest or index that `selector` (a tag or digest) names.
    pub(super) async fn manifest(&self, selector: &str, expected: Option<&Digest>) -> Result<Fetched, Error> {
        let accept = [OCI_INDEX, OCI_MANIFEST, DOCKER_INDEX, DOCKER_MANIFEST].join(", ");
        let request = Request {
            accept: Some(&accept),
            ..Request::get(
                format!("manifests/{selector}"),
                format!("reading the manifest of `{}`", self.reference.familiar()),
            )
        };
        let response = self.send(&request).await?;
        let header = |name| response.headers().get(name).and_then(|value: &HeaderValue| value.to_str().ok());
        let media_type =
            header(CONTENT_TYPE.as_str()).map(|value| value.split(';').next().unwrap_or(value).trim().to_owned());
        let announced = header("docker-content-digest").and_then(|value| value.parse::<Digest>().ok());
        let bytes = self.body(response, MAX_DOCUMENT, &request.action).await?;
        let what = format!("the manifest of `{}`", self.reference.familiar());
        match expected.or(announced.as_ref()) {
            Some(expected) if !expected.matches(&bytes) => {
                Err(Error::DigestMismatch { what, expected: expected.clone(), found: Digest::of(&bytes) })
            }
            Some(expected) => Ok(Fetched { digest: expected.clone(), bytes, media_type }),
            None => Ok(Fetched { digest: Digest::of(&bytes), bytes, media_type }),
        }
    }

    /// Fetches a blob that fits into memory: an image config.
    pub(super) async fn small_blob(&self, descriptor: &Descriptor) -> Result<Vec<u8>, Error> {
        let what = format!("the config of `{}`", self.reference.familiar());
        if descriptor.size > MAX_DOCUMENT {
            return Err(Error::LimitExceeded {
                what: format!("bytes of {what}"),
                limit: MAX_DOCUMENT,
                found: descriptor.size,
            });
        }
        let request = Request::get(format!("blobs/{}", descriptor.digest), format!("reading {what}"));
        let response = self.send(&request).await?;
        let bytes = self.body(response, descriptor.size, &request.action).await?;
        let found = bytes.len() as u64;
        if found != descriptor.size {
            return Err(Error::SizeMismatch { what, expected: descriptor.size, found });
        }
        if !descriptor.digest.matches(&bytes) {
            let found = Digest::of(&bytes);
            return Err(Error::DigestMismatch { what, expected: descriptor.digest.clone(), found });
        }
        Ok(bytes)
    }

    /// Sends `request` until it succeeds or fails for good. The response has a success status.
    pub(super) async fn send(&self, request: &Request<'_>) -> Result<Response, Error> {
        let mut retries = Retries::new();
        loop {
            let error = match self.attempt(request).await {
                Ok(response) => return Ok(response),
                Err(error) => error,
            };
            let Some(pause) = self.pause_before_retry(&mut retries, &error) else { return Err(error) };
            tokio::time::sleep(pause).await;
        }
    }

    /// How long to wait before trying again what failed with `error`; `None` if that would not help.
    pub(super) fn pause_before_retry(&self, retries: &mut Retries, error: &Error) -> Option<Duration> {
        let pause = match error {
            Error::RateLimited { retry_after: Some(seconds), .. } => Duration::from_secs(*seconds),
            // A host that was never there is better reported at once than after several attempts.
            Error::Unreachable { .. } if self.contacted.load(Ordering::Relaxed) => retries.backoff,
            Error::RegistryStatus { status: 408 | 500 | 502 | 503 | 504, .. } => retries.backoff,
            _ => return None,
        };
        let worthwhile = retries.attempts < MAX_ATTEMPTS && pause <= MAX_RETRY_AFTER;
        retries.attempts += 1;
        retries.backoff *= 2;
        worthwhile.then_some(pause)
    }

    /// Sends `request` once, or twice if the registry wants other authorization than it got.
    pub(super) async fn attempt(&self, request: &Request<'_>) -> Result<Response, Error> {
        let sent = self.authorization.lock().await.clone();
        let response = self.request_once(request, sent.as_ref()).await?;
        if response.status() != StatusCode::UNAUTHORIZED {
            return self.accept(response, request).await;
        }
        let Some(fresh) = self.authorize(&response, sent.as_ref()).await? else {
            return self.accept(response, request).await;
        };
        let response = self.request_once(request, Some(&fresh)).await?;
        self.accept(response, request).await
    }

    async fn request_once(
        &self,
        request: &Request<'_>,
        authorization: Option<&HeaderValue>,
    ) -> Result<Response, Error> {
        let url = match &request.target {
            Target::Path(path) => self.url(path)?,
            Target::Url(url) => url.clone(),
        };
        // A place elsewhere has its own right of entry in its URL, and is not to learn ours.
        let authorization = authorization.filter(|_| url.origin() == self.root.origin());
        let client = if request.content.is_some() { &self.uploader } else { &self.client };
        let mut builder = client.request(request.method.clone(), url);
        if let Some(value) = authorization {
            builder = builder.header(AUTHORIZATION, value);
        }
        if let Some(Content { media_type, body }) = request.content {
            builder = builder.header(CONTENT_TYPE, media_type).body(body()?);
        }
        if let Some(accept) = request.accept {
            builder = builder.header(ACCEPT, accept);
        }
        if request.offset > 0 {
            builder = builder.header(RANGE, format!("bytes={}-", request.offset));
        }
        let response = builder.send().await.map_err(|error| self.failure(error, &request.action))?;
        self.contacted.store(true, Ordering::Relaxed);
        Ok(response)
    }

    /// Answers the challenge in `response`. `None` if the registry asks for nothing we could give.
    ///
    /// Parallel requests find out together that a token is missing or has expired; the first one gets a new token and
    /// the others, who waited for the lock, use it.
    async fn authorize(&self, response: &Response, sent: Option<&HeaderValue>) -> Result<Option<HeaderValue>, Error> {
        let mut current = self.authorization.lock().await;
        if current.as_ref() != sent {
            return Ok(current.clone());
        }
        let offered = response.headers().get_all(WWW_AUTHENTICATE);
        let challenges = offered.iter().filter_map(|value| value.to_str().ok()).flat_map(Challenge::parse);
        let fresh = match Challenge::strongest(challenges) {
            Some(Challenge::Bearer(bearer)) => Some(token::obtain(self, &bearer, self.credentials.as_ref()).await?),
            Some(Challenge::Basic) => self.credentials.as_ref().and_then(Credentials::basic_header),
            None => None,
        };
        if fresh.as_ref() == sent {
            return Ok(None);
        }
        current.clone_from(&fresh);
        Ok(fresh)
    }

    /// Turns a refusal into the error it stands for.
    async fn accept(&self, response: Response, request: &Request<'_>) -> Result<Response, Error> {
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let host = self.reference.registry().to_owned();
        let retry_after = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
        let message = self.explanation(response).await;
        Err(match status {
            StatusCode::METHOD_NOT_ALLOWED if request.changes() => {
                Error::RegistryReadOnly { host, reference: self.reference.familiar(), message }
            }
            StatusCode::NOT_FOUND if request.changes() => {
                Error::RepositoryMissing { host, repository: self.reference.repository().to_owned() }
            }
            StatusCode::NOT_FOUND => Error::NotFound { host, reference: self.name_of(request) },
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => self.login_required(&message),
            StatusCode::TOO_MANY_REQUESTS => Error::RateLimited { host, retry_after },
            _ => Error::RegistryStatus { host, status: status.as_u16(), action: request.action.clone(), message },
        })
    }

    /// The image, or the part of it that was asked for.
    fn name_of(&self, request: &Request<'_>) -> String {
        let Target::Path(path) = &request.target else { return self.reference.familiar() };
        match path.strip_prefix("blobs/").and_then(|digest| digest.parse().ok()) {
            Some(digest) => self.reference.pinned(digest).familiar(),
            None => self.reference.familiar(),
        }
    }

    pub(super) fn login_required(&self, message: &str) -> Error {
        let tried = match self.credentials {
            Some(_) => "the configured credentials were refused",
            None => "no credentials are configured",
        };
        let reason = if message.is_empty() { tried.to_owned() } else { format!("{tried} ({message})") };
        Error::LoginRequired {
            host: self.reference.registry().to_owned(),
            reference: self.reference.familiar(),
            reason,
        }
    }

    /// What the registry says about a refusal, as its JSON error messages or not at all.
    async fn explanation(&self, response: Response) -> String {
        #[derive(serde::Deserialize)]
        struct Errors {
            errors: Vec<Entry>,
        }
        #[derive(serde::Deserialize)]
        struct Entry {
            #[serde(default)]
            message: Option<String>,
        }
        let body = self.body(response, MAX_ERROR_BODY as u64, "reading an error").await.unwrap_or_default();
        let errors = serde_json::from_slice::<Errors>(&body).map(|parsed| parsed.errors).unwrap_or_default();
        let messages: Vec<String> = errors.into_iter().filter_map(|entry| entry.message).collect();
        crate::error::quoted(&messages.join("; "))
    }

    /// The whole body of `response`, which may have at most `limit` bytes.
    pub(super) async fn body(&self, mut response: Response, limit: u64, action: &str) -> Result<Vec<u8>, Error> {
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| self.failure(error, action))? {
            let found = bytes.len() as u64 + chunk.len() as u64;
            if found > limit {
                return Err(Error::LimitExceeded {
                    what: format!("bytes from the registry while {action}"),
                    limit,
                    found,
                });
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes)
    }

    pub(super) fn failure(&self, error: reqwest::Error, action: &str) -> Error {
        failure::classify(error, self.reference.registry(), action)
    }

    /// The URL of a path below the repository.
    pub(super) fn url(&self, path: &str) -> Result<Url, Error> {
        let path = format!("v2/{}/{path}", self.reference.repository());
        self.root.join(&path).map_err(|error| Error::RegistryProtocol {
            host: self.reference.registry().to_owned(),
            action: "making a request".to_owned(),
            reason: error.to_string(),
        })
    }
}
