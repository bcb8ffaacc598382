//! Machines that go on from an engine that has rehearsed: right, apart from each other, and no worse off when that engine is not to be had.

use crate::host::{BUSYBOX, Host};
use crate::templates::{assert_start, template};
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

/// Moments at which a rehearsal is killed, in milliseconds after its start: while its machine is restored, works, is written and tried.
const MOMENTS: [u64; 8] = [50, 300, 700, 1200, 1800, 2400, 3000, 4000];

/// What a test waits for before it gives up.
const SOON: Duration = Duration::from_mins(3);

/// A host whose template has rehearsed.
fn rehearsed() -> Host {
    let host = Host::new();
    prepare(&host);
    host
}

#[track_caller]
fn prepare(host: &Host) {
    let prepared = host.microagent(["--json", "template", "prepare", "--profile", "tiny"]).expect(0).json();
    assert_eq!(prepared["rehearsed"], true, "{prepared:#}");
}

/// Runs a line on an engine that has rehearsed, and returns what it says.
#[track_caller]
fn says(host: &Host, line: &str) -> String {
    let report = host.shell(line);
    assert_start(&report, "warm");
    assert_eq!(report["rehearsed"], true, "{report:#}");
    report["result"]["stdout"].as_str().unwrap().to_owned()
}

/// Files of the template's checkpoint: the plan, and the engine's memory.
fn checkpoint(host: &Host) -> [PathBuf; 2] {
    let template = template(host);
    let record: Value = serde_json::from_slice(&fs::read(template.join("record.json")).unwrap()).unwrap();
    let memory = &record["checkpoint"]["memory"];
    let name = memory["name"].as_str().unwrap();
    let memory = match memory["place"].as_str().unwrap() {
        "tmpfs" => format!("/dev/shm/microagent-{}/{name}", rustix::process::geteuid().as_raw()).into(),
        _ => template.join(name),
    };
    [template.join("plan"), memory]
}

#[test]
fn a_machine_that_has_rehearsed_does_what_any_machine_does() {
    let host = rehearsed();
    assert_eq!(says(&host, "echo one"), "one\n");
    let line = "seq 200000 | tail -1; dd if=/dev/zero of=/big bs=1M count=64 2>/dev/null; sync; ls -l /big | wc -l; \
                mkdir -p /a/b && mv /a /c && ls -d /c/b; cat /proc/sys/kernel/hostname | wc -l; nproc; exit 7";
    let report = host.shell(line);
    assert_eq!(report["rehearsed"], true, "{report:#}");
    assert_eq!(report["result"]["stdout"], "200000\n1\n/c/b\n1\n1\n");
    assert_eq!(report["result"]["exit_code"], 7);
    assert_eq!(
        says(&host, "ls / | grep -c -e rehearsal -e big; ls /tmp | wc -l; grep -c rehearsal /etc/passwd"),
        "0\n0\n0\n"
    );
    host.assert_nothing_left();
}

#[test]
fn copies_of_an_engine_share_no_identity_and_no_writes() {
    let host = rehearsed();
    let line = "cat /proc/sys/kernel/random/boot_id /etc/machine-id; hostname; head -c 4096 /dev/urandom | busybox sha256sum; \
                [ -e /mark ] || echo $$ > /mark; cat /proc/sys/kernel/random/uuid";
    let all: Vec<Vec<String>> = thread::scope(|scope| {
        let runs: Vec<_> =
            (0..4).map(|_| scope.spawn(|| says(&host, line).lines().map(str::to_owned).collect())).collect();
        runs.into_iter().map(|run| run.join().unwrap()).collect()
    });
    for at in 0..5 {
        let different: BTreeSet<_> = all.iter().map(|lines| &lines[at]).collect();
        assert_eq!(different.len(), all.len(), "{different:?}");
    }
}

