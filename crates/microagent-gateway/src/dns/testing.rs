//! A server of names, for tests.

use super::query::Query;
use super::server::Transport;
use simple_dns::rdata::{A, CNAME, RData};
use simple_dns::{CLASS, Name, Packet, PacketFlag, Question, RCODE, ResourceRecord};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// Nobody who connects to the server leaves it waiting longer than this.
const PATIENCE: Duration = Duration::from_secs(30);

/// One that says what it is told to, by UDP and TCP on one port of the loopback interface.
pub(super) struct FakeServer {
    pub(super) address: SocketAddr,
    asked: Arc<Mutex<Vec<(Transport, String)>>>,
    threads: Vec<JoinHandle<()>>,
}

/// A question that was asked.
pub(super) struct Asked {
    pub(super) transport: Transport,
    pub(super) id: u16,
    pub(super) question: Question<'static>,
    pub(super) name: String,
}

/// What is done about it.
pub(super) enum Said {
    Answer(Vec<u8>),
    /// From another port.
    Elsewhere(Vec<u8>),
}

impl FakeServer {
    pub(super) fn start(say: impl Fn(&Asked) -> Vec<Said> + Send + Sync + 'static) -> FakeServer {
        let (udp, tcp) = sockets();
        let address = udp.local_addr().unwrap();
        let (say, asked) = (Arc::new(say), Arc::new(Mutex::new(Vec::new())));
        let answer = {
            let asked = asked.clone();
            move |transport, bytes: &[u8]| {
                let query = parse(bytes, transport);
                asked.lock().unwrap().push((transport, query.name.clone()));
                say(&query)
            }
        };
        let by_tcp = answer.clone();
        let threads =
            vec![thread::spawn(move || serve_udp(&udp, answer)), thread::spawn(move || serve_tcp(&tcp, by_tcp))];
        FakeServer { address, asked, threads }
    }

    /// One that has these addresses, of any name, for `ttl` seconds.
    pub(super) fn with_addresses(addresses: &[&str], ttl: u32) -> FakeServer {
        let addresses: Vec<Ipv4Addr> = addresses.iter().map(|address| address.parse().unwrap()).collect();
        FakeServer::start(move |asked| {
            let records = addresses.iter().map(|address| a(&asked.name, *address, ttl));
            vec![Said::Answer(asked.answer(records.collect()))]
        })
    }

    /// What was asked so far.
    pub(super) fn asked(&self) -> Vec<(Transport, String)> {
        self.asked.lock().unwrap().clone()
    }
}

impl Drop for FakeServer {
    fn drop(&mut self) {
        // An empty message ends each.
        UdpSocket::bind("127.0.0.1:0").unwrap().send_to(&[], self.address).unwrap();
        drop(TcpStream::connect(self.address));
        for thread in self.threads.drain(..) {
            let is_well = thread.join().is_ok();
            assert!(is_well || thread::panicking(), "the server of names panicked");
        }
    }
}

impl Asked {
    pub(super) fn packet(&self, records: Vec<ResourceRecord<'static>>) -> Packet<'static> {
        let mut packet = Packet::new_reply(self.id);
        packet.questions.push(self.question.clone());
        packet.answers = records;
        packet
    }

    pub(super) fn answer(&self, records: Vec<ResourceRecord<'static>>) -> Vec<u8> {
        self.packet(records).build_bytes_vec_compressed().unwrap()
    }

    pub(super) fn failure(&self, rcode: RCODE) -> Vec<u8> {
        let mut packet = self.packet(Vec::new());
        *packet.rcode_mut() = rcode;
        packet.build_bytes_vec().unwrap()
    }

    pub(super) fn truncated(&self) -> Vec<u8> {
        let mut packet = self.packet(Vec::new());
        packet.set_flags(PacketFlag::TRUNCATION);
        packet.build_bytes_vec().unwrap()
    }
}

pub(super) fn name(text: &str) -> Name<'static> {
    Name::new_unchecked(text).into_owned()
}

pub(super) fn record(of: &str, ttl: u32, rdata: RData<'static>) -> ResourceRecord<'static> {
    ResourceRecord::new(name(of), CLASS::IN, ttl, rdata)
}

pub(super) fn a(of: &str, address: Ipv4Addr, ttl: u32) -> ResourceRecord<'static> {
    record(of, ttl, RData::A(A::from(address)))
}

pub(super) fn cname(of: &str, target: &str, ttl: u32) -> ResourceRecord<'static> {
    record(of, ttl, RData::CNAME(CNAME(name(target))))
}

fn parse(bytes: &[u8], transport: Transport) -> Asked {
    let Query { id, question, name, .. } = super::query::parse(bytes, transport).expect("a question of ours is one");
    Asked { transport, id, question, name }
}

/// Both on the same port, which somebody else may have of one of them.
fn sockets() -> (UdpSocket, TcpListener) {
    loop {
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        if let Ok(udp) = UdpSocket::bind(tcp.local_addr().unwrap()) {
            return (udp, tcp);
        }
    }
}

fn serve_udp(socket: &UdpSocket, answer: impl Fn(Transport, &[u8]) -> Vec<Said>) {
    let elsewhere = UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut buffer = [0; 1024];
    loop {
        let (count, from) = socket.recv_from(&mut buffer).unwrap();
        if count == 0 {
            return;
        }
        for said in answer(Transport::Udp, &buffer[..count]) {
            // Whoever asked may be gone.
            let _ = match said {
                Said::Answer(bytes) => socket.send_to(&bytes, from),
                Said::Elsewhere(bytes) => elsewhere.send_to(&bytes, from),
            };
        }
    }
}

fn serve_tcp(listener: &TcpListener, answer: impl Fn(Transport, &[u8]) -> Vec<Said>) {
    loop {
        let (mut stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut length = [0; 2];
        if stream.read_exact(&mut length).is_err() {
            return;
        }
        let mut question = vec![0; usize::from(u16::from_be_bytes(length))];
        stream.read_exact(&mut question).unwrap();
        for said in answer(Transport::Tcp, &question) {
            let (Said::Answer(bytes) | Said::Elsewhere(bytes)) = said;
            let _ = stream.write_all(&[&(bytes.len() as u16).to_be_bytes(), bytes.as_slice()].concat());
        }
    }
}
