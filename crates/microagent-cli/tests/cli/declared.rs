//! Workspace files and requests.

use crate::command::{Home, Ran};
use serde_json::{Value, json};
use std::io::Write;
use std::path::Path;
use std::process::Stdio;

/// The file of the contract, with a network mode that needs no privileges.
const SEED: &str = "\
name: research
image: docker.io/library/ubuntu:24.04
profile: medium
restart: on-failure
entrypoint: /app/start.sh
shell: /bin/bash
hostname: research
setup:
  - mkdir -p /workspace
  - echo ready > /workspace/status
env:
  MICROAGENT_NAME: research
resources:
  memoryMiB: 2048
  cpuCount: 2
  sizeMiB: 8192
network:
  mode: user
  forwards:
    - host: 127.0.0.1
      hostPort: 8080
      guestPort: 80
disks:
  - name: workspace
    path: /tmp/workspace.ext4
    mountpoint: /workspace
    mode: rw
";

fn write(home: &Home, name: &str, text: &str) {
    std::fs::write(home.path().join(name), text).unwrap();
}

fn in_home(home: &Home, line: &[&str]) -> Ran {
    home.command(line).current_dir(home.path()).output().unwrap().into()
}

fn plan(home: &Home, line: &[&str]) -> Value {
    let line = [&["--json", "create", "--dry-run"], line].concat();
    in_home(home, &line).expect(0).json()["plan"].clone()
}

#[track_caller]
fn refusal(home: &Home, line: &[&str]) -> Value {
    in_home(home, &[&["--json"], line].concat()).expect(2).json_error_after_notes()
}

impl Ran {
    /// The `error` object of the last line on standard error.
    #[track_caller]
    fn json_error_after_notes(&self) -> Value {
        let last = self.stderr.lines().last().unwrap_or_default();
        serde_json::from_str::<Value>(last).unwrap_or_else(|error| panic!("{error}: {}", self.stderr))["error"].clone()
    }
}

#[test]
fn a_file_in_the_current_directory_is_read_and_flags_override_it() {
    let home = Home::new();
    write(&home, "microagent.yaml", SEED);
    let read = plan(&home, &[]);
    assert_eq!((&read["workspace"], &read["profile"]), (&json!("research"), &json!("medium")));
    assert_eq!(read["resources"], json!({"memory_mib": 2048, "cpu_count": 2, "size_mib": 8192}));
    assert_eq!(read["service"], json!({"argv": ["/app/start.sh"]}));
    let line =
        ["other", "--memory", "1024", "-e", "MORE=1", "--setup", "only this", "--output", "r=/r", "--image", "alpine"];
    let overridden = plan(&home, &line);
    assert_eq!(overridden["workspace"], "other");
    assert_eq!(overridden["image"], "docker.io/library/alpine:latest");
    assert_eq!(overridden["resources"]["memory_mib"], 1024);
    assert_eq!(overridden["env"], json!({"MICROAGENT_NAME": "research", "MORE": "1"}));
    assert_eq!(overridden["setup"], json!(["only this"]));
    let alone = plan(&home, &["--no-file", "other"]);
    assert_eq!((&alone["profile"], &alone["setup"]), (&json!("small"), &json!([])));
}

#[test]
fn a_file_that_was_read_unasked_is_told() {
    let home = Home::new();
    write(&home, "microagent.yml", "image: alpine\n");
    let ran = in_home(&home, &["create", "--dry-run", "x"]).expect(0);
    assert_eq!(ran.stderr, "note: read `microagent.yml`; `--no-file` leaves it alone\n");
    let asked = in_home(&home, &["create", "--dry-run", "x", "--file", "microagent.yml"]).expect(0);
    assert_eq!(asked.stderr, "");
}

#[test]
fn without_an_image_it_is_the_default_one_and_it_is_shown() {
    let home = Home::new();
    let plan = in_home(&home, &["create", "--dry-run", "x"]).expect(0).stdout;
    assert!(plan.lines().any(|line| line == "Image: python:3.13-slim"), "{plan}");
}

#[test]
fn paths_in_a_file_are_relative_to_it() {
    let home = Home::new();
    let inner = home.path().join("inner");
    std::fs::create_dir(&inner).unwrap();
    std::fs::write(inner.join("setup.sh"), "echo from the file\n").unwrap();
    std::fs::write(
        inner.join("spec.yaml"),
        "image: alpine\nsetupFiles: [setup.sh]\nfiles: [{src: setup.sh, dst: /opt/s}]\n",
    )
    .unwrap();
    let plan = plan(&home, &["x", "--file", "inner/spec.yaml"]);
    assert_eq!(plan["setup"], json!(["echo from the file\n"]));
    assert_eq!(plan["files"][0]["source"], json!(inner.join("setup.sh")));
    std::fs::remove_file(inner.join("setup.sh")).unwrap();
    let error = refusal(&home, &["create", "--dry-run", "x", "--file", "inner/spec.yaml"]);
    assert_eq!(error["code"], "file_unreadable");
    assert!(error["message"].as_str().unwrap().contains("inner/setup.sh"), "{error}");
}

