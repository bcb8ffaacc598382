//! Getting a bearer token from the token server a registry names.

use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use reqwest::{RequestBuilder, StatusCode, Url};
use serde::Deserialize;

use crate::Error;

use super::Purpose;
use super::challenge::Bearer;
use super::credentials::Credentials;
use super::session::Session;

/// Largest answer of a token server. Tokens of large organisations reach some tens of kilobytes.
const MAX_ANSWER: u64 = 1024 * 1024;
/// How we introduce ourselves to servers that keep a list of their clients.
const CLIENT_ID: &str = "microagent";
const ACTION: &str = "asking for a token";

#[derive(Deserialize)]
struct Answer {
    token: Option<String>,
    access_token: Option<String>,
}

/// Gets a token for what the session is there for, as the value of an `Authorization` header.
pub(super) async fn obtain(
    session: &Session,
    bearer: &Bearer,
    credentials: Option<&Credentials>,
) -> Result<HeaderValue, Error> {
    if let Some(Credentials::RegistryToken(token)) = credentials {
        return header(session, token.reveal());
    }
    let request = prepare(session, bearer, credentials)?;
    let response =
        request.header(ACCEPT, "application/json").send().await.map_err(|error| session.failure(error, ACTION))?;
    let host = response.url().host_str().unwrap_or_default().to_owned();
    let status = response.status();
    match status {
        _ if status.is_success() => {}
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => return Err(session.login_required("")),
        StatusCode::TOO_MANY_REQUESTS => return Err(Error::RateLimited { host, retry_after: None }),
        _ => {
            let (action, message) = (ACTION.to_owned(), String::new());
            return Err(Error::RegistryStatus { host, status: status.as_u16(), action, message });
        }
    }
    let body = session.body(response, MAX_ANSWER, ACTION).await?;
    let answer: Answer = serde_json::from_slice(&body).map_err(|error| protocol(&host, error.to_string()))?;
    match answer.token.or(answer.access_token) {
        Some(token) => header(session, &token),
        None => Err(protocol(&host, "the answer holds no token".to_owned())),
    }
}

fn prepare(session: &Session, bearer: &Bearer, credentials: Option<&Credentials>) -> Result<RequestBuilder, Error> {
    let registry = session.reference.registry();
    let mut url = Url::parse(&bearer.realm)
        .map_err(|error| protocol(registry, format!("its token server is no URL: {error}")))?;
    let plain = url.scheme() == "http" && session.plain_allowed;
    if url.scheme() != "https" && !plain {
        return Err(protocol(registry, "its token server is not reached over HTTPS".to_owned()));
    }
    let scopes = scopes(session, bearer);
    let mut fields: Vec<(&str, &str)> =
        bearer.service.as_deref().map(|service| ("service", service)).into_iter().collect();
    if let Some(Credentials::IdentityToken(token)) = credentials {
        let scope = scopes.join(" ");
        fields.push(("scope", &scope));
        fields.extend([("grant_type", "refresh_token"), ("client_id", CLIENT_ID), ("refresh_token", token.reveal())]);
        let mut form = Url::parse("form:").map_err(|error| protocol(registry, error.to_string()))?;
        form.query_pairs_mut().extend_pairs(fields);
        let body = form.query().unwrap_or_default().to_owned();
        return Ok(session.client.post(url).header(CONTENT_TYPE, "application/x-www-form-urlencoded").body(body));
    }
    fields.extend(scopes.iter().map(|scope| ("scope", scope.as_str())));
    url.query_pairs_mut().extend_pairs(fields);
    let request = session.client.get(url);
    Ok(match credentials.and_then(Credentials::basic_header) {
        Some(basic) => request.header(AUTHORIZATION, basic),
        None => request,
    })
}

/// What to ask for: what the registry says is needed, and for the repository itself everything the session is there for.
/// The first question of a push only reads, and a token good for that alone would be refused by the next.
fn scopes(session: &Session, bearer: &Bearer) -> Vec<String> {
    let own = format!("repository:{}:", session.reference.repository());
    let wanted = format!("{own}{}", session.purpose.actions());
    let named = bearer.scope.as_deref().unwrap_or_default().split_whitespace();
    match session.purpose {
        Purpose::Pull if bearer.scope.is_some() => named.map(str::to_owned).collect(),
        Purpose::Pull => vec![wanted],
        Purpose::Push => {
            let others = named.filter(|scope| !scope.starts_with(&own)).map(str::to_owned);
            std::iter::once(wanted).chain(others).collect()
        }
    }
}

fn header(session: &Session, token: &str) -> Result<HeaderValue, Error> {
    let invalid = |_| protocol(session.reference.registry(), "the token cannot be sent in a header".to_owned());
    let mut value = HeaderValue::from_str(&format!("Bearer {token}")).map_err(invalid)?;
    value.set_sensitive(true);
    Ok(value)
}

fn protocol(host: &str, reason: String) -> Error {
    Error::RegistryProtocol { host: host.to_owned(), action: ACTION.to_owned(), reason }
}
