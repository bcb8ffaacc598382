//! The answers of the probes, remembered for as long as they must hold.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use super::kvm::{DEVICE, KVM_DEADLINE, KvmVerdict, probe_kvm};
use super::program::{FirecrackerVerdict, QemuVerdict, ask_firecracker, ask_qemu, find_firecracker, find_qemu};
use super::tsc::measure_tsc_khz;

const FILE: &str = "host.json";
const VERSION: u32 = 1;

/// What is known of this host.
///
/// A record that is missing, damaged, of another version or of another boot is no knowledge, and one that cannot be
/// written is none for the next process: either costs a probe and nothing else, so neither is an error.
#[derive(Debug)]
pub struct Host {
    path: PathBuf,
    known: Mutex<Record>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    version: u32,
    boot_id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tsc_khz: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    kvm: Option<Answer<KvmVerdict>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    qemu: Option<Answer<QemuVerdict>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    firecracker: Option<Answer<FirecrackerVerdict>>,
}

/// A verdict, and the file it is about as it was then.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Answer<T> {
    subject: Subject,
    verdict: T,
}

/// A file, told from the same path at another time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Subject {
    path: PathBuf,
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    /// Who may open it, as far as the file says.
    access: (u32, u32, u32),
}

impl Host {
    /// What is remembered in the state directory `state`, which need not exist yet.
    pub fn open(state: &Path) -> Host {
        let path = state.join(FILE);
        let boot_id = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned();
        let remembered = fs::read(&path).ok().and_then(|bytes| serde_json::from_slice::<Record>(&bytes).ok());
        let known = remembered
            .filter(|record| record.version == VERSION && record.boot_id == boot_id && !boot_id.is_empty())
            .unwrap_or_else(|| Record { version: VERSION, boot_id, ..Record::default() });
        Host { path, known: Mutex::new(known) }
    }

    /// Whether KVM works here; see [`probe_kvm`].
    pub fn kvm(&self) -> KvmVerdict {
        let Some(subject) = Subject::of(Path::new(DEVICE)) else { return probe_kvm(KVM_DEADLINE) };
        if let Some(verdict) = recall(self.known().kvm.as_ref(), &subject) {
            return verdict;
        }
        let verdict = probe_kvm(KVM_DEADLINE);
        // Other answers come at once, and what they complain of can change without a trace on the device.
        if matches!(verdict, KvmVerdict::Works { .. } | KvmVerdict::Emulated { .. }) {
            self.remember(|known| known.kvm = Some(Answer { subject, verdict: verdict.clone() }));
        }
        verdict
    }

    /// What QEMU is here; see [`probe_qemu`](super::probe_qemu).
    pub fn qemu(&self) -> QemuVerdict {
        let path = match find_qemu() {
            Ok(path) => path,
            Err(hint) => return QemuVerdict::Missing { hint },
        };
        let Some(subject) = Subject::of(&path) else { return ask_qemu(path) };
        if let Some(verdict) = recall(self.known().qemu.as_ref(), &subject) {
            return verdict;
        }
        let verdict = ask_qemu(path);
        self.remember(|known| known.qemu = Some(Answer { subject, verdict: verdict.clone() }));
        verdict
    }

    /// What Firecracker is here; see [`probe_firecracker`](super::probe_firecracker).
    pub fn firecracker(&self) -> FirecrackerVerdict {
        let path = match find_firecracker() {
            Ok(path) => path,
            Err(hint) => return FirecrackerVerdict::Missing { hint },
        };
        let Some(subject) = Subject::of(&path) else { return ask_firecracker(path) };
        if let Some(verdict) = recall(self.known().firecracker.as_ref(), &subject) {
            return verdict;
        }
        let verdict = ask_firecracker(path);
        self.remember(|known| known.firecracker = Some(Answer { subject, verdict: verdict.clone() }));
        verdict
    }

    /// The rate of the time stamp counter in kHz, for `tsc_early_khz`; see [`measure_tsc_khz`].
    pub fn tsc_khz(&self) -> Option<u32> {
        let remembered = self.known().tsc_khz;
        if remembered.is_some() {
            return remembered;
        }
        let measured = measure_tsc_khz()?;
        self.remember(|known| known.tsc_khz = Some(measured));
        Some(measured)
    }

    fn known(&self) -> MutexGuard<'_, Record> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn remember(&self, change: impl FnOnce(&mut Record)) {
        let mut known = self.known();
        change(&mut known);
        let _ = store(&known, &self.path);
    }
}

fn recall<T: Clone>(answer: Option<&Answer<T>>, subject: &Subject) -> Option<T> {
    answer.filter(|answer| answer.subject == *subject).map(|answer| answer.verdict.clone())
}

/// Two processes that write at once may spoil each other's record, which is then no knowledge; a name of its own for each would be left
/// behind by one that is killed.
fn store(record: &Record, path: &Path) -> std::io::Result<()> {
    let unfinished = path.with_added_extension("new");
    fs::write(&unfinished, serde_json::to_vec(record)?)?;
    fs::rename(&unfinished, path)
}

impl Subject {
    fn of(path: &Path) -> Option<Subject> {
        let file = fs::metadata(path).ok()?;
        Some(Subject {
            path: path.to_owned(),
            device: file.dev(),
            inode: file.ino(),
            size: file.size(),
            modified: (file.mtime(), file.mtime_nsec()),
            access: (file.mode(), file.uid(), file.gid()),
        })
    }
}
