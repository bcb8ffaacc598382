//! The store of templates: what it gives back is what was put in, or nothing.

use microagent_machine::engine::Frozen;
use microagent_machine::initramfs::Initramfs;
use microagent_machine::kernel::{Facts, ImageFormat, Kernel, Origin};
use microagent_machine::probe::FileIdentity;
use microagent_machine::template::{
    Claim, Disk, Found, Hardware, Making, MemoryPlace, Shape, Template, TemplatePrune, TemplateStore,
};
use microagent_protocol::{Hello, PROTOCOL_VERSION};
use std::collections::BTreeMap;
use std::fs::{self, File, Permissions};
use std::io::Write;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use tempfile::TempDir;

const INITRAMFS: &str = "00112233445566778899aabbccddeeff";
const MEMORY: &[u8] = b"what was in the memory";
const STATE: &[u8] = b"what was in the processor";

fn shape(cpus: u32) -> Shape {
    let kernel = Kernel {
        name: "test".into(),
        release: "6.1-test".into(),
        image: "/vmlinux".into(),
        format: ImageFormat::Elf,
        modules: Vec::new(),
        facts: Facts { pvh: true, features: BTreeMap::new() },
        origin: Origin::Directory { path: "/".into() },
        digest: "d1".into(),
    };
    let initramfs = Initramfs { path: "/initramfs".into(), key: INITRAMFS.into() };
    let hardware = Hardware {
        engine: "qemu".into(),
        engine_version: "7.2.22".into(),
        program: FileIdentity::of("/proc/self/exe".as_ref()),
        backend: "linux-tcg".into(),
        arguments: "a".into(),
        memory_mib: 1,
        cpus,
        disks: vec![Disk { serial: "base".into(), writable: false }],
    };
    Shape::new(&kernel, &initramfs, hardware)
}

fn frozen() -> Frozen {
    let hello = Hello { protocol: PROTOCOL_VERSION, agent: "0".into(), kernel: "6.1-test".into(), uptime_ms: 1 };
    Frozen { hello, monotonic_ns: 1_234_567_890 }
}

struct Scratch {
    _directory: TempDir,
    store: TemplateStore,
}

impl Scratch {
    fn new(memory: MemoryPlace) -> Scratch {
        let directory = tempfile::tempdir().unwrap();
        let store = TemplateStore::open(directory.path().join("templates"), memory);
        Scratch { _directory: directory, store }
    }

    fn directory(&self, shape: &Shape) -> PathBuf {
        self.store.path().join(shape.key())
    }

    fn begin(&self, shape: &Shape) -> Making {
        match self.store.claim(shape).unwrap() {
            Claim::Making(making) => *making,
            other => panic!("{other:?}"),
        }
    }

    fn make(&self, shape: &Shape) {
        let making = self.begin(shape);
        making.memory().write_all_at(MEMORY, 4096).unwrap();
        making.state().write_all(STATE).unwrap();
        making.publish(frozen()).unwrap();
    }

    fn template(&self, shape: &Shape) -> Template {
        match self.store.find(shape) {
            Found::Template(template) => template,
            other => panic!("{other:?}"),
        }
    }

    /// Where the record says that the memory is.
    fn memory(&self, shape: &Shape) -> PathBuf {
        let record = fs::read(self.directory(shape).join("record.json")).unwrap();
        let record: serde_json::Value = serde_json::from_slice(&record).unwrap();
        let name = record["memory"]["name"].as_str().unwrap();
        match record["memory"]["place"].as_str().unwrap() {
            "tmpfs" => tmpfs().join(name),
            _ => self.directory(shape).join(name),
        }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = self.store.prune(TemplatePrune::All, &[]);
    }
}

fn tmpfs() -> PathBuf {
    format!("/dev/shm/microagent-{}", rustix::process::geteuid().as_raw()).into()
}

