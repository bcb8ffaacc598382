//! Snapshots of workspaces at rest: their disks.

use super::take::{Below, base};
use super::{SnapshotOptions, SnapshotReport, own_disks, report};
use crate::{Client, Error};
use microagent_state::snapshot::{DiskPart, Manifest, SnapshotKind, Tag};
use microagent_state::{Name, Phase};
use std::fs::File;

impl Client {
    /// Takes a snapshot of the disks of a workspace that nobody runs.
    pub(super) fn snapshot_at_rest(
        &self,
        name: &Name,
        tag: Option<&Tag>,
        kind: SnapshotKind,
        options: &SnapshotOptions,
    ) -> Result<SnapshotReport, Error> {
        self.at_rest(name, |workspace, record| {
            // What is quarantined can be looked at again; nothing is to go on from it.
            let is_evidence = kind == SnapshotKind::Forensic && record.phase == Phase::Quarantined;
            if !record.phase.can_start() && !is_evidence {
                return Err(Error::WrongState {
                    name: name.to_string(),
                    state: record.phase,
                    doing: "take a snapshot of",
                });
            }
            let store = self.state().snapshots(name);
            let now = jiff::Timestamp::now();
            let staged = match tag {
                Some(tag) => store.stage(tag)?,
                None => store.stage_at(now)?,
            };
            let below = Below::find(&store, record);
            let mut disks = Vec::new();
            for (name, path, _) in own_disks(workspace.disk(), record) {
                let file = File::open(&path).map_err(microagent_state::Error::io("read the disk", &path))?;
                let bytes = file.metadata().map_err(microagent_state::Error::io("read the disk", &path))?.len();
                let layers = staged.layers().write(&file, None, below.disk(&name))?;
                disks.push(DiskPart { name, bytes, layers });
            }
            let snapshot = staged.publish(Manifest {
                // Filled in when it is published.
                tag: Tag::of_time(now, 1),
                workspace: name.clone(),
                created_at: now,
                kind,
                comment: options.comment.clone(),
                pause_ms: None,
                ancestry: record.origin.clone(),
                record: record.clone(),
                base: base(record)?,
                secrets_purged: true,
                machine: None,
                disks,
                files: std::collections::BTreeMap::new(),
            })?;
            let what = format!("snapshot `{}`", snapshot.manifest().tag);
            workspace.note(record, "snapshot", self.cause(Some(options.reason.clone().unwrap_or(what))))?;
            report(&snapshot, None)
        })
    }
}
