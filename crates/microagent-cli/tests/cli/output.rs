//! The same facts as text, as JSON, and in the envelope.

use crate::command::{Home, Ran};

#[test]
fn a_result_is_text_unless_json_is_asked_for() {
    let home = Home::new();
    let text = home.run(&["profiles"]).expect(0);
    assert_eq!(
        text.stdout.lines().nth(1),
        Some("tiny     256 MiB    1      512 MiB     smoke tests, very small shells")
    );
    for arguments in [&["--json", "profiles"][..], &["--output", "json", "profiles"]] {
        let json = home.run(arguments).expect(0).json();
        assert_eq!(json["profiles"][0]["name"], "tiny");
        assert_eq!(json["profiles"][3]["size_mib"], 16384);
    }
}

#[test]
fn the_envelope_tells_success_from_failure_on_standard_output() {
    let home = Home::new();
    let success = home.run(&["--mode", "ax", "version"]).expect(0);
    assert_eq!(success.json()["ok"], true);
    assert_eq!(success.json()["result"]["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(success.stdout.lines().count(), 1);

    let failure = home.run(&["--mode", "ax", "status", "nobody"]).expect(1);
    let document = failure.json();
    assert_eq!((&document["ok"], failure.stderr.as_str()), (&false.into(), ""));
    assert_eq!(document["error"]["code"], "workspace_not_found");
    assert_eq!(document["error"]["kind"], "not_found");
    assert_eq!(document["error"]["retryable"], false);
    assert_eq!(document["error"]["correlation_id"].as_str().map(str::len), Some(16));
    let again = home.run(&["--mode", "ax", "status", "nobody"]).json();
    assert_ne!(document["error"]["correlation_id"], again["error"]["correlation_id"]);
}

#[test]
fn a_failure_in_json_is_one_line_on_standard_error() {
    let home = Home::new();
    let error = home.run(&["--json", "status", "nobody"]).expect(1).json_error();
    assert_eq!(error["message"], "no workspace is called `nobody`");
    assert_eq!(error["remediation"], "see what there is with `microagent list`");
    assert_eq!(error.get("correlation_id"), None);
}

#[test]
fn a_command_line_the_parser_refuses_fails_in_the_format_asked_for() {
    let home = Home::new();
    let error = home.run(&["--json", "run", "--frobnicate", "alpine"]).expect(2).json_error();
    assert_eq!((&error["code"], &error["kind"]), (&"usage".into(), &"usage".into()));
    let document = home.run(&["--frobnicate", "--mode", "ax", "list"]).expect(2).json();
    assert_eq!(document["error"]["code"], "usage");
}

#[test]
fn a_failure_in_text_is_one_line_and_indented_hints() {
    let ran = Home::new().run(&["status", "nobody"]).expect(1);
    let expected = "Error: no workspace is called `nobody`\n  hint: see what there is with `microagent list`\n";
    assert_eq!((ran.stdout.as_str(), ran.stderr.as_str()), ("", expected));
}

#[test]
fn help_is_for_people_in_every_format() {
    let home = Home::new();
    let help = home.run(&["run", "--help"]).expect(0).stdout;
    assert!(help.contains("Usage: microagent run"));
    assert_eq!(home.run(&["--json", "run", "--help"]).expect(0).stdout, help);
    for group in ["image", "kernel", "rootfs"] {
        assert!(home.run(&[group]).expect(0).stdout.contains("Usage:"), "{group}");
    }
    assert!(home.run(&[]).expect(0).stdout.contains("Usage:"));
}

#[test]
fn a_plan_is_shown_and_nothing_is_done() {
    let home = Home::new();
    let line = ["--json", "run", "--dry-run", "--name", "trial", "--setup", "one", "-e", "A=b", "alpine", "ls", "-l"];
    let plan = home.run(&line).expect(0).json()["plan"].clone();
    assert_eq!(plan["workspace"], "trial");
    assert_eq!(plan["image"], "docker.io/library/alpine:latest");
    assert_eq!(plan["setup"][0], "one");
    assert_eq!(plan["env"]["A"], "b");
    assert_eq!(plan["command"]["image_entrypoint"], serde_json::json!(["ls", "-l"]));
    assert!(!home.state_dir().exists());
    let text = home.run(&["run", "--dry-run", "alpine"]).expect(0).stdout;
    assert!(text.contains("Resources: memory=512MiB cpus=2 disk=1024MiB\n"), "{text}");
}

#[test]
fn a_plan_shows_what_the_guest_is_given_and_what_it_is_not() {
    let home = Home::new();
    let given = ["--cred-swap", "openai", "--mediation", "2048=127.0.0.1:9900", "--mediation-optional"];
    let secrets =
        ["--secret", "A=env:A", "--secret-on-demand", "B=env:B", "--secrets-env-file", "/x.env", "--secrets-audit"];
    let line = [&["run", "--dry-run"][..], &given, &secrets, &["alpine"]].concat();
    let text = home.run(&line).expect(0).stdout;
    for shown in [
        "Credential: openai from env:OPENAI_API_KEY\n",
        "Mediation: 2048 -> 127.0.0.1:9900, optional\n",
        "Secret: A from env:A\n",
        "Secret on demand: B from env:B\n",
        "Secrets: every line of /x.env\n",
        "Secrets audit: yes\n",
    ] {
        assert!(text.contains(shown), "{shown}{text}");
    }
}

#[test]
fn a_variable_that_a_credential_is_swapped_in_for_is_refused_wherever_it_is_given() {
    let home = Home::new();
    std::fs::write(home.path().join("key.env"), "OPENAI_API_KEY=sk-1\n").unwrap();
    let spec = "image: alpine\nenv:\n  OPENAI_API_KEY: sk-1\n";
    std::fs::write(home.path().join("spec.yaml"), spec).unwrap();
    for line in [
        &["run", "-e", "OPENAI_API_KEY=sk-1", "alpine"][..],
        &["run", "--env-file", "key.env", "alpine"],
        &["run", "--file", "spec.yaml"],
        &["create", "x", "--image", "alpine", "-e", "OPENAI_API_KEY=sk-1"],
        &["create", "x", "--image", "alpine", "--env-file", "key.env"],
        &["create", "x", "--file", "spec.yaml"],
    ] {
        let line = [&line[..1], &["--dry-run", "--cred-swap", "openai"], &line[1..]].concat();
        let ran: Ran = home.command(&line).current_dir(home.path()).output().unwrap().into();
        let error = ran.expect(2).stderr;
        assert!(error.contains("`--env` cannot be `OPENAI_API_KEY`") && !error.contains("sk-1"), "{line:?}: {error}");
    }
}

#[test]
fn a_file_that_is_no_record_of_egress_is_told_as_such() {
    let home = Home::new();
    let (policy, record) = (home.path().join("policy.yaml"), home.path().join("egress.jsonl"));
    std::fs::write(&policy, "allow: []\n").unwrap();
    std::fs::write(&record, "allow: []\n").unwrap();
    let line = ["--json", "egress", "test", policy.to_str().unwrap(), record.to_str().unwrap()];
    let error = home.run(&line).expect(2).stderr;
    assert!(error.contains("\"egress_file_invalid\""), "{error}");
    let event = r#"{"at":"2026-01-01T00:00:00Z","event":"egress_deny","protocol":"dns","host":"a.example"}"#;
    std::fs::write(&record, format!("{event}\nnonsense\n")).unwrap();
    let text = home.run(&line[1..]).expect(1).stdout;
    assert!(text.ends_with("1 lines are none of a record, and were passed over\n0 allowed, 1 denied\n"), "{text}");
}

#[test]
fn flags_without_effect_say_why() {
    let ran = Home::new().run(&["run", "--dry-run", "--result-port", "1024", "--supervisor", "/x", "alpine"]).expect(0);
    let notes: Vec<&str> = ran.stderr.lines().collect();
    assert!(notes[0].starts_with("note: `--result-port` changes nothing"), "{notes:?}");
    assert!(notes[1].starts_with("note: `--supervisor` changes nothing"), "{notes:?}");
}
