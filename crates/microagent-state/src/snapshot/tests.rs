use super::*;
use crate::record::{Record, Verification};
use crate::{Collected, Error, Lease, Name, StateDir, Workspace};
use jiff::Timestamp;
use microagent_protocol::{Fault, FaultKind};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

struct Scratch {
    dir: tempfile::TempDir,
    state: StateDir,
}

impl Scratch {
    fn new() -> Scratch {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::open(dir.path().join("state")).unwrap();
        Scratch { dir, state }
    }

    fn workspace(&self, name: &str) -> Workspace {
        let workspace = self.state.create(&name.parse().unwrap()).unwrap();
        workspace.store(&serde_json::from_value(record(name)).unwrap()).unwrap();
        workspace
    }

    fn store(&self, name: &str) -> SnapshotStore {
        self.state.snapshots(&name.parse().unwrap())
    }

    /// A snapshot whose memory is what `parents` give, with 300 blocks of `byte` on top.
    fn snapshot(&self, name: &str, tag: &str, byte: u8, parents: &[LayerId]) -> Snapshot {
        let staged = self.store(name).stage(&tag.parse().unwrap()).unwrap();
        self.fill(&staged, byte, parents).map(|manifest| staged.publish(manifest).unwrap()).unwrap()
    }

    fn fill(&self, staged: &Staged, byte: u8, parents: &[LayerId]) -> Result<Manifest, Error> {
        let memory = tempfile::tempfile_in(self.dir.path()).unwrap();
        memory.write_all_at(&vec![byte; 300 << 12], 0).unwrap();
        let layers = staged.layers().write(&memory, None, parents)?;
        std::fs::write(staged.path().join("state"), vec![byte; 70_000]).map_err(Error::io("write", staged.path()))?;
        std::fs::write(staged.path().join("authority.pem"), "pem").map_err(Error::io("write", staged.path()))?;
        Ok(manifest(layers))
    }

    fn layers(&self) -> usize {
        let entries = std::fs::read_dir(self.state.root().join("layers")).unwrap();
        entries.filter(|entry| entry.as_ref().unwrap().file_name() != ".lock").count()
    }

    fn entries(&self, name: &str) -> Vec<String> {
        let entries = self.store(name).entries().unwrap();
        let mut names: Vec<_> =
            entries.iter().map(|path| path.file_name().unwrap().to_str().unwrap().to_owned()).collect();
        names.sort();
        names
    }
}

fn record(name: &str) -> Value {
    json!({
        "name": name, "created_at": "2026-11-29T11:45:00Z", "updated_at": "2026-11-29T11:45:00Z", "phase": "halted",
        "disposable": false, "image": "demo", "image_digest": "sha256:0", "base_path": "/base", "kernel_path": "/kernel",
        "backend": "linux-tcg", "engine": "qemu", "profile": "small",
        "resources": {"memory_mib": 256, "cpu_count": 1, "size_mib": 1024}, "network": "user", "restart": "never",
        "hostname": name, "shell": "/bin/sh", "env": {}, "setup": [], "workdir": "/", "user": "root"
    })
}

fn manifest(memory: Vec<LayerId>) -> Manifest {
    Manifest {
        tag: "x".parse().unwrap(),
        workspace: Name::new("x").unwrap(),
        created_at: Timestamp::now(),
        kind: SnapshotKind::Full,
        comment: Some("before the upgrade".to_owned()),
        pause_ms: Some(12.5),
        ancestry: Some("parent:v1".parse().unwrap()),
        record: serde_json::from_value(record("a")).unwrap(),
        base: Base { path: "/base".into(), bytes: 4096, verification: Verification::default() },
        secrets_purged: true,
        disks: vec![DiskPart { name: "workspace".to_owned(), bytes: 300 << 12, layers: memory.clone() }],
        machine: Some(Machine {
            shape: json!({"cpu": "max"}),
            memory,
            memory_bytes: 300 << 12,
            hello: json!({"version": 3}),
            processes: vec![ProcessPart {
                call: 1,
                argv: vec!["sh".to_owned()],
                started_ns: 5,
                tty: true,
                detached: false,
                stdin: true,
                service: false,
                id: 9,
            }],
        }),
        files: BTreeMap::new(),
    }
}

