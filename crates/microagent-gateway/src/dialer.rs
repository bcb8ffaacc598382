//! Connections of the host's own, for the sake of a machine: they take the way that the machine's take.

use crate::dns::Resolver;
use crate::proxy::{Handshake, Progress, Proxies, ProxyServer};
use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// How long it may take to get through, once it is known where to.
const PATIENCE: Duration = Duration::from_secs(15);

/// Connects with hosts whose names the host's resolver knows, through the host's proxies.
#[derive(Clone, Debug)]
pub struct Dialer {
    resolver: Resolver,
    proxies: Proxies,
}

impl Dialer {
    /// By that resolver, and through those proxies.
    pub fn new(resolver: Resolver, proxies: Proxies) -> Dialer {
        Dialer { resolver, proxies }
    }

    /// A connection with `port` of `host`, a name or an address. The client is to speak first. Waits for it.
    pub fn connect(&self, host: &str, port: u16) -> io::Result<TcpStream> {
        self.any_of(host, port, |address, until| match self.proxies.for_target(Some(host), address) {
            None => open(address, until),
            Some(proxy) => self.through(proxy, address, until),
        })
    }

    /// The first connection with an address of `host` that comes about by `connect`, which is told until when it has to.
    fn any_of(
        &self,
        host: &str,
        port: u16,
        connect: impl Fn(SocketAddr, Instant) -> io::Result<TcpStream>,
    ) -> io::Result<TcpStream> {
        let addresses = self.resolver.addresses(host).map_err(io::Error::other)?;
        let until = Instant::now() + PATIENCE;
        let mut last = io::Error::other(format!("`{host}` has no address"));
        for address in addresses {
            match connect(SocketAddr::new(address, port), until) {
                Ok(stream) => return Ok(stream),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    fn through(&self, proxy: &ProxyServer, to: SocketAddr, until: Instant) -> io::Result<TcpStream> {
        let of_proxy = |error| io::Error::other(format!("proxy `{}`: {error}", proxy.host));
        let mut stream = self.any_of(&proxy.host, proxy.port, open).map_err(of_proxy)?;
        tunnel(&mut stream, Handshake::new(proxy, to), until).map_err(of_proxy)?;
        Ok(stream)
    }
}

fn open(to: SocketAddr, until: Instant) -> io::Result<TcpStream> {
    TcpStream::connect_timeout(&to, left(until)?)
}

/// Has the proxy at the other end connect.
fn tunnel(stream: &mut TcpStream, mut handshake: Handshake, until: Instant) -> io::Result<()> {
    stream.set_write_timeout(Some(left(until)?))?;
    stream.write_all(handshake.to_send())?;
    let mut place = [0; 4096];
    loop {
        stream.set_read_timeout(Some(left(until)?))?;
        let count = stream.read(&mut place)?;
        if count == 0 {
            return Err(io::Error::other("it closed the connection"));
        }
        match handshake.received(&place[..count]).map_err(io::Error::other)? {
            Progress::More => {}
            Progress::Open { rest } if rest.is_empty() => break,
            Progress::Open { .. } => return Err(io::Error::other("the server spoke before it was asked")),
        }
    }
    stream.set_write_timeout(None)?;
    stream.set_read_timeout(None)
}

/// The time until then, of which there is some.
fn left(until: Instant) -> io::Result<Duration> {
    let left = until.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(left) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead as _, BufReader};
    use std::net::TcpListener;
    use std::thread::JoinHandle;

    /// A proxy that answers one request with `answer` and then echoes a line. What it was asked.
    fn proxy(answer: &'static str) -> (SocketAddr, JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let serve = move || {
            let mut stream = listener.accept().unwrap().0;
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let mut asked = String::new();
            while !asked.ends_with("\r\n\r\n") && reader.read_line(&mut asked).unwrap() > 0 {}
            stream.write_all(answer.as_bytes()).unwrap();
            let mut line = String::new();
            if reader.read_line(&mut line).is_ok() {
                let _ = stream.write_all(line.as_bytes());
            }
            asked
        };
        (address, std::thread::spawn(serve))
    }

    fn dialer(proxy: SocketAddr, exceptions: &str) -> Dialer {
        let hosts = [("login.example", "192.0.2.1"), ("proxy.example", "127.0.0.1"), ("local.example", "127.0.0.1")];
        let hosts = hosts.map(|(name, address)| (name.to_owned(), address.parse().unwrap()));
        let value = format!("http://user:s3cret@proxy.example:{}", proxy.port());
        let proxies = Proxies::from_values(Some(&value), None, Some(exceptions)).unwrap();
        Dialer::new(Resolver::with(vec![], vec![], hosts.to_vec()), proxies)
    }

    #[test]
    fn a_connection_goes_through_the_proxy_of_the_host() {
        let (address, asked) = proxy("HTTP/1.1 200 OK\r\n\r\n");
        let mut stream = dialer(address, "").connect("login.example", 443).unwrap();
        stream.write_all(b"hello\n").unwrap();
        let mut heard = [0; 6];
        stream.read_exact(&mut heard).unwrap();
        assert_eq!(&heard, b"hello\n");
        let asked = asked.join().unwrap();
        assert!(asked.starts_with("CONNECT 192.0.2.1:443 HTTP/1.1\r\n"), "{asked}");
        assert!(asked.contains("Proxy-Authorization: Basic "), "{asked}");
    }

    #[test]
    fn what_the_proxy_refuses_is_told_and_its_credentials_are_not() {
        for (answer, reason) in [
            ("HTTP/1.1 403 Not here\r\n\r\n", "403 Not here"),
            ("HTTP/1.1 200 OK\r\n\r\nSSH-2.0", "spoke before"),
            ("HTTP/1.1 200", "closed"),
        ] {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let address = listener.local_addr().unwrap();
            let serve = std::thread::spawn(move || {
                let mut stream = listener.accept().unwrap().0;
                let _ = stream.read(&mut [0; 4096]).unwrap();
                stream.write_all(answer.as_bytes()).unwrap();
            });
            let error = dialer(address, "").connect("login.example", 443).unwrap_err().to_string();
            assert!(error.contains(reason) && error.contains("proxy.example") && !error.contains("s3cret"), "{error}");
            serve.join().unwrap();
        }
    }

    #[test]
    fn what_is_excepted_or_on_this_host_is_reached_itself() {
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = server.local_addr().unwrap().port();
        // Nobody listens where the proxy should be.
        let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        for host in ["local.example", "localhost", "127.0.0.1"] {
            let stream = dialer(nobody, "").connect(host, port).unwrap();
            assert_eq!(stream.peer_addr().unwrap().port(), port);
        }
        assert!(dialer(nobody, "").connect("login.example", 443).unwrap_err().to_string().contains("proxy.example"));
        let excepted = dialer(nobody, "login.example");
        assert!(excepted.proxies.for_target(Some("login.example"), "192.0.2.1:443".parse().unwrap()).is_none());
    }
}
