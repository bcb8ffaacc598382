//! The network a guest has, on a host that is on an internet made for the test.
//!
//! What passes the gateway and what does not is tested with the gateway itself (`microagent-gateway/tests`); here it is that a machine's
//! network is that gateway, with the rules it was given.

use crate::host::{BUSYBOX, Host, Ran, Running};
use microagent_testing::Internet;
use serde_json::Value;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};

/// Where every guest finds its gateway.
const GATEWAY: &str = "10.43.0.1";

/// An internet, where tests can make one.
pub(crate) fn internet() -> Option<Internet> {
    match Internet::start() {
        Ok(internet) => Some(internet),
        Err(error) => {
            eprintln!("skipped: {error}");
            None
        }
    }
}

fn stdout(report: &Value) -> &str {
    report["result"]["stdout"].as_str().unwrap()
}

#[test]
fn the_internet_is_reached_by_name_and_what_is_inside_is_not() {
    let (Some(internet), host) = (internet(), Host::new()) else { return };
    let line = "wget -qO- http://api.example/ && for inside in 169.254.169.254 10.9.9.9 203.0.113.1; do \
                wget -qO- http://$inside/ || echo $inside refused; done";
    let report = host.shell_on(&internet, &[], line);
    let said = stdout(&report);
    assert!(said.contains("\"request\""), "{report:#}");
    for inside in ["169.254.169.254", "10.9.9.9", "203.0.113.1"] {
        assert!(said.contains(&format!("{inside} refused")), "{said}");
        assert!(internet.seen_at(inside.parse().unwrap()).is_empty(), "{inside} was reached");
    }
    assert_eq!(report["network"], "user");
    assert_eq!((report["egress"]["allowed"].as_u64(), report["egress"]["denied"].as_u64()), (Some(1), Some(3)));
}

#[test]
fn strict_lets_out_what_is_listed_and_says_so_of_the_rest() {
    let (Some(internet), host) = (internet(), Host::new()) else { return };
    let arguments = ["--egress", "strict", "--egress-passthrough", "api.example"];
    let line = "wget -qO- http://api.example/headers > /dev/null && echo listed; \
                wget -qO- http://www.example/ || echo unlisted; wget -qO- http://192.0.2.11/ || echo address";
    let report = host.shell_on(&internet, &arguments, line);
    assert_eq!(stdout(&report), "listed\nunlisted\naddress\n", "{report:#}");
    assert!(internet.seen_at(Ipv4Addr::new(192, 0, 2, 11)).is_empty());
    assert!(report["egress"]["denied_hosts"].as_object().unwrap().contains_key("www.example"), "{report:#}");
}

#[test]
fn a_large_file_arrives_whole() {
    let (Some(internet), host) = (internet(), Host::new()) else { return };
    let report = host.shell_on(&internet, &[], "wget -qO- http://api.example/bytes/20000000 | wc -c");
    assert_eq!(stdout(&report).trim(), "20000000", "{report:#}");
}

#[test]
fn an_isolated_machine_has_no_interface_and_no_policy() {
    let host = Host::new();
    let ran = host.run_quietly(&["--network", "isolated", BUSYBOX, "ls", "/sys/class/net"]);
    assert_eq!(ran.text(), "lo\n");
    let refused = host.microagent(["run", "--network", "isolated", "--egress", "strict", BUSYBOX]).expect(2);
    assert!(refused.stderr.contains("without a network interface"), "{}", refused.stderr);
}

#[test]
fn every_copy_of_a_template_has_the_network() {
    let (Some(internet), host) = (internet(), Host::new()) else { return };
    let line = "wget -qO- http://api.example/headers > /dev/null && echo through";
    let starts: Vec<String> = (0..3)
        .map(|_| {
            let report = host.shell_on(&internet, &[], line);
            assert_eq!(stdout(&report), "through\n", "{report:#}");
            report["start"].as_str().unwrap().to_owned()
        })
        .collect();
    assert_eq!(starts, ["made_template", "warm", "warm"]);
}

