//! Machines from templates: warm from the second run on, right whatever happens to a template, and no two copies alike.

use crate::host::{BUSYBOX, Host, Ran};
use microagent::{Client, Command, RunIo, RunOptions, Start};
use microagent_testing::{run, tool};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::Shutdown;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Moments at which the first run is killed, in milliseconds after its start: while the guest boots, is frozen, written down and restored.
const MOMENTS: [u64; 9] = [20, 200, 700, 1100, 1300, 1500, 1700, 2000, 2500];

/// How far a guest's clock may be from the host's, beyond what the question itself leaves open.
const CLOCK_SLACK: Duration = Duration::from_millis(5);

/// What a test waits for before it gives up.
const SOON: Duration = Duration::from_mins(2);

fn begin(line: &str) -> [&str; 8] {
    ["--json", "run", "--profile", "tiny", "--image", BUSYBOX, "--exec", line]
}

#[track_caller]
pub(crate) fn assert_start(report: &Value, start: &str) {
    assert_eq!(report["start"], start, "{report:#}");
}

/// Runs until the template is there and used.
#[track_caller]
fn assert_heals(host: &Host) {
    let report = host.shell("echo right");
    assert_eq!(report["result"]["stdout"], "right\n", "{report:#}");
    let report = host.shell("echo right");
    assert_eq!(report["result"]["stdout"], "right\n", "{report:#}");
    assert_start(&report, "warm");
    assert_eq!(report["template_note"], Value::Null, "{report:#}");
}

/// The directory of the only template there is.
pub(crate) fn template(host: &Host) -> PathBuf {
    let entries = fs::read_dir(host.state().join("templates")).unwrap().map(|entry| entry.unwrap().path());
    let mut templates: Vec<_> = entries.filter(|path| path.join("record.json").exists()).collect();
    assert_eq!(templates.len(), 1, "{templates:?}");
    templates.remove(0)
}

fn memory(template: &Path) -> PathBuf {
    let record: Value = serde_json::from_slice(&fs::read(template.join("record.json")).unwrap()).unwrap();
    let name = record["memory"]["name"].as_str().unwrap();
    match record["memory"]["place"].as_str().unwrap() {
        "tmpfs" => format!("/dev/shm/microagent-{}/{name}", rustix::process::geteuid().as_raw()).into(),
        _ => template.join(name),
    }
}

#[test]
fn the_second_run_of_a_machine_boots_nothing() {
    let host = Host::new();
    for (line, start) in [("echo one", "made_template"), ("echo two", "warm"), ("echo three", "warm")] {
        let report = host.shell(line);
        assert_start(&report, start);
        assert_eq!(report["result"]["stdout"], format!("{}\n", &line[5..]));
    }
    host.assert_nothing_left();
    let other = |host: &Host| {
        let arguments = ["--json", "run", "--memory", "200", "--cpus", "2", "--image", BUSYBOX, "--exec", "nproc"];
        host.microagent(arguments).expect(0).json()
    };
    assert_start(&other(&host), "made_template");
    let report = other(&host);
    assert_start(&report, "warm");
    assert_eq!(report["result"]["stdout"], "2\n");
}

#[test]
fn two_copies_of_a_template_share_no_identity() {
    let host = Host::new();
    let line = "cat /proc/sys/kernel/random/boot_id /etc/machine-id; hostname; cat /etc/hostname; \
                head -c 4096 /dev/urandom | busybox sha256sum; cat /proc/sys/kernel/random/uuid";
    let says = |host: &Host| {
        let report = host.shell(line);
        report["result"]["stdout"].as_str().unwrap().lines().map(str::to_owned).collect::<Vec<_>>()
    };
    let first = says(&host);
    let (second, third) = (says(&host), says(&host));
    assert_eq!((first.len(), second.len()), (6, 6), "{first:?}");
    for (one, other) in [(&first, &second), (&second, &third)] {
        for (one, other) in one.iter().zip(other) {
            assert_ne!(one, other);
        }
    }
}