fn tag(tag: &str) -> Tag {
    tag.parse().unwrap()
}

#[test]
fn a_snapshot_is_given_back_as_it_was_kept() {
    let scratch = Scratch::new();
    let _workspace = scratch.workspace("a");
    let published = scratch.snapshot("a", "v1", 7, &[]);
    let opened = scratch.store("a").open(&tag("v1")).unwrap();
    assert_eq!(opened.manifest(), published.manifest());
    assert_eq!(opened.reference().to_string(), "a:v1");
    assert_eq!(std::fs::read(opened.file("state").unwrap()).unwrap(), vec![7; 70_000]);
    assert_eq!(opened.file("snapshot.json"), None);
    let machine = opened.manifest().machine.as_ref().unwrap();
    let into = tempfile::tempfile().unwrap();
    opened.layers().materialize(&machine.memory, &into, machine.memory_bytes).unwrap();
    let mut memory = vec![0; 300 << 12];
    into.read_exact_at(&mut memory, 0).unwrap();
    assert_eq!(memory, vec![7; 300 << 12]);
    assert_eq!(scratch.entries("a"), ["v1"]);
}

#[test]
fn a_tag_is_given_once_whoever_comes_first() {
    let scratch = Scratch::new();
    let _workspace = scratch.workspace("a");
    let store = scratch.store("a");
    let staged = store.stage(&tag("v1")).unwrap();
    assert_eq!(store.stage(&tag("v1")).unwrap_err().code(), "snapshot_exists");
    assert_eq!(store.open(&tag("v1")).unwrap_err().code(), "snapshot_not_found");
    let manifest = scratch.fill(&staged, 1, &[]).unwrap();
    let published = staged.publish(manifest.clone()).unwrap();
    assert_eq!(store.stage(&tag("v1")).unwrap_err().code(), "snapshot_exists");

    // One that came to be in the meantime is not written over.
    let staged = store.stage(&tag("v2")).unwrap();
    std::fs::rename(published.path(), store.path_of(&tag("v2"))).unwrap();
    assert_eq!(staged.publish(manifest).unwrap_err().code(), "snapshot_exists");
    assert_eq!(scratch.entries("a"), ["v2"]);
}

#[test]
fn snapshots_of_one_second_have_tags_of_their_own() {
    let scratch = Scratch::new();
    let _workspace = scratch.workspace("a");
    let store = scratch.store("a");
    let time = "2026-11-29T11:45:00Z".parse().unwrap();
    let staged: Vec<_> = (0..3).map(|_| store.stage_at(time).unwrap()).collect();
    let tags: Vec<_> = staged.iter().map(|staged| staged.tag().as_str()).collect();
    assert_eq!(tags, ["20261129-114500", "20261129-114500-2", "20261129-114500-3"]);
}

#[test]
fn a_workspace_that_is_not_there_has_no_snapshots() {
    let scratch = Scratch::new();
    let store = scratch.store("a");
    assert_eq!(store.stage(&tag("v1")).unwrap_err().code(), "workspace_not_found");
    assert_eq!(store.open(&tag("v1")).unwrap_err().code(), "workspace_not_found");
    assert_eq!(store.delete(&tag("v1")).unwrap_err().code(), "workspace_not_found");
    assert!(store.list().unwrap().is_empty());
    let _workspace = scratch.workspace("a");
    assert_eq!(store.open(&tag("v1")).unwrap_err().code(), "snapshot_not_found");
    assert_eq!(store.delete(&tag("v1")).unwrap_err().code(), "snapshot_not_found");
}

