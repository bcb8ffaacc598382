use super::*;
use crate::{CreateOptions, RunOptions, Service};
use microagent_protocol::Fault;
use std::fmt::Write as _;
use std::time::Duration;

/// The file of the documentation, without what needs networking.
const WHOLE: &str = "\
name: research
image: docker.io/library/ubuntu:24.04
profile: medium
restart: on-failure
entrypoint: /app/start.sh
shell: /bin/bash
hostname: research
setup:
  - mkdir -p /workspace
  - run: echo ready > /workspace/status
  - file: prepare.sh
setupFiles: [more.sh]
files:
  - { src: prepare.sh, dst: /opt/prepare.sh, mode: \"0750\" }
env:
  MICROAGENT_NAME: research
  PORT: 8080
  ANSWER: yes
resources:
  memoryMiB: 2048
  cpuCount: 2
  sizeMiB: 8192
network:
  mode: isolated
disks:
  - name: workspace
    path: workspace.ext4
    mountpoint: /workspace
    mode: rw
bundles:
  - { name: config, path: /tmp/config.tar, mountpoint: /config }
volumes:
  - { name: data, mountpoint: /data, mode: ro }
outputs:
  - { name: report, path: /workspace/report.txt }
ttl: 12h
health:
  exec: [/bin/true]
  retries: 2
workdir: /workspace
user: 1000:1000
";

fn parse(text: &str) -> Result<WorkspaceSpec, Error> {
    WorkspaceSpec::parse(text, Path::new("microagent.yaml"), Path::new("/base"))
}

fn refusal(text: &str) -> String {
    let error = parse(text).expect_err(text);
    format!("{}: {error} ({})", error.code(), error.hint().unwrap_or_default())
}

#[test]
fn every_key_ends_up_in_the_options() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("prepare.sh"), "echo prepared").unwrap();
    std::fs::write(dir.path().join("more.sh"), "echo more").unwrap();
    let path = dir.path().join("microagent.yaml");
    std::fs::write(&path, WHOLE).unwrap();
    let mut options = CreateOptions::new("alpine");
    options.workspace.env.insert("PORT".to_owned(), "1".to_owned());
    options.workspace.env.insert("OTHER".to_owned(), "2".to_owned());
    options.workspace.setup = vec!["replaced".to_owned()];
    WorkspaceSpec::load(&path).unwrap().apply(&mut options).unwrap();

    let workspace = &options.workspace;
    assert_eq!(workspace.name.as_deref(), Some("research"));
    assert_eq!(workspace.image, "docker.io/library/ubuntu:24.04");
    assert_eq!((workspace.profile.as_str(), workspace.restart.as_str()), ("medium", "on-failure"));
    assert_eq!(workspace.entrypoint.as_deref(), Some("/app/start.sh"));
    let lines = ["mkdir -p /workspace", "echo ready > /workspace/status", "echo prepared", "echo more"];
    assert_eq!(workspace.setup, lines);
    let env: Vec<_> = workspace.env.iter().map(|(key, value)| format!("{key}={value}")).collect();
    assert_eq!(env, ["ANSWER=yes", "MICROAGENT_NAME=research", "OTHER=2", "PORT=8080"]);
    assert_eq!((workspace.memory_mib, workspace.cpus, workspace.size_mib), (Some(2048), Some(2), Some(8192)));
    let file = crate::FileSpec {
        source: dir.path().join("prepare.sh"),
        destination: "/opt/prepare.sh".to_owned(),
        mode: 0o750,
    };
    assert_eq!(workspace.files, [file]);
    let disks: Vec<_> = workspace.disks.iter().map(|disk| (disk.name.as_str(), disk.mode.name())).collect();
    assert_eq!(disks, [("workspace", "rw"), ("config", "ro"), ("data", "ro")]);
    let own = microagent_state::DiskSource::Disk { path: dir.path().join("workspace.ext4") };
    assert_eq!(workspace.disks[0].source, own, "a relative path starts at the file");
    assert_eq!(workspace.outputs["report"], "/workspace/report.txt");
    assert_eq!(workspace.ttl, Some(Duration::from_hours(12)));
    let health = workspace.health.clone().unwrap();
    assert_eq!((health.retries, health.interval_seconds, health.timeout_seconds), (2, 30, 5));
    assert_eq!((workspace.workdir.as_deref(), workspace.user.as_deref()), (Some("/workspace"), Some("1000:1000")));
}

#[test]
fn a_page_of_a_server_is_probed_as_a_command_is() {
    let mut options = CreateOptions::new("alpine");
    parse("health: {httpGet: /ready?full=1, port: 8080, timeoutSeconds: 2}\n").unwrap().apply(&mut options).unwrap();
    let health = options.workspace.health.unwrap();
    let page = microagent_state::HttpGet { port: 8080, path: "/ready?full=1".to_owned() };
    assert_eq!((health.exec, health.http_get), (Vec::new(), Some(page)));
    assert_eq!((health.interval_seconds, health.timeout_seconds, health.retries), (30, 2, 3));
}

