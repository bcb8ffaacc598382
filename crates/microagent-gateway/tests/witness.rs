//! The attempts of `bypass.rs` once more, all in a row, with somebody else's eyes on the wire between the host and the internet: `tshark`, which
//! takes packets apart by itself.

mod attempt;
mod world;

use attempt::{Hello, datagram, packet, strict, syn};
use microagent_egress::{Inside, Reason};
use microagent_testing::Internet;
use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Lines, Read, Write};
use std::net::UdpSocket;
use std::process::{Child, ChildStdout, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};
use world::{DEADLINE, World};

const WWW: &str = "192.0.2.14";
const EVIL: &str = "192.0.2.13";
const RESOLVER: &str = "192.0.2.53";
const GUEST: &str = "10.43.0.2";

/// Where the host says that it has begun, and that it is over. A guest does not know of either.
const BEGIN: &str = "198.51.100.29";
const END: &str = "198.51.100.30";
/// How often it says so, until it was heard.
const AGAIN: Duration = Duration::from_millis(200);

/// The flag of a fragment that others follow.
const MORE: u16 = 0x2000;

/// What `tshark` tells of a packet.
#[derive(Debug)]
struct Packet {
    protocols: String,
    from: String,
    to: String,
    /// The server's port, of a packet that goes to one.
    port: String,
    /// The names in it: of questions, of hellos, of requests.
    names: Vec<String>,
}

/// `tshark` on the internet's end of the wire.
struct Witness {
    process: Child,
    lines: Receiver<String>,
}

impl Witness {
    const FIELDS: [&str; 8] = [
        "frame.protocols",
        "ip.src",
        "ip.dst",
        "tcp.dstport",
        "udp.dstport",
        "dns.qry.name",
        "tls.handshake.extensions_server_name",
        "http.host",
    ];

    /// Begins to watch.
    fn of(internet: &Internet) -> Witness {
        let mut command = internet.net().command("tshark");
        command.args(["-i", "host0", "-n", "-l", "-Q", "-T", "fields"]);
        command.args(Witness::FIELDS.iter().flat_map(|field| ["-e", field]));
        let mut process = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let lines: Lines<BufReader<ChildStdout>> = BufReader::new(process.stdout.take().unwrap()).lines();
        let (said, heard) = channel();
        std::thread::spawn(move || lines.map_while(Result::ok).try_for_each(|line| said.send(line)));
        let witness = Witness { process, lines: heard };
        witness.until_it_sees(BEGIN, internet);
        witness
    }

