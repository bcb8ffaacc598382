//! Images on their way to a registry.

use crate::command::Home;
use microagent_testing::{Registry, run, tool};

/// A home with an image `local/app:1`.
fn home_with_image() -> Home {
    let home = Home::new();
    let (content, archive) = (home.path().join("content"), home.path().join("root.tar"));
    std::fs::create_dir(&content).unwrap();
    std::fs::write(content.join("hello"), "hello").unwrap();
    run(tool("tar").arg("--create").arg("--file").arg(&archive).arg("--directory").arg(&content).arg("."));
    home.run(&["image", "import", archive.to_str().unwrap(), "local/app:1"]).expect(0);
    home
}

#[test]
fn an_image_is_pushed_under_another_name_and_only_once() {
    let (home, registry) = (home_with_image(), Registry::plain());
    let target = registry.reference("team/app:1");
    let progress = [("MICROAGENT_PROGRESS", "plain")];
    let pushed = home.run_with(&["image", "push", "local/app:1", "--to", &target], &progress).expect(0);
    assert!(pushed.stderr.starts_with(&format!("pushing {target} (1 layer, ")), "{}", pushed.stderr);
    let digest = home.run(&["--json", "image", "inspect", "local/app:1"]).expect(0).json()["manifest_digest"].clone();
    let expected = format!("Image: {target}\nDigest: {}\nPlatform: linux/", digest.as_str().unwrap());
    assert!(pushed.stdout.starts_with(&expected), "{}", pushed.stdout);

    let again = home.run(&["--json", "image", "push", "local/app:1", "--to", &target]).expect(0).json();
    assert_eq!((&again["reference"], &again["digest"]), (&target.as_str().into(), &digest));
    assert_eq!((&again["present"], &again["uploaded"], &again["bytes"]), (&2.into(), &0.into(), &0.into()));
    let pulled = Home::new().run(&["--json", "image", "pull", &target]).expect(0).json();
    assert_eq!(pulled["manifest_digest"], digest);
}

#[test]
fn a_push_that_cannot_be_says_why() {
    let home = home_with_image();
    let (read_only, guarded) = (Registry::read_only(), Registry::basic());
    let push = |to: &str| home.run(&["--json", "image", "push", "local/app:1", "--to", to]);
    let error = push(&read_only.reference("app:1")).expect(1).json_error();
    assert_eq!(error["code"], "registry_read_only");
    let error = push(&guarded.reference("app:1")).expect(1).json_error();
    assert_eq!(error["code"], "registry_login_required");
    assert!(error["remediation"].as_str().unwrap().contains("docker login"), "{error}");
    let error = push(&format!("{}@sha256:{}", guarded.reference("app"), "0".repeat(64))).expect(2).json_error();
    assert_eq!(error["code"], "invalid_image_reference");
    let error = home.run(&["--json", "image", "push", "local/other:1"]).expect(1).json_error();
    assert_eq!(error["code"], "image_not_local");
}
