//! One question to one server.

use super::reply::{self, Parsed, Reply};
use simple_dns::{Packet, PacketFlag, Question};
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

/// More than servers send by UDP to somebody who has not said how much he takes (RFC 1035, 4.2.1: 512).
const MAX_DATAGRAM: usize = 4096;

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum Failure {
    /// Nothing came in time.
    Silent,
    /// Something else came.
    Said(String),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Failure {
        match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Failure::Silent,
            _ => Failure::Said(error.to_string()),
        }
    }
}

/// Asks `server`, by UDP, and by TCP where that is too little.
pub(super) fn ask(server: SocketAddr, question: &Question<'static>, deadline: Instant) -> Result<Reply, Failure> {
    let mut id = [0; 2];
    getrandom::fill(&mut id).map_err(|error| Failure::Said(error.to_string()))?;
    let id = u16::from_be_bytes(id);
    let mut packet = Packet::new_query(id);
    packet.set_flags(PacketFlag::RECURSION_DESIRED);
    packet.questions.push(question.clone());
    let bytes = packet.build_bytes_vec().map_err(|error| Failure::Said(error.to_string()))?;
    match by_udp(server, &bytes, deadline, |answer| reply::parse(answer, id, question))? {
        Some(reply) => Ok(reply),
        None => match reply::parse(&by_tcp(server, &bytes, deadline)?, id, question) {
            Parsed::Reply(reply) => Ok(reply),
            _ => Err(Failure::Said("the answer cannot be understood".to_owned())),
        },
    }
}

/// None is an answer that is not whole.
fn by_udp(
    server: SocketAddr,
    query: &[u8],
    deadline: Instant,
    parse: impl Fn(&[u8]) -> Parsed,
) -> Result<Option<Reply>, Failure> {
    let any: IpAddr = if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    // The kernel picks a random port for each socket, so each question has its own (RFC 5452, 9.2), and hands over nothing that comes from
    // somewhere else than the server.
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect(server)?;
    socket.send(query)?;
    let mut buffer = vec![0; MAX_DATAGRAM];
    loop {
        socket.set_read_timeout(Some(remaining(deadline)?))?;
        let count = socket.recv(&mut buffer)?;
        match parse(&buffer[..count]) {
            // Somebody guesses.
            Parsed::Foreign => {}
            Parsed::Broken => return Err(Failure::Said("the answer cannot be understood".to_owned())),
            Parsed::Truncated => return Ok(None),
            Parsed::Reply(reply) => return Ok(Some(reply)),
        }
    }
}

fn by_tcp(server: SocketAddr, query: &[u8], deadline: Instant) -> Result<Vec<u8>, Failure> {
    let mut stream = TcpStream::connect_timeout(&server, remaining(deadline)?)?;
    stream.set_write_timeout(Some(remaining(deadline)?))?;
    let length = u16::try_from(query.len()).map_err(|_| Failure::Said("the question is too long".to_owned()))?;
    stream.write_all(&[&length.to_be_bytes(), query].concat())?;
    let mut length = [0; 2];
    read(&mut stream, &mut length, deadline)?;
    let mut answer = vec![0; usize::from(u16::from_be_bytes(length))];
    read(&mut stream, &mut answer, deadline)?;
    Ok(answer)
}

/// Fills `buffer`, by the deadline, however slowly it comes.
fn read(stream: &mut TcpStream, mut buffer: &mut [u8], deadline: Instant) -> Result<(), Failure> {
    while !buffer.is_empty() {
        stream.set_read_timeout(Some(remaining(deadline)?))?;
        match stream.read(buffer)? {
            0 => return Err(Failure::Said("the answer ends early".to_owned())),
            count => buffer = &mut buffer[count..],
        }
    }
    Ok(())
}

fn remaining(deadline: Instant) -> Result<Duration, Failure> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(Failure::Silent) } else { Ok(left) }
}