#[test]
fn a_damaged_checkpoint_is_never_used_and_made_anew() {
    let host = rehearsed();
    for at in 0..2 {
        for damage in ["flip", "shorten", "remove"] {
            let file = &checkpoint(&host)[at];
            let open = || fs::File::options().read(true).write(true).open(file).unwrap();
            match damage {
                "flip" => {
                    let mut byte = [0];
                    open().read_exact_at(&mut byte, 5000).unwrap();
                    open().write_all_at(&[!byte[0]], 5000).unwrap();
                }
                "shorten" => open().set_len(open().metadata().unwrap().len() / 2).unwrap(),
                _ => fs::remove_file(file).unwrap(),
            }
            let report = host.shell("echo right");
            assert_eq!(report["result"]["stdout"], "right\n");
            assert_start(&report, "made_template");
            let note = report["template_note"].as_str().unwrap();
            assert!(note.starts_with("the template was discarded: its engine's checkpoint "), "{note}");
            prepare(&host);
            assert_eq!(says(&host, "echo right"), "right\n");
        }
    }
}

#[test]
fn a_rehearsal_that_is_killed_leaves_the_template_as_it_was_or_better() {
    for moment in MOMENTS {
        let host = Host::new();
        host.shell("true");
        let mut child = host.command(["template", "prepare", "--profile", "tiny"]).spawn().unwrap();
        // The moment is what is tested here, so nothing can be waited for.
        thread::sleep(Duration::from_millis(moment));
        child.kill().unwrap();
        child.wait().unwrap();
        host.await_no_engine();
        let report = host.shell("echo right");
        assert_start(&report, "warm");
        assert_eq!((report["result"]["stdout"].as_str(), &report["template_note"]), (Some("right\n"), &Value::Null));
        let prepared = host.microagent(["--json", "template", "prepare", "--profile", "tiny"]).expect(0).json();
        assert_eq!(prepared["busy"], false, "{prepared:#}");
        assert_eq!(says(&host, "echo right"), "right\n");
        host.microagent(["gc"]).expect(0);
        let names = fs::read_dir(host.state().join("templates")).unwrap();
        let names: Vec<_> = names.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        assert!(names.iter().all(|name| !name.starts_with('.')), "{names:?}");
        host.assert_nothing_left();
    }
}

