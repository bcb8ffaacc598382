//! The proxies that the host's environment names: what leaves a machine takes the way that the host's own programs take.
//!
//! [`Proxies`] tells which one is for a connection, if any; [`Handshake`] has it connect to the very address that was decided on.

mod connect;
mod error;
mod exceptions;
mod server;

pub use connect::{Handshake, Progress};
pub use error::ProxyError;
pub use server::ProxyServer;

use exceptions::Exceptions;
use std::net::SocketAddr;

/// Port of HTTP: what goes there goes the way of `HTTP_PROXY`, everything else that of `HTTPS_PROXY`, whose tunnels carry anything.
const HTTP_PORT: u16 = 80;

/// Which proxy is for what.
#[derive(Clone, Debug, Default)]
pub struct Proxies {
    https: Option<ProxyServer>,
    http: Option<ProxyServer>,
    exceptions: Exceptions,
}

impl Proxies {
    /// Those in `HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY`, or the same in lower case, which wins.
    pub fn of_environment() -> Result<Proxies, ProxyError> {
        let value = |name: &str| {
            let of = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
            of(&name.to_ascii_lowercase()).or_else(|| of(name))
        };
        let (https, http, no) = (value("HTTPS_PROXY"), value("HTTP_PROXY"), value("NO_PROXY"));
        Proxies::from_values(https.as_deref(), http.as_deref(), no.as_deref())
    }

    /// None.
    pub fn none() -> Proxies {
        Proxies::default()
    }

    /// Those in the values of `HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY`.
    pub fn from_values(https: Option<&str>, http: Option<&str>, no: Option<&str>) -> Result<Proxies, ProxyError> {
        let server = |variable, value: Option<&str>| {
            let value = value.map(str::trim).filter(|value| !value.is_empty());
            value.map(|value| ProxyServer::parse(variable, value)).transpose()
        };
        Ok(Proxies {
            https: server("HTTPS_PROXY", https)?,
            http: server("HTTP_PROXY", http)?,
            exceptions: Exceptions::parse(no.unwrap_or_default()),
        })
    }

    /// The one for a connection to `address`, which has this `name`.
    pub fn for_target(&self, name: Option<&str>, address: SocketAddr) -> Option<&ProxyServer> {
        let server = if address.port() == HTTP_PORT { self.http.as_ref() } else { self.https.as_ref() };
        server.filter(|_| !self.exceptions.include(name, address))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn proxies(no: &str) -> Proxies {
        Proxies::from_values(Some("http://u:p%40@proxy.example:3128/"), Some("other.example"), Some(no)).unwrap()
    }

    #[test]
    fn each_port_has_its_proxy() {
        let proxies = proxies("");
        let host =
            |to: &str| proxies.for_target(None, to.parse().unwrap()).map(|proxy| (proxy.host.as_str(), proxy.port));
        assert_eq!(host("192.0.2.1:80"), Some(("other.example", 80)));
        assert_eq!(host("192.0.2.1:443"), Some(("proxy.example", 3128)));
        assert_eq!(host("192.0.2.1:22"), Some(("proxy.example", 3128)));
        let http_alone = Proxies::from_values(None, Some("http://p:1"), None).unwrap();
        assert!(http_alone.for_target(None, "192.0.2.1:443".parse().unwrap()).is_none());
        assert!(Proxies::none().for_target(None, "192.0.2.1:80".parse().unwrap()).is_none());
        assert!(Proxies::from_values(Some(" "), Some(""), None).unwrap().https.is_none());
    }

    #[test]
    fn what_is_excepted_goes_there_itself() {
        let proxies =
            proxies("corp.example, .sub.example,*.star.example,10.0.0.0/8,192.0.2.7,port.example:8443,[2001:db8::1]");
        let direct = |name: Option<&str>, to: &str| proxies.for_target(name, to.parse().unwrap()).is_none();
        assert!(direct(Some("corp.example"), "192.0.2.1:443"));
        assert!(direct(Some("A.CORP.example."), "192.0.2.1:443"));
        assert!(!direct(Some("notcorp.example"), "192.0.2.1:443"));
        assert!(direct(Some("a.sub.example"), "192.0.2.1:80"));
        assert!(direct(Some("a.star.example"), "192.0.2.1:80"));
        assert!(direct(None, "10.2.3.4:443") && !direct(None, "11.2.3.4:443"));
        assert!(direct(Some("x.example"), "192.0.2.7:443"));
        assert!(direct(Some("port.example"), "192.0.2.1:8443") && !direct(Some("port.example"), "192.0.2.1:443"));
        assert!(direct(None, "[2001:db8::1]:443") && !direct(None, "[2001:db8::2]:443"));
        assert!(direct(None, "127.0.0.1:443") && direct(None, "[::ffff:127.0.0.1]:443"));
    }

    #[test]
    fn a_star_excepts_everything() {
        assert!(proxies("a.example,*").for_target(Some("b.example"), "192.0.2.1:443".parse().unwrap()).is_none());
    }

    #[test]
    fn what_is_no_proxy_of_ours_is_refused() {
        for value in [
            "socks5://p:1080",
            "https://p:443",
            "http://",
            "http://p:0",
            "http://p:x",
            "http://p:65536",
            "http://a b",
            "http://[::1",
        ] {
            let error = Proxies::from_values(Some(value), None, None).unwrap_err();
            assert!(matches!(error, ProxyError::BadValue { variable: "HTTPS_PROXY", .. }), "{value}");
        }
    }

    #[test]
    fn credentials_are_not_printed() {
        let shown = format!("{:?}", proxies(""));
        assert!(!shown.contains("p@") && !shown.contains("p%40") && !shown.contains("dTpw"), "{shown}");
        let error = Proxies::from_values(Some("socks5://user:secret@p"), None, None).unwrap_err();
        assert!(!error.to_string().contains("secret"), "{error}");
    }

    proptest! {
        #[test]
        fn any_values_are_proxies_or_an_error(
            server in "(http://|//)?([a-z.:@%0-9\\[\\]/]{0,12}|\\PC{0,6}){0,3}",
            no in "([a-z0-9.*:/,\\[\\] -]|\\PC){0,40}",
            name in "\\PC{0,10}",
        ) {
            if let Ok(proxies) = Proxies::from_values(Some(&server), None, Some(&no)) {
                for address in ["192.0.2.1:443", "[2001:db8::1]:443"] {
                    let address = address.parse().unwrap();
                    if let Some(proxy) = proxies.for_target(Some(&name), address) {
                        prop_assert!(proxy.port != 0 && !proxy.host.is_empty());
                        let mut handshake = Handshake::new(proxy, address);
                        let request = str::from_utf8(handshake.to_send()).unwrap();
                        // Nothing in a value can make another line.
                        prop_assert!(request.lines().count() <= 4 && request.ends_with("\r\n\r\n"));
                    }
                }
            }
        }
    }
}
