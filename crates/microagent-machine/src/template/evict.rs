//! What templates there are, and how they go: when they are too many, when nobody can use them, when somebody says so, after a crash.

use super::memory;
use super::record::Record;
use super::shape::is_key;
use super::store::{TemplateStore, disk_bytes, failed_rehearsal};
use super::summary::{MemoryPlace, TemplatePrune, TemplateSummary, TemplatesPruned};
use super::{Error, Result};
use crate::probe::boot_id;
use std::collections::HashSet;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;

/// Most templates that are kept.
const MAX_TEMPLATES: usize = 8;

/// Most bytes of RAM of templates that are kept, as far as it has been touched.
const MAX_MEMORY: u64 = 2 << 30;

impl TemplateStore {
    /// All templates, the one used last first. `initramfs` are the keys of what machines are booted with: templates of others are stale.
    pub fn list(&self, initramfs: &[String]) -> Result<Vec<TemplateSummary>> {
        let keys = self.keys()?;
        let mut list: Vec<_> = keys.iter().filter_map(|key| self.summary(key, initramfs)).collect();
        list.sort_by(|one, other| other.used_at.cmp(&one.used_at).then_with(|| one.key.cmp(&other.key)));
        Ok(list)
    }

    /// Removes templates. Machines that were restored from them are not touched; one that is being made is left alone.
    pub fn prune(&self, which: TemplatePrune, initramfs: &[String]) -> Result<TemplatesPruned> {
        let mut pruned = TemplatesPruned::default();
        for key in self.keys()? {
            let useless = || self.summary(&key, initramfs).is_none_or(|summary| summary.stale.is_some());
            if which == TemplatePrune::Stale && !useless() {
                continue;
            }
            let Some(_lock) = self.lock(&key)? else { continue };
            if let Some(bytes) = self.remove(&key)? {
                pruned.bytes += bytes;
                pruned.removed.push(key);
            }
        }
        self.sweep();
        Ok(pruned)
    }

    /// Removes all templates but those whose keys `keep` gives (all stay where it gives none) and what interrupted processes left. Returns
    /// the bytes freed. It is asked after it was seen what there is, so that one that appears meanwhile stays; one that is being made is
    /// left alone.
    pub fn retain(&self, keep: impl FnOnce() -> Option<HashSet<String>>) -> Result<u64> {
        let there = self.keys()?;
        let mut bytes = self.sweep();
        if there.is_empty() {
            return Ok(bytes);
        }
        let Some(keep) = keep() else { return Ok(bytes) };
        for key in there.iter().filter(|key| !keep.contains(*key)) {
            let Some(lock) = self.lock(key)? else { continue };
            bytes += self.remove(key)?.unwrap_or_default();
            let _ = lock.remove();
        }
        Ok(bytes)
    }

    /// Removes what interrupted processes left: templates half made or half removed, and RAM on tmpfs that no template of any state
    /// directory of this user refers to. Returns the bytes freed.
    pub fn sweep(&self) -> u64 {
        self.sweep_others("")
    }

    /// Like [`TemplateStore::sweep`], when the lock of `held` is held already.
    pub(super) fn sweep_others(&self, held: &str) -> u64 {
        let mut freed = memory::sweep();
        for entry in fs::read_dir(self.path()).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            let unfinished = name.strip_prefix(".new-").or_else(|| name.strip_prefix(".doomed-"));
            let Some(key) = unfinished.or_else(|| name.strip_suffix(".lock")).filter(|key| is_key(key)) else {
                continue;
            };
            if key == held {
                continue;
            }
            // Whoever makes or removes it holds its lock.
            let Ok(Some(lock)) = self.lock(key) else { continue };
            if unfinished.is_some() {
                let bytes = disk_bytes(&entry.path());
                freed += fs::remove_dir_all(entry.path()).map_or(0, |()| bytes);
            }
            if !self.directory(key).exists() {
                let _ = lock.remove();
            }
        }
        freed
    }

    /// Removes the templates that were used longest ago until there are no more than are kept. `newest` stays in any case.
    pub(super) fn evict(&self, newest: &str) {
        let Ok(list) = self.list(&[]) else { return };
        let (mut count, mut bytes) = (0, 0);
        let newest_first = list.iter().filter(|template| template.key == newest);
        for template in newest_first.chain(list.iter().filter(|template| template.key != newest)) {
            count += 1;
            bytes += template.memory_bytes;
            if template.key == newest || (count <= MAX_TEMPLATES && bytes <= MAX_MEMORY) {
                continue;
            }
            // One that cannot be removed now is tried again with the next template.
            if let Ok(Some(lock)) = self.lock(&template.key) {
                let _ = self.remove(&template.key);
                let _ = lock.remove();
            }
        }
    }

    fn keys(&self) -> Result<Vec<String>> {
        let entries = match fs::read_dir(self.path()) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(Error::io("list", self.path()))?,
        };
        let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
        Ok(names.filter(|name| is_key(name)).collect())
    }

    /// What there is to say of a template; `None` when its record cannot be read.
    fn summary(&self, key: &str, initramfs: &[String]) -> Option<TemplateSummary> {
        let directory = self.directory(key);
        let (record, file) = Record::load(&directory).ok()?.ok()?;
        let used_at = file.metadata().ok()?.mtime().cast_unsigned();
        let untrusted = || record.open_memory(&directory).and_then(|_| record.open_state(&directory)).err();
        let large = record.large_files(&directory);
        let mismatch = || (record.shape.key() != key).then(|| "its record is of another machine".to_owned());
        let stale = record.shape.outlived(initramfs).map(str::to_owned).or_else(mismatch).or_else(untrusted);
        let hardware = &record.shape.hardware;
        Some(TemplateSummary {
            key: key.to_owned(),
            engine: hardware.engine.clone(),
            engine_version: hardware.engine_version.clone(),
            backend: hardware.backend.clone(),
            kernel: record.shape.kernel_release.clone(),
            memory_mib: hardware.memory_mib,
            cpus: hardware.cpus,
            memory: record.memory.place,
            rehearsal_failed: failed_rehearsal(&directory),
            rehearsed: record
                .checkpoint
                .as_ref()
                .is_some_and(|checkpoint| Some(&checkpoint.boot_id) == boot_id().as_ref()),
            memory_bytes: large
                .iter()
                .filter_map(|file| fs::symlink_metadata(file).ok())
                .map(|file| file.blocks() * 512)
                .sum(),
            disk_bytes: disk_bytes(&directory),
            made_at: record.made_at,
            used_at,
            stale,
        })
    }
}

impl TemplateSummary {
    /// What it takes, in memory and on disk.
    pub fn bytes(&self) -> u64 {
        match self.memory {
            MemoryPlace::Tmpfs => self.disk_bytes + self.memory_bytes,
            MemoryPlace::Disk => self.disk_bytes,
        }
    }
}
