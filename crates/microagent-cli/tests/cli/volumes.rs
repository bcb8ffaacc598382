//! Volumes from the command line.

use crate::command::Home;
use microagent::{Client, MountMode, Name, VolumeName};

fn client(home: &Home) -> Client {
    Client::open(Some(&home.state_dir())).unwrap()
}

#[test]
fn a_volume_is_made_listed_grown_and_removed() {
    let home = Home::new();
    assert_eq!(home.run(&["volume", "list"]).expect(0).stdout, "No volumes.\n");
    let made = home.run(&["volume", "create", "data"]).expect(0).stdout;
    assert!(made.starts_with("Volume: data\nSize: 1024 MiB ("), "{made}");
    home.run(&["volume", "create", "cache", "--size-mib", "2g"]).expect(0);

    let listed = home.run(&["volume", "ls"]).expect(0).stdout;
    let rows: Vec<Vec<&str>> = listed.lines().map(|line| line.split("   ").map(str::trim).collect()).collect();
    assert_eq!((rows.len(), rows[0][0], rows[1][0], rows[2][0]), (3, "VOLUME", "cache", "data"), "{listed}");
    let json = home.run(&["--json", "volume", "list"]).expect(0).json();
    let volumes = &json["volumes"];
    assert_eq!((&volumes[0]["size_mib"], &volumes[1]["size_mib"]), (&2048.into(), &1024.into()));
    assert_eq!(
        (&volumes[0]["attached_to"], &volumes[0]["declared_by"]),
        (&serde_json::json!([]), &serde_json::json!([]))
    );

    let grown = home.run(&["--json", "volume", "resize", "data", "--size-mib", "3g"]).expect(0).json();
    assert_eq!(grown, home.run(&["--json", "volume", "status", "data"]).expect(0).json());
    assert_eq!(grown["size_mib"], 3072);
    let disk = std::path::PathBuf::from(grown["path"].as_str().unwrap());
    assert_eq!(disk.metadata().unwrap().len(), 3 << 30);
    assert_eq!(home.run(&["volume", "rm", "data", "cache"]).expect(0).stdout, "Removed: data\nRemoved: cache\n");
    assert!(!disk.exists());
}

#[test]
fn mistakes_with_volumes_have_codes() {
    let home = Home::new();
    home.run(&["volume", "create", "data", "--size-mib", "32"]).expect(0);
    let cases: [(&[&str], i32, &str); 6] = [
        (&["create", "data"], 1, "volume_exists"),
        (&["create", "../data"], 2, "volume_name_invalid"),
        (&["create", "tiny", "--size-mib", "1"], 2, "option_out_of_range"),
        (&["inspect", "other"], 1, "volume_not_found"),
        (&["delete", "other"], 1, "volume_not_found"),
        (&["resize", "data", "--size-mib", "16"], 2, "volume_shrink"),
    ];
    for (arguments, status, code) in cases {
        let error = home.run(&[&["--json", "volume"], arguments].concat()).expect(status).json_error();
        assert_eq!(error["code"], code, "{arguments:?}");
        assert!(error["remediation"].is_string() || code == "option_out_of_range", "{error}");
    }
    // Nothing is removed where one of the names is wrong.
    home.run(&["volume", "rm", "data", "../data"]).expect(2);
    home.run(&["volume", "inspect", "data"]).expect(0);
}

#[test]
fn a_volume_somebody_has_is_neither_removed_nor_pruned() {
    let home = Home::new();
    home.run(&["volume", "create", "data", "--size-mib", "32"]).expect(0);
    home.run(&["volume", "create", "free", "--size-mib", "32"]).expect(0);
    let name = VolumeName::new("data").unwrap();
    let volume = client(&home).state().find_volume(&name).unwrap();
    let attachment = volume.attach(MountMode::ReadOnly, &Name::new("research").unwrap()).unwrap();
    let inspected = home.run(&["volume", "inspect", "data"]).expect(0).stdout;
    assert!(inspected.contains("\nAttached to: research\n"), "{inspected}");
    let error = home.run(&["--json", "volume", "rm", "data", "--force"]).expect(1).json_error();
    assert_eq!(
        (&error["code"], &error["message"]),
        (&"volume_in_use".into(), &"volume `data` is attached to `research`".into())
    );

    let told = home.run(&["volume", "prune", "--dry-run"]).expect(0).stdout;
    assert!(told.starts_with("Would remove: free\nWould free: "), "{told}");
    let pruned = home.run(&["--json", "volume", "prune"]).expect(0).json();
    assert_eq!((&pruned["removed"], &pruned["dry_run"]), (&serde_json::json!(["free"]), &false.into()));
    drop(attachment);
    home.run(&["volume", "rm", "data"]).expect(0);
}

#[test]
fn df_counts_volumes() {
    let home = Home::new();
    home.run(&["volume", "create", "data"]).expect(0);
    let usage = home.run(&["--json", "df"]).expect(0).json();
    assert_eq!(usage["volumes"]["count"], 1);
    assert!(usage["volumes"]["bytes"].as_u64().unwrap() < 1 << 20, "{usage}");
    let text = home.run(&["df"]).expect(0).stdout;
    assert!(text.lines().any(|line| line.starts_with("volumes ")), "{text}");
}

#[test]
fn names_complete_to_volumes_that_exist() {
    let home = Home::new();
    home.run(&["volume", "create", "data", "--size-mib", "32"]).expect(0);
    let completed = home.run_with(
        &["--", "microagent", "volume", "rm", ""],
        &[("COMPLETE", "bash"), ("_CLAP_COMPLETE_INDEX", "3"), ("_CLAP_IFS", "\n")],
    );
    assert!(completed.stdout.lines().any(|line| line == "data"), "{}", completed.stdout);
}