#[test]
fn an_empty_file_changes_nothing() {
    for text in ["", "# nothing but a remark\n", "{}\n"] {
        assert_eq!(parse(text).unwrap(), WorkspaceSpec { base: "/base".into(), ..WorkspaceSpec::default() }, "{text}");
    }
}

#[test]
fn a_mistake_is_told_with_its_place_and_the_way_out() {
    let cases = [
        ("image: alpine\nimgae: x\n", "line 2, column 1: unknown key `imgae`", "similar one exists: `image`"),
        ("resources:\n  memory_mib: 5\n", "line 2, column 3: unknown key `memory_mib`", "`memoryMiB`"),
        ("resources:\n  ram: 5\n", "line 2, column 3: unknown key `ram`", "the keys here are `memoryMiB`, `cpuCount`"),
        ("restart: sometimes\n", "line 1, column 10: it cannot be `sometimes`", "`never`, `on-failure`, `always`"),
        ("resources:\n  cpuCount: two\n", "line 2, column 13: ", ""),
        ("name: [a]\n", "line 1, column 7: ", ""),
        ("imageCommand: yes\n", "line 1, column 15: ", ""),
        ("image: a\nimage: b\n", "line 2, column 1: the key `image` is there twice", ""),
        ("image: a\nhealth: {retries: 2}\n", "line 2, column 9: a workspace is probed by `exec`, or by", ""),
        ("health: {exec: [a], httpGet: /, port: 80}\n", "by one of `exec` and `httpGet`", ""),
        ("health: {httpGet: /}\n", "`httpGet` needs a `port`", ""),
        ("health: {httpGet: /, port: 0}\n", "`httpGet` needs a `port`", ""),
        ("health: {exec: [a], port: 80}\n", "`port` is for `httpGet`", ""),
        ("health: {httpGet: ready, port: 80}\n", "it starts with `/`", ""),
        ("health: {httpGet: \"/a HTTP/1.1\\r\\nX: y\", port: 80}\n", "it starts with `/`", ""),
        ("setup: 5\n", "where a command line, or a list of steps is expected", ""),
        ("setup:\n  - run: a\n    file: b\n", "exactly one of `run`, `command` and `file`", ""),
        ("outputs:\n  - name: x\n", "the key `path` is missing", ""),
        ("ttl: soon\n", "a time is a number of seconds", ""),
        ("env: {A: [1]}\n", "line 1, column ", ""),
        ("image: \"open\n", "line ", ""),
        ("a: b: c\n", "line 1", ""),
        ("--- {image: a}\n--- {image: b}\n", "line 2", ""),
    ];
    for (text, message, hint) in cases {
        let refusal = refusal(text);
        assert!(refusal.starts_with("spec_invalid: `microagent.yaml`, line "), "{text}: {refusal}");
        assert!(refusal.contains(message) && refusal.contains(hint), "{text}: {refusal}");
        assert!(!refusal.contains('\n'), "{text}: {refusal}");
    }
}

#[test]
fn what_is_not_built_yet_is_refused_where_it_stands() {
    let cases = [
        ("network:\n  mode: nat\n", "line 2, column 9: `network.mode: nat` is not supported yet"),
        ("network: {mode: isolated, dns: [1.1.1.1]}\n", "line 1, column 32: `network.dns`"),
        ("model: org/model\nagent: {entry: x}\n", "line 1, column 8: `model`"),
        ("agent:\n  entry: x\n", "`agent` is not supported yet"),
    ];
    for (text, message) in cases {
        let refusal = refusal(text);
        assert!(refusal.starts_with("not_supported_yet: ") && refusal.contains(message), "{text}: {refusal}");
    }
    parse("network: {mode: isolated, forwards: []}\nmediation:\n").unwrap();
}

#[test]
fn network_and_secrets_are_what_flags_make_of_them() {
    let text = "network:\n  mode: user\n  forwards:\n    - {host: '::1', hostPort: 8080, guestPort: 80}\n\
                egress:\n  mode: strict\n  allow: [api.example.com]\n  credSwap: [openai]\n\
                secrets: {TOKEN: 'file:token', KEY: 'env:KEY'}\nsecretsAudit: true\n\
                mediation: {enabled: true, port: 2048, target: 'localhost:9900', failClosed: false}\n";
    let mut options = CreateOptions::new("alpine");
    parse(text).unwrap().apply(&mut options).unwrap();
    let network = options.workspace.network;
    assert_eq!(network.forwards[0].to_string(), "[::1]:8080:80");
    assert_eq!((network.egress.mode.name(), network.egress.allow.len()), ("strict", 1));
    assert_eq!(network.swaps.names(), ["openai"]);
    assert!(network.mediations[0].optional);
    let secrets = options.workspace.secrets;
    let references: Vec<String> = secrets.files.iter().map(|binding| binding.reference.to_string()).collect();
    assert_eq!(references, ["env:KEY", "file:/base/token"]);
    assert!(secrets.audit);
}

