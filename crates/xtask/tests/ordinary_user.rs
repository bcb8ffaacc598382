//! The main path as somebody who is not root: a kernel from the distribution's package, an image from a registry, a
//! command in a microVM of it, and nothing left.

use serde_json::Value;
use xtask::images::DEBIAN_PYTHON;
use xtask::ordinary_user::OrdinaryUser;
use xtask::registry::Registry;
use xtask::tool;
use xtask::workspace::{self, Build};

#[test]
fn an_ordinary_user_runs_python_from_a_debian_image_in_a_microvm() {
    let registry = Registry::serve(&[&DEBIAN_PYTHON]).unwrap();
    let image = registry.reference(&DEBIAN_PYTHON, "12");
    let user = OrdinaryUser::new().unwrap();
    let microagent = user.install(&workspace::microagent(Build::Debug).unwrap()).unwrap();
    let run = |arguments: &[&str]| tool::capture(user.command(&microagent).args(arguments)).unwrap();

    run(&["kernel", "install"]);
    let report: Value =
        serde_json::from_str(&run(&["--json", "run", &image, "python3", "-c", "print(2**100)"])).unwrap();
    assert_eq!(report["result"]["stdout"], "1267650600228229401496703205376\n", "{report}");
    assert_eq!(report["result"]["exit_code"], 0, "{report}");
    let state = user.home().join(".microagent");
    assert_eq!(report["state_dir"], state.to_str().unwrap());
    assert_eq!(run(&["list"]), "No workspaces.\n");

    let release = run(&["run", "--quiet", &image, "cat", "/etc/os-release"]);
    assert!(release.contains("VERSION_CODENAME=bookworm"), "{release}");
}