#[test]
fn a_snapshot_that_is_given_up_leaves_nothing() {
    let scratch = Scratch::new();
    let _workspace = scratch.workspace("a");
    let staged = scratch.store("a").stage(&tag("v1")).unwrap();
    scratch.fill(&staged, 1, &[]).unwrap();
    assert_eq!(scratch.entries("a"), [".new-v1"]);
    drop(staged);
    assert!(scratch.entries("a").is_empty());
    assert_eq!(scratch.state.sweep_layers().unwrap().unwrap().layers, 1);
}

#[test]
fn what_a_maker_that_died_left_is_collected_and_in_nobodys_way() {
    let scratch = Scratch::new();
    let _workspace = scratch.workspace("a");
    let kept = scratch.snapshot("a", "kept", 1, &[]);
    // A crash leaves the directory with what was in it so far, at whichever step, and no lock on it.
    for step in 0..4 {
        let staged = scratch.store("a").stage(&tag("v1")).unwrap();
        let manifest = if step >= 1 { scratch.fill(&staged, 2, &[]).unwrap() } else { manifest(Vec::new()) };
        if step >= 2 {
            std::fs::write(staged.path().join(".snapshot.json.new"), "{").unwrap();
        }
        if step >= 3 {
            manifest.store(staged.path()).unwrap();
        }
        let left = staged.path().to_owned();
        std::fs::rename(&left, scratch.dir.path().join("left")).unwrap();
        drop(staged);
        std::fs::rename(scratch.dir.path().join("left"), &left).unwrap();

        if step % 2 == 0 {
            let removed = scratch.state.collect_garbage().unwrap().removed;
            assert!(removed.contains(&"a/snapshots/.new-v1".to_owned()), "{step}: {removed:?}");
        } else {
            drop(scratch.store("a").stage(&tag("v1")).unwrap());
        }
        assert_eq!(scratch.entries("a"), ["kept"], "{step}");
        scratch.state.collect_garbage().unwrap();
        assert_eq!(scratch.layers(), 1, "{step}");
        assert_eq!(scratch.store("a").open(&tag("kept")).unwrap().manifest(), kept.manifest());
    }
}

#[test]
fn what_is_being_made_is_not_collected() {
    let scratch = Scratch::new();
    let _workspace = scratch.workspace("a");
    let staged = scratch.store("a").stage(&tag("v1")).unwrap();
    let manifest = scratch.fill(&staged, 1, &[]).unwrap();
    assert_eq!(scratch.state.collect_garbage().unwrap(), Collected::default());
    assert_eq!(scratch.state.sweep_layers().unwrap(), None);
    staged.publish(manifest).unwrap();
    assert_eq!(scratch.state.collect_garbage().unwrap(), Collected::default());
    scratch.store("a").open(&tag("v1")).unwrap();
    assert_eq!(scratch.layers(), 1);
}

#[test]
fn a_removal_that_was_interrupted_is_finished() {
    let scratch = Scratch::new();
    let _workspace = scratch.workspace("a");
    let snapshot = scratch.snapshot("a", "v1", 1, &[]);
    let doomed = crate::gc::doomed_path(snapshot.path());
    std::fs::rename(snapshot.path(), &doomed).unwrap();
    std::fs::remove_file(doomed.join("state")).unwrap();
    // As long as whoever removes it lives, it is theirs.
    let lease = Lease::acquire(&doomed).unwrap();
    scratch.state.collect_garbage().unwrap();
    assert!(doomed.exists());
    drop(lease);
    scratch.state.collect_garbage().unwrap();
    assert!(scratch.entries("a").is_empty());
    assert_eq!(scratch.layers(), 0);
}

