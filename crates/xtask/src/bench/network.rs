//! The network of a guest, against the one that QEMU brings along (`-netdev user`, of libslirp).
//!
//! Both machines are on a host of an internet made for tests, and are the same but for what is at the other end of their interface:
//! the program that `MICROAGENT_QEMU` names is for the other side a script, which replaces that one argument. What is timed is
//! timed in the guest.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use microagent_testing::Internet;

use super::Bench;
use super::goal::Goal;
use super::sample::{Sample, in_turns};
use crate::{Error, Result, tool};

const GOAL_OUT: &str = "one TCP stream out of a guest / QEMU's user network, time";
const GOAL_IN: &str = "one TCP stream into a guest / QEMU's user network, time";
const GOAL_CONNECT: &str = "connecting under load, p99 / QEMU's user network";
const GOAL_DNS: &str = "an answer of DNS, above the host's resolver";
const GOAL_TLS: &str = "a download that is looked into / passed through, time";
const GOAL_IDLE: &str = "memory of an idle connection";

/// Connections that idle.
const IDLE: u32 = 500;

/// The other side: the same machine, with QEMU's own network.
const OTHER_SIDE: &str = r#"#!/bin/sh
count=$#
while [ "$count" -gt 0 ]; do
    argument=$1
    shift
    case $argument in
        socket,id=link,*) argument=user,id=link,net=10.43.0.0/29,host=10.43.0.1,dns=10.43.0.3,dhcpstart=10.43.0.4 ;;
    esac
    set -- "$@" "$argument"
    count=$((count - 1))
done
exec qemu-system-x86_64 "$@"
"#;

/// Sends 64 MiB, receives as much, then connects 300 times beside a stream that sends all the while. Prints milliseconds of the first
/// two, and the 99th percentile of the third.
const STREAM: &str = "
import socket, threading, time
piece = bytearray(1 << 20)
done = threading.Event()
def send(pieces):
    with socket.create_connection(('192.0.2.30', 9)) as stream:
        for _ in pieces: stream.sendall(piece)
        stream.shutdown(socket.SHUT_WR)
        stream.recv(1)
def receive(mebibytes):
    left = mebibytes << 20
    with socket.create_connection(('192.0.2.30', 19)) as stream:
        stream.sendall(b'%d\\n' % left)
        while left: left -= stream.recv_into(piece) or 1 / 0
def milliseconds(action, argument):
    begun = time.perf_counter()
    action(argument)
    return (time.perf_counter() - begun) * 1e3
sent, received = milliseconds(send, range(64)), milliseconds(receive, 64)
busy = threading.Thread(target=send, args=(iter(done.is_set, True),))
busy.start()
connect = lambda address: socket.create_connection(address).close()
taken = sorted(milliseconds(connect, ('192.0.2.30', 7)) for _ in range(300))
done.set()
busy.join()
print(sent, received, taken[296])
";

/// Asks for the address of a name a hundred times. Prints the median, in milliseconds.
const ASK: &str = "
import socket, sys, time
question = b'\\x12\\x34\\x01\\x00\\x00\\x01\\x00\\x00\\x00\\x00\\x00\\x00\\x03api\\x07example\\x00\\x00\\x01\\x00\\x01'
asking = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
asking.connect((sys.argv[1], 53))
taken = []
for _ in range(100):
    begun = time.perf_counter()
    asking.send(question)
    asking.recv(512)
    taken.append(time.perf_counter() - begun)
print(sorted(taken)[50] * 1e3)
";

/// Downloads 20 MB over TLS, whose certificate nobody looks at. Prints milliseconds.
const DOWNLOAD: &str = "
import socket, ssl, time
place, left = bytearray(1 << 18), 20_000_000
context = ssl.create_default_context()
context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
begun = time.perf_counter()
with context.wrap_socket(socket.create_connection(('api.example', 443)), server_hostname='api.example') as stream:
    stream.sendall(b'GET /bytes/%d HTTP/1.1\\r\\nHost: api.example\\r\\nConnection: close\\r\\n\\r\\n' % left)
    while left > 0: left -= stream.recv_into(place) or 1 / 0
