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
use super::sample::Sample;
use crate::{Error, Result, tool};

const GOAL_STREAM: &str = "one TCP stream out of a guest / QEMU's user network, time";
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

/// Sends 64 MiB, then connects 300 times while another stream sends. Prints milliseconds of the one, and the 99th percentile of the other.
const STREAM: &str = "
import socket, threading, time
def send(mebibytes):
    piece = bytes(1 << 20)
    with socket.create_connection(('192.0.2.30', 9)) as stream:
        for _ in range(mebibytes): stream.sendall(piece)
        stream.shutdown(socket.SHUT_WR)
        stream.recv(1)
begun = time.perf_counter()
send(64)
stream = time.perf_counter() - begun
busy = threading.Thread(target=send, args=(400,), daemon=True)
busy.start()
taken = []
for _ in range(300):
    begun = time.perf_counter()
    socket.create_connection(('192.0.2.30', 7)).close()
    taken.append(time.perf_counter() - begun)
print(stream * 1e3, sorted(taken)[296] * 1e3)
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

/// Downloads 20 MB over TLS, whose certificate nobody looks at. Prints seconds before and after.
const DOWNLOAD: &str = "read begun _ < /proc/uptime
wget -q -O /dev/null https://api.example/bytes/20000000 2> /dev/null || exit 1
read ended _ < /proc/uptime
echo $begun $ended";

/// Says so, opens connections, says so again, and waits.
const IDLE_SCRIPT: &str = "
import socket, sys, time
print('ready', flush=True)
held = [socket.create_connection(('192.0.2.30', 7)) for _ in range(int(sys.argv[1]))]
print('open', flush=True)
time.sleep(600)
";

pub(super) fn measure(bench: &Bench) -> Result<Vec<Goal>> {
    let internet = match Internet::start() {
        Ok(internet) => internet,
        Err(error) => {
            let goals = [(GOAL_STREAM, 1.25), (GOAL_CONNECT, 2.0), (GOAL_DNS, 2.0), (GOAL_TLS, 2.0), (GOAL_IDLE, 64.0)];
            let why = error.to_string();
            return Ok(goals.map(|(what, limit)| Goal::unmeasured(limit, "", what, &why)).into());
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
    row("connecting under load, p99", &ours[1], &theirs[1]);
    let [dns, resolver] = network.answers()?;
    println!("{:<38}{:>26}{:>26}", "an answer of DNS; the host's resolver", dns.to_string(), resolver.to_string());
    let [intercepted, passed] = network.downloads()?;
    println!("{:<38}{:>26}{:>26}", "TLS looked into; passed through", intercepted.to_string(), passed.to_string());
    let idle = network.idle()?;
    println!("{:<38}{idle:>26.1}", "an idle connection, in KB");
    Ok(vec![
        Goal::at_most(1.25, "x", GOAL_STREAM, ours[0].median() / theirs[0].median()),
        Goal::at_most(2.0, "x", GOAL_CONNECT, ours[1].median() / theirs[1].median()),
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
        self.command(flags, &self.bench.debian, &["python3", "-c", script, argument])
    }

    fn command(&self, flags: &[&str], image: &str, arguments: &[&str]) -> Command {
        let product = &self.bench.microagent;
        let mut command = self.internet.host_command(&product.program().display().to_string());
        let state = product.state().display().to_string();
        command.args(["--state-dir", &state, "run", "--quiet", "--memory", "1g"]).args(flags);
        command.arg(image).args(arguments);
        command.env("MICROAGENT_REHEARSAL", "off").env("SSL_CERT_FILE", self.internet.ca_file());
        command
    }

    fn streams(&self) -> Result<[[Sample; 2]; 2]> {
        let mut samples = <[[Sample; 2]; 2]>::default();
        for turn in 0..self.bench.times {
            for place in 0..2 {
                let side = if turn % 2 == 0 { place } else { 1 - place };
                let mut command = self.python(&["--cold"], STREAM, "");
                if side == 1 {
                    command.env("MICROAGENT_QEMU", &self.other);
                }
                let printed = numbers(&mut command)?;
                samples[side].iter_mut().zip(printed).for_each(|(sample, number)| sample.add(number));
            }
        }
        Ok(samples)
    }

    fn answers(&self) -> Result<[Sample; 2]> {
        let mut samples = <[Sample; 2]>::default();
        for _ in 0..self.bench.times {
            let guest = numbers(&mut self.python(&[], ASK, "10.43.0.1"))?;
            let mut host = self.internet.host_command("python3");
            let host = numbers(host.args(["-c", ASK, &Internet::RESOLVER.to_string()]))?;
            for (sample, printed) in samples.iter_mut().zip([guest, host]) {
                for number in printed {
                    sample.add(number);
                }
            }
        }
        Ok(samples)
    }

    fn downloads(&self) -> Result<[Sample; 2]> {
        let mut samples = <[Sample; 2]>::default();
        for _ in 0..self.bench.times {
            for (sample, how) in samples.iter_mut().zip(["--egress-allow", "--egress-passthrough"]) {
                let flags = ["--egress", "strict", how, "api.example"];
                let printed = numbers(&mut self.command(&flags, &self.bench.busybox, &["sh", "-c", DOWNLOAD]))?;
                if let [begun, ended] = printed[..] {
                    sample.add((ended - begun) * 1e3);
                }
            }
        }
        Ok(samples)
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

/// The numbers that a command prints.
fn numbers(command: &mut Command) -> Result<Vec<f64>> {
    let printed = tool::capture(command)?;
    let numbers: Option<Vec<f64>> = printed.split_whitespace().map(|word| word.parse().ok()).collect();
    numbers.ok_or_else(|| Error::Unexpected { line: tool::line(command), wanted: "numbers" })
}

/// Anonymous memory of a process.
fn anonymous_kb(pid: u32) -> Result<f64> {
    let path = PathBuf::from(format!("/proc/{pid}/status"));
    let status = fs::read_to_string(&path).map_err(Error::file("read", &path))?;
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap_or_default();
    Ok(line.trim().trim_end_matches(" kB").parse().unwrap_or(f64::NAN))
}
