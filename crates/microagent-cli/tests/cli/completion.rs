//! Shell completion and manual pages.

use crate::command::Home;
use std::io::Write;
use std::process::{Command, Stdio};

#[test]
fn the_bash_script_is_one_bash_accepts() {
    let script = Home::new().run(&["completions", "bash"]).expect(0).stdout;
    let mut bash =
        Command::new("bash").args(["-n"]).stdin(Stdio::piped()).spawn().expect("bash is needed for this test");
    bash.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
    assert!(bash.wait().unwrap().success());
    assert!(script.contains("microagent"));
}

#[test]
fn every_shell_offered_has_a_script() {
    let home = Home::new();
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        assert!(home.run(&["completions", shell]).expect(0).stdout.contains("microagent"), "{shell}");
    }
    home.run(&["completions", "cmd"]).expect(2);
}

#[test]
fn what_is_refused_is_not_offered() {
    let complete = |words: &[&str]| {
        let index = (words.len() - 1).to_string();
        let environment = [("COMPLETE", "bash"), ("_CLAP_COMPLETE_INDEX", index.as_str()), ("_CLAP_IFS", "\n")];
        Home::new().run_with(&[&["--"], words].concat(), &environment).expect(0).stdout
    };
    let verbs = complete(&["microagent", ""]);
    assert!(
        verbs.contains("run\n")
            && verbs.contains("create\n")
            && !verbs.contains("compose")
            && !verbs.contains("serve\n"),
        "{verbs}"
    );
    let flags = complete(&["microagent", "run", "--p"]);
    assert!(flags.contains("--profile") && !flags.contains("--privileged"), "{flags}");
    let profiles = complete(&["microagent", "run", "--profile", "t"]);
    assert_eq!(profiles.trim_end(), "tiny");
}

#[test]
fn each_verb_has_a_manual_page() {
    let home = Home::new();
    let page = home.run(&["man"]).expect(0).stdout;
    assert!(page.contains(".TH microagent 1"), "{page}");
    let directory = home.path().join("man");
    std::fs::create_dir(&directory).unwrap();
    home.run(&["man", "--dir", directory.to_str().unwrap()]).expect(0);
    for verb in ["run", "doctor", "image-pull", "kernel-install"] {
        assert!(directory.join(format!("microagent-{verb}.1")).is_file(), "{verb}");
    }
    assert!(!directory.join("microagent-compose.1").exists());
}
