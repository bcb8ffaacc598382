//! What tests of networks rely on: servers that serve, a journal that is complete, and nothing left behind.

use std::io::{Read, Write};
use std::net::{TcpStream, UdpSocket};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use microagent_testing::{Answer, Internet, Kind, Namespace, Place, pattern, run};
use serde_json::Value;

/// What is only ever reached by a defect.
const DEADLINE: Duration = Duration::from_secs(30);

fn internet() -> Option<Internet> {
    Internet::start().map_err(|reason| eprintln!("{reason}")).ok()
}

fn said(command: &mut Command) -> String {
    String::from_utf8(run(command)).unwrap()
}

fn curl(internet: &Internet, arguments: &[&str]) -> String {
    let mut command = internet.host_command("curl");
    said(
        command
            .args(["--silent", "--show-error", "--noproxy", "*", "--cacert"])
            .arg(internet.ca_file())
            .args(arguments),
    )
}

/// A python script on the host, with what it printed.
fn python(internet: &Internet, script: &str) -> String {
    said(internet.host_command("python3").args(["-c", script])).trim_end().to_owned()
}

/// What a connection answers to `sent`, once that is all.
fn exchange(internet: &Internet, to: &str, sent: &[u8]) -> std::io::Result<Vec<u8>> {
    internet.enter_host(|| {
        let mut stream = TcpStream::connect(to)?;
        stream.set_read_timeout(Some(DEADLINE))?;
        stream.write_all(sent)?;
        stream.shutdown(std::net::Shutdown::Write)?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).map(|_| answer)
    })
}

#[test]
fn web_servers_serve_and_the_journal_knows() {
    let Some(internet) = internet() else { return };
    let text = curl(&internet, &["http://api.example/?q=1"]);
    let answer: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&answer["request"], &answer["host"]), (&"GET /?q=1 HTTP/1.1".into(), &"api.example".into()));
    assert!(answer["client"].as_str().unwrap().starts_with("203.0.113.1:"), "{text}");
    let text = curl(&internet, &["https://api.example/", "https://api.example:8443/headers"]);
    assert!(text.contains(r#""name": "api.example""#) && text.contains(r#"["Host", "api.example:8443"]"#), "{text}");

    let seen = internet.seen_at("192.0.2.10".parse().unwrap());
    let count = |kind, port| seen.iter().filter(|seen| seen.kind == kind && seen.local.port() == port).count();
    for (kind, port, wanted) in [
        (Kind::Packet, 80, 1),
        (Kind::Connect, 80, 1),
        (Kind::Request, 80, 1),
        (Kind::Tls, 80, 0),
        (Kind::Packet, 443, 1),
        (Kind::Tls, 443, 1),
        (Kind::Request, 8443, 1),
    ] {
        assert_eq!(count(kind, port), wanted, "{kind:?} at {port} in {seen:#?}");
    }
    let request = seen.iter().find(|seen| seen.kind == Kind::Request).unwrap();
    assert_eq!((request.place, request.text("target"), request.text("host")), (Place::Net, "/?q=1", "api.example"));
    let question = internet.wait_for(|seen| seen.kind == Kind::Question, DEADLINE);
    assert!(question.is_at("192.0.2.53:53") && question.text("name") == "api.example", "{question:?}");
}

#[test]
fn bodies_arrive_whole_in_every_form() {
    let Some(internet) = internet() else { return };
    // Not a multiple of anything.
    let wanted = pattern(3_333_333);
    let digest = |bytes: &[u8]| {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        said(Command::new("sha256sum").arg(file.path())).split(' ').next().unwrap().to_owned()
    };
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), &wanted).unwrap();
    let sum = digest(&wanted);
    for path in ["bytes", "chunked", "close"] {
        let url = format!("https://example.com/{path}/{}", wanted.len());
        let script = run(internet
            .host_command("curl")
            .args(["--silent", "--show-error", "--cacert"])
            .arg(internet.ca_file())
            .arg(&url));
        assert!(script == wanted, "{path}: {} bytes", script.len());
    }
    let upload = format!("@{}", file.path().display());
    for more in [&[][..], &["--header", "Transfer-Encoding: chunked"]] {
        let arguments = [&["--data-binary", &upload, "http://example.com/sha256"], more].concat();
        assert_eq!(curl(&internet, &arguments).trim_end(), sum);
    }
    let body = internet.wait_for(|seen| seen.kind == Kind::Body, DEADLINE);
    assert_eq!((body.number("bytes"), body.text("sha256")), (wanted.len() as u64, &*sum));
    assert_eq!(exchange(&internet, "192.0.2.10:9", &wanted).unwrap(), b"");
    let body = internet.wait_for(|seen| seen.kind == Kind::Body && seen.is_at("192.0.2.10:9"), DEADLINE);
    assert_eq!((body.number("bytes"), body.text("sha256")), (wanted.len() as u64, &*sum));
    assert!(exchange(&internet, "192.0.2.10:19", b"3333333\n").unwrap() == wanted);
    assert_eq!(
        curl(&internet, &["--location", "http://example.com/redirect?to=http://www.example/slow/1"]),
        ".........."
    );
    // Two requests over one connection.
    let arguments = ["http://example.com/status/204", "http://example.com/headers", "--write-out", "%{num_connects} "];
    assert!(curl(&internet, &arguments).ends_with("0 "));
}