#[test]
fn a_restored_guest_has_the_hosts_time() {
    let host = Host::new();
    for start in [Start::MadeTemplate, Start::Warm, Start::Warm] {
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        let client = Client::open(Some(host.state())).unwrap();
        let mut options = RunOptions::new(BUSYBOX);
        options.workspace.profile = "tiny".to_owned();
        options.command = Command::Shell("while read x; do busybox adjtimex; echo end; done".to_owned());
        let io =
            RunIo { stdin: Some(Box::new(theirs.try_clone().unwrap())), stdout: Some(Box::new(theirs)), stderr: None };
        let run = thread::spawn(move || client.run(&options, io).unwrap());
        let mut answers = BufReader::new(ours.try_clone().unwrap());
        let mut best = (u128::MAX, 0, 0);
        for _ in 0..10 {
            let before = now();
            ours.write_all(b"\n").unwrap();
            let guest = clock_reading(&mut answers);
            let after = now();
            best = best.min((after - before, before.saturating_sub(guest), guest.saturating_sub(after)));
        }
        ours.shutdown(Shutdown::Write).unwrap();
        assert_eq!(run.join().unwrap().start, start);
        let (took, behind, ahead) = best;
        assert!(
            behind.max(ahead) < CLOCK_SLACK.as_nanos(),
            "the guest was {behind} ns behind and {ahead} ns ahead, asked within {took} ns"
        );
    }
}

/// What `adjtimex` says, in nanoseconds, up to the line after it.
fn clock_reading(answers: &mut impl BufRead) -> u128 {
    let (mut seconds, mut microseconds) = (0, 0);
    loop {
        let mut line = String::new();
        assert!(answers.read_line(&mut line).unwrap() > 0, "the command ended");
        match line.trim().split_once(": ") {
            Some(("time.tv_sec", value)) => seconds = value.trim().parse::<u128>().unwrap(),
            Some(("time.tv_usec", value)) => microseconds = value.trim().parse::<u128>().unwrap(),
            None if line == "end\n" => return (seconds * 1_000_000 + microseconds) * 1000,
            _ => {}
        }
    }
}

fn now() -> u128 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos()
}

#[test]
fn nothing_of_the_run_that_made_a_template_is_in_it() {
    let host = Host::new();
    let marker = format!("marker{:016x}", now());
    let line = format!("echo {marker} > /file; cat /file; echo $SECRET");
    let mut arguments = begin(&line).to_vec();
    let secret = format!("SECRET={marker}");
    arguments.extend(["--env", &secret]);
    let report = host.microagent(arguments).expect(0).json();
    assert_start(&report, "made_template");
    assert_eq!(report["result"]["stdout"], format!("{marker}\n{marker}\n"));
    let template = template(&host);
    // To know that it would be found: the agent's own words are.
    for (sought, found) in [("microagent", true), (marker.as_str(), false), (host.state().to_str().unwrap(), false)] {
        let grep = |path: &Path| tool("grep").args(["-qaF", sought]).arg(path).status().unwrap().success();
        assert_eq!(grep(&memory(&template)), found, "{sought} in the memory");
        assert!(found || !grep(&template.join("state")), "{sought} in the state");
    }
}

#[test]
fn a_damaged_template_is_never_used_and_made_anew() {
    type Damage = fn(&Path);
    let flip: Damage = |path| {
        let file = fs::File::options().read(true).write(true).open(path).unwrap();
        let mut byte = [0];
        file.read_exact_at(&mut byte, 5000).unwrap();
        file.write_all_at(&[!byte[0]], 5000).unwrap();
    };
    let shorten: Damage = |path| {
        let file = fs::File::options().write(true).open(path).unwrap();
        file.set_len(file.metadata().unwrap().len() / 2).unwrap();
    };
    let remove: Damage = |path| fs::remove_file(path).unwrap();
    let host = Host::new();
    host.shell("true");
    for damage in [flip, shorten, remove] {
        for in_memory in [false, true] {
            let template = template(&host);
            damage(&if in_memory { memory(&template) } else { template.join("state") });
            let report = host.shell("echo right");
            assert_eq!(report["result"]["stdout"], "right\n");
            assert_start(&report, "made_template");
            let note = report["template_note"].as_str().unwrap();
            assert!(note.starts_with("the template was discarded: its "), "{note}");
        }
    }
    assert_heals(&host);
}

