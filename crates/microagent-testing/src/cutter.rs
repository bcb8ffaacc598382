//! A proxy in front of a registry that counts what is asked for and breaks connections in the middle.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

/// A TCP proxy for plain HTTP.
///
/// It understands just enough of the protocol to know what is requested.
#[derive(Debug)]
pub struct Cutter {
    port: u16,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    requests: Mutex<Vec<String>>,
    cuts: AtomicUsize,
    budget: AtomicU64,
    delivered: AtomicU64,
    hide_ranges: AtomicBool,
    upload_cuts: AtomicUsize,
    upload_budget: AtomicU64,
}

impl Cutter {
    /// Starts a proxy in front of the server on `upstream`, a port of `127.0.0.1`. Its threads end with the test.
    pub fn start(upstream: u16) -> Cutter {
        let listener = TcpListener::bind("127.0.0.1:0").expect("listening on loopback");
        let port = listener.local_addr().expect("the listener has an address").port();
        let shared = Arc::new(Shared::default());
        let own = Arc::clone(&shared);
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let Ok(server) = TcpStream::connect(("127.0.0.1", upstream)) else { continue };
                own.serve(client, server);
            }
        });
        Cutter { port, shared }
    }

    /// `127.0.0.1:PORT`.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Breaks the next `times` connections on which a blob is requested, each after about `bytes` more bytes of response.
    pub fn cut(&self, times: usize, bytes: u64) {
        self.shared.budget.store(bytes, Ordering::SeqCst);
        self.shared.cuts.store(times, Ordering::SeqCst);
    }

    /// Breaks the next `times` connections on which a blob is sent, each after about `bytes` more bytes of it.
    pub fn cut_uploads(&self, times: usize, bytes: u64) {
        self.shared.upload_budget.store(bytes, Ordering::SeqCst);
        self.shared.upload_cuts.store(times, Ordering::SeqCst);
    }

    /// From now on, keeps `Range` headers from the server, so that it sends everything from the start.
    pub fn hide_ranges(&self) {
        self.shared.hide_ranges.store(true, Ordering::SeqCst);
    }

    /// Request lines and `Range` headers seen so far that contain `text`.
    pub fn requests(&self, text: &str) -> usize {
        let requests = self.shared.requests.lock().unwrap_or_else(PoisonError::into_inner);
        requests.iter().filter(|request| request.contains(text)).count()
    }

    /// Bytes delivered to clients so far.
    pub fn delivered(&self) -> u64 {
        self.shared.delivered.load(Ordering::SeqCst)
    }
}

impl Shared {
    fn serve(self: &Arc<Shared>, client: TcpStream, server: TcpStream) {
        let remaining = Arc::new(AtomicU64::new(u64::MAX));
        let (Ok(mut from_client), Ok(mut to_server)) = (client.try_clone(), server.try_clone()) else { return };
        let (shared, budget) = (Arc::clone(self), Arc::clone(&remaining));
        thread::spawn(move || {
            let mut buffer = vec![0; 64 * 1024];
            let mut upload_left = u64::MAX;
            while let Ok(read @ 1..) = from_client.read(&mut buffer) {
                let text = String::from_utf8_lossy(&buffer[..read]).into_owned();
                shared.note(&text, &budget);
                if text.starts_with("PUT ") && text.contains("/blobs/") && shared.takes_upload_cut() {
                    upload_left = shared.upload_budget.load(Ordering::SeqCst);
                }
                if upload_left < read as u64 {
                    let _ = from_client.shutdown(Shutdown::Both);
                    break;
                }
                upload_left = if upload_left == u64::MAX { upload_left } else { upload_left - read as u64 };
                let hide = shared.hide_ranges.load(Ordering::SeqCst);
                let forward = if hide {
                    text.replace("range: bytes=", "x-old: bytes=").into_bytes()
                } else {
                    buffer[..read].to_vec()
                };
                if to_server.write_all(&forward).is_err() {
                    break;
                }
            }
            let _ = to_server.shutdown(Shutdown::Write);
        });
        let shared = Arc::clone(self);
        thread::spawn(move || {
            let (mut from_server, mut to_client) = (server, client);
            let mut buffer = vec![0; 16 * 1024];
            while let Ok(read @ 1..) = from_server.read(&mut buffer) {
                let left = remaining.load(Ordering::SeqCst);
                let send = usize::try_from(left).map_or(read, |left| left.min(read));
                if to_client.write_all(&buffer[..send]).is_err() || send < read {
                    break;
                }
                shared.delivered.fetch_add(send as u64, Ordering::SeqCst);
                if left != u64::MAX {
                    remaining.store(left - send as u64, Ordering::SeqCst);
                }
            }
            let _ = to_client.shutdown(Shutdown::Both);
            let _ = from_server.shutdown(Shutdown::Both);
        });
    }

    fn takes_upload_cut(&self) -> bool {
        self.upload_cuts.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |cuts| cuts.checked_sub(1)).is_ok()
    }

    /// Records the request, and decides whether the answer will be cut.
    fn note(&self, text: &str, remaining: &AtomicU64) {
        let lines = text.lines().filter(|line| is_request(line) || line.to_ascii_lowercase().starts_with("range:"));
        let lines: Vec<String> = lines.map(str::to_owned).collect();
        let is_blob = lines.iter().any(|line| line.starts_with("GET ") && line.contains("/blobs/"));
        self.requests.lock().unwrap_or_else(PoisonError::into_inner).extend(lines);
        let one_less = |cuts: usize| cuts.checked_sub(1);
        if is_blob && self.cuts.fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_less).is_ok() {
            remaining.store(self.budget.load(Ordering::SeqCst), Ordering::SeqCst);
        }
    }
}

fn is_request(line: &str) -> bool {
    ["GET ", "HEAD ", "POST ", "PUT "].iter().any(|method| line.starts_with(method))
}