#[test]
fn certificates_that_do_not_hold_are_refused() {
    let Some(internet) = internet() else { return };
    for (url, reason) in [("https://api.example:9443/", "expired"), ("https://api.example:9444/", "name")] {
        let mut command = internet.host_command("curl");
        let output = command.args(["--silent", "--show-error", "--cacert"]).arg(internet.ca_file()).arg(url).output();
        let output = output.unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(60) && said.contains(reason), "{url}: {said}");
    }
    let failed = internet.wait_for(|seen| seen.kind == Kind::TlsFailed, DEADLINE);
    assert_eq!(failed.text("name"), "api.example");
    // Who does not look is served.
    assert!(curl(&internet, &["--insecure", "https://api.example:9443/"]).contains("GET / HTTP/1.1"));
}

#[test]
fn streams_end_in_every_way() {
    let Some(internet) = internet() else { return };
    assert_eq!(exchange(&internet, "198.51.100.30:7", b"hello").unwrap(), b"hello");
    assert_eq!(exchange(&internet, "203.0.113.10:22", b"hi").unwrap(), b"SSH-2.0-test\r\nhi");
    assert_eq!(exchange(&internet, "192.0.2.10:6667", &pattern(100_000)).unwrap(), b"100000\n");
    let reset = internet.enter_host(|| {
        let mut stream = TcpStream::connect("192.0.2.10:6666")?;
        stream.read(&mut [0; 1])
    });
    assert_eq!(reset.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
    internet.wait_for(|seen| seen.kind == Kind::Close && seen.is_at("192.0.2.10:6666"), DEADLINE);
    let error = exchange(&internet, "192.0.2.10:4444", b"").unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
    let error = exchange(&internet, &format!("{}:80", Internet::NOBODY), b"").unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::HostUnreachable);
    // Fills all buffers between, and is told by nobody that nothing is read.
    let written = internet.enter_host(|| {
        let mut stream = TcpStream::connect("192.0.2.10:6668").unwrap();
        stream.set_write_timeout(Some(Duration::from_millis(300))).unwrap();
        std::iter::repeat_with(|| stream.write(&[0; 4096])).map_while(Result::ok).sum::<usize>()
    });
    assert!(written > 65536);
    assert!(
        curl(
            &internet,
            &["--proxy", "http://192.0.2.30:3128", "--proxytunnel", "--noproxy", "", "http://api.example/"]
        )
        .contains("GET / ")
    );
    internet.wait_for(|seen| seen.is_at("192.0.2.30:3128") && seen.text("method") == "CONNECT", DEADLINE);
}

