//! Tokens: how one is got, and for how long it is kept.

use super::entry::{Entry, Kind};
use super::jwt::Signer;
use super::live::resolve;
use super::url::TokenUrl;
use crate::Error;
use crate::upstream::TokenClient;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use hyper::http::{HeaderValue, StatusCode};
use microagent_secret::{Reference, Secret, Sources};
use serde_json::Value;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Mutex;

/// Kept so long where the answer does not say (RFC 6749, 5.1 only recommends that it does).
const UNTOLD_LIFE: u64 = 300;
/// Longest time that one is kept, whatever the answer says.
const MAX_LIFE: u64 = 24 * 3600;
/// One that is about to run out is not used: the request may be on its way for as long, and clocks differ by as much.
const SKEW: u64 = 60;
/// That much of a short life at most, so that it is kept at all.
const SKEW_PART: u64 = 5;
/// The field of an answer that holds the token (RFC 6749, 5.1).
const TOKEN_FIELD: &str = "access_token";
/// Life of a token that is signed here, where nothing is said: what large services accept at most.
const SIGNED_LIFE: u64 = 3600;
/// And of one that is made for each request.
const SINGLE_LIFE: u64 = 60;
/// The grant of RFC 7523, 2.1.
const JWT_GRANT: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";

/// A token that is got when it is needed.
pub(super) struct Tokens {
    grant: Grant,
    /// Whoever holds the lock gets one; the others find it then.
    slot: Mutex<Slot>,
}

#[derive(Default)]
struct Slot {
    token: Option<(Arc<Secret>, Instant)>,
    failed: Option<(Instant, String)>,
}

impl Tokens {
    pub(super) fn new(grant: Grant) -> Tokens {
        Tokens { grant, slot: Mutex::default() }
    }

    /// The one that is kept, or another.
    pub(super) async fn get(&self, client: &TokenClient) -> Result<Arc<Secret>, String> {
        let asked = Instant::now();
        let mut slot = self.slot.lock().await;
        if let Some((token, until)) = &slot.token
            && Instant::now() < *until
        {
            return Ok(Arc::clone(token));
        }
        // Those who waited for somebody's attempt do not all make it again.
        if let Some((at, reason)) = &slot.failed
            && *at > asked
        {
            return Err(reason.clone());
        }
        slot.token = None;
        match self.grant.token(client).await {
            Ok((token, life)) => {
                let token = Arc::new(token);
                slot.token = Some((Arc::clone(&token), Instant::now() + kept(life)));
                Ok(token)
            }
            Err(reason) => {
                slot.failed = Some((Instant::now(), reason.clone()));
                Err(reason)
            }
        }
    }

    /// Does not keep `token` any longer.
    pub(super) async fn reject(&self, token: &Arc<Secret>) {
        let mut slot = self.slot.lock().await;
        if slot.token.as_ref().is_some_and(|(kept, _)| Arc::ptr_eq(kept, token)) {
            slot.token = None;
        }
    }
}

/// How long a token with `life` seconds is used.
fn kept(life: u64) -> Duration {
    let life = life.min(MAX_LIFE);
    Duration::from_secs(life - SKEW.min(life / SKEW_PART))
}

/// What a token is given for.
pub(super) enum Grant {
    /// A client's credentials.
    Client { endpoint: Endpoint, id: Secret, secret: Secret, scopes: Vec<String> },
    /// Nothing: it is signed here.
    Signed { signer: Signer, life: Option<u64> },
    /// What is signed here.
    Assertion { endpoint: Endpoint, signer: Signer },
}

/// Who gives it.
pub(super) struct Endpoint {
    url: TokenUrl,
    field: String,
    life: Option<u64>,
}

