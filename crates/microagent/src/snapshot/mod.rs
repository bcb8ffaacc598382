//! Snapshots: what a workspace was at one moment, to return to and to go on from more than once.
//!
//! A snapshot of a workspace that runs has its memory, its devices and its own disks; one of a workspace at rest has its disks. How they are
//! kept is the business of [`microagent_state::snapshot`]; what is done here is to bring a machine to where it can be written down, and to
//! have machines go on from what was written.
//!
//! | module | what it does |
//! |---|---|
//! | `take` | writes down a machine that stands still (the supervisor's part) |
//! | `rest` | writes down the disks of a workspace at rest |
//! | `restore` | gives back disks, and the template of a machine that goes on |
//! | `put_back` | gives a workspace at rest the disks it had, and starts nothing |
//! | `evidence` | writes down a workspace that is to be quarantined |
//! | `fork` | makes new workspaces that go on from a snapshot |
//! | `catalog` | lists, shows and removes them |
//! | `captures` | removes what machines were restored from, when its snapshot is gone |
//!
//! # Captures
//!
//! Restoring maps memory from a file. The layers of a snapshot are not that file, so a machine is restored from a *capture*: a template
//! ([`microagent_machine::template`]) whose guest is not nobody's, in a store of its own. It is there as soon as the snapshot is, with the
//! engine in it where that can be; when it has been evicted, or the host has been booted since, it is made again of the layers, without the
//! engine.

mod captures;
mod catalog;
mod evidence;
mod fork;
mod put_back;
mod rest;
mod restore;
mod take;

pub use catalog::{SnapshotDetails, SnapshotSummary};
pub use evidence::Quarantined;
pub use fork::{ForkOptions, Forked};
pub use put_back::DisksRestored;
pub(crate) use restore::{RestoredDisks, Restoring};
pub(crate) use take::{Captured, Taking, Wanted};

use crate::control::Connection;
use crate::{Client, Error};
use microagent_protocol::supervisor::{Answer, Ask, Because, Taken};
use microagent_state::snapshot::{Snapshot, SnapshotKind, Tag};
use microagent_state::{Cause, DiskRecord, DiskSource, MountMode, Name, Workspace, WorkspaceRecord};
use serde::Serialize;
use std::path::PathBuf;
use std::time::Instant;

/// Name of a workspace's own disk in its snapshots. Those built from archives have a prefix, so that none is mistaken for it.
const WORKSPACE_DISK: &str = "workspace";
const BUNDLE_PREFIX: &str = "bundle-";

/// Files of a snapshot.
const STATE: &str = "state";
const AUTHORITY: &str = "authority.json";

/// Options of [`Client::snapshot`].
#[derive(Clone, Debug, Default)]
pub struct SnapshotOptions {
    /// What it is to be called; made of the time when absent.
    pub tag: Option<String>,
    /// What is to be known of it.
    pub comment: Option<String>,
    /// Why, for the workspace's events.
    pub reason: Option<String>,
}

/// A snapshot that was taken.
#[derive(Clone, Debug, Serialize)]
pub struct SnapshotReport {
    /// Name of the workspace.
    pub workspace: Name,
    /// What it is called.
    pub tag: Tag,
    /// What it is good for.
    pub kind: SnapshotKind,
    /// For how long the workspace stood still, in milliseconds; absent where it was at rest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pause_ms: Option<f64>,
    /// Bytes on disk that are this snapshot's alone.
    pub bytes: u64,
    /// Bytes on disk that it shares with other snapshots.
    pub shared_bytes: u64,
    /// What is less than it could be about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

impl Client {
    /// Takes a snapshot of a workspace: of its memory and its disks while it runs or is paused, and goes on; of its disks when it is at rest.
    pub fn snapshot(&self, name: &Name, options: &SnapshotOptions) -> Result<SnapshotReport, Error> {
        let tag = options.tag.as_deref().map(Tag::new).transpose()?;
        let workspace = self.state().find(name)?;
        if !workspace.status()?.phase.is_live() {
            return self.snapshot_at_rest(name, tag.as_ref(), SnapshotKind::Disk, options);
        }
        let (snapshot, note) = self.ask_for_snapshot(&workspace, tag, false, options, None)?;
        report(&snapshot, note)
    }

    /// Has the supervisor of a workspace take one.
    fn ask_for_snapshot(
        &self,
        workspace: &Workspace,
        tag: Option<Tag>,
        forensic: bool,
        options: &SnapshotOptions,
        deadline: Option<Instant>,
    ) -> Result<(Snapshot, Option<String>), Error> {
        let connection = Connection::open(workspace)?;
        let Cause { actor, reason, correlation_id } = self.cause(options.reason.clone());
        let ask = Ask::Snapshot {
            tag: tag.map(|tag| tag.to_string()),
            comment: options.comment.clone(),
            forensic,
            because: Because { actor, reason, correlation_id },
        };
        match connection.ask(&ask, deadline)? {
            Answer::Taken(Taken { tag, note, .. }) => {
                Ok((self.state().snapshots(workspace.name()).open(&Tag::new(tag)?)?, note))
            }
            other => Err(Connection::unexpected(&other)),
        }
    }
}

/// The disks of a workspace that belong to it: their names in a snapshot, where they are, and whether the guest writes to them.
fn own_disks(disk: PathBuf, record: &WorkspaceRecord) -> Vec<(String, PathBuf, bool)> {
    let bundle = |disk: &DiskRecord| match &disk.source {
        DiskSource::Bundle { path: Some(path), .. } => {
            Some((format!("{BUNDLE_PREFIX}{}", disk.name), path.clone(), disk.mode == MountMode::ReadWrite))
        }
        _ => None,
    };
    let own = std::iter::once((WORKSPACE_DISK.to_owned(), disk, true));
    own.chain(record.disks.iter().filter_map(bundle)).collect()
}

/// What there is to tell of a snapshot that was taken.
fn report(snapshot: &Snapshot, note: Option<String>) -> Result<SnapshotReport, Error> {
    let manifest = snapshot.manifest();
    let usage = snapshot.usage()?;
    Ok(SnapshotReport {
        workspace: manifest.workspace.clone(),
        tag: manifest.tag.clone(),
        kind: manifest.kind,
        pause_ms: manifest.pause_ms,
        bytes: usage.bytes,
        shared_bytes: usage.shared_bytes,
        note,
    })
}