/// What the guest answers on that port of the host.
fn ask(address: SocketAddr) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(b"GET /hello HTTP/1.0\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

const SERVE: &str =
    "mkdir -p /www && echo from the guest > /www/hello && httpd -p 80 -h /www && echo serving && sleep 600";

#[test]
fn a_published_port_leads_into_the_guest_whatever_its_network() {
    let host = Host::new();
    for mode in ["user", "isolated"] {
        let name = format!("served-{mode}");
        let create = ["create", "--name", &name, "--profile", "tiny", "--network", mode, "-p", "127.0.0.1:0:80"];
        host.microagent(create.iter().chain(&["--image", BUSYBOX])).expect(0);
        host.microagent(["start", &name]).expect(0);
        let serve = SERVE.replace(" && sleep 600", "");
        host.microagent(["exec", &name, "sh", "-c", &serve]).expect(0);
        let shown = host.microagent(["--json", "network", &name]).expect(0).json();
        assert_eq!((shown["mode"].as_str(), shown["running"].as_bool()), (Some(mode), Some(true)));
        let port = u16::try_from(shown["forwards"][0]["host_port"].as_u64().unwrap()).unwrap();
        let answer = ask(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port));
        assert!(answer.ends_with("from the guest\n"), "{answer}");
        // Many at once, and one after the other.
        let many: Vec<_> = (0..20)
            .map(|_| std::thread::spawn(move || ask(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port))))
            .collect();
        assert!(many.into_iter().all(|asked| asked.join().unwrap().ends_with("from the guest\n")));
        host.microagent(["halt", &name]).expect(0);
        assert!(TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err(), "the port is still open");
    }
}

#[test]
fn a_port_where_nobody_listens_ends_the_connection() {
    let host = Host::new();
    let create = ["create", "--name", "silent", "--profile", "tiny", "-p", "0:9", "--image", BUSYBOX];
    host.microagent(create).expect(0);
    host.microagent(["start", "silent"]).expect(0);
    let shown = host.microagent(["--json", "network", "silent"]).expect(0).json();
    let port = u16::try_from(shown["forwards"][0]["host_port"].as_u64().unwrap()).unwrap();
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
    let mut answer = Vec::new();
    assert!(stream.read_to_end(&mut answer).is_err() || answer.is_empty());
    host.microagent(["kill", "silent", "--yes", "--reason", "over"]).expect(0);
}

#[test]
fn a_port_that_is_taken_is_told_before_anything_runs() {
    let host = Host::new();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mapping = format!("{}:80", taken.local_addr().unwrap());
    let refused = host.microagent(["--json", "run", "-p", &mapping, BUSYBOX, "true"]).expect(1);
    assert!(
        refused.stderr.contains("port_unavailable") || refused.text().contains("port_unavailable"),
        "{}",
        refused.stderr
    );
    host.assert_nothing_left();
}

#[test]
fn run_serves_its_ports_for_as_long_as_its_command() {
    let host = Host::new();
    let held = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = held.local_addr().unwrap();
    drop(held);
    let mapping = format!("{address}:80");
    let run = ["run", "--quiet", "--profile", "tiny", "-p", &mapping, "--image", BUSYBOX, "--exec", SERVE];
    let running = Running::start(host.command(run), "serving");
    assert!(ask(address).ends_with("from the guest\n"));
    running.send(rustix::process::Signal::INT);
    running.finish();
    assert!(TcpStream::connect(address).is_err());
    host.assert_no_engine();
}

#[test]
fn what_happened_is_on_record_and_makes_a_policy() {
    let (Some(internet), host) = (internet(), Host::new()) else { return };
    let policy = host.state().join("learned.yaml");
    let run = |arguments: &[&str]| -> Ran {
        host.command_on(&internet, ["run", "--profile", "tiny"].iter().chain(arguments)).output().unwrap().into()
    };
    let line = "wget -qO- http://api.example/ > /dev/null; wget -qO- http://10.9.9.9/ > /dev/null; true";
    let learn =
        ["--learn", policy.to_str().unwrap(), "--keep", "--name", "learner", "--image", BUSYBOX, "--exec", line];
    let ran = run(&learn).expect(0);
    assert!(ran.stderr.contains("Egress: 1 allowed, 1 denied"), "{}", ran.stderr);
    assert!(ran.stderr.contains("note: denied 1x: 10.9.9.9:80"), "{}", ran.stderr);
    let text = std::fs::read_to_string(&policy).unwrap();
    assert!(text.contains("\"api.example\"") && text.contains("\"10.9.9.9\""), "{text}");
    let shown = host.microagent(["egress", "learner"]).expect(0).text();
    assert!(shown.contains("egress_allow") && shown.contains("inside-private"), "{shown}");
    assert_eq!(host.microagent(["egress", "learner", "--learn"]).expect(0).text(), text);
    let log = host.state().join("workspaces/learner/egress.jsonl");
    let replay = [&policy, &log].map(|path| path.to_str().unwrap().to_owned());
    host.microagent(["egress", "test", &replay[0], &replay[1]]).expect(0);
    std::fs::write(&policy, "allow: []\n").unwrap();
    let denied = host.microagent(["egress", "test", &replay[0], &replay[1]]).expect(1).text();
    assert!(denied.contains("0 allowed, 2 denied"), "{denied}");
}

