//! How a machine comes up, and what is said about it: `--cold`, `MICROAGENT_TEMPLATES`, the configuration file, `--timing`.

use crate::host::{BUSYBOX, Host, Ran};
use serde_json::Value;

/// How the machine of a run came up.
#[track_caller]
fn start(host: &Host, flags: &[&str], environment: &[(&str, &str)]) -> Value {
    let line = [&["--json", "run", "--profile", "tiny"], flags, &[BUSYBOX, "true"]].concat();
    let mut command = host.command(line);
    let ran: Ran = command.envs(environment.iter().copied()).output().unwrap().into();
    ran.expect(0).json()["start"].clone()
}

#[test]
fn the_nearest_switch_decides_whether_a_machine_is_restored() {
    let host = Host::new();
    let configuration = tempfile::tempdir().unwrap();
    let file = configuration.path().join("microagent/config.toml");
    std::fs::create_dir(file.parent().unwrap()).unwrap();
    let home = ("XDG_CONFIG_HOME", configuration.path().to_str().unwrap());
    let (off, on) = (("MICROAGENT_TEMPLATES", "off"), ("MICROAGENT_TEMPLATES", "on"));

    std::fs::write(&file, "templates = false").unwrap();
    assert_eq!(start(&host, &[], &[home]), "cold");
    assert_eq!(start(&host, &[], &[home, on]), "made_template");
    assert_eq!(start(&host, &[], &[home, on]), "warm");
    assert_eq!(start(&host, &["--cold"], &[home, on]), "cold");
    std::fs::write(&file, "templates = true").unwrap();
    assert_eq!(start(&host, &[], &[home]), "warm");
    assert_eq!(start(&host, &[], &[home, off]), "cold");
}

#[test]
fn a_template_is_listed_counted_and_removed() {
    let host = Host::new();
    assert_eq!(host.microagent(["template", "list"]).expect(0).text(), "No templates.\n");
    assert_eq!(start(&host, &[], &[]), "made_template");

    let list = host.microagent(["--json", "template", "list"]).expect(0).json();
    let [template] = &list["templates"].as_array().unwrap()[..] else { panic!("one kind of machine ran: {list}") };
    assert_eq!((&template["memory_mib"], &template["cpus"]), (&256.into(), &1.into()));
    let text = host.microagent(["template", "list"]).expect(0).text();
    let key = template["key"].as_str().unwrap();
    assert!(text.contains(&key[..12]) && text.contains("256 MiB") && text.contains("ready"), "{text}");

    let usage = host.microagent(["--json", "df"]).expect(0).json();
    for what in ["images", "kernels", "templates"] {
        assert!(usage[what]["count"].as_u64() > Some(0) && usage[what]["bytes"].as_u64() > Some(0), "{what}: {usage}");
    }
    assert_eq!(usage["workspaces"]["count"], 0);
    let text = host.microagent(["df"]).expect(0).text();
    assert_eq!(text.lines().count(), 9, "{text}");

    assert_eq!(host.microagent(["template", "prune"]).expect(0).text(), "Freed: 0 B\n");
    let pruned = host.microagent(["template", "prune", "--all"]).expect(0).text();
    assert!(pruned.starts_with(&format!("Removed: {}\nFreed: ", &key[..12])), "{pruned}");
    assert_eq!(host.microagent(["template", "list"]).expect(0).text(), "No templates.\n");
    assert_eq!(start(&host, &[], &[]), "made_template");
    host.microagent(["template", "prune", "--all"]).expect(0);
}

#[test]
fn timing_is_told_apart_from_the_commands_output() {
    let host = Host::new();
    let ran = host.run_quietly(&["--timing", BUSYBOX, "echo", "said"]);
    assert_eq!(ran.text(), "said\n");
    let told: Vec<&str> = ran.stderr.lines().filter_map(|line| line.split_whitespace().next()).collect();
    for phase in ["kernel", "image", "workspace", "command", "teardown"] {
        assert!(told.contains(&phase), "{phase}: {}", ran.stderr);
    }
    assert_eq!(told.last(), Some(&"total"));
    assert!(ran.stderr.lines().all(|line| line.contains(" ms ") && line.ends_with(" %")), "{}", ran.stderr);
}
