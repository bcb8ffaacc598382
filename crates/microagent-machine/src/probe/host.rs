//! The answers of the probes, remembered for as long as they must hold.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use super::identity::FileIdentity;
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
    subject: FileIdentity,
    verdict: T,
}

impl Record {
    /// What was remembered in this boot of the host.
    fn load(path: &Path, boot_id: &str) -> Option<Record> {
        let record: Record = serde_json::from_slice(&fs::read(path).ok()?).ok()?;
        (record.version == VERSION && record.boot_id == boot_id && !boot_id.is_empty()).then_some(record)
    }

    /// Takes in what other processes have found out meanwhile.
    fn catch_up(&mut self, path: &Path) {
        if let Some(latest) = Record::load(path, &self.boot_id) {
            *self = latest;
        }
    }
}

impl Host {
    /// What is remembered in the state directory `state`, which need not exist yet.
    pub fn open(state: &Path) -> Host {
        let path = state.join(FILE);
        let boot_id = boot_id().unwrap_or_default();
        let known =
            Record::load(&path, &boot_id).unwrap_or_else(|| Record { version: VERSION, boot_id, ..Record::default() });
        Host { path, known: Mutex::new(known) }
    }

    /// Whether KVM works here; see [`probe_kvm`].
    pub fn kvm(&self) -> KvmVerdict {
        let Some(subject) = FileIdentity::of(Path::new(DEVICE)) else { return probe_kvm(KVM_DEADLINE) };
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
        let Some(subject) = FileIdentity::of(&path) else { return ask_qemu(path) };
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
        let Some(subject) = FileIdentity::of(&path) else { return ask_firecracker(path) };
        if let Some(verdict) = recall(self.known().firecracker.as_ref(), &subject) {
            return verdict;
        }
        let verdict = ask_firecracker(path);
        self.remember(|known| known.firecracker = Some(Answer { subject, verdict: verdict.clone() }));
        verdict
    }

    /// The rate of the time stamp counter in kHz, for `tsc_early_khz`; see [`measure_tsc_khz`].
    pub fn tsc_khz(&self) -> Option<u32> {
        let mut known = self.known();
        if known.tsc_khz.is_none() {
            // No two measurements are equal, and machines of different rates cannot share a template: one process measures for all.
            let _alone = self.alone();
            known.catch_up(&self.path);
            if known.tsc_khz.is_none() {
                known.tsc_khz = measure_tsc_khz();
                let _ = store(&known, &self.path);
            }
        }
        known.tsc_khz
    }

    fn known(&self) -> MutexGuard<'_, Record> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps other processes from writing the record. Where the state directory cannot be locked, nothing can be written either.
    fn alone(&self) -> Option<File> {
        let directory = File::open(self.path.parent()?).ok()?;
        directory.lock().ok()?;
        Some(directory)
    }

    fn remember(&self, change: impl FnOnce(&mut Record)) {
        let mut known = self.known();
        let _alone = self.alone();
        known.catch_up(&self.path);
        change(&mut known);
        let _ = store(&known, &self.path);
    }
}

fn recall<T: Clone>(answer: Option<&Answer<T>>, subject: &FileIdentity) -> Option<T> {
    answer.filter(|answer| answer.subject == *subject).map(|answer| answer.verdict.clone())
}

/// Whoever writes is alone with the name of the unfinished file; one of its own for each would be left behind by one that is killed.
fn store(record: &Record, path: &Path) -> std::io::Result<()> {
    let unfinished = path.with_added_extension("new");
    fs::write(&unfinished, serde_json::to_vec(record)?)?;
    fs::rename(&unfinished, path)
}

/// Tells this boot of the host from every other.
pub(crate) fn boot_id() -> Option<String> {
    Some(fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?.trim().to_owned())
}
