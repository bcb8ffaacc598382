//! Copies of workspaces.

use crate::host::{BUSYBOX, Host};

fn shell(host: &Host, name: &str, line: &str) -> String {
    host.microagent(["exec", name, "--", "/bin/sh", "-c", line]).expect(0).text()
}

#[test]
fn a_copy_has_what_was_written_and_goes_its_own_way() {
    let host = Host::new();
    host.microagent(["create", "first", "--image", BUSYBOX, "--profile", "tiny"]).expect(0);
    host.microagent(["start", "first"]).expect(0);
    shell(&host, "first", "echo kept > /kept");
    let refused = host.microagent(["--json", "clone", "first", "second"]).expect(1);
    assert!(refused.stderr.contains("workspace_in_use"), "{}", refused.stderr);
    host.microagent(["halt", "first"]).expect(0);
    host.microagent(["clone", "first", "second"]).expect(0);
    host.microagent(["start", "first"]).expect(0);
    host.microagent(["start", "second"]).expect(0);
    assert_eq!(shell(&host, "second", "hostname; cat /kept; echo mine > /kept; sync"), "second\nkept\n");
    assert_eq!(shell(&host, "first", "hostname; cat /kept"), "first\nkept\n");
    // One that was killed has a journal to be replayed, and so has its copy.
    host.microagent(["kill", "second", "--reason", "to be copied", "--yes"]).expect(0);
    host.microagent(["clone", "second", "third"]).expect(0);
    host.microagent(["start", "third"]).expect(0);
    assert_eq!(shell(&host, "third", "cat /kept"), "mine\n");
    let events = host.microagent(["events", "third"]).expect(0).text();
    assert!(events.lines().next().unwrap().ends_with("cloned       by cli: a copy of `second`"), "{events}");
    host.microagent(["delete", "first", "second", "third", "--force"]).expect(0);
    host.await_no_engine();
    host.assert_nothing_left();
}