print((time.perf_counter() - begun) * 1e3)
";

/// Says so, opens connections and exchanges a thousand bytes on each, says so again, and waits.
const IDLE_SCRIPT: &str = "
import socket, sys, time
print('ready', flush=True)
held = [socket.create_connection(('192.0.2.30', 7)) for _ in range(int(sys.argv[1]))]
for stream in held:
    stream.sendall(bytes(1000))
    left = 1000
    while left: left -= len(stream.recv(left)) or 1 / 0
print('open', flush=True)
time.sleep(600)
";

pub(super) fn measure(bench: &Bench) -> Result<Vec<Goal>> {
    let internet = match Internet::start() {
        Ok(internet) => internet,
        Err(error) => {
            let why = error.to_string();
            let goals = [
                (GOAL_OUT, 1.25, "x"),
                (GOAL_IN, 1.25, "x"),
                (GOAL_CONNECT, 2.0, "x"),
                (GOAL_DNS, 2.0, "ms"),
                (GOAL_TLS, 2.0, "x"),
                (GOAL_IDLE, 64.0, "KB"),
            ];
            return Ok(goals.map(|(what, limit, unit)| Goal::unmeasured(limit, unit, what, &why)).into());
        }
    };
    let scratch = tempfile::tempdir().map_err(Error::file("make", "a scratch directory"))?;
    let network = Network { bench, internet, other: other_side(scratch.path())? };
    println!("\n{:<38}{:>26}{:>26}", "the network, in ms", "the gateway", "QEMU's own");
    let [ours, theirs] = network.streams()?;
    let row = |what: &str, ours: &Sample, theirs: &Sample| {
        println!("{what:<38}{:>26}{:>26}", ours.to_string(), theirs.to_string());
    };
    row("64 MiB out of the guest", &ours[0], &theirs[0]);
    row("64 MiB into it", &ours[1], &theirs[1]);
    row("connecting beside a stream, p99", &ours[2], &theirs[2]);
    let [dns, other, resolver] = network.answers()?;
    row("an answer of DNS", &dns, &other);
    println!("{:<38}{:>26}", "the same on the host", resolver.to_string());
    let [intercepted, passed] = network.downloads()?;
    println!("{:<38}{:>26}", "20 MB over TLS, looked into", intercepted.to_string());
    println!("{:<38}{:>26}", "the same, passed through", passed.to_string());
    let idle = network.idle()?;
    println!("{:<38}{idle:>26.1}", "an idle connection, in KB");
    Ok(vec![
        Goal::at_most(1.25, "x", GOAL_OUT, ours[0].median() / theirs[0].median()),
        Goal::at_most(1.25, "x", GOAL_IN, ours[1].median() / theirs[1].median()),
        Goal::at_most(2.0, "x", GOAL_CONNECT, ours[2].median() / theirs[2].median()),
        Goal::at_most(2.0, "ms", GOAL_DNS, dns.median() - resolver.median()),
        Goal::at_most(2.0, "x", GOAL_TLS, intercepted.median() / passed.median()),
        Goal::at_most(64.0, "KB", GOAL_IDLE, idle),
    ])
}

/// Writes the program of the other side.
fn other_side(directory: &Path) -> Result<PathBuf> {
    let path = directory.join("qemu-with-its-own-network");
    fs::write(&path, OTHER_SIDE).map_err(Error::file("write", &path))?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).map_err(Error::file("write", &path))?;
    Ok(path)
}

struct Network<'a> {
    bench: &'a Bench,
    internet: Internet,
    other: PathBuf,
}