#[test]
fn after_a_run_its_template_rehearses_by_itself() {
    let host = Host::new();
    let run = host
        .command(["run", "--quiet", "--profile", "tiny", BUSYBOX, "true"])
        .env_remove("MICROAGENT_REHEARSAL")
        .output();
    assert!(run.unwrap().status.success());
    let client = microagent::Client::open(Some(host.state())).unwrap();
    let deadline = Instant::now() + SOON;
    // It tells nobody when it is done.
    while !client.templates().unwrap().iter().any(|template| template.rehearsed) {
        assert!(Instant::now() < deadline, "the template has not rehearsed");
        thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(says(&host, "echo right"), "right\n");
    host.await_no_engine();
    host.assert_nothing_left();
}

#[test]
fn where_code_cannot_be_run_from_tmpfs_the_engine_is_on_disk() {
    let host = Host::new();
    let script = "mount -t tmpfs -o noexec tmpfs /dev/shm; exec \"$@\"";
    let mut command = microagent_testing::tool("unshare");
    command.args(["--mount", "sh", "-ec", script, "sh"]).arg(env!("CARGO_BIN_EXE_microagent"));
    command.arg("--state-dir").arg(host.state()).args(["--json", "template", "prepare", "--profile", "tiny"]);
    let prepared = crate::host::Ran::from(command.output().unwrap()).expect(0).json();
    assert_eq!(prepared["rehearsed"], true, "{prepared:#}");
    let record: Value = serde_json::from_slice(&fs::read(template(&host).join("record.json")).unwrap()).unwrap();
    assert_eq!(
        (&record["memory"]["place"], &record["checkpoint"]["memory"]["place"]),
        (&"tmpfs".into(), &"disk".into())
    );
}

#[test]
fn no_random_numbers_come_from_the_engine() {
    let host = rehearsed();
    let line = "grep -m1 ^flags /proc/cpuinfo | tr ' ' '\\n' | grep -c -e '^rdrand$' -e '^rdseed$'; true";
    assert_eq!(says(&host, line), "0\n", "copies of an engine share its generator");
}

#[test]
fn a_checkpoint_is_of_no_use_after_the_host_has_been_booted() {
    let host = rehearsed();
    let path = template(&host).join("record.json");
    let mut record: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    record["checkpoint"]["boot_id"] = "of another boot".into();
    fs::write(&path, serde_json::to_vec(&record).unwrap()).unwrap();
    let report = host.shell("echo right");
    assert_eq!(report["result"]["stdout"], "right\n");
    assert_start(&report, "made_template");
    assert!(report["template_note"].as_str().unwrap().contains("the host has been booted"), "{report:#}");
}

/// Runs the command as a process that may have few descriptors.
fn with_few_descriptors(host: &Host, limit: &str, arguments: &[&str]) -> crate::host::Ran {
    let script = format!("ulimit -n {limit}; exec \"$@\"");
    let mut command = microagent_testing::tool("sh");
    command.args(["-c", &script, "sh"]).arg(env!("CARGO_BIN_EXE_microagent")).arg("--state-dir").arg(host.state());
    command.args(arguments).env("MICROAGENT_REHEARSAL", "off").output().unwrap().into()
}

#[test]
fn what_keeps_one_process_from_a_template_costs_nobody_else_the_template() {
    let host = rehearsed();
    let run = ["--json", "run", "--profile", "tiny", "--image", BUSYBOX, "--exec", "echo right"];
    let report = with_few_descriptors(&host, "100", &run).expect(0).json();
    assert_eq!(report["result"]["stdout"], "right\n");
    assert_start(&report, "cold");
    let note = report["template_note"].as_str().unwrap();
    assert!(note.starts_with("the template was not used: ") && note.contains("Invalid argument"), "{note}");
    assert_eq!(says(&host, "echo right"), "right\n");
}

#[test]
fn a_rehearsal_that_cannot_be_is_tried_once() {
    let host = Host::new();
    let failed = with_few_descriptors(&host, "100", &["template", "prepare", "--profile", "tiny"]);
    failed.expect(1);
    let client = microagent::Client::open(Some(host.state())).unwrap();
    let list = client.templates().unwrap();
    assert!(list[0].rehearsal_failed.as_ref().is_some_and(|why| !why.is_empty()), "{list:?}");
    let mut options = microagent::RunOptions::new(BUSYBOX);
    options.workspace.profile = "tiny".to_owned();
    options.command = microagent::Command::Shell("true".to_owned());
    let report = client.run(&options, microagent::RunIo::default()).unwrap();
    assert!(!report.can_rehearse);
    prepare(&host);
    assert_eq!(says(&host, "echo right"), "right\n");
}

#[test]
fn what_machines_touch_does_not_stay() {
    let host = rehearsed();
    let client = microagent::Client::open(Some(host.state())).unwrap();
    let taken = || client.templates().unwrap()[0].bytes();
    says(&host, "true");
    let before = taken();
    // In a machine of 256 MiB, of which its template has touched a third.
    assert_eq!(
        says(&host, "dd if=/dev/urandom of=/dev/shm/x bs=1M count=90 2>/dev/null; du -k /dev/shm/x | cut -f1"),
        "92160\n"
    );
    let grown = taken() - before;
    assert!(grown < 4 << 20, "the template has grown by {grown} bytes");
}

#[test]
fn sixteen_at_once_and_many_in_a_row_leave_nothing() {
    let host = rehearsed();
    let memory =
        || fs::read_dir(format!("/dev/shm/microagent-{}", rustix::process::geteuid().as_raw())).unwrap().count();
    let before = memory();
    for _ in 0..3 {
        thread::scope(|scope| {
            for number in 0..16 {
                let host = &host;
                scope.spawn(move || assert_eq!(says(host, &format!("echo {number}")), format!("{number}\n")));
            }
        });
    }
    host.assert_nothing_left();
    // Other tests make templates meanwhile, but none of ours came or went.
    let client = microagent::Client::open(Some(host.state())).unwrap();
    assert_eq!(client.templates().unwrap().len(), 1);
    assert!(memory() >= 2 && before >= 2);
}
