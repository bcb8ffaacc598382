//! Every flag of the contract is either honoured or refused by name; none is silently accepted.

use crate::command::{Home, Ran};

/// Flags that work today, each with a value it takes.
const HONOURED: [(&str, Option<&str>); 58] = [
    ("--image", Some("alpine")),
    ("--exec", Some("true")),
    ("--setup", Some("true")),
    ("--setup-file", Some("/dev/null")),
    ("--image-command", None),
    ("--entrypoint", Some("/bin/true")),
    ("--shell", Some("/bin/bash")),
    ("--hostname", Some("guest")),
    ("--env", Some("KEY=value")),
    ("-e", Some("KEY=value")),
    ("--restart", Some("on-failure")),
    ("--network", Some("isolated")),
    ("--name", Some("trial")),
    ("--id", Some("trial")),
    ("--backend", Some("linux-tcg")),
    ("--kernel", Some("/tmp/Image")),
    ("--state-dir", Some("/nowhere")),
    ("--guest-init", Some("/tmp/init")),
    ("--arch", None),
    ("--profile", Some("tiny")),
    ("--memory", Some("256")),
    ("--cpus", Some("1")),
    ("--size-mib", Some("64")),
    ("--result-port", Some("1024")),
    ("--timeout", Some("5")),
    ("--keep", None),
    ("--rm", None),
    ("--cold", None),
    ("--timing", None),
    ("--mke2fs", Some("/sbin/mke2fs")),
    ("--supervisor", Some("/usr/bin/true")),
    ("--workdir", Some("/")),
    ("--user", Some("0")),
    ("--disk", Some("n=/tmp/x.ext4:/m:rw")),
    ("--bundle", Some("n=/tmp/x.tar:/m:ro")),
    ("-v", Some("data:/work")),
    ("--volume", Some("/tmp/config.tar:/config:ro")),
    ("--output", Some("report=/report.txt")),
    ("--file", Some("/dev/null")),
    ("--headroom-mib", Some("512")),
    ("--ttl", Some("12h")),
    ("--secret", Some("NAME=env:NAME")),
    ("--secrets-env-file", Some("/tmp/env")),
    ("--secret-on-demand", Some("NAME=env:NAME")),
    ("--secrets-audit", None),
    ("--publish", Some("8080:80")),
    ("-p", Some("127.0.0.1:8080:80")),
    ("--mediation", Some("1=localhost:80")),
    ("--mediation-optional", None),
    ("--egress", Some("strict")),
    ("--egress-allow", Some("example.org")),
    ("--egress-passthrough", Some(".example.org")),
    ("--egress-policy", Some("policy.yaml")),
    ("--egress-swap-config", Some("swap.yaml")),
    ("--cred-swap", Some("anthropic")),
    ("--cred-swap", Some("openai=env:KEY")),
    ("--network", Some("user")),
    ("--learn", Some("learned.yaml")),
];

/// Flags whose part comes with later work.
const LATER: [(&str, Option<&str>); 14] = [
    ("--network-interface", Some("eth0")),
    ("--model", Some("org/model")),
    ("--model-token", Some("token")),
    ("--model-runner", Some("llamacpp")),
    ("--model-gpu", Some("off")),
    ("--model-runner-model", Some("id")),
    ("--model-runner-served-model", Some("name")),
    ("--model-runner-command", Some("template")),
    ("--model-runner-arg", Some("--threads")),
    ("--model-runner-env", Some("KEY=value")),
    ("--model-mediation", Some("off")),
    ("--model-policy-file", Some("policy.json")),
    ("--model-policy-url", Some("http://localhost/policy")),
    ("--model-policy-timeout", Some("250ms")),
];

const LATER_VERBS: [&str; 1] = ["serve"];

fn line<'a>(flag: &'a str, value: Option<&'a str>) -> Vec<&'a str> {
    [&["--json", "run", "--dry-run", flag][..], value.as_slice(), &["alpine"]].concat()
}

#[test]
fn flags_of_the_contract_that_are_honoured_are_accepted() {
    let home = Home::new();
    std::fs::write(home.path().join("policy.yaml"), "allow: [example.org]\n").unwrap();
    let swaps =
        "swaps: {key: {type: static, domains: [example.org], header: X-Key, format: '{key}', key_ref: 'env:K'}}";
    std::fs::write(home.path().join("swap.yaml"), swaps).unwrap();
    for (flag, value) in HONOURED {
        let mut line = line(flag, if flag == "--arch" { Some(std::env::consts::ARCH) } else { value });
        if matches!(flag, "--image" | "--exec") {
            // Here the last word is the command, or a second one.
            line.pop();
        }
        if flag == "--exec" {
            line.extend(["--image", "alpine"]);
        }
        let mut command = home.command(&line);
        Ran::from(command.current_dir(home.path()).output().unwrap()).expect(0);
    }
    assert!(!home.state_dir().exists());
}

#[test]
fn flags_of_the_contract_that_come_later_are_refused_by_name() {
    let home = Home::new();
    for (flag, value) in LATER {
        let error = home.run(&line(flag, value)).expect(2).json_error();
        assert_eq!(error["code"], "not_supported_yet", "{flag}");
        assert!(error["message"].as_str().unwrap().starts_with(&format!("`{flag}")), "{flag}: {error}");
    }
}

#[test]
fn verbs_of_the_contract_that_come_later_are_refused_whatever_follows() {
    let home = Home::new();
    for verb in LATER_VERBS {
        for rest in [&[][..], &["--help"], &["name", "--flag", "--", "word"]] {
            let error = home.run(&[&["--json", verb], rest].concat()).expect(2).json_error();
            assert_eq!(error["code"], "not_supported_yet", "{verb} {rest:?}");
            assert_eq!(error["message"], format!("`microagent {verb}` is not supported yet"));
        }
    }
}

#[test]
fn habits_from_container_engines_get_guidance() {
    let home = Home::new();
    let flags: [&[&str]; 14] = [
        &["--privileged"],
        &["--pid", "host"],
        &["--ipc=host"],
        &["--device", "/dev/fuse"],
        &["--cap-add", "SYS_ADMIN"],
        &["--security-opt", "seccomp=unconfined"],
        &["-d"],
        &["--detach"],
        &["-v", "/host/dir:/work"],
        &["--mount", "type=bind,src=/a,dst=/b"],
        &["--network", "host"],
        &["--network", "container:other"],
        &["--gpus", "all"],
        &["--net", "host"],
    ];
    for flag in flags {
        let error = home.run(&[&["--json", "run"], flag, &["alpine"]].concat()).expect(2).json_error();
        assert_eq!(error["code"], "unsupported_container_option", "{flag:?}");
        assert!(error["remediation"].is_string(), "{flag:?}");
    }
    for verb in ["compose", "pod", "build"] {
        let error = home.run(&["--json", verb, "--anything", "x"]).expect(2).json_error();
        assert_eq!(error["code"], "unsupported_container_option", "{verb}");
    }
    let error = home.run(&["--json", "run", "-it", "alpine"]).expect(2).json_error();
    assert_eq!(error["code"], "not_supported_yet");
}

#[test]
fn the_same_words_after_the_image_belong_to_the_guest() {
    Home::new().run(&["run", "--dry-run", "alpine", "tool", "--privileged", "-p", "80:80", "-it"]).expect(0);
}