#[test]
fn mistakes_in_a_file_are_usage_errors_with_their_place() {
    let home = Home::new();
    let cases = [
        ("image: a\nimgae: b\n", "spec_invalid", "`spec.yaml`, line 2, column 1: unknown key `imgae`"),
        ("resources: {memoryMiB: lots}\n", "spec_invalid", "`spec.yaml`, line 1, column "),
        ("network:\n  mode: nat\n", "not_supported_yet", "`spec.yaml`, line 2, column 9: `network.mode: nat`"),
        ("image: [\n", "spec_invalid", "`spec.yaml`, line "),
        ("profile: huge\nimage: a\n", "profile_unknown", "unknown profile `huge`"),
        ("image: a\ndisks: [{name: d, path: x, mountpoint: relative}]\n", "option_invalid", "mount point"),
    ];
    for (text, code, message) in cases {
        write(&home, "spec.yaml", text);
        for verb in [&["create", "--dry-run", "x"][..], &["run", "--dry-run"]] {
            let error = refusal(&home, &[verb, &["--file", "spec.yaml"]].concat());
            assert_eq!(error["code"], code, "{verb:?} {text}: {error}");
            assert!(error["message"].as_str().unwrap().contains(message), "{verb:?} {text}: {error}");
        }
    }
    assert_eq!(refusal(&home, &["create", "--file", "gone.yaml"])["code"], "spec_unreadable");
}

#[test]
fn two_files_are_one_too_many() {
    let home = Home::new();
    write(&home, "microagent.yaml", "image: a\n");
    write(&home, "microagent.yml", "image: b\n");
    let error = refusal(&home, &["create", "--dry-run", "x"]);
    assert_eq!(error["code"], "spec_ambiguous");
    plan(&home, &["x", "--file", "microagent.yml"]);
    plan(&home, &["x", "--no-file"]);
}

#[test]
fn a_workspace_has_one_name() {
    let home = Home::new();
    let error = refusal(&home, &["create", "--dry-run", "one", "--name", "two"]);
    assert_eq!(error["message"], "two names are given: `one` and `two`");
    write(&home, "spec.yaml", "name: one\n");
    let error = refusal(&home, &["apply", "two", "--file", "spec.yaml"]);
    assert!(error["message"].as_str().unwrap().starts_with("two names are given"), "{error}");
    write(&home, "spec.yaml", "image: a\n");
    let error = refusal(&home, &["apply", "--file", "spec.yaml"]);
    assert_eq!(error["message"], "no workspace is named, here or in the file");
}