/// The credential that the guest is never to have.
const KEY: &str = "sk-th1s-k3y-stays-on-the-h0st";

#[test]
fn a_credential_is_put_in_on_the_way_out_and_is_nowhere_in_the_guest() {
    let (Some(internet), host) = (internet(), Host::new()) else { return };
    host.import_clients();
    let config = host.state().join("swaps.yaml");
    let swaps = "swaps:\n  api:\n    type: static\n    domains: [api.example]\n    header: Authorization\n    \
                 format: \"Bearer {key}\"\n    key_ref: env:THE_KEY\n";
    std::fs::write(&config, swaps).unwrap();
    let create = ["create", "--name", "agent", "--profile", "small", "--egress", "strict", "--egress-swap-config"];
    let arguments = create.iter().copied().chain([config.to_str().unwrap(), "--image", crate::host::CLIENTS]);
    let on = |arguments: &[&str]| -> Ran {
        host.command_on(&internet, arguments).env("THE_KEY", KEY).output().unwrap().into()
    };
    on(&arguments.collect::<Vec<_>>()).expect(0);
    on(&["start", "agent"]).expect(0);
    // An agent that uses an API as its documentation says: with a key, which here is a placeholder.
    let script = "import urllib.request\n\
                  request = urllib.request.Request('https://api.example/bytes/10', headers={'Authorization': 'Bearer x'})\n\
                  print(len(urllib.request.urlopen(request).read()))\n";
    let ran = on(&["exec", "agent", "python3", "-c", script]).expect(0);
    assert_eq!(ran.text(), "10\n", "{}", ran.stderr);
    let seen = internet.wait_for(
        |seen| seen.kind == microagent_testing::Kind::Request && seen.to_string().contains("/bytes/10"),
        std::time::Duration::from_mins(2),
    );
    assert!(seen.to_string().contains(KEY), "the server did not get the key: {seen}");
    // curl finds the authority, too; a host that is not listed stays closed, and another address of a listed one as well.
    let curl =
        on(&["exec", "agent", "curl", "-sS", "-o", "/dev/null", "-w", "%{http_code}", "https://api.example/bytes/5"]);
    assert_eq!(curl.expect(0).text(), "200");
    assert_ne!(on(&["exec", "agent", "curl", "-sS", "https://www.example/"]).status, 0);
    assert_ne!(on(&["exec", "agent", "curl", "-sSk", "https://192.0.2.10/"]).status, 0);
    let ran = on(&["exec", "agent", "python3", "-c", KEY_STORE]).expect(0);
    assert_eq!(ran.text(), "1 True True\n", "{}", ran.stderr);
    // Nowhere on the host but in the supervisor: not in the engine, whose memory is the guest's, and in no file.
    let engines = host.engines();
    assert!(!engines.is_empty());
    for engine in engines {
        assert!(!memory_holds(engine, KEY.as_bytes()), "the key is in the guest's memory");
    }
    let mut found = Vec::new();
    crate::secrets::holders(host.state(), KEY.as_bytes(), &mut found);
    assert!(found.is_empty(), "{found:?}");
    let shown = on(&["egress", "agent"]).expect(0).text();
    assert!(shown.contains("egress_swap") && !shown.contains(KEY), "{shown}");
    let network = on(&["network", "agent"]).expect(0).text();
    assert!(network.contains("Credentials: api") && network.contains("Allowed: api.example"), "{network}");
}