fn assert_whole(template: &Template) {
    let restore = template.restore();
    let (mut memory, mut state) = (vec![0; MEMORY.len()], vec![0; STATE.len()]);
    restore.memory.read_exact_at(&mut memory, 4096).unwrap();
    restore.state.read_exact_at(&mut state, 0).unwrap();
    assert_eq!((&memory[..], &state[..]), (MEMORY, STATE));
    assert_eq!(restore.frozen, Some(&frozen()));
}

#[test]
fn what_was_made_is_found_by_its_shape_and_no_other() {
    for place in [MemoryPlace::Tmpfs, MemoryPlace::Disk] {
        let scratch = Scratch::new(place);
        assert!(matches!(scratch.store.find(&shape(1)), Found::Absent));
        scratch.make(&shape(1));
        assert_whole(&scratch.template(&shape(1)));
        assert!(matches!(scratch.store.find(&shape(2)), Found::Absent));
        let list = scratch.store.list(&[INITRAMFS.to_owned()]).unwrap();
        assert_eq!((list.len(), list[0].memory, list[0].stale.as_deref()), (1, place, None));
        assert!(list[0].memory_bytes > 0 && list[0].memory_bytes < 1 << 20, "{list:?}");
    }
}

#[test]
fn a_template_is_for_its_owner_only() {
    let scratch = Scratch::new(MemoryPlace::Tmpfs);
    scratch.make(&shape(1));
    let directory = scratch.directory(&shape(1));
    for path in [scratch.store.path(), &directory, &tmpfs()] {
        assert_eq!(fs::metadata(path).unwrap().mode() & 0o777, 0o700, "{}", path.display());
    }
    for path in [directory.join("record.json"), directory.join("state"), scratch.memory(&shape(1))] {
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600, "{}", path.display());
    }
}

/// Waits until a change shows: the clock of a file system ticks every few milliseconds.
fn tick(scratch: &Scratch, memory: &Path) {
    let probe = scratch.store.path().with_extension("probe");
    let changed = |path: &Path| fs::metadata(path).map(|file| (file.ctime(), file.ctime_nsec())).unwrap();
    let since = changed(memory);
    while fs::write(&probe, b"x").is_ok() && changed(&probe) <= since {}
}

fn edit(path: &Path, old: &str, new: &str) {
    let text = fs::read_to_string(path).unwrap();
    assert!(text.contains(old), "{text}");
    fs::write(path, text.replacen(old, new, 1)).unwrap();
}

fn flip(path: &Path) {
    let file = File::options().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, 3).unwrap();
    file.write_all_at(&[!byte[0]], 3).unwrap();
}

fn shorten(path: &Path) {
    let length = fs::metadata(path).unwrap().len();
    File::options().write(true).open(path).unwrap().set_len(length - 1).unwrap();
}

/// A file that looks the same but for what a file system keeps to itself.
fn replace(path: &Path) {
    let metadata = fs::metadata(path).unwrap();
    let content = fs::read(path).unwrap();
    fs::remove_file(path).unwrap();
    fs::write(path, content).unwrap();
    fs::set_permissions(path, metadata.permissions()).unwrap();
    File::options().write(true).open(path).unwrap().set_modified(metadata.modified().unwrap()).unwrap();
}

fn open_to_others(path: &Path) {
    fs::set_permissions(path, Permissions::from_mode(0o622)).unwrap();
}

