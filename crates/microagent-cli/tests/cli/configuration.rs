//! Flag, else environment, else configuration file, else default.

use crate::command::Home;

const OUTPUT: &str = "MICROAGENT_OUTPUT";

#[test]
fn the_nearest_setting_wins() {
    let home = Home::new();
    let is_json = |arguments: &[&str], environment: &[(&str, &str)]| {
        home.run_with(arguments, environment).expect(0).stdout.starts_with('{')
    };
    assert!(!is_json(&["profiles"], &[]));
    home.configure("output = 'json'");
    assert!(is_json(&["profiles"], &[]));
    assert!(!is_json(&["profiles"], &[(OUTPUT, "text")]));
    assert!(is_json(&["--json", "profiles"], &[(OUTPUT, "text")]));
    assert!(!is_json(&["--text", "profiles"], &[(OUTPUT, "json")]));
}

#[test]
fn an_empty_variable_counts_as_not_set() {
    let home = Home::new();
    // `doctor` makes the directory to see whether it can, whatever else it finds.
    home.run_with(&["doctor"], &[(OUTPUT, ""), ("MICROAGENT_STATE_DIR", "")]);
    assert!(home.state_dir().exists());
}

#[test]
fn the_state_directory_follows_the_same_order_before_and_after_the_verb() {
    let home = Home::new();
    let at = |name: &str| home.path().join(name);
    let name = |name: &str| at(name).to_str().unwrap().to_owned();
    home.configure("state_dir = '~/file'");
    home.run(&["doctor"]);
    home.run_with(&["doctor"], &[("MICROAGENT_STATE_DIR", &name("variable"))]);
    let variable = [("MICROAGENT_STATE_DIR", name("unused"))];
    let variable = variable.each_ref().map(|(key, value)| (*key, value.as_str()));
    home.run_with(&["--state-dir", &name("before"), "doctor"], &variable);
    home.run_with(&["doctor", "--state-dir", &name("after")], &variable);
    for made in ["file", "variable", "before", "after"] {
        assert!(at(made).is_dir(), "{made}");
    }
    assert!(!at("unused").exists());
}

#[test]
fn a_mistake_in_the_file_is_an_error_with_its_place() {
    let home = Home::new();
    home.configure("output = 'text'\ncolour = 'blue'\n");
    let error = home.run(&["--json", "list"]).expect(2).json_error();
    assert_eq!(error["code"], "config_invalid");
    let message = error["message"].as_str().unwrap();
    assert!(message.contains("config.toml`: line 2, column 1: unknown field `colour`"), "{message}");
}

#[test]
fn a_mistake_in_a_variable_is_an_error_with_its_name() {
    let home = Home::new();
    for (variable, value) in [
        (OUTPUT, "xml"),
        ("MICROAGENT_PROGRESS", "loud"),
        ("MICROAGENT_PROPAGATE_EXIT_CODE", "2"),
        ("MICROAGENT_TEMPLATES", "warm"),
    ] {
        let ran = home.run_with(&["list"], &[(variable, value)]).expect(2);
        assert!(ran.stderr.contains(&format!("`{variable}` cannot be `{value}`")), "{}", ran.stderr);
    }
}

#[test]
fn failures_of_our_own_stay_out_of_the_guests_exit_codes() {
    let home = Home::new();
    let unknown = ["run", "--profile", "huge", "alpine"];
    home.run(&unknown).expect(2);
    home.run_with(&unknown, &[("MICROAGENT_PROPAGATE_EXIT_CODE", "1")]).expect(125);
    home.run(&["run", "--propagate-exit-code", "--profile", "huge", "alpine"]).expect(125);
    home.configure("propagate_exit_code = true");
    home.run(&unknown).expect(125);
    home.run_with(&unknown, &[("MICROAGENT_PROPAGATE_EXIT_CODE", "0")]).expect(2);
    // Other verbs have no guest whose code could be meant.
    home.run(&["status", "nobody"]).expect(1);
}