#[test]
fn datagrams_are_answered_from_where_they_were_sent_to() {
    let Some(internet) = internet() else { return };
    for to in ["192.0.2.10:7", "203.0.113.30:123", "198.51.100.20:443", "10.9.9.9:7"] {
        let answer = internet.enter_host(|| {
            let socket = UdpSocket::bind("0.0.0.0:0")?;
            socket.set_read_timeout(Some(DEADLINE))?;
            // Takes nothing from elsewhere.
            socket.connect(to)?;
            socket.send(b"ping")?;
            let mut buffer = [0; 16];
            socket.recv(&mut buffer).map(|count| buffer[..count].to_vec())
        });
        assert_eq!(answer.unwrap(), b"ping");
        let seen = internet.wait_for(|seen| seen.kind == Kind::Datagram && seen.is_at(to), DEADLINE);
        assert_eq!(seen.remote.ip(), Internet::HOST);
    }
    run(internet.host_command("ping").args(["-c", "1", "-W", "30", "192.0.2.30"]));
    let ping = internet.wait_for(|seen| seen.text("protocol") == "icmp", DEADLINE);
    assert_eq!((ping.is_at("192.0.2.30:0"), ping.number("type")), (true, 8));
}

#[test]
fn names_are_what_they_were_set_to() {
    let Some(internet) = internet() else { return };
    let dig = |arguments: &[&str]| said(internet.host_command("dig").args(["+tries=1", "+timeout=20"]).args(arguments));
    let short = |name: &str| dig(&["+short", name]);
    assert_eq!(short("api.example"), "192.0.2.10\n");
    assert_eq!(short("ALIAS.example"), "api.example.\n192.0.2.10\n");
    let missing = dig(&["nowhere.example"]);
    assert!(missing.contains("NXDOMAIN"), "{missing}");
    let empty = dig(&["AAAA", "api.example"]);
    assert!(empty.contains("NOERROR") && empty.contains("ANSWER: 0"), "{empty}");
    let big = dig(&["big.example"]);
    assert!(big.contains("Truncated, retrying in TCP mode") && big.contains("ANSWER: 2000"), "{big}");
    let questions = internet.journal().into_iter().filter(|seen| seen.text("name") == "big.example");
    assert_eq!(questions.map(|seen| seen.text("transport").to_owned()).collect::<Vec<_>>(), ["udp", "tcp"]);

    let public = Answer::addresses(&["192.0.2.20"]).living(1);
    internet.set_name("rebind.example", &public.then(Answer::addresses(&["127.0.0.1"]).living(1)));
    let long = dig(&["rebind.example"]);
    assert!(long.contains("rebind.example.\t\t1\tIN\tA\t192.0.2.20"), "{long}");
    assert_eq!((short("rebind.example"), short("rebind.example")), ("127.0.0.1\n".into(), "127.0.0.1\n".into()));
    internet.set_name("text.example", &Answer::text("hello").and(Answer::addresses(&["192.0.2.21", "192.0.2.22"])));
    assert_eq!(dig(&["+short", "TXT", "text.example"]), "\"hello\"\n");
    assert_eq!(short("text.example"), "192.0.2.21\n192.0.2.22\n");
    internet.set_name("broken.example", &Answer::code(2));
    assert!(dig(&["broken.example"]).contains("SERVFAIL"));
    internet.set_name("broken.example", &Answer::silence());
    let nothing = internet.host_command("dig").args(["+tries=1", "+timeout=1", "broken.example"]).output().unwrap();
    assert!(!nothing.status.success());
    // The resolver of the C library finds its server in the host's own `resolv.conf`.
    assert_eq!(python(&internet, "import socket; print(socket.gethostbyname('other.example'))"), "192.0.2.12");
}