#[test]
fn first_runs_at_once_make_one_template_and_wait_for_nobody() {
    let host = Host::new();
    let starts: Vec<_> = thread::scope(|scope| {
        let runs: Vec<_> = (0..4)
            .map(|number| {
                let host = &host;
                scope.spawn(move || {
                    let report = host.shell(&format!("echo {number}"));
                    assert_eq!(report["result"]["stdout"], format!("{number}\n"));
                    report["start"].as_str().unwrap().to_owned()
                })
            })
            .collect();
        runs.into_iter().map(|run| run.join().unwrap()).collect()
    });
    assert_eq!(starts.iter().filter(|start| *start == "made_template").count(), 1, "{starts:?}");
    assert_heals(&host);
}

/// A program that is QEMU, except that it dies at once when it is to load a template and the file `fail` is there.
fn unreliable_qemu(directory: &Path) -> PathBuf {
    let qemu = tool("qemu-system-x86_64").get_program().to_owned();
    let script = format!(
        "#!/bin/sh\ncase \"$*\" in *-incoming*) if [ -e '{}' ]; then kill -9 $$; fi;; esac\nexec '{}' \"$@\"\n",
        directory.join("fail").display(),
        Path::new(&qemu).display(),
    );
    let program = directory.join("qemu");
    fs::write(&program, script).unwrap();
    fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).unwrap();
    program
}

#[test]
fn a_machine_that_cannot_be_restored_is_booted() {
    let host = Host::new();
    let directory = tempfile::tempdir().unwrap();
    let program = unreliable_qemu(directory.path());
    let go = || {
        let output = host.command(begin("echo right")).env("MICROAGENT_QEMU", &program).output().unwrap();
        let report = Ran::from(output).expect(0).json();
        assert_eq!(report["result"]["stdout"], "right\n");
        report
    };
    let fail = directory.path().join("fail");
    // The first machine of a template is restored from it as well.
    fs::write(&fail, "").unwrap();
    let report = go();
    assert_start(&report, "cold");
    assert!(report["template_note"].as_str().unwrap().contains("signal 9"), "{report:#}");
    fs::remove_file(&fail).unwrap();
    assert_start(&go(), "made_template");
    assert_start(&go(), "warm");
    fs::write(&fail, "").unwrap();
    let report = go();
    assert_start(&report, "cold");
    let note = report["template_note"].as_str().unwrap();
    assert!(note.starts_with("the template was discarded: ") && note.contains("signal 9"), "{note}");
    fs::remove_file(&fail).unwrap();
    assert_start(&go(), "made_template");
    assert_start(&go(), "warm");
    host.assert_nothing_left();
}

#[test]
fn an_engine_killed_while_a_template_is_made_costs_the_run_its_template_only() {
    let host = Host::new();
    let child = host.command(begin("echo right")).spawn().unwrap();
    let is_maker = |pid: &u32| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).contains("share=on")
    };
    let deadline = Instant::now() + SOON;
    let maker = loop {
        if let Some(maker) = host.engines().into_iter().find(is_maker) {
            break maker;
        }
        assert!(Instant::now() < deadline, "no template was being made");
        thread::yield_now();
    };
    kill_process(Pid::from_raw(maker.cast_signed()).unwrap(), Signal::KILL).unwrap();
    let report = Ran::from(child.wait_with_output().unwrap()).expect(0).json();
    assert_eq!(report["result"]["stdout"], "right\n");
    assert_start(&report, "cold");
    assert!(report["template_note"].as_str().unwrap().contains("signal 9"), "{report:#}");
    assert_heals(&host);
    host.assert_nothing_left();
}

