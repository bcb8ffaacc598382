//! A workspace that nobody uses for a while.

use super::workspace::Workspace;
use std::time::Duration;

fn idle(time: Duration) {
    let workspace = Workspace::start();
    workspace.sh("echo before > /mark").expect(0);
    // That time passes is what is tried.
    std::thread::sleep(time);
    assert_eq!(workspace.sh("cat /mark").expect(0).text(), "before\n");
}

#[test]
fn a_command_runs_after_half_an_idle_minute() {
    idle(Duration::from_secs(30));
}

#[test]
#[ignore = "takes ten minutes, in which nothing happens"]
fn a_command_runs_after_ten_idle_minutes() {
    idle(Duration::from_mins(10));
}
