//! Templates, and what the state directory takes.

use crate::{Client, Error};
use microagent_machine::agent;
use microagent_machine::initramfs::Initramfs;
use microagent_machine::template::{MemoryPlace, TemplatePrune, TemplateSummary, TemplatesPruned};
use microagent_state::Name;
use serde::Serialize;
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// What a state directory takes, as the file system counts it: blocks in use, not lengths.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct DiskUsage {
    /// Images: layers and bases.
    pub images: Usage,
    /// Guest kernels.
    pub kernels: Usage,
    /// Templates, with the initramfs machines boot from.
    pub templates: Usage,
    /// RAM of templates that is kept in memory and not on disk.
    pub template_memory: Usage,
    /// Workspaces, without their snapshots.
    pub workspaces: Usage,
    /// Snapshots: what they have alone, and the layers they share.
    pub snapshots: Usage,
    /// RAM of what machines go on from that were snapshots, kept in memory and not on disk.
    pub snapshot_memory: Usage,
    /// Volumes.
    pub volumes: Usage,
}

/// How many of a kind, and what they take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Usage {
    /// How many.
    pub count: u64,
    /// Bytes in use.
    pub bytes: u64,
}

impl Client {
    /// All templates, the one used last first.
    pub fn templates(&self) -> Result<Vec<TemplateSummary>, Error> {
        let templates = self.template_store().list(&self.initramfs_in_use()?);
        Ok(templates.map_err(microagent_machine::Error::from)?)
    }

    /// Removes templates. Machines that were restored from them are not touched. With all of them goes what is kept so that snapshots are
    /// restored at once; it is made again of the snapshots.
    pub fn prune_templates(&self, which: TemplatePrune) -> Result<TemplatesPruned, Error> {
        let captures = match which {
            TemplatePrune::All => {
                self.capture_store().prune(which, &[]).map_err(microagent_machine::Error::from)?.bytes
            }
            TemplatePrune::Stale => 0,
        };
        let pruned = self.template_store().prune(which, &self.initramfs_in_use()?);
        let TemplatesPruned { removed, bytes } = pruned.map_err(microagent_machine::Error::from)?;
        Ok(TemplatesPruned { removed, bytes: bytes + captures })
    }

    /// What everything in the state directory takes, and what is in memory of templates and snapshots with it.
    pub fn disk_usage(&self) -> Result<DiskUsage, Error> {
        let root = self.state().root();
        let in_memory = |templates: Vec<TemplateSummary>| {
            let in_memory = templates.iter().filter(|template| template.memory == MemoryPlace::Tmpfs);
            in_memory.fold(Usage::default(), |usage, template| Usage {
                count: usage.count + 1,
                bytes: usage.bytes + template.memory_bytes,
            })
        };
        let captures = self.capture_store().list(&[]).map_err(microagent_machine::Error::from)?;
        let names = self.state().names()?;
        let own = |name: &Name| blocks_below(&self.state().snapshots(name).directory());
        let of_snapshots: u64 = names.iter().map(own).sum();
        Ok(DiskUsage {
            images: Usage { count: self.images().list()?.len() as u64, bytes: blocks_below(&root.join("images")) },
            kernels: Usage {
                count: self.kernels().list().map_err(microagent_machine::Error::from)?.len() as u64,
                bytes: blocks_below(&root.join("kernels")),
            },
            templates: Usage {
                count: self.templates()?.len() as u64,
                bytes: blocks_below(self.template_store().path()),
            },
            template_memory: in_memory(self.templates()?),
            workspaces: Usage {
                count: names.len() as u64,
                bytes: blocks_below(&root.join("workspaces")).saturating_sub(of_snapshots),
            },
            snapshots: Usage {
                count: self.state().manifests()?.len() as u64,
                bytes: of_snapshots + blocks_below(&root.join("layers")) + blocks_below(self.capture_store().path()),
            },
            snapshot_memory: in_memory(captures),
            volumes: Usage { count: self.state().volumes()?.len() as u64, bytes: blocks_below(&root.join("volumes")) },
        })
    }

    /// Keys of what machines are booted with, as long as nobody names another kernel or agent.
    fn initramfs_in_use(&self) -> Result<Vec<String>, Error> {
        let installed = self.kernels().list().map_err(microagent_machine::Error::from)?;
        Ok(installed
            .iter()
            .filter_map(|installed| installed.kernel.as_ref().ok())
            .map(|kernel| Initramfs::key(agent::digest(), kernel))
            .collect())
    }
}

/// Blocks in use below a directory, in bytes; none where there is no directory. A file of several names counts once.
fn blocks_below(directory: &Path) -> u64 {
    let mut seen = BTreeSet::new();
    let mut bytes = 0;
    let mut waiting = vec![directory.to_owned()];
    while let Some(directory) = waiting.pop() {
        // Files come and go while they are counted.
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            let Ok(metadata) = entry.metadata() else { continue };
            if seen.insert((metadata.dev(), metadata.ino())) {
                bytes += metadata.blocks() * 512;
            }
            if metadata.is_dir() {
                waiting.push(entry.path());
            }
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holes_and_second_names_take_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let empty = blocks_below(directory.path());
        let file = fs::File::create(directory.path().join("sparse")).unwrap();
        file.set_len(1 << 30).unwrap();
        assert_eq!(blocks_below(directory.path()), empty);
        fs::write(directory.path().join("full"), vec![1; 1 << 20]).unwrap();
        fs::hard_link(directory.path().join("full"), directory.path().join("again")).unwrap();
        let taken = blocks_below(directory.path()) - empty;
        assert!((1 << 20..2 << 20).contains(&taken), "{taken} bytes");
    }
}