#[test]
fn a_request_is_json_and_nothing_else() {
    let parse = |text: &str| WorkspaceSpec::parse_json(text, Path::new("request.json"), Path::new("/base"));
    let text = r#"{"id": "agent-1", "role": "workload", "kernel": "kernel", "rootfs": "/tmp/r.ext4", "env": {"A": "\u00e9\/\ud83d\ude00"}}"#;
    let mut options = CreateOptions::new("alpine");
    parse(text).unwrap().apply(&mut options).unwrap();
    let workspace = options.workspace;
    assert_eq!((workspace.name.as_deref(), workspace.role.as_str()), (Some("agent-1"), "workload"));
    assert_eq!(workspace.kernel.as_deref(), Some(Path::new("/base/kernel")));
    assert_eq!(workspace.rootfs.as_deref(), Some(Path::new("/tmp/r.ext4")));
    assert_eq!(workspace.env["A"], "é/😀");
    for text in ["image: alpine", "", "{\"image\": \"a\",}", "[1]"] {
        assert_eq!(parse(text).expect_err(text).code(), "spec_invalid", "{text}");
    }
    let twice = parse(r#"{"id": "a", "name": "b"}"#).unwrap().apply(&mut CreateOptions::new("alpine"));
    assert!(twice.unwrap_err().to_string().contains("`name` says `b`"));
}

#[test]
fn the_command_of_starts_has_one_source() {
    let service = |text: &str| {
        let mut options = CreateOptions::new("alpine");
        parse(text).unwrap().apply(&mut options).map(|()| options.service)
    };
    assert_eq!(service("service: serve\n").unwrap(), Service::Shell("serve".to_owned()));
    assert_eq!(service("imageCommand: true\n").unwrap(), Service::Image);
    assert_eq!(service("image: a\n").unwrap(), Service::Entrypoint);
    assert!(service("service: serve\nimageCommand: true\n").is_err());
    assert!(service("service: serve\nentrypoint: /x\n").is_err());
    let mut run = RunOptions::new("alpine");
    parse("service: serve\n").unwrap().apply_to_run(&mut run).unwrap();
    assert_eq!(run.command, crate::Command::Shell("serve".to_owned()));
}

#[test]
fn a_file_that_is_named_by_the_file_must_be_there() {
    for (text, option) in [
        ("setupFiles: [gone.sh]\n", "setupFiles"),
        ("setup: [{file: gone.sh}]\n", "setup"),
        ("files: [{src: gone, dst: /x}]\n", "files"),
    ] {
        let error = parse(text).unwrap().apply(&mut CreateOptions::new("alpine")).unwrap_err();
        assert_eq!(error.code(), "file_unreadable", "{text}");
        assert!(error.to_string().contains("`/base/gone") && error.to_string().contains(option), "{error}");
    }
}

#[test]
fn one_file_is_found_and_two_are_an_error() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(WorkspaceSpec::find(dir.path()).unwrap(), None);
    let other = dir.path().join("microagent.yml");
    std::fs::write(&other, "").unwrap();
    assert_eq!(WorkspaceSpec::find(dir.path()).unwrap(), Some(other));
    std::fs::write(dir.path().join("microagent.yaml"), "").unwrap();
    assert_eq!(WorkspaceSpec::find(dir.path()).unwrap_err().code(), "spec_ambiguous");
}

#[test]
fn times_are_seconds_unless_they_say_otherwise() {
    for (text, seconds) in [("90", 90), ("5s", 5), ("2m", 120), ("1h", 3600)] {
        assert_eq!(parse_duration(text), Ok(Duration::from_secs(seconds)), "{text}");
    }
    for text in ["", "0", "0s", "5min", "1.5", "-1", "5 s"] {
        assert!(parse_duration(text).is_err(), "{text}");
    }
    assert_eq!(parse("ttl: 90\n").unwrap().ttl, Some(Ttl(Duration::from_secs(90))));
}

#[test]
fn aliases_cannot_make_a_file_explode() {
    let mut text = "env: &a {A: x}\nsetup:\n".to_owned();
    for level in 0..9 {
        let before = if level == 0 { "x".to_owned() } else { vec![format!("*l{}", level - 1); 20].join(", ") };
        let _ = writeln!(text, "  - &l{level} [{before}]");
    }
    assert_eq!(parse(&text).unwrap_err().code(), "spec_invalid");
}