#[test]
fn a_snapshot_goes_with_its_layers_and_leaves_those_of_others() {
    let scratch = Scratch::new();
    let _workspaces = [scratch.workspace("a"), scratch.workspace("b")];
    let first = scratch.snapshot("a", "v1", 1, &[]);
    let base = first.manifest().disks[0].layers.clone();
    let second = scratch.snapshot("b", "v2", 2, &base);
    assert_eq!(scratch.layers(), 2);
    let (first_usage, second_usage) = (first.usage().unwrap(), second.usage().unwrap());
    assert_eq!(first_usage.shared_bytes, second_usage.shared_bytes);
    assert!(first_usage.shared_bytes >= 300 << 12 && first_usage.bytes < 100 << 12, "{first_usage:?}");
    assert!(second_usage.bytes >= 300 << 12, "{second_usage:?}");

    scratch.store("a").delete(&tag("v1")).unwrap();
    assert_eq!(scratch.layers(), 2);
    assert_eq!(second.usage().unwrap().shared_bytes, 0);
    // One is being made: what is not needed any more goes later.
    let staged = scratch.store("a").stage(&tag("v3")).unwrap();
    scratch.store("b").delete(&tag("v2")).unwrap();
    assert_eq!(scratch.layers(), 2);
    drop(staged);
    assert_eq!(scratch.state.collect_garbage().unwrap().removed.len(), 1);
    assert_eq!(scratch.layers(), 0);
}

#[test]
fn a_snapshot_that_somebody_removes_is_in_use() {
    let scratch = Scratch::new();
    let _workspace = scratch.workspace("a");
    let snapshot = scratch.snapshot("a", "v1", 1, &[]);
    let lease = Lease::acquire(snapshot.path()).unwrap();
    assert_eq!(scratch.store("a").delete(&tag("v1")).unwrap_err().code(), "snapshot_in_use");
    drop(lease);
    scratch.store("a").delete(&tag("v1")).unwrap();
}

#[test]
fn a_workspace_takes_its_snapshots_with_it() {
    let scratch = Scratch::new();
    let workspace = scratch.workspace("a");
    scratch.snapshot("a", "v1", 1, &[]);
    workspace.remove().unwrap();
    assert_eq!(scratch.state.sweep_layers().unwrap().unwrap().layers, 1);
    assert_eq!(scratch.layers(), 0);
}

#[test]
fn snapshots_are_listed_oldest_first_and_damaged_ones_last() {
    let scratch = Scratch::new();
    let _workspace = scratch.workspace("a");
    for name in ["z", "b", "m"] {
        scratch.snapshot("a", name, 1, &[]);
    }
    std::fs::write(scratch.store("a").path_of(&tag("b")).join("state"), "x").unwrap();
    let list = scratch.store("a").list().unwrap();
    let tags: Vec<_> = list.iter().map(|(tag, snapshot)| (tag.as_str(), snapshot.is_ok())).collect();
    assert_eq!(tags, [("z", true), ("m", true), ("b", false)]);
}

/// What is wrong with a snapshot after something was done to its directory, and with the sweep of the layers.
fn after(damage: impl FnOnce(&Path)) -> (Error, Result<Option<Swept>, Error>) {
    let scratch = Scratch::new();
    let _workspace = scratch.workspace("a");
    let snapshot = scratch.snapshot("a", "v1", 1, &[]);
    damage(snapshot.path());
    let error = scratch.store("a").open(&tag("v1")).unwrap_err();
    let swept = scratch.state.sweep_layers();
    assert_eq!(scratch.layers(), 1, "{error}");
    if swept.is_err() {
        let skipped = scratch.state.collect_garbage().unwrap().skipped;
        assert!(skipped.iter().any(|line| line.starts_with("layers of snapshots: snapshot `a:v1`")), "{skipped:?}");
    }
    // However damaged, it can be removed, and its layers with it.
    scratch.store("a").delete(&tag("v1")).unwrap();
    assert_eq!(scratch.layers(), 0, "{error}");
    (error, swept)
}

