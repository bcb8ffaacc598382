use super::*;
use crate::{Collected, DiskLock, Name};

const MIB: u64 = 1 << 20;

fn scratch() -> (tempfile::TempDir, StateDir) {
    let dir = tempfile::tempdir().unwrap();
    let state = StateDir::open(dir.path().join("state")).unwrap();
    (dir, state)
}

fn name(text: &str) -> VolumeName {
    VolumeName::new(text).unwrap()
}

fn workspace(text: &str) -> Name {
    Name::new(text).unwrap()
}

fn create(state: &StateDir, text: &str) -> Volume {
    let format = |disk: &Path| File::create(disk).and_then(|file| file.set_len(MIB)).map_err(Error::io("write", disk));
    state.create_volume(&name(text), 1, format).unwrap()
}

#[test]
fn a_volume_is_made_once_and_found_until_it_is_removed() {
    let (_dir, state) = scratch();
    assert!(state.volumes().unwrap().is_empty());
    let made = create(&state, "data");
    assert_eq!(made.record().unwrap().size_mib, 1);
    assert_eq!(std::fs::metadata(made.disk()).unwrap().permissions().mode() & 0o777, 0o600);
    let again = state.create_volume(&name("data"), 1, |_| Ok::<(), Error>(()));
    assert!(matches!(again, Err(Error::VolumeExists { .. })));
    create(&state, "cache");
    let names: Vec<String> = state.volumes().unwrap().iter().map(|volume| volume.name().to_string()).collect();
    assert_eq!(names, ["cache", "data"]);
    state.find_volume(&name("data")).unwrap().remove().unwrap();
    assert!(matches!(state.find_volume(&name("data")), Err(Error::VolumeNotFound { .. })));
    assert!(matches!(made.record(), Err(Error::VolumeNotFound { .. })));
    assert!(matches!(made.attach(MountMode::ReadOnly, &workspace("a")), Err(Error::VolumeNotFound { .. })));
}

#[test]
fn a_volume_that_cannot_be_formatted_never_was() {
    let (_dir, state) = scratch();
    let full = |disk: &Path| Err(Error::io("write", disk)(ErrorKind::StorageFull.into()));
    assert!(state.create_volume(&name("data"), 1, full).is_err());
    assert!(state.volumes().unwrap().is_empty());
    create(&state, "data");
}

#[test]
fn one_may_write_or_several_may_read() {
    let (_dir, state) = scratch();
    let volume = create(&state, "data");
    let attach = |mode, holder| state.find_volume(&name("data")).unwrap().attach(mode, &workspace(holder));
    let writer = attach(MountMode::ReadWrite, "w").unwrap();
    assert_eq!(volume.attached_to().unwrap(), [workspace("w")]);
    for mode in [MountMode::ReadOnly, MountMode::ReadWrite] {
        let error = attach(mode, "r").unwrap_err();
        assert_eq!(error.to_string(), "volume `data` is attached to `w`");
    }
    drop(writer);
    let readers = [attach(MountMode::ReadOnly, "r1").unwrap(), attach(MountMode::ReadOnly, "r2").unwrap()];
    assert_eq!(volume.attached_to().unwrap(), [workspace("r1"), workspace("r2")]);
    assert!(matches!(attach(MountMode::ReadWrite, "w"), Err(Error::VolumeInUse { .. })));
    drop(readers);
    assert!(volume.attached_to().unwrap().is_empty());
    attach(MountMode::ReadWrite, "w").unwrap();
}

#[test]
fn a_volume_in_use_is_neither_removed_nor_resized() {
    let (_dir, state) = scratch();
    let volume = create(&state, "data");
    let reader = volume.attach(MountMode::ReadOnly, &workspace("r")).unwrap();
    assert!(matches!(volume.clone().remove(), Err(Error::VolumeInUse { .. })));
    assert!(matches!(volume.resize(2), Err(Error::VolumeInUse { .. })));
    drop(reader);
    assert_eq!(volume.resize(2).unwrap().size_mib, 2);
    assert_eq!(std::fs::metadata(volume.disk()).unwrap().len(), 2 * MIB);
    assert_eq!(volume.record().unwrap().size_mib, 2);
    let error = volume.resize(1).unwrap_err();
    assert_eq!(error.to_string(), "volume `data` cannot become smaller than its 2 MiB");
    volume.remove().unwrap();
}

#[test]
fn what_a_dead_holder_left_attaches_nothing() {
    let (_dir, state) = scratch();
    let volume = create(&state, "data");
    std::fs::create_dir_all(volume.path().join("attached/dead")).unwrap();
    std::fs::write(volume.path().join("attached/dead/lease"), "").unwrap();
    assert!(volume.attached_to().unwrap().is_empty());
    volume.attach(MountMode::ReadWrite, &workspace("dead")).unwrap();
    assert!(!volume.path().join("attached/dead").exists());
}

#[test]
fn leftovers_of_crashes_are_cleared_away_and_volumes_are_not() {
    let (_dir, state) = scratch();
    let volume = create(&state, "data");
    for leftover in [".new-x1", ".doomed-data-1"] {
        std::fs::create_dir(volume.path().with_file_name(leftover)).unwrap();
    }
    let removed = state.collect_garbage().unwrap().removed;
    assert_eq!(removed.len(), 2, "{removed:?}");
    assert_eq!(state.collect_garbage().unwrap(), Collected::default());
    assert_eq!(state.volumes().unwrap().len(), 1);
}

#[test]
fn a_removal_that_is_under_way_is_left_to_its_owner() {
    let (_dir, state) = scratch();
    let volume = create(&state, "data");
    let doomed = volume.path().with_file_name(".doomed-data-1");
    let _held = volume.hold().unwrap();
    std::fs::rename(volume.path(), &doomed).unwrap();
    assert_eq!(state.collect_garbage().unwrap(), Collected::default());
    assert!(doomed.exists());
}

#[test]
fn one_may_write_to_a_disk_or_several_may_read_it() {
    let dir = tempfile::tempdir().unwrap();
    let disk = dir.path().join("disk.ext4");
    assert!(matches!(DiskLock::acquire(&disk, MountMode::ReadOnly), Err(Error::Io { .. })));
    std::fs::write(&disk, "").unwrap();
    let readers = [(); 2].map(|()| DiskLock::acquire(&disk, MountMode::ReadOnly).unwrap());
    assert!(matches!(DiskLock::acquire(&disk, MountMode::ReadWrite), Err(Error::DiskInUse { .. })));
    drop(readers);
    let _writer = DiskLock::acquire(&disk, MountMode::ReadWrite).unwrap();
    assert!(matches!(DiskLock::acquire(&disk, MountMode::ReadOnly), Err(Error::DiskInUse { .. })));
}