#[test]
fn whatever_is_done_to_a_template_it_is_noticed_and_made_anew() {
    type Damage = fn(&Path);
    let removed: Damage = |path| fs::remove_file(path).unwrap();
    let emptied: Damage = |path| drop(File::create(path).unwrap());
    let link: Damage = |path| {
        fs::copy(path, moved()).unwrap();
        fs::remove_file(path).unwrap();
        std::os::unix::fs::symlink(moved(), path).unwrap();
    };
    let any: [(&str, Damage); 6] = [
        ("flipped", flip),
        ("shortened", shorten),
        ("removed", removed),
        ("emptied", emptied),
        ("writable", open_to_others),
        ("linked", link),
    ];
    let newer: Damage = |path| edit(path, "\"version\": 1", "\"version\": 2");
    let foreign: Damage = |path| edit(path, "7.2.22", "8.0.0");
    let unknown: Damage = |path| edit(path, "\"made_at\"", "\"x\": 1, \"made_at\"");
    let elsewhere: Damage = |path| edit(path, "\"name\": \"", "\"name\": \"../");
    let record = [("newer", newer), ("foreign", foreign), ("unknown", unknown), ("elsewhere", elsewhere)];
    for place in [MemoryPlace::Tmpfs, MemoryPlace::Disk] {
        let scratch = Scratch::new(place);
        let shape = shape(1);
        let file = |name: &str| scratch.directory(&shape).join(name);
        let targets = any.iter().flat_map(|damage| [("record.json", *damage), ("state", *damage), ("memory", *damage)]);
        let targets = targets.chain(record.map(|damage| ("record.json", damage)));
        for (target, (name, damage)) in targets.chain([("memory", ("replaced", replace as Damage))]) {
            scratch.make(&shape);
            tick(&scratch, &scratch.memory(&shape));
            damage(&if target == "memory" { scratch.memory(&shape) } else { file(target) });
            let found = scratch.store.find(&shape);
            assert!(matches!(found, Found::Distrusted(_)), "{target} {name}: {found:?}");
            let listed = scratch.store.list(&[INITRAMFS.to_owned()]).unwrap();
            assert!(listed.iter().all(|template| template.stale.is_some()), "{target} {name}: {listed:?}");
        }
        scratch.make(&shape);
        assert_whole(&scratch.template(&shape));
    }
    fs::remove_file(moved()).unwrap();
}

/// Where a file goes that a link takes the place of.
fn moved() -> PathBuf {
    std::env::temp_dir().join(format!("microagent-moved-{}", std::process::id()))
}

#[test]
fn a_template_that_is_removed_stays_whole_for_who_has_found_it() {
    for place in [MemoryPlace::Tmpfs, MemoryPlace::Disk] {
        let scratch = Scratch::new(place);
        scratch.make(&shape(1));
        let memory = scratch.memory(&shape(1));
        let template = scratch.template(&shape(1));
        let pruned = scratch.store.prune(TemplatePrune::All, &[]).unwrap();
        assert_eq!(pruned.removed, [shape(1).key()]);
        assert!(!memory.exists() && !memory.with_added_extension("json").exists());
        assert_eq!(fs::read_dir(scratch.store.path()).unwrap().count(), 0);
        assert_whole(&template);
    }
}

#[test]
fn one_makes_a_template_and_the_others_do_not_wait() {
    let scratch = Scratch::new(MemoryPlace::Tmpfs);
    let making = scratch.begin(&shape(1));
    assert!(matches!(scratch.store.claim(&shape(1)).unwrap(), Claim::Busy));
    assert!(matches!(scratch.store.find(&shape(1)), Found::Absent));
    scratch.make(&shape(2));
    making.publish(frozen()).unwrap();
    assert!(matches!(scratch.store.claim(&shape(1)).unwrap(), Claim::Made(_)));
}

#[test]
fn only_the_template_that_failed_is_discarded() {
    let scratch = Scratch::new(MemoryPlace::Tmpfs);
    scratch.make(&shape(1));
    let failed = scratch.template(&shape(1));
    scratch.store.discard(&failed).unwrap();
    assert!(matches!(scratch.store.find(&shape(1)), Found::Absent));
    scratch.make(&shape(1));
    scratch.store.discard(&failed).unwrap();
    assert_whole(&scratch.template(&shape(1)));
}

