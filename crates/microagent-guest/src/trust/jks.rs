//! Key stores of Java, as far as they hold certificates: the format JKS, which every Java reads by its content, whatever it would write
//! itself (`sun.security.provider.JavaKeyStore` is its only description).
//!
//! ```text
//! FEEDFEED  00000002  count  { 00000002  alias  date  "X.509"  length  DER }...  SHA-1
//! ```
//!
//! Numbers have their most significant byte first; texts are preceded by their length in two bytes. The digest is of the password, a
//! phrase, and all that is before it, so that entries can be added to a store without understanding those that are there.

use sha1_smol::Sha1;

const MAGIC: [u8; 4] = [0xfe, 0xed, 0xfe, 0xed];
const VERSION: [u8; 4] = [0, 0, 0, 2];
/// Of the kind of an entry: a certificate that is trusted.
const TRUSTED: [u8; 4] = [0, 0, 0, 2];
/// Where the entries are counted.
const COUNT: std::ops::Range<usize> = 8..12;
const DIGEST: usize = 20;

/// Every Java's own, and of nearly every store that was made since.
const PASSWORD: &str = "changeit";
const PHRASE: &[u8] = b"Mighty Aphrodite";

/// A store of `certificates`, each in DER.
pub(super) fn of(certificates: &[Vec<u8>]) -> Vec<u8> {
    let empty = [&MAGIC[..], &VERSION, &[0; COUNT.end - COUNT.start], &[0; DIGEST]].concat();
    with(&empty, certificates).expect("it begins as a store does")
}

/// `store` with `certificates` as well, unless it is no such store.
pub(super) fn with(store: &[u8], certificates: &[Vec<u8>]) -> Option<Vec<u8>> {
    let mut entries = Vec::new();
    for (number, certificate) in certificates.iter().enumerate() {
        entry(&mut entries, &format!("microagent-{number}"), 0, certificate)?;
    }
    let body = store.len().checked_sub(DIGEST).filter(|body| *body >= COUNT.end)?;
    let mut store = store[..body].to_vec();
    if store[..COUNT.start] != [MAGIC, VERSION].concat() {
        return None;
    }
    let count = u32::from_be_bytes(store[COUNT].try_into().ok()?);
    let count = count.checked_add(u32::try_from(certificates.len()).ok()?)?;
    store[COUNT].copy_from_slice(&count.to_be_bytes());
    store.append(&mut entries);
    let digest = digest(&store);
    store.extend_from_slice(&digest);
    Some(store)
}

/// `date` is in milliseconds since the Unix epoch, and shown and nothing else.
fn entry(store: &mut Vec<u8>, alias: &str, date: u64, certificate: &[u8]) -> Option<()> {
    store.extend_from_slice(&TRUSTED);
    text(store, alias)?;
    store.extend_from_slice(&date.to_be_bytes());
    text(store, "X.509")?;
    store.extend_from_slice(&u32::try_from(certificate.len()).ok()?.to_be_bytes());
    store.extend_from_slice(certificate);
    Some(())
}

fn text(store: &mut Vec<u8>, text: &str) -> Option<()> {
    store.extend_from_slice(&u16::try_from(text.len()).ok()?.to_be_bytes());
    store.extend_from_slice(text.as_bytes());
    Some(())
}

