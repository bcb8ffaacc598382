//! Downloading a kernel from a URL to a file, its digest checked on the way.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;
use std::time::Duration;

use sha2::{Digest, Sha256};
use ureq::Agent;
use ureq::tls::{RootCerts, TlsConfig};

use super::record::hexadecimal;
use super::{Error, Progress, Result};

/// The largest download that is believed. Debian's cloud kernel package is 27 MB.
const LARGEST_DOWNLOAD: u64 = 2 << 30;
/// Long enough for a distant server behind a slow proxy, short enough for a person to wait for.
const CONNECT_DEADLINE: Duration = Duration::from_secs(30);
/// A download that brings nothing for this long has stalled; one that crawls has not.
const STALL_DEADLINE: Duration = Duration::from_mins(1);
/// Progress is reported once per this many bytes.
const REPORT_EVERY: u64 = 1 << 20;

/// Checks that `given` is a sha256 digest and spells it in lower case.
pub(super) fn parse_digest(given: &str) -> Result<String> {
    let digest = given.strip_prefix("sha256:").unwrap_or(given).to_ascii_lowercase();
    if digest.len() == 64 && digest.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        Ok(digest)
    } else {
        Err(Error::MalformedDigest { given: given.to_owned() })
    }
}

/// Downloads `url` to the new file `into`. Content with another digest than `sha256` is an error.
pub(super) fn download(url: &str, sha256: &str, into: &Path, progress: &mut dyn FnMut(Progress)) -> Result<()> {
    let (body, total) = open(url)?;
    let mut report = |received| progress(Progress::Downloading { what: url.to_owned(), received, total });
    report(0);
    let found = save(body, url, into, &mut report)?;
    if found == sha256 {
        return Ok(());
    }
    Err(Error::WrongDigest { url: url.to_owned(), expected: sha256.to_owned(), found })
}

/// The content behind `url`, and its size where it is known.
fn open(url: &str) -> Result<(Box<dyn Read>, Option<u64>)> {
    if let Some(path) = url.strip_prefix("file://") {
        let path = Path::new(path);
        let file = File::open(path).map_err(Error::io("open", path))?;
        let size = file.metadata().map_err(Error::io("look at", path))?.len();
        return Ok((Box::new(file), Some(size)));
    }
    if !url.starts_with("https://") && !url.starts_with("http://") {
        return Err(Error::UnsupportedUrl { url: url.to_owned() });
    }
    let response = agent().get(url).call().map_err(|source| failed(url, source))?;
    let body = response.into_body();
    let total = body.content_length();
    Ok((Box::new(body.into_reader()), total))
}

/// A client that trusts the host's certificate authorities and honours the usual proxy variables.
fn agent() -> Agent {
    let tls = TlsConfig::builder().root_certs(RootCerts::PlatformVerifier).build();
    Agent::config_builder()
        .tls_config(tls)
        .user_agent(concat!("microagent/", env!("CARGO_PKG_VERSION")))
        .timeout_connect(Some(CONNECT_DEADLINE))
        .timeout_recv_response(Some(STALL_DEADLINE))
        .timeout_per_read(Some(STALL_DEADLINE))
        .build()
        .new_agent()
}

/// Writes `body` to `into` and returns its sha256.
fn save(mut body: impl Read, url: &str, into: &Path, report: &mut dyn FnMut(u64)) -> Result<String> {
    let mut file = File::create_new(into).map_err(Error::io("create", into))?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 17];
    let mut received = 0;
    let mut reported = 0;
    loop {
        let count = match body.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(failed(url, error)),
        };
        received += count as u64;
        if received > LARGEST_DOWNLOAD {
            return Err(Error::TooLarge { path: url.into(), limit: LARGEST_DOWNLOAD, unit: "bytes" });
        }
        hasher.update(&buffer[..count]);
        file.write_all(&buffer[..count]).map_err(Error::io("write", into))?;
        if received - reported >= REPORT_EVERY {
            reported = received;
            report(received);
        }
    }
    report(received);
    Ok(hexadecimal(&hasher.finalize()))
}

fn failed(url: &str, source: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::Download { url: url.to_owned(), source: Box::new(source) }
}