#[test]
fn one_that_is_given_up_leaves_nothing() {
    let scratch = Scratch::new(MemoryPlace::Tmpfs);
    let ours = |shape: &Shape| {
        let entries = fs::read_dir(tmpfs()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        entries.filter(|name| name.starts_with(&shape.key())).count()
    };
    // A shape that no other test puts on tmpfs.
    let shape = shape(77);
    let making = scratch.begin(&shape);
    assert_eq!(ours(&shape), 2);
    drop(making);
    assert_eq!(ours(&shape), 0);
    scratch.store.sweep();
    assert_eq!(fs::read_dir(scratch.store.path()).unwrap().count(), 0);
}

#[test]
fn what_a_crash_leaves_is_swept_and_what_is_in_use_is_not() {
    let scratch = Scratch::new(MemoryPlace::Tmpfs);
    scratch.make(&shape(1));
    let making = scratch.begin(&shape(2));
    let kept = scratch.memory(&shape(1));

    let dead = Scratch::new(MemoryPlace::Tmpfs);
    dead.make(&shape(3));
    let orphan = dead.memory(&shape(3));
    fs::remove_dir_all(dead.directory(&shape(3))).unwrap();
    let unfinished = scratch.store.path().join(format!(".new-{}", shape(4).key()));
    fs::create_dir(&unfinished).unwrap();
    fs::write(unfinished.join("memory"), [1; 4096]).unwrap();

    assert!(scratch.store.sweep() >= 4096);
    assert!(!orphan.exists() && !unfinished.exists());
    assert!(kept.exists());
    assert_whole(&scratch.template(&shape(1)));
    making.memory().write_all_at(MEMORY, 4096).unwrap();
    making.state().write_all(STATE).unwrap();
    making.publish(frozen()).unwrap();
    assert_whole(&scratch.template(&shape(2)));
}

#[test]
fn the_template_used_longest_ago_goes_first() {
    let scratch = Scratch::new(MemoryPlace::Disk);
    let record = |cpus: u32| File::open(scratch.directory(&shape(cpus)).join("record.json")).unwrap();
    for cpus in 1..=8 {
        scratch.make(&shape(cpus));
        let age = std::time::SystemTime::now() - std::time::Duration::from_secs(1000 - u64::from(cpus));
        record(cpus).set_modified(age).unwrap();
    }
    // The oldest is used again, so the second oldest is the one to go.
    scratch.template(&shape(1));
    scratch.make(&shape(9));
    let list = scratch.store.list(&[]).unwrap();
    assert_eq!(list.len(), 8);
    assert!(matches!(scratch.store.find(&shape(2)), Found::Absent));
    assert!(matches!(scratch.store.find(&shape(1)), Found::Template(_)));
}

#[test]
fn templates_nobody_can_use_any_more_are_stale() {
    let scratch = Scratch::new(MemoryPlace::Disk);
    scratch.make(&shape(1));
    assert_eq!(scratch.store.prune(TemplatePrune::Stale, &[INITRAMFS.to_owned()]).unwrap().removed.len(), 0);
    let of_another_agent = ["ffeeddccbbaa99887766554433221100".to_owned()];
    let pruned = scratch.store.prune(TemplatePrune::Stale, &of_another_agent).unwrap();
    assert_eq!(pruned.removed, [shape(1).key()]);
}

#[test]
fn only_what_somebody_needs_is_retained() {
    let scratch = Scratch::new(MemoryPlace::Disk);
    scratch.make(&shape(1));
    scratch.make(&shape(2));
    assert_eq!(scratch.store.retain(|| None).unwrap(), 0, "who cannot say what is needed removes nothing");
    assert!(matches!(scratch.store.find(&shape(2)), Found::Template(_)));
    let needed = || Some([shape(1).key()].into());
    assert!(scratch.store.retain(needed).unwrap() > 0);
    assert!(matches!(scratch.store.find(&shape(1)), Found::Template(_)));
    assert!(matches!(scratch.store.find(&shape(2)), Found::Absent));
    // One that appears when it has been seen what there is was not there to be judged.
    let late = || {
        scratch.make(&shape(3));
        Some([shape(1).key()].into())
    };
    scratch.store.retain(late).unwrap();
    assert!(matches!(scratch.store.find(&shape(3)), Found::Template(_)));
}