/// How many certificates Java trusts, whether the store holds, and whether the last one everybody else trusts is there.
const KEY_STORE: &str = "\
import hashlib, os, ssl
store = open(os.environ['JAVA_HOME'] + '/lib/security/cacerts', 'rb').read()
digest = hashlib.sha1('changeit'.encode('utf-16-be') + b'Mighty Aphrodite' + store[:-20]).digest()
begin = '-----BEGIN CERTIFICATE-----'
ours = ssl.PEM_cert_to_DER_cert(begin + open(os.environ['SSL_CERT_FILE']).read().split(begin)[-1])
print(int.from_bytes(store[8:12], 'big'), digest == store[-20:], store[:-20].endswith(ours))
";

/// Whether the memory of a process, all of it that can be read, holds these bytes.
fn memory_holds(pid: u32, bytes: &[u8]) -> bool {
    use std::os::unix::fs::FileExt;
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    let memory = std::fs::File::open(format!("/proc/{pid}/mem")).unwrap();
    let mut buffer = vec![0; 4 << 20];
    let mut looked_at = 0_u64;
    for line in maps.lines().filter(|line| line.contains(" rw")) {
        let (start, end) = line.split(' ').next().unwrap().split_once('-').unwrap();
        let (start, end) = (u64::from_str_radix(start, 16).unwrap(), u64::from_str_radix(end, 16).unwrap());
        let mut at = start;
        while at < end {
            let length = (end - at).min(buffer.len() as u64) as usize;
            if memory.read_exact_at(&mut buffer[..length], at).is_ok() {
                looked_at += length as u64;
                if memchr::memmem::find(&buffer[..length], bytes).is_some() {
                    return true;
                }
            }
            // The next piece begins where one that is on the border would.
            at += (length - if at + (length as u64) < end { bytes.len() } else { 0 }) as u64;
        }
    }
    assert!(looked_at > 64 << 20, "only {looked_at} bytes could be read");
    false
}

#[test]
fn a_service_of_the_host_is_reached_and_nothing_else_of_it() {
    let host = Host::new();
    host.import_clients();
    let service = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let target = format!("2048={}", service.local_addr().unwrap());
    let served = std::thread::spawn(move || {
        // The first comes from the start, which looks whether there is a service.
        let mut heard = String::new();
        for stream in service.incoming().take(2) {
            let mut stream = stream.unwrap();
            let mut line = [0; 5];
            if stream.read_exact(&mut line).is_ok() {
                heard = String::from_utf8_lossy(&line).into_owned();
                stream.write_all(b"answer").unwrap();
            }
        }
        heard
    });
    let other = std::net::TcpListener::bind("0.0.0.0:0").unwrap();
    let port = other.local_addr().unwrap().port();
    let script = format!(
        "import os, socket\n\
         path = os.environ['MICROAGENT_MEDIATION_2048']\n\
         s = socket.socket(socket.AF_UNIX); s.connect(path)\n\
         s.sendall(b'hello'); s.shutdown(socket.SHUT_WR); print(s.makefile().read())\n\
         print([name for name in os.listdir(os.path.dirname(path)) if name.endswith('.sock')])\n\
         for host in ['127.0.0.1', '{GATEWAY}']:\n\
         \x20   try: socket.create_connection((host, {port}), 60); print(host)\n\
         \x20   except OSError: print('refused')\n"
    );
    let image = crate::host::CLIENTS;
    let ran = host.run_quietly(&["--mediation", &target, image, "python3", "-c", &script]);
    let expected = "answer\n['mediation-2048.sock']\nrefused\nrefused\n";
    assert_eq!((ran.text().as_str(), served.join().unwrap().as_str()), (expected, "hello"), "{}", ran.stderr);
    other.set_nonblocking(true).unwrap();
    assert_eq!(other.accept().unwrap_err().kind(), std::io::ErrorKind::WouldBlock, "another service was reached");
    let nobody = ["run", "--mediation", "2048=127.0.0.1:1", BUSYBOX, "true"];
    let refused = host.microagent(nobody);
    assert!(refused.status != 0 && refused.stderr.contains("127.0.0.1:1"), "{}", refused.stderr);
    host.run_quietly(&["--mediation", "2048=127.0.0.1:1", "--mediation-optional", BUSYBOX, "true"]);
}
