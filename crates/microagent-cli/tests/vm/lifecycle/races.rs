//! Several at once.

use crate::host::{BUSYBOX, Host, Ran};

/// Runs one command line several times at once.
fn at_once(host: &Host, times: usize, arguments: &[&str]) -> Vec<Ran> {
    let children: Vec<_> = (0..times).map(|_| host.command(arguments).spawn().unwrap()).collect();
    children.into_iter().map(|child| child.wait_with_output().unwrap().into()).collect()
}

#[test]
fn of_several_starts_one_wins_and_the_others_are_told() {
    let host = Host::new();
    host.microagent(["create", "box", "--image", BUSYBOX, "--profile", "tiny"]).expect(0);
    for _ in 0..3 {
        let starts = at_once(&host, 4, &["--json", "start", "box"]);
        let won = starts.iter().filter(|ran| ran.status == 0).count();
        assert_eq!(won, 1, "{:?}", starts.iter().map(|ran| &ran.stderr).collect::<Vec<_>>());
        for lost in starts.iter().filter(|ran| ran.status != 0) {
            let told = ["workspace_state", "workspace_in_use"].iter().any(|code| lost.stderr.contains(code));
            assert!(told, "{}", lost.stderr);
        }
        assert_eq!(host.engines().len(), 1);
        host.microagent(["exec", "box", "--", "true"]).expect(0);
        host.microagent(["halt", "box"]).expect(0);
    }
    host.microagent(["delete", "box", "--yes"]).expect(0);
}

#[test]
fn of_several_creates_one_wins() {
    let host = Host::new();
    let creates = at_once(&host, 6, &["--json", "create", "box", "--image", BUSYBOX, "--profile", "tiny"]);
    assert_eq!(creates.iter().filter(|ran| ran.status == 0).count(), 1);
    assert!(creates.iter().filter(|ran| ran.status != 0).all(|ran| ran.stderr.contains("workspace_exists")));
    host.microagent(["delete", "box", "--yes"]).expect(0);
    host.assert_nothing_left();
}

#[test]
fn several_halts_all_end_when_the_workspace_has() {
    let host = Host::new();
    host.microagent(["create", "box", "--image", BUSYBOX, "--profile", "tiny"]).expect(0);
    host.microagent(["start", "box"]).expect(0);
    for ran in at_once(&host, 4, &["halt", "box"]) {
        ran.expect(0);
    }
    host.await_no_engine();
    host.microagent(["start", "box"]).expect(0);
    host.microagent(["delete", "box", "--yes"]).expect(0);
}

#[test]
fn several_deletes_of_a_running_workspace_leave_nothing_and_agree() {
    let host = Host::new();
    host.microagent(["create", "box", "--image", BUSYBOX, "--profile", "tiny"]).expect(0);
    host.microagent(["start", "box"]).expect(0);
    let deletes = at_once(&host, 3, &["delete", "box", "--yes", "--force"]);
    assert!(
        deletes.iter().any(|ran| ran.status == 0),
        "{:?}",
        deletes.iter().map(|ran| &ran.stderr).collect::<Vec<_>>()
    );
    host.microagent(["delete", "box", "--yes", "--force"]).expect(0);
    host.await_no_engine();
    host.assert_nothing_left();
}
