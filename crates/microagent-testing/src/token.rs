//! A token server as registries use it: a password or identity token in, a signed statement of rights out.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::json;

use crate::registry::{PASSWORD, Registry, USER};
use crate::tool::{run, tool};

pub(crate) const SERVICE: &str = "test-registry";
pub(crate) const ISSUER: &str = "test-issuer";
const LIFETIME_SECONDS: u64 = 300;

#[derive(Debug)]
pub(crate) struct TokenServer {
    port: u16,
}

impl TokenServer {
    /// Starts the server in a thread that ends with the test. Leaves `token.crt` in `directory` for the registry.
    pub(crate) fn start(directory: &Path) -> TokenServer {
        let certificate = directory.join("token.crt");
        let arguments =
            ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=token", "-keyout"];
        run(tool("openssl").args(arguments).arg(directory.join("token.key")).arg("-out").arg(&certificate));
        let pem = std::fs::read_to_string(&certificate).expect("reading the certificate");
        let der: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
        let signer = Signer { key: directory.join("token.key"), certificate: der };
        let listener = TcpListener::bind("127.0.0.1:0").expect("listening on loopback");
        let port = listener.local_addr().expect("the listener has an address").port();
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                // A client that goes away is its own affair.
                let _ = answer(&stream, &signer);
            }
        });
        TokenServer { port }
    }

    pub(crate) fn realm(&self) -> String {
        format!("http://127.0.0.1:{}/token", self.port)
    }
}

struct Signer {
    key: PathBuf,
    certificate: String,
}

impl Signer {
    /// A JSON Web Token that grants `scopes`, each of the form `repository:NAME:ACTIONS`.
    fn token(&self, scopes: &[&str]) -> String {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is after 1970").as_secs();
        let grant = |scope: &&str| {
            let mut parts = scope.split(':').skip(1);
            let (name, actions) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
            json!({ "type": "repository", "name": name, "actions": actions.split(',').collect::<Vec<_>>() })
        };
        let access: Vec<_> = scopes.iter().map(grant).collect();
        let header = json!({ "typ": "JWT", "alg": "RS256", "x5c": [self.certificate] });
        let claims = json!({
            "iss": ISSUER, "sub": USER, "aud": SERVICE, "jti": now.to_string(),
            "nbf": now - 10, "iat": now, "exp": now + LIFETIME_SECONDS,
            "access": access,
        });
        let unsigned = [header, claims].map(|part| URL_SAFE_NO_PAD.encode(part.to_string())).join(".");
        let file = tempfile::NamedTempFile::new().expect("creating a temporary file");
        std::fs::write(file.path(), &unsigned).expect("writing the statement to sign");
        let signature = run(tool("openssl").args(["dgst", "-sha256", "-sign"]).arg(&self.key).arg(file.path()));
        format!("{unsigned}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}

fn answer(stream: &TcpStream, signer: &Signer) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream);
    let mut head = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        match line.trim_end() {
            "" => break,
            line => head.push(line.to_owned()),
        }
    }
    let header = |name: &str| {
        let found =
            head.iter().skip(1).filter_map(|line| line.split_once(':')).find(|(key, _)| key.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.trim().to_owned())
    };
    let length = header("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let target = head.first().and_then(|line| line.split(' ').nth(1)).unwrap_or_default().to_owned();
    let query = target.split_once('?').map_or("", |(_, query)| query);
    let form = String::from_utf8_lossy(&body).into_owned();
    let fields: Vec<(String, String)> = query.split('&').chain(form.split('&')).filter_map(decoded_pair).collect();
    let field = |name: &str| fields.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
    let password = format!("Basic {}", STANDARD.encode(format!("{USER}:{PASSWORD}")));
    let known = header("authorization") == Some(password)
        || (field("grant_type") == Some("refresh_token") && field("refresh_token") == Some(Registry::IDENTITY_TOKEN));
    // Several in the query of a GET, or one list in the form of a POST.
    let scopes = fields.iter().filter(|(key, _)| key == "scope").flat_map(|(_, value)| value.split(' '));
    let scopes: Vec<&str> = scopes.collect();
    let (status, body) = if known && field("service") == Some(SERVICE) {
        let token = signer.token(&scopes);
        ("200 OK", json!({ "token": token }).to_string())
    } else {
        ("401 Unauthorized", "{}".to_owned())
    };
    let length = body.len();
    write!(&*stream, "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}")
}

fn decoded_pair(pair: &str) -> Option<(String, String)> {
    let (key, value) = pair.split_once('=')?;
    Some((key.to_owned(), decoded(value)))
}

/// Undoes the encoding of a form value.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let escape = after.get(..2).and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok());
        match (byte, escape) {
            (b'%', Some(value)) => {
                bytes.push(value);
                rest = &after[2..];
                continue;
            }
            (b'+', _) => bytes.push(b' '),
            _ => bytes.push(byte),
        }
        rest = after;
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
