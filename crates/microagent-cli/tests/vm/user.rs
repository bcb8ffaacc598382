//! Who a command runs as, where, and as which host.

use crate::host::{BUSYBOX, Host};

fn run(host: &Host, options: &[&str], line: &str) -> String {
    host.run_quietly(&[options, &["--image", BUSYBOX, "--exec", line]].concat()).text()
}

#[test]
fn users_are_found_in_the_image_by_name_and_number() {
    let host = Host::new();
    assert_eq!(run(&host, &[], "id -u; echo $HOME"), "0\n/root\n");
    assert_eq!(run(&host, &["--user", "agent"], "id -u; id -g; id -G; echo $HOME"), "1000\n1000\n1000 2000\n/home\n");
    assert_eq!(run(&host, &["--user", "4242:77"], "id -u; id -g; echo $HOME"), "4242\n77\n/\n");
}

#[test]
fn a_working_directory_is_made_when_it_is_absent() {
    let host = Host::new();
    assert_eq!(run(&host, &["--workdir", "/a/new/place"], "pwd"), "/a/new/place\n");
}

#[test]
fn the_host_name_is_the_workspaces_unless_given() {
    let host = Host::new();
    assert_eq!(run(&host, &["--name", "my_agent.1"], "hostname; cat /etc/hostname"), "my-agent-1\nmy-agent-1\n");
    assert_eq!(run(&host, &["--hostname", "other.example"], "hostname"), "other.example\n");
    assert_eq!(run(&host, &[], "grep -c localhost /etc/hosts"), "2\n");
}

#[test]
fn an_unprivileged_command_can_reopen_its_own_output() {
    let host = Host::new();
    assert_eq!(run(&host, &["--user", "agent"], "echo through > /dev/stdout"), "through\n");
}
