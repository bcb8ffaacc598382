//! The KVM paths, on real KVM: in the lab, an emulated machine whose processor has SVM.

use std::time::Duration;

use xtask::kvm_lab::{InLab, Lab, Seen};
use xtask::workspace::Build;

/// Booting the lab, and a guest in it, takes a minute when every core of the host is busy with something else.
const DEADLINE: Duration = Duration::from_mins(4);

/// The same for a machine that lives three times, one after the other.
const LIVES_DEADLINE: Duration = Duration::from_mins(8);

fn lab() -> Lab {
    Lab::prepare().unwrap().deadline(DEADLINE)
}

fn text(seen: &Seen) -> String {
    let [stdout, stderr] = [&seen.stdout, &seen.stderr].map(|bytes| String::from_utf8_lossy(bytes));
    format!("exit status {}\nstdout: {stdout}\nstderr: {stderr}", seen.code)
}

#[test]
fn the_lab_returns_exit_status_and_both_outputs_byte_for_byte() {
    let script = r"printf 'out\0\377\r\n'; printf 'err\377\n' >&2; test -c /dev/kvm && exit 42";
    let seen = lab().capture(["sh", "-c", script]).unwrap();
    assert_eq!(seen, Seen { code: 42, stdout: b"out\0\xff\r\n".into(), stderr: b"err\xff\n".into() });
}

#[test]
fn what_a_command_writes_in_the_lab_never_reaches_the_host() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    std::fs::write(&file, "host").unwrap();
    let script = r#"cat "$1" && echo lab > "$1" && cat "$1" && rm "$1""#;
    let seen = lab().capture(["sh", "-c", script, "sh", file.to_str().unwrap()]).unwrap();
    assert_eq!(String::from_utf8_lossy(&seen.stdout), "hostlab\n", "{}", text(&seen));
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "host");
}

#[test]
fn a_command_that_does_not_end_is_stopped_at_the_deadline() {
    let error = lab().deadline(Duration::from_secs(1)).capture(["sleep", "infinity"]).unwrap_err();
    assert!(error.to_string().contains("longer than 1 s"), "{error}");
}

#[test]
fn doctor_finds_a_kvm_that_works() {
    let product = InLab::prepare(Build::Debug).unwrap();
    let seen = lab().capture(product.doctor()).unwrap();
    let stdout = String::from_utf8_lossy(&seen.stdout);
    assert_eq!(seen.code, 0, "{}", text(&seen));
    assert!(stdout.contains("KVM works") && stdout.contains("linux-kvm"), "{}", text(&seen));
}

#[test]
fn run_boots_a_guest_on_kvm() {
    let product = InLab::prepare(Build::Debug).unwrap();
    let seen = lab().capture(product.run(&["sh", "-c", "grep -o -m1 hypervisor /proc/cpuinfo; exit 7"])).unwrap();
    assert_eq!(seen.code, 7, "{}", text(&seen));
    assert_eq!(String::from_utf8_lossy(&seen.stdout), "hypervisor\n", "{}", text(&seen));
}

#[test]
fn a_machine_on_kvm_is_written_down_and_gone_on_from() {
    let script = r#"
        microagent create box --image "$IMAGE" --profile tiny --backend linux-kvm --network isolated
        microagent start box --cold
        microagent exec box -- sh -c 'echo then > /dev/shm/file'
        microagent snapshot create box one
        microagent exec box -- sh -c 'echo later > /dev/shm/file'
        microagent kill box --reason 'one machine at a time' --yes
        microagent snapshot restore box one --yes
        microagent exec box -- cat /dev/shm/file > restored
        microagent kill box --reason 'one machine at a time' --yes
        microagent snapshot fork box:one --name other
        microagent exec other -- sh -c 'cat /dev/shm/file; hostname; date +%s' > forked
        date +%s >> forked
        microagent kill other --reason 'it is over' --yes
        exec 1>&2
        cat restored forked
        [ "$(cat restored)" = then ]
        { read content; read name; read there; read here; } < forked
        [ "$content" = then ] && [ "$name" = other ] && [ $((here - there)) -le 60 ] && [ $((there - here)) -le 1 ]
    "#;
    let product = InLab::prepare(Build::Debug).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let script = format!("cd '{}'\n{script}", directory.path().display());
    let seen = lab().deadline(LIVES_DEADLINE).capture(product.script(&script)).unwrap();
    assert_eq!(seen.code, 0, "{}", text(&seen));
}
