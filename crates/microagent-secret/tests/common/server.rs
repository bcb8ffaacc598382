//! A server on a thread, which answers as it is told and remembers what it was asked.

use rustls::{ServerConfig, ServerConnection, StreamOwned};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

/// A request without its body.
#[derive(Clone, Debug, Default)]
pub(crate) struct Asked {
    pub(crate) method: String,
    pub(crate) target: String,
    /// By names in lower case.
    pub(crate) headers: BTreeMap<String, String>,
}

/// What becomes of a request.
pub(crate) enum Answer {
    /// Status, further header lines, body.
    Whole(u16, String, String),
    /// These bytes, and then nothing until the client gives up.
    Stall(Vec<u8>),
    /// These bytes, and the end.
    Bytes(Vec<u8>),
}

pub(crate) fn json(status: u16, body: &str) -> Answer {
    Answer::Whole(status, "Content-Type: application/json\r\n".to_owned(), body.to_owned())
}

/// The server. It is gone when this is.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
    ending: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    pub(crate) fn start(answer: impl Fn(&Asked) -> Answer + Send + 'static) -> Server {
        Server::of(None, answer)
    }

    pub(crate) fn start_tls(tls: Arc<ServerConfig>, answer: impl Fn(&Asked) -> Answer + Send + 'static) -> Server {
        Server::of(Some(tls), answer)
    }

    fn of(tls: Option<Arc<ServerConfig>>, answer: impl Fn(&Asked) -> Answer + Send + 'static) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let ending = Arc::new(AtomicBool::new(false));
        let thread = std::thread::spawn({
            let (asked, ending) = (asked.clone(), ending.clone());
            move || {
                for stream in listener.incoming() {
                    let stream = stream.unwrap();
                    if ending.load(Ordering::Acquire) {
                        break;
                    }
                    stream.set_read_timeout(Some(super::PATIENCE)).unwrap();
                    // A client that goes away is what some tests are about.
                    let _ = match &tls {
                        None => serve(stream, &asked, &answer),
                        Some(tls) => {
                            let connection = ServerConnection::new(tls.clone()).unwrap();
                            serve(StreamOwned::new(connection, stream), &asked, &answer)
                        }
                    };
                }
            }
        });
        Server { address, asked, ending, thread: Some(thread) }
    }

    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.ending.store(true, Ordering::Release);
        let _ = TcpStream::connect(self.address);
        let ended = self.thread.take().unwrap().join();
        assert!(ended.is_ok() || std::thread::panicking(), "the server panicked");
    }
}

fn serve(
    stream: impl Read + Write,
    asked: &Mutex<Vec<Asked>>,
    answer: &impl Fn(&Asked) -> Answer,
) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    stream.read_line(&mut line)?;
    let mut words = line.split(' ').map(str::to_owned);
    let mut request = Asked {
        method: words.next().unwrap_or_default(),
        target: words.next().unwrap_or_default(),
        headers: BTreeMap::new(),
    };
    loop {
        line.clear();
        stream.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        request.headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    asked.lock().unwrap().push(request.clone());
    let bytes = match answer(&request) {
        Answer::Whole(status, headers, body) => {
            let length = body.len();
            let head =
                format!("HTTP/1.1 {status} As told\r\n{headers}Content-Length: {length}\r\nConnection: close\r\n\r\n");
            [head.into_bytes(), body.into_bytes()].concat()
        }
        Answer::Bytes(bytes) => bytes,
        Answer::Stall(bytes) => {
            stream.get_mut().write_all(&bytes)?;
            stream.get_mut().flush()?;
            stream.read_to_end(&mut Vec::new())?;
            return Ok(());
        }
    };
    stream.get_mut().write_all(&bytes)?;
    stream.get_mut().flush()
}