    /// What it has seen by the time it sees something for `marker`, which the host sends until then.
    fn until_it_sees(&self, marker: &str, internet: &Internet) -> Vec<Packet> {
        let socket = internet.enter_host(|| UdpSocket::bind("0.0.0.0:0").unwrap());
        let end = Instant::now() + DEADLINE;
        let mut seen = Vec::new();
        loop {
            socket.send_to(b"marker", (marker, 9)).unwrap();
            let packet = match self.lines.recv_timeout(AGAIN) {
                Ok(line) => Packet::read(&line),
                Err(RecvTimeoutError::Timeout) => {
                    assert!(Instant::now() < end, "tshark sees nothing: is it there (`apt-get install tshark`)?");
                    continue;
                }
                Err(RecvTimeoutError::Disconnected) => panic!("tshark has ended: does `tshark -i lo` work here?"),
            };
            if packet.to == marker {
                return seen;
            }
            seen.push(packet);
        }
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Packet {
    fn read(line: &str) -> Packet {
        let fields: Vec<&str> = line.split('\t').collect();
        let [protocols, from, to, tcp, udp, names @ ..] = &fields[..] else { panic!("tshark says `{line}`") };
        let names = names.iter().flat_map(|names| names.split(',')).filter(|name| !name.is_empty());
        Packet {
            protocols: (*protocols).to_owned(),
            from: (*from).to_owned(),
            to: (*to).to_owned(),
            port: [*tcp, *udp].concat(),
            names: names.map(str::to_owned).collect(),
        }
    }

    /// Whether it may be there when the guest may speak with `www.example`, by HTTP and TLS, and with nobody else.
    fn is_allowed(&self) -> bool {
        let host = Internet::HOST.to_string();
        let place = (self.to.as_str(), self.port.as_str());
        let is_way = self.from != host || matches!(place, (RESOLVER, "53") | (WWW, "80" | "443"));
        let is_marker = [BEGIN, END].iter().any(|marker| [&self.from, &self.to].iter().any(|end| end == marker));
        let is_between_neighbours = self.protocols.contains("arp");
        is_marker || is_between_neighbours || (is_way && self.names.iter().all(|name| name == "www.example"))
    }
}

/// Says `what` to `to`, and hears the end of it. Nobody may be there.
fn say(world: &World, to: &str, what: &[u8]) {
    let Ok(mut stream) = world.connect(to) else { return };
    let _ = stream.write_all(what);
    let _ = stream.read_to_end(&mut Vec::new());
}

/// Makes every attempt, and waits for what the gateway says of those that it says something of.
fn attempt_everything(world: &World) {
    // By address, by names that are not listed, and to where nobody is to get.
    say(world, &format!("{EVIL}:443"), b"");
    world.wait_for_denial(EVIL, Reason::NoName);
    assert!(world.look_up("evil.example").is_empty() && world.look_up("secret.evil.example").is_empty());
    for (inside, class) in [
        ("169.254.169.254", Inside::LinkLocal),
        ("10.9.9.9", Inside::Private),
        ("172.16.5.5", Inside::Private),
        ("100.64.1.1", Inside::SharedNat),
        ("203.0.113.1", Inside::Host),
    ] {
        say(world, &format!("{inside}:80"), b"GET / HTTP/1.1\r\nHost: www.example\r\n\r\n");
        world.wait_for_denial(inside, Reason::Inside(class));
    }
    // To who is listed, in the name of somebody else, of nobody, and of somebody who hides.
    for (request, reason) in [
        ("GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n", Reason::NameMismatch),
        ("GET http://evil.example/ HTTP/1.1\r\nHost: www.example\r\n\r\n", Reason::NoServerName),
    ] {
        say(world, &format!("{WWW}:80"), request.as_bytes());
        world.wait_for_event(|event| event.reason == Some(reason));
    }
    for (name, encrypted) in [("evil.example", false), ("www.example", true)] {
        say(world, &format!("{WWW}:443"), &Hello { encrypted, ..Hello::to(name) }.bytes());
    }
    assert!(!world.curl(&["--insecure", &format!("https://{WWW}/")]).status.success());
    world.wait_for_denial("www.example", Reason::EncryptedHello);
    // Past TCP, and past the resolver.
    let socket = world.enter_guest(|| UdpSocket::bind("0.0.0.0:0").unwrap());
    for to in [format!("{WWW}:443"), format!("{EVIL}:123"), format!("{RESOLVER}:53")] {
        socket.send_to(&[0xc0; 1200], to).unwrap();
    }
    world.wait_for_denial("www.example", Reason::Quic);
    world.wait_for_event(|event| event.reason == Some(Reason::ForeignResolver));
    for port in [53, 853] {
        say(world, &format!("{RESOLVER}:{port}"), b"?");
    }
    let pinged = world.guest_command("ping").args(["-n", "-c", "1", "-W", "30", EVIL]).output().unwrap();
    assert!(!pinged.status.success());
    // Packets that no kernel would send.
    for from in ["203.0.113.1", "192.0.2.13", "127.0.0.1"] {
        world.send_packet(&packet(from, WWW, 17, 0, &datagram(1000, 7, b"spoofed")));
        world.send_packet(&packet(from, WWW, 6, 0, &syn(1000, 443)));
    }
    world.send_packet(&packet(GUEST, WWW, 17, MORE, &datagram(1000, 7, &[7; 496])));
    world.send_packet(&packet(GUEST, WWW, 6, MORE, &syn(1000, 443)[..8]));
    for protocol in [4, 41, 47, 50, 132] {
        world.send_packet(&packet(GUEST, WWW, protocol, 0, &packet(GUEST, EVIL, 6, 0, &syn(1000, 443))));
    }
    world.enable_ipv6();
    for address in ["[2001:db8::1]:443", &format!("[::ffff:{EVIL}]:443"), "[64:ff9b::c000:20d]:443"] {
        say(world, address, b"");
    }
}

#[test]
fn nothing_of_any_attempt_is_on_the_wire() {
    let Some(world) = World::new(strict(&[], &["www.example"])) else { return };
    let witness = Witness::of(world.internet());
    assert_eq!(world.look_up("www.example").len(), 1);
    attempt_everything(&world);
    assert!(world.curl(&["https://www.example/", "http://www.example/"]).status.success());
    let seen = witness.until_it_sees(END, world.internet());
    let allowed: BTreeSet<&str> = seen.iter().flat_map(|packet| &packet.names).map(String::as_str).collect();
    assert_eq!(allowed, BTreeSet::from(["www.example"]), "it understands what it sees");
    let others: Vec<&Packet> = seen.iter().filter(|packet| !packet.is_allowed()).collect();
    assert!(others.is_empty(), "{others:#?}");
}