#[test]
fn damage_of_any_small_file_is_found_and_told() {
    for (damage, reason) in [
        ((|dir| std::fs::write(dir.join("state"), "x").unwrap()) as fn(&Path), "`state` is not what it was"),
        (|dir| std::fs::remove_file(dir.join("authority.pem")).unwrap(), "`authority.pem` is gone"),
        (
            |dir| {
                std::fs::remove_file(dir.join("state")).unwrap();
                std::os::unix::fs::symlink("/dev/zero", dir.join("state")).unwrap();
            },
            "`state` is no file",
        ),
    ] {
        let (error, swept) = after(damage);
        assert_eq!((error.code(), error.kind()), ("snapshot_damaged", FaultKind::Invalid));
        assert_eq!(error.to_string(), format!("snapshot `a:v1` is damaged: {reason}"));
        // Its manifest still tells what it needs.
        assert!(swept.unwrap().is_some());
    }
}

#[test]
fn a_manifest_that_cannot_be_read_keeps_every_layer() {
    let (error, swept) = after(|dir| std::fs::remove_file(dir.join("snapshot.json")).unwrap());
    assert_eq!(error.to_string(), "snapshot `a:v1` is damaged: it has no `snapshot.json`");
    swept.unwrap_err();
    let whole = {
        let scratch = Scratch::new();
        let _workspace = scratch.workspace("a");
        std::fs::read(scratch.snapshot("a", "v1", 1, &[]).path().join("snapshot.json")).unwrap()
    };
    for length in [0, 1, whole.len() / 2, whole.len() - 3] {
        let (error, swept) = after(|dir| std::fs::write(dir.join("snapshot.json"), &whole[..length]).unwrap());
        assert_eq!(error.code(), "snapshot_damaged", "{error}");
        swept.unwrap_err();
    }
}

/// The same, after a change to the manifest.
fn after_edit(edit: impl FnOnce(&mut Value)) -> Error {
    let (error, swept) = after(|dir| {
        let path = dir.join("snapshot.json");
        let mut manifest: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        edit(&mut manifest);
        std::fs::write(&path, manifest.to_string()).unwrap();
    });
    swept.unwrap_err();
    error
}

#[test]
fn a_newer_snapshot_is_refused_as_such() {
    for edit in [
        (|manifest| manifest["version"] = json!(2)) as fn(&mut Value),
        |manifest| *manifest = json!({"version": 2, "record": {"something": "else"}}),
        |manifest| manifest["record"]["record"]["version"] = json!(99),
    ] {
        let error = after_edit(edit);
        assert_eq!((error.code(), error.kind()), ("snapshot_newer", FaultKind::Unsupported), "{error}");
        assert!(error.to_string().contains("has version"), "{error}");
    }
}

#[test]
fn a_hostile_manifest_leads_out_of_no_directory() {
    for (edit, reason) in [
        (
            (|m| m["record"]["files"] = json!({"../../secret": "0"})) as fn(&mut Value),
            "`../../secret` is no name of a file",
        ),
        (|m| m["record"]["files"] = json!({"..": "0"}), "`..` is no name of a file"),
        (|m| m["record"]["files"] = json!({"": "0"}), "`` is no name of a file"),
        (|m| m["record"]["disks"][0]["name"] = json!("/etc/passwd"), "`/etc/passwd` is no name of a file"),
        (|m| m["record"]["disks"][0]["layers"][0] = json!("../../x"), "`../../x` names no layer"),
        (|m| m["record"]["tag"] = json!(".."), "is not a tag"),
        (|m| m["record"]["tag"] = json!("v2"), "its manifest is that of `a:v2`"),
        (|m| m["record"]["workspace"] = json!("b"), "its manifest is that of `b:v1`"),
        (|m| m["record"]["machine"] = Value::Null, "it has no machine"),
        (|m| m["record"]["surprise"] = json!(1), "surprise"),
        (
            |m| {
                let layer = m["record"]["disks"][0]["layers"][0].clone();
                m["record"]["disks"][0]["layers"] = json!(vec![layer; 17]);
            },
            "a chain has 17 layers",
        ),
    ] {
        let error = after_edit(edit);
        assert_eq!(error.code(), "snapshot_damaged");
        assert!(error.to_string().contains(reason), "{error}");
    }
}