#[test]
fn a_program_killed_while_it_makes_a_template_leaves_none_or_a_good_one() {
    for moment in MOMENTS {
        let host = Host::new();
        let mut child = host.command(begin("true")).spawn().unwrap();
        // The moment is what is tested here, so nothing can be waited for.
        thread::sleep(Duration::from_millis(moment));
        child.kill().unwrap();
        child.wait().unwrap();
        host.await_no_engine();
        assert_heals(&host);
        host.microagent(["gc"]).expect(0);
        host.assert_nothing_left();
        let names = fs::read_dir(host.state().join("templates")).unwrap();
        let names: Vec<_> = names.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        assert_eq!(names.iter().filter(|name| name.starts_with('.')).count(), 0, "{names:?}");
    }
}

/// Runs the command with its state directory, or `/dev/shm`, on a file system of that size. The mount is nobody else's.
fn in_small_space(host: &Host, script: &str, memory: &str) -> Value {
    let mut command = tool("unshare");
    command.args(["--mount", "sh", "-ec", script, "sh"]).arg(env!("CARGO_BIN_EXE_microagent")).arg(host.state());
    command.args(begin("echo right")).env("MICROAGENT_TEMPLATE_MEMORY", memory);
    let report = Ran::from(command.output().unwrap()).expect(0).json();
    assert_eq!(report["result"]["stdout"], "right\n");
    report
}

#[test]
fn where_tmpfs_is_small_a_templates_memory_is_on_disk() {
    let host = Host::new();
    let small = "mount -t tmpfs -o size=64m tmpfs /dev/shm; program=$1 state=$2; shift 2; exec $program --state-dir $state \"$@\"";
    let report = in_small_space(&host, small, "tmpfs");
    assert_start(&report, "made_template");
    let note = report["template_note"].as_str().unwrap();
    assert!(note.starts_with("the template's memory is on disk: `/dev/shm` has "), "{note}");
    assert!(memory(&template(&host)).starts_with(host.state()));
    assert_start(&in_small_space(&host, small, "tmpfs"), "warm");
}

#[test]
fn a_disk_that_fills_up_while_a_template_is_made_costs_the_run_its_template_only() {
    let host = Host::new();
    let full = "program=$1 state=$2; shift 2; cp -a $state /tmp/.copy-$$; size=$(du -sm $state | cut -f1); \
                mount -t tmpfs -o size=$((size + 24))m tmpfs $state; cp -a /tmp/.copy-$$/. $state; rm -r /tmp/.copy-$$; \
                $program --state-dir $state \"$@\"; find $state/templates -name memory >&2";
    let report = in_small_space(&host, full, "disk");
    assert_start(&report, "cold");
    let note = report["template_note"].as_str().unwrap();
    assert!(note.starts_with("no template was made: "), "{note}");
    assert_heals(&host);
}

#[test]
fn what_templates_take_is_bounded_accounted_for_and_given_back() {
    let host = Host::new();
    host.shell("true");
    let memory = memory(&template(&host));
    let client = microagent::Client::open(Some(host.state())).unwrap();
    let list = client.templates().unwrap();
    assert_eq!((list.len(), list[0].memory_mib, list[0].stale.as_deref()), (1, 256, None));
    let usage = client.disk_usage().unwrap();
    assert_eq!(usage.template_memory.bytes, list[0].memory_bytes);
    assert!(usage.template_memory.bytes > 1 << 20 && usage.images.bytes > 1 << 20 && usage.kernels.bytes > 1 << 20);
    let pruned = client.prune_templates(microagent::TemplatePrune::All).unwrap();
    assert_eq!(pruned.removed, [list[0].key.clone()]);
    assert!(!memory.exists());
    assert_heals(&host);
}

#[test]
fn many_copies_of_a_template_share_its_memory() {
    let host = Host::new();
    host.shell("true");
    let names: BTreeSet<_> = thread::scope(|scope| {
        let runs: Vec<_> = (0..8).map(|_| scope.spawn(|| host.shell("hostname"))).collect();
        let reports = runs.into_iter().map(|run| run.join().unwrap());
        reports
            .map(|report| {
                assert_start(&report, "warm");
                report["result"]["stdout"].to_string()
            })
            .collect()
    });
    assert_eq!(names.len(), 8);
    run(tool("test").arg("-f").arg(memory(&template(&host))));
    host.assert_nothing_left();
}