impl Grant {
    pub(super) fn new(name: &str, entry: &Entry, sources: &Sources) -> Result<Grant, Error> {
        let life = entry.token_ttl_seconds;
        let field = entry.token_response_field.clone().unwrap_or_else(|| TOKEN_FIELD.to_owned());
        let endpoint = entry.token_url.clone().map(|url| Endpoint { url, field, life });
        let needs = |key: &str| Error::BadSwap { name: name.to_owned(), reason: format!("`{key}` is missing") };
        let get =
            |reference: &Option<Reference>, key| resolve(name, reference.as_ref().ok_or_else(|| needs(key))?, sources);
        if entry.kind == Kind::ClientCredentials {
            return Ok(Grant::Client {
                endpoint: endpoint.ok_or_else(|| needs("token_url"))?,
                id: get(&entry.client_id_ref, "client_id_ref")?,
                secret: get(&entry.client_secret_ref, "client_secret_ref")?,
                scopes: entry.scopes.clone(),
            });
        }
        let key = get(&entry.signing_key_ref, "signing_key_ref")?;
        let mut claims = entry.claims.clone();
        if let Some(endpoint) = &endpoint {
            // RFC 7523, 3: it is for whoever gives the token.
            claims.entry("aud".to_owned()).or_insert_with(|| Value::String(endpoint.url.to_string()));
        }
        let signer = Signer::new(&key, claims).map_err(|reason| Error::BadValue {
            name: name.to_owned(),
            reference: entry.signing_key_ref.as_ref().map_or_else(String::new, ToString::to_string),
            reason,
        })?;
        Ok(match endpoint {
            Some(endpoint) => Grant::Assertion { endpoint, signer },
            None => Grant::Signed { signer, life },
        })
    }

    /// Another token, with its life in seconds.
    async fn token(&self, client: &TokenClient) -> Result<(Secret, u64), String> {
        match self {
            Grant::Signed { signer, life } => {
                let life = life.unwrap_or(SIGNED_LIFE);
                let token = signer.sign(if life == 0 { SINGLE_LIFE } else { life })?;
                Ok((secret(token)?, life))
            }
            Grant::Client { endpoint, id, secret, scopes } => {
                let scope = scopes.join(" ");
                let scope = (!scope.is_empty()).then_some(("scope", scope.as_str()));
                let pairs = [("grant_type", "client_credentials")].into_iter().chain(scope);
                endpoint.ask(client, form(pairs), Some(basic(id, secret)?)).await
            }
            Grant::Assertion { endpoint, signer } => {
                let assertion = signer.sign(endpoint.life.filter(|life| *life > 0).unwrap_or(SIGNED_LIFE))?;
                let pairs = [("grant_type", JWT_GRANT), ("assertion", &assertion)];
                endpoint.ask(client, form(pairs.into_iter()), None).await
            }
        }
    }
}

impl Endpoint {
    async fn ask(
        &self,
        client: &TokenClient,
        form: String,
        authorization: Option<HeaderValue>,
    ) -> Result<(Secret, u64), String> {
        let (status, body) = client.post(&self.url, form, authorization).await?;
        self.read(status, &body)
    }

    fn read(&self, status: StatusCode, body: &[u8]) -> Result<(Secret, u64), String> {
        let answer: Option<Value> = serde_json::from_slice(body).ok();
        if !status.is_success() {
            // The body may repeat what was sent; its code (RFC 6749, 5.2) is all that is taken from it.
            let code = answer
                .as_ref()
                .and_then(|answer| answer.get("error")?.as_str())
                .filter(|code| code.len() <= 64 && code.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'));
            let code = code.map_or(String::new(), |code| format!(" and `{code}`"));
            return Err(format!("the token endpoint answered with {}{code}", status.as_u16()));
        }
        let answer = answer.ok_or("the token endpoint did not answer with JSON")?;
        let token = answer.get(&self.field).and_then(Value::as_str).filter(|token| !token.is_empty());
        let token = token.ok_or_else(|| format!("the answer of the token endpoint has no text in `{}`", self.field))?;
        // Some write the number as text.
        let told = answer.get("expires_in").and_then(|told| told.as_u64().or_else(|| told.as_str()?.parse().ok()));
        let life = self.life.unwrap_or(u64::MAX).min(told.unwrap_or_else(|| self.life.unwrap_or(UNTOLD_LIFE)));
        Ok((secret(token.to_owned())?, life))
    }
}

fn form<'a>(pairs: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish()
}

