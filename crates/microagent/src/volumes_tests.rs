use super::*;
use microagent_state::MountMode;
use std::path::Path;

fn scratch() -> (tempfile::TempDir, Client) {
    let dir = tempfile::tempdir().unwrap();
    let client = Client::open(Some(dir.path())).unwrap();
    (dir, client)
}

fn name(text: &str) -> VolumeName {
    VolumeName::new(text).unwrap()
}

/// Makes a stopped workspace that declares `volume`.
fn declare(client: &Client, workspace: &str, volume: &str) {
    let workspace = client.state().create(&Name::new(workspace).unwrap()).unwrap();
    let disk =
        format!(r#"{{"name":"d","source":{{"kind":"volume","name":"{volume}"}},"mountpoint":"/d","mode":"rw"}}"#);
    let version = <microagent_state::WorkspaceRecord as microagent_state::Record>::VERSION;
    let record = format!(r#"{{"version":{version},"record":{{"disks":[{disk}]}}}}"#);
    std::fs::write(workspace.path().join("workspace.json"), record).unwrap();
}

fn code<T: std::fmt::Debug>(outcome: Result<T, Error>) -> String {
    microagent_protocol::Fault::code(&outcome.unwrap_err()).to_owned()
}

#[test]
fn a_volume_is_an_empty_disk_that_takes_next_to_nothing() {
    let (_dir, client) = scratch();
    let made = client.create_volume(&name("data"), DEFAULT_VOLUME_MIB).unwrap();
    assert_eq!((made.size_mib, made.attached_to.len()), (1024, 0));
    assert!(made.used_bytes < 1 << 20, "{} bytes", made.used_bytes);
    let info = rootfs::probe_ext4(&made.path).unwrap();
    assert_eq!((info.size, info.filesystem_size), (1 << 30, 1 << 30));
    assert_eq!(client.volumes().unwrap(), [client.volume(&name("data")).unwrap()]);
    assert_eq!(code(client.create_volume(&name("data"), 16)), "volume_exists");
    for size in [0, 15, (1 << 20) + 1] {
        assert_eq!(code(client.create_volume(&name("other"), size)), "option_out_of_range");
    }
    let larger = client.resize_volume(&name("data"), 2048).unwrap();
    assert_eq!((larger.size_mib, larger.path.metadata().unwrap().len()), (2048, 2 << 30));
    assert_eq!(code(client.resize_volume(&name("data"), 1024)), "volume_shrink");
    client.remove_volume(&name("data"), false).unwrap();
    assert_eq!(code(client.volume(&name("data"))), "volume_not_found");
}

#[test]
fn what_a_workspace_has_or_declares_is_neither_removed_nor_pruned() {
    let (_dir, client) = scratch();
    for volume in ["attached", "declared", "free"] {
        client.create_volume(&name(volume), 16).unwrap();
    }
    declare(&client, "stopped", "declared");
    let holder = Name::new("running").unwrap();
    let attachment =
        client.state().find_volume(&name("attached")).unwrap().attach(MountMode::ReadWrite, &holder).unwrap();
    assert_eq!(client.volume(&name("attached")).unwrap().attached_to, [holder]);
    assert_eq!(client.volume(&name("declared")).unwrap().declared_by, [Name::new("stopped").unwrap()]);
    let error = client.remove_volume(&name("declared"), false).unwrap_err();
    assert_eq!(error.to_string(), "volume `declared` is declared by `stopped`");
    for force in [false, true] {
        assert_eq!(code(client.remove_volume(&name("attached"), force)), "volume_in_use");
    }

    let told = client.prune_volumes(true).unwrap();
    assert_eq!(client.volumes().unwrap().len(), 3);
    let pruned = client.prune_volumes(false).unwrap();
    assert_eq!((&pruned.removed, &told), (&vec![name("free")], &pruned));
    assert!(pruned.bytes > 0);
    drop(attachment);
    assert_eq!(client.prune_volumes(false).unwrap().removed, [name("attached")]);
    client.remove_volume(&name("declared"), true).unwrap();
    assert!(client.volumes().unwrap().is_empty());
}

#[test]
fn volumes_are_part_of_what_the_state_directory_takes() {
    let (_dir, client) = scratch();
    assert_eq!(client.disk_usage().unwrap().volumes, crate::Usage::default());
    let made = client.create_volume(&name("data"), 64).unwrap();
    std::fs::write(Path::new(&made.path), vec![1; 1 << 20]).unwrap();
    let usage = client.disk_usage().unwrap().volumes;
    assert_eq!(usage.count, 1);
    assert!(usage.bytes >= 1 << 20, "{usage:?}");
}