#[test]
fn whatever_arrives_is_in_the_journal_at_once() {
    let Some(internet) = internet() else { return };
    assert_eq!(internet.journal(), []);
    // Nothing listens there, or nothing that answers; and on the host itself.
    internet.enter_host(|| {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        for to in ["169.254.169.254:80", "172.16.5.5:5555", "203.0.113.1:9", "127.0.0.1:9"] {
            socket.send_to(b"x", to).unwrap();
            // Of datagrams, the first may have brought about an error by now.
            let _ = socket.take_error();
            let _ = TcpStream::connect(to);
        }
    });
    let seen = internet.journal();
    for (to, place) in [
        ("169.254.169.254:80", Place::Net),
        ("172.16.5.5:5555", Place::Net),
        ("203.0.113.1:9", Place::Host),
        ("127.0.0.1:9", Place::Host),
    ] {
        for protocol in ["tcp", "udp"] {
            let packets = seen.iter().filter(|seen| seen.is_at(to) && seen.text("protocol") == protocol);
            assert_eq!(packets.map(|seen| seen.place).collect::<Vec<_>>(), [place], "{to} {protocol} in {seen:#?}");
        }
    }
    // The host has no other way out than this one.
    let routes = said(internet.host_command("ip").args(["-o", "link"]));
    assert_eq!(routes.lines().count(), 2, "{routes}");
}

#[test]
fn nothing_is_left_behind_even_by_a_panic() {
    let Some(internet) = internet() else { return };
    let names = [internet.host().name().to_owned(), internet.net().name().to_owned()];
    let mut client = internet.host_command("sh");
    let mut client = client.args(["-c", "echo there; exec sleep 1000"]).stdout(Stdio::piped()).spawn().unwrap();
    assert_eq!(client.stdout.as_mut().unwrap().read(&mut [0; 16]).unwrap(), 6);
    let pids = |name: &str| said(Command::new("ip").args(["netns", "pids", name]));
    let started: Vec<String> =
        names.iter().flat_map(|name| pids(name).lines().map(str::to_owned).collect::<Vec<_>>()).collect();
    assert!(started.len() >= 3, "two servers and a client: {started:?}");
    let panicked = std::thread::spawn(move || {
        let _internet = internet;
        panic!("on purpose");
    });
    assert!(panicked.join().is_err());
    // It was killed: it would sleep for longer than any test.
    assert!(!client.wait().unwrap().success());
    for name in &names {
        assert!(!Path::new("/run/netns").join(name).exists() && !Path::new("/etc/netns").join(name).exists());
    }
    for pid in started.iter().filter(|pid| **pid != client.id().to_string()) {
        assert!(!Path::new("/proc").join(pid).exists(), "{pid} is still there");
    }
}

#[test]
fn what_a_killed_run_leaves_is_swept_by_the_next() {
    let Some(_internet) = internet() else { return };
    // Larger than any process id, and of this process alone.
    let left = format!("ma-{}-0-host", (1 << 22) + std::process::id());
    run(Command::new("ip").args(["netns", "add", &left]));
    std::fs::create_dir_all(Path::new("/etc/netns").join(&left)).unwrap();
    // In another process, because one sweeps but once.
    let again = std::env::current_exe().unwrap();
    run(Command::new(again).args(["--exact", "namespaces_are_apart", "--test-threads=1"]));
    assert!(!Path::new("/run/netns").join(&left).exists() && !Path::new("/etc/netns").join(&left).exists());
}

#[test]
fn namespaces_are_apart() {
    let (Ok(one), Ok(other)) = (Namespace::new("one"), Namespace::new("other")) else { return };
    let listener = one.enter(|| std::net::TcpListener::bind("127.0.0.1:0")).unwrap();
    let address = listener.local_addr().unwrap();
    assert!(one.enter(|| TcpStream::connect(address)).is_ok());
    assert!(other.enter(|| TcpStream::connect(address)).is_err());
}