#[test]
fn a_request_comes_from_a_file_or_standard_input() {
    let home = Home::new();
    let request = json!({"id": "agent-1", "image": "alpine", "role": "scribe", "env": {"A": "1"}}).to_string();
    write(&home, "request.json", &request);
    let from_file = plan(&home, &["--json", "request.json"]);
    assert_eq!((&from_file["workspace"], &from_file["role"]), (&json!("agent-1"), &json!("scribe")));
    let mut command = home.command(&["--json", "create", "--dry-run", "--json", "-"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(request.as_bytes()).unwrap();
    let ran: Ran = child.wait_with_output().unwrap().into();
    assert_eq!(ran.expect(0).json()["plan"], from_file);
    for text in ["image: alpine\n", "{\"image\": 1, \"oops\": 2}", "{"] {
        write(&home, "request.json", text);
        let error = refusal(&home, &["create", "--dry-run", "--json", "request.json"]);
        assert_eq!(error["code"], "spec_invalid", "{text}");
        assert!(error["message"].as_str().unwrap().starts_with("`request.json`, line 1, column "), "{error}");
    }
}

#[test]
fn what_create_cannot_do_yet_is_refused_by_name() {
    let home = Home::new();
    for flag in ["--network-interface", "--model"] {
        let error = refusal(&home, &["create", "--dry-run", "x", flag, "value"]);
        assert_eq!(
            (&error["code"], &error["message"]),
            (&json!("not_supported_yet"), &json!(format!("`{flag}` is not supported yet")))
        );
    }
    let error = refusal(&home, &["create", "--dry-run", "x", "--network", "nat"]);
    assert_eq!(error["code"], "network_mode_unsupported");
}

#[test]
fn the_words_after_a_file_with_an_image_are_the_command() {
    let home = Home::new();
    write(&home, "spec.yaml", "image: alpine\nservice: serve\n");
    let run = |line: &[&str]| {
        let line = [&["--json", "run", "--dry-run"], line].concat();
        in_home(&home, &line).expect(0).json()["plan"].clone()
    };
    let shell = |line: &str| json!({"argv": ["/bin/sh", "-c", line]});
    assert_eq!(run(&["--file", "spec.yaml"])["command"], shell("serve"));
    assert_eq!(run(&["--file", "spec.yaml", "uname", "-a"])["command"], json!({"image_entrypoint": ["uname", "-a"]}));
    assert_eq!(run(&["--file", "spec.yaml", "--exec", "x y"])["command"], shell("x y"));
    assert_eq!(run(&["--file", "spec.yaml", "--image", "busybox"])["image"], "docker.io/library/busybox:latest");
    write(&home, "microagent.yaml", "image: other\n");
    assert_eq!(run(&["alpine"])["image"], "docker.io/library/alpine:latest", "`run` reads no file unasked");
}

/// Whether `value` is what `schema` describes, as far as schemas of this kind go.
fn fits(value: &Value, schema: &Value, root: &Value) -> bool {
    if let Some(reference) = schema["$ref"].as_str() {
        return fits(value, root.pointer(reference.trim_start_matches('#')).unwrap(), root);
    }
    let any = |key: &str| schema[key].as_array().is_none_or(|list| list.iter().any(|option| fits(value, option, root)));
    let is = |kind: &str| match kind {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "integer" => value.is_u64() || value.is_i64(),
        "number" => value.is_number(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        other => panic!("`{other}` is no type"),
    };
    let typed = match &schema["type"] {
        Value::String(kind) => is(kind),
        Value::Array(kinds) => kinds.iter().any(|kind| is(kind.as_str().unwrap())),
        _ => true,
    };
    let listed = schema["enum"].as_array().is_none_or(|list| list.contains(value));
    let exactly = schema.get("const").is_none_or(|constant| constant == value);
    let required =
        schema["required"].as_array().into_iter().flatten().all(|key| value.get(key.as_str().unwrap()).is_some());
    let members = value.as_object().into_iter().flatten().all(|(key, member)| {
        match (schema["properties"].get(key), &schema["additionalProperties"]) {
            (Some(property), _) => fits(member, property, root),
            (None, Value::Bool(false)) => false,
            (None, extra @ Value::Object(_)) => fits(member, extra, root),
            _ => true,
        }
    });
    let items = value
        .as_array()
        .into_iter()
        .flatten()
        .all(|item| schema.get("items").is_none_or(|items| fits(item, items, root)));
    typed && listed && exactly && any("anyOf") && any("oneOf") && required && members && items
}

fn yaml(text: &str) -> Value {
    serde_saphyr::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

fn repository() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

#[test]
fn the_published_schema_is_the_one_of_the_types() {
    let printed = Home::new().run(&["schema"]).expect(0).stdout;
    let path = repository().join("docs/schema/microagent.schema.json");
    if std::env::var_os("MICROAGENT_WRITE_SCHEMA").is_some() {
        std::fs::write(&path, &printed).unwrap();
    }
    let published = std::fs::read_to_string(&path).unwrap();
    assert!(published == printed, "write it anew: `microagent schema > docs/schema/microagent.schema.json`");
}

#[test]
fn the_schema_and_the_command_agree_on_every_example() {
    let home = Home::new();
    let schema: Value = serde_json::from_str(&home.run(&["schema"]).expect(0).stdout).unwrap();
    let page = std::fs::read_to_string(repository().join("docs/workspaces.md")).unwrap();
    let documented = page.split("```yaml\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    let good: Vec<String> = documented.map(str::to_owned).chain([SEED.to_owned()]).collect();
    assert!(good.len() > 1, "docs/workspaces.md has no example");
    for file in ["server.sh", "workspace.ext4", "config.tar"] {
        write(&home, file, "");
    }
    for text in good {
        assert!(fits(&yaml(&text), &schema, &schema), "the schema refuses what is documented: {text}");
        write(&home, "spec.yaml", &text);
        plan(&home, &["x", "--file", "spec.yaml"]);
    }
    for text in
        ["imgae: a\n", "resources: {memoryMiB: lots}\n", "restart: sometimes\n", "setup: 5\n", "disks: [{name: x}]\n"]
    {
        assert!(!fits(&yaml(text), &schema, &schema), "the schema lets this pass: {text}");
        write(&home, "spec.yaml", text);
        assert_eq!(
            refusal(&home, &["create", "--dry-run", "x", "--file", "spec.yaml"])["code"],
            "spec_invalid",
            "{text}"
        );
    }
}

/// The table of transitions in the documentation: each row is a phase, and names those it may become.
#[test]
fn the_documented_transitions_are_those_of_the_code() {
    let page = std::fs::read_to_string(repository().join("docs/workspaces.md")).unwrap();
    let mut rows = page.lines().skip_while(|line| !line.starts_with("| from"));
    let cells = |line: &str| line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect::<Vec<_>>();
    let header = cells(rows.next().expect("docs/workspaces.md has no table of transitions"));
    let phases = microagent::Phase::ALL.map(|phase| phase.to_string());
    assert_eq!(header[1..], phases);
    let rows: Vec<_> = rows.skip(1).take_while(|line| line.starts_with('|')).map(cells).collect();
    assert_eq!(rows.len(), phases.len());
    for (from, row) in microagent::Phase::ALL.into_iter().zip(rows) {
        assert_eq!(row[0], format!("`{from}`"));
        for (to, cell) in microagent::Phase::ALL.into_iter().zip(&row[1..]) {
            assert_eq!(cell == "yes", from.may_become(to), "{from} to {to}");
        }
    }
}