fn digest(store: &[u8]) -> [u8; DIGEST] {
    let mut digest = Sha1::new();
    for unit in PASSWORD.encode_utf16() {
        digest.update(&unit.to_be_bytes());
    }
    digest.update(PHRASE);
    digest.update(store);
    digest.digest().bytes()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;

    /// Reads a store as Java does: aliases with their certificates.
    pub(in crate::trust) fn read(store: &[u8]) -> Vec<(String, Vec<u8>)> {
        let (body, end) = store.split_at(store.len() - DIGEST);
        assert_eq!(end, digest(body), "the digest");
        let mut rest = body;
        let mut take = |count: usize| {
            let (taken, left) = rest.split_at(count);
            rest = left;
            taken.to_vec()
        };
        let number = |bytes: &[u8]| bytes.iter().fold(0, |number, byte| number << 8 | usize::from(*byte));
        assert_eq!(take(8), [0xfe, 0xed, 0xfe, 0xed, 0, 0, 0, 2]);
        let count = number(&take(4));
        let mut entries = Vec::new();
        for _ in 0..count {
            assert_eq!(take(4), [0, 0, 0, 2]);
            let length = number(&take(2));
            let alias = String::from_utf8(take(length)).unwrap();
            take(8);
            assert_eq!(take(7), b"\0\x05X.509");
            let length = number(&take(4));
            entries.push((alias, take(length)));
        }
        assert!(rest.is_empty(), "{} bytes more", rest.len());
        entries
    }

    /// A certificate, and when `keytool -importcert -storetype JKS -storepass changeit` of OpenJDK 17 made a store of it.
    const CERTIFICATE: &str = "MIIBLjCB4aADAgECAhQNY3VTLpUcZiCjWFrarsb2qFxbWTAFBgMrZXAwDDEKMAgGA1UEAwwBeDAgFw0yNjExMjkx\
        MTQ3NDZaGA8yMTI2MTEwNTExNDc0NlowDDEKMAgGA1UEAwwBeDAqMAUGAytlcAMhAL6LaxLVPiyr222XunDsrWN3hhlgO9Roq5u6FM9QiKYCo1MwUTAd\
        BgNVHQ4EFgQU2qDpvxW/A2E7MsaR5lLYxDWREVYwHwYDVR0jBBgwFoAU2qDpvxW/A2E7MsaR5lLYxDWREVYwDwYDVR0TAQH/BAUwAwEB/zAFBgMrZXAD\
        QQDnW5NH5lX7RdBYKPkNzwnQplCmVwFIYp1HXXfWUJggLCgkYHwIpYMiIkSCJseBXJ8wHmVEYh4ylwiwXVB7aBsN";
    const DATE: u64 = 1_795_952_869_343;

    #[test]
    fn a_store_is_what_javas_own_tool_makes() {
        let certificate = STANDARD.decode(CERTIFICATE).unwrap();
        let mut store = [MAGIC, VERSION, [0, 0, 0, 1]].concat();
        entry(&mut store, "microagent-0", DATE, &certificate).unwrap();
        store.extend(digest(&store));
        assert_eq!(
            (store.len(), hexadecimal(&store[store.len() - DIGEST..]).as_str()),
            (375, "9718d7ecb12a9ee67076b91d4e25425f70bb62f2")
        );
        let whole = Sha1::from(&store).digest().bytes();
        assert_eq!(hexadecimal(&whole), "beec8b137027a33f5a00fb44778d4b4e93d3bdf2");
    }

    fn hexadecimal(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn certificates_are_added_behind_those_there_are() {
        let (one, two, three) = (vec![1; 300], vec![2; 70_000], vec![3; 400]);
        let mut store = of(&[]);
        assert!(read(&store).is_empty());
        store = of(&[one.clone(), two.clone()]);
        store = with(&store, std::slice::from_ref(&three)).unwrap();
        let (aliases, certificates): (Vec<_>, Vec<_>) = read(&store).into_iter().unzip();
        assert_eq!(certificates, [one, two, three]);
        assert_eq!(aliases, ["microagent-0", "microagent-1", "microagent-0"]);
    }

    #[test]
    fn what_is_no_such_store_is_left_alone() {
        let (store, certificate) = (of(&[vec![1; 300]]), [vec![2; 300]]);
        for end in 0..COUNT.end + DIGEST {
            assert!(with(&store[..end], &certificate).is_none(), "{end}");
        }
        for (at, byte) in [(0, 0xce), (7, 1), (8, 0xff)] {
            let mut other = store.clone();
            other[at..at + 4].fill(byte);
            assert!(with(&other, &certificate).is_none(), "{at}");
        }
    }
}