impl Network<'_> {
    /// A run of a Python script, on the host of the internet.
    fn python(&self, flags: &[&str], script: &str, argument: &str) -> Command {
        let product = &self.bench.microagent;
        let mut command = self.internet.host_command(&product.program().display().to_string());
        let state = product.state().display().to_string();
        // A script that fails is to be seen.
        command.args(["--state-dir", &state, "run", "--quiet", "--propagate-exit-code", "--memory", "1g"]).args(flags);
        command.arg(&self.bench.debian).args(["python3", "-c", script, argument]);
        command.env("MICROAGENT_REHEARSAL", "off").env("SSL_CERT_FILE", self.internet.ca_file());
        command
    }

    /// The same with QEMU's own network.
    fn on_the_other_side(&self, script: &str, argument: &str) -> Command {
        let mut command = self.python(&["--cold"], script, argument);
        command.env("MICROAGENT_QEMU", &self.other);
        command
    }

    fn streams(&self) -> Result<[[Sample; 3]; 2]> {
        let mut samples = <[[Sample; 3]; 2]>::default();
        for turn in 0..self.bench.times {
            for place in 0..2 {
                let side = if turn % 2 == 0 { place } else { 1 - place };
                let printed: [f64; 3] = numbers(&mut match side {
                    0 => self.python(&["--cold"], STREAM, ""),
                    _ => self.on_the_other_side(STREAM, ""),
                })?;
                samples[side].iter_mut().zip(printed).for_each(|(sample, number)| sample.add(number));
            }
        }
        Ok(samples)
    }

    /// Answers of the gateway, of QEMU's network, and on the host.
    fn answers(&self) -> Result<[Sample; 3]> {
        let ask = |mut command: Command| numbers(&mut command).map(|[median]| median);
        let host = || {
            let mut command = self.internet.host_command("python3");
            command.args(["-c", ASK, &Internet::RESOLVER.to_string()]);
            ask(command)
        };
        let ours = || ask(self.python(&["--cold"], ASK, "10.43.0.1"));
        let theirs = || ask(self.on_the_other_side(ASK, "10.43.0.3"));
        in_turns(self.bench.times, [&ours, &theirs, &host])
    }

    /// Downloads that are looked into, and that are passed through.
    fn downloads(&self) -> Result<[Sample; 2]> {
        let download = |how: &str| {
            let flags = ["--egress", "strict", how, "api.example"];
            numbers(&mut self.python(&flags, DOWNLOAD, "")).map(|[milliseconds]| milliseconds)
        };
        in_turns(self.bench.times, [&|| download("--egress-allow"), &|| download("--egress-passthrough")])
    }

    /// Kilobytes of the process that runs the machine, for each connection.
    fn idle(&self) -> Result<f64> {
        let mut command = self.python(&[], IDLE_SCRIPT, &IDLE.to_string());
        let line = tool::line(&command);
        let spawned = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
        let mut run = Killed(spawned.map_err(Error::file("start", "a run"))?);
        let mut said = BufReader::new(run.0.stdout.take().expect("it is piped")).lines();
        let mut next = || said.next().and_then(std::result::Result::ok);
        let unexpected = || Error::Unexpected { line: line.clone(), wanted: "word of its connections" };
        next().ok_or_else(unexpected)?;
        let before = anonymous_kb(run.0.id())?;
        next().ok_or_else(unexpected)?;
        let after = anonymous_kb(run.0.id())?;
        Ok((after - before) / f64::from(IDLE))
    }
}

/// A run that is ended when it has been looked at.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The numbers that a command prints: so many.
fn numbers<const N: usize>(command: &mut Command) -> Result<[f64; N]> {
    let printed = tool::capture(command)?;
    let numbers: Option<Vec<f64>> = printed.split_whitespace().map(|word| word.parse().ok()).collect();
    let numbers = numbers.and_then(|numbers| numbers.try_into().ok());
    numbers.ok_or_else(|| Error::Unexpected { line: tool::line(command), wanted: "numbers" })
}

/// Anonymous memory of a process.
fn anonymous_kb(pid: u32) -> Result<f64> {
    let path = PathBuf::from(format!("/proc/{pid}/status"));
    let status = fs::read_to_string(&path).map_err(Error::file("read", &path))?;
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap_or_default();
    Ok(line.trim().trim_end_matches(" kB").parse().unwrap_or(f64::NAN))
}