/// A client's credentials as RFC 6749, 2.3.1 has them: each is encoded as in a form before they are joined.
fn basic(id: &Secret, secret: &Secret) -> Result<HeaderValue, String> {
    let encoded = |part: &Secret| form_urlencoded::byte_serialize(part.expose()).collect::<String>();
    let both = format!("{}:{}", encoded(id), encoded(secret));
    let mut value = HeaderValue::try_from(format!("Basic {}", BASE64_STANDARD.encode(both)))
        .map_err(|_| "the client's credentials cannot be in a header".to_owned())?;
    value.set_sensitive(true);
    Ok(value)
}

fn secret(text: String) -> Result<Secret, String> {
    Secret::new(text.into_bytes()).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(life: Option<u64>) -> Endpoint {
        Endpoint { url: "https://t.example/".parse().unwrap(), field: TOKEN_FIELD.to_owned(), life }
    }

    #[test]
    fn a_token_is_not_used_in_the_last_minute_of_its_life() {
        assert_eq!(kept(3600).as_secs(), 3540);
        assert_eq!(kept(10).as_secs(), 8);
        assert_eq!(kept(1).as_secs(), 1);
        assert_eq!(kept(0).as_secs(), 0);
        assert!(kept(u64::MAX).as_secs() < MAX_LIFE);
    }

    #[test]
    fn its_life_is_the_shorter_of_what_the_answer_and_the_file_say() {
        for (own, body, life) in [
            (None, r#"{"access_token":"t","expires_in":100}"#, 100),
            (None, r#"{"access_token":"t","expires_in":"100"}"#, 100),
            (None, r#"{"access_token":"t"}"#, UNTOLD_LIFE),
            (Some(50), r#"{"access_token":"t","expires_in":100}"#, 50),
            (Some(500), r#"{"access_token":"t","expires_in":100}"#, 100),
            (Some(900), r#"{"access_token":"t"}"#, 900),
            (Some(0), r#"{"access_token":"t","expires_in":100}"#, 0),
        ] {
            let (token, told) = endpoint(own).read(StatusCode::OK, body.as_bytes()).unwrap();
            assert_eq!((token.expose(), told), (&b"t"[..], life), "{own:?} {body}");
        }
    }

    #[test]
    fn an_answer_without_a_token_is_told_of_and_not_repeated() {
        for (status, body, reason) in [
            (401, r#"{"error":"invalid_client","error_description":"s3cret"}"#, "401 and `invalid_client`"),
            (401, r#"{"error":"s3cret!"}"#, "answered with 401"),
            (500, "s3cret", "500"),
            (200, "s3cret", "JSON"),
            (200, r#"{"token":"s3cret"}"#, "`access_token`"),
            (200, r#"{"access_token":""}"#, "`access_token`"),
            (200, r#"{"access_token":{"s3cret":1}}"#, "`access_token`"),
            (302, "", "302"),
        ] {
            let status = StatusCode::from_u16(status).unwrap();
            let error = endpoint(None).read(status, body.as_bytes()).unwrap_err();
            assert!(error.contains(reason) && !error.contains("s3cret"), "{body}: {error}");
        }
    }

    #[test]
    fn credentials_of_a_client_are_encoded_before_they_are_joined() {
        let [id, key] = ["a:b", "p w"].map(|text| Secret::new(text.into()).unwrap());
        let value = basic(&id, &key).unwrap();
        assert!(value.is_sensitive());
        let text = BASE64_STANDARD.decode(&value.as_bytes()["Basic ".len()..]).unwrap();
        assert_eq!(text, b"a%3Ab:p+w");
    }
}