#[test]
fn a_manifest_is_published_with_its_layers_or_not_at_all() {
    let scratch = Scratch::new();
    let _workspace = scratch.workspace("a");
    let staged = scratch.store("a").stage(&tag("v1")).unwrap();
    let layer = LayerId::try_from("0".repeat(64)).unwrap();
    let error = staged.publish(manifest(vec![layer])).unwrap_err();
    assert_eq!(error.code(), "snapshot_layer_damaged");
    assert!(scratch.entries("a").is_empty());
}

#[test]
fn makers_and_sweepers_at_once_lose_nothing() {
    let scratch = Scratch::new();
    let _workspaces = [scratch.workspace("a"), scratch.workspace("b")];
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let makers: Vec<_> = ["a", "b"]
            .into_iter()
            .map(|name| {
                let scratch = &scratch;
                scope.spawn(move || {
                    let mut chain = Vec::new();
                    for round in 0..12u8 {
                        let made = scratch.snapshot(name, &format!("v{round}"), 1 + round % 5, &chain);
                        chain = made.manifest().disks[0].layers.clone();
                        if round >= 2 {
                            scratch.store(name).delete(&tag(&format!("v{}", round - 2))).unwrap();
                        }
                    }
                })
            })
            .collect();
        scope.spawn(|| {
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                let collected = scratch.state.collect_garbage().unwrap();
                assert!(collected.skipped.is_empty(), "{collected:?}");
                scratch.state.sweep_layers().unwrap();
            }
        });
        let outcomes: Vec<_> = makers.into_iter().map(std::thread::ScopedJoinHandle::join).collect();
        done.store(true, std::sync::atomic::Ordering::Relaxed);
        outcomes.into_iter().collect::<Result<(), _>>().unwrap();
    });
    for name in ["a", "b"] {
        assert_eq!(scratch.entries(name), ["v10", "v11"]);
        for (_, snapshot) in scratch.store(name).list().unwrap() {
            let snapshot = snapshot.unwrap();
            let machine = snapshot.manifest().machine.clone().unwrap();
            let into = tempfile::tempfile().unwrap();
            snapshot.layers().materialize(&machine.memory, &into, machine.memory_bytes).unwrap();
        }
    }
}

/// A small disk. Only root can have one, so elsewhere there is none.
struct Disk(PathBuf);

impl Disk {
    fn new(at: &Path) -> Option<Disk> {
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=2m", "tmpfs"]).arg(at).output();
        mounted.is_ok_and(|output| output.status.success()).then(|| Disk(at.to_owned()))
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        assert!(Command::new("umount").arg(&self.0).status().unwrap().success());
    }
}

#[test]
fn full_disk_is_called_so_and_leaves_nothing() {
    let scratch = Scratch::new();
    let mount = tempfile::tempdir().unwrap();
    let Some(_disk) = Disk::new(mount.path()) else { return };
    let small = Scratch { state: StateDir::open(mount.path().join("state")).unwrap(), dir: scratch.dir };
    let _workspace = small.workspace("a");
    small.snapshot("a", "v1", 1, &[]);
    let staged = small.store("a").stage(&tag("v2")).unwrap();
    let error = small.fill(&staged, 2, &[]).unwrap_err();
    assert_eq!((error.code(), error.kind()), ("no_space", FaultKind::ResourceExhausted), "{error:?}");
    drop(staged);
    assert_eq!((small.entries("a"), small.layers()), (vec!["v1".to_owned()], 1));

    let layers = small.store("a").open(&tag("v1")).unwrap().manifest().disks[0].layers.clone();
    let into = File::create(mount.path().join("disk")).unwrap();
    let error = small.state.layers().materialize(&layers, &into, 300 << 12).unwrap_err();
    assert_eq!((error.code(), error.kind()), ("no_space", FaultKind::ResourceExhausted), "{error:?}");
}
