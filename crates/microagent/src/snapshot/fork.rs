//! New workspaces that go on from a snapshot.

use super::{Restoring, own_disks};
use crate::clone::make_parent;
use crate::supervisor::StartReport;
use crate::{Client, Error, StartOptions};
use microagent_protocol::FaultReport;
use microagent_state::snapshot::SnapshotRef;
use microagent_state::{DiskSource, ForwardRecord, Name, Phase, SecretsRecord, Workspace, WorkspaceRecord};
use serde::Serialize;

/// Options of [`Client::fork`].
#[derive(Clone, Debug, Default)]
pub struct ForkOptions {
    /// Names of the new workspaces; where there are fewer than `count`, the others are called after the snapshot's workspace.
    pub names: Vec<Name>,
    /// How many there are to be.
    pub count: usize,
    /// Whether they are given the secrets and credentials of the snapshot's workspace. Without it they have none.
    pub secrets: bool,
    /// Ports of the host that lead into them. Those of the snapshot's workspace are its own.
    pub forwards: Vec<ForwardRecord>,
    /// Whether they are given the disks alone, and are not started: what was in memory is left behind.
    pub disk_only: bool,
    /// How they are started.
    pub start: StartOptions,
}

/// What became of a workspace that was to go on from a snapshot.
#[derive(Clone, Debug, Serialize)]
pub struct Forked {
    /// Its name.
    pub workspace: Name,
    /// Where it is in its life; absent where it is not there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<Phase>,
    /// How it was started.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started: Option<StartReport>,
    /// Why it is not there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<FaultReport>,
}

impl ForkOptions {
    /// Most workspaces of one call.
    pub const MAX: usize = 1000;
}

impl Client {
    /// Makes workspaces that go on from a snapshot, all at once, each as somebody of its own. Those that could not be started are not there.
    /// Of a snapshot without memory, or of its disks alone, they are made and not started.
    pub fn fork(&self, from: &SnapshotRef, options: &ForkOptions) -> Result<Vec<Forked>, Error> {
        let count = options.count.max(options.names.len());
        if count == 0 || count > ForkOptions::MAX {
            let reason = format!("it is between 1 and {}", ForkOptions::MAX);
            return Err(Error::BadOption { option: "count", value: count.to_string(), reason });
        }
        if let Some(taken) = options.forwards.iter().find(|forward| forward.host_port != 0).filter(|_| count > 1) {
            let reason =
                format!("one port of the host leads to one workspace, and there are to be {count}: use port 0");
            return Err(Error::BadOption { option: "publish", value: taken.to_string(), reason });
        }
        let open = if options.disk_only { Restoring::open_disks } else { Restoring::open };
        let restoring = open(self, from)?;
        let names = self.names(&from.workspace, count, &options.names)?;
        // Until its supervisor is there, a copy looks like one whose maker has died.
        let _unswept = self.state().unswept()?;
        // All are made before any is started: a process that is being started holds, for a moment, whatever this one holds.
        let made = side_by_side(names, |name| {
            let made = self.make_fork(&restoring, &name, options);
            (name, made)
        });
        Ok(side_by_side(made, |(name, made)| match made.and_then(|()| self.start_fork(&restoring, &name, options)) {
            Ok(started) => {
                let state = started.as_ref().map_or(Phase::Prepared, |started| started.state);
                Forked { workspace: name, state: Some(state), started, error: None }
            }
            Err(error) => Forked { workspace: name, state: None, started: None, error: Some(error.report()) },
        }))
    }

    /// Names for all of them: those that are given, and others that are free.
    fn names(&self, after: &Name, count: usize, given: &[Name]) -> Result<Vec<Name>, Error> {
        let mut names = given.to_vec();
        let taken = self.state().names()?;
        if let Some(taken) = names.iter().find(|name| taken.contains(name)) {
            return Err(microagent_state::Error::Exists { name: taken.to_string() }.into());
        }
        let mut number = 0;
        while names.len() < count {
            number += 1;
            let suffix = format!("-fork-{number}");
            let stem: String = after.as_str().chars().take(Name::MAX - suffix.len()).collect();
            let name = Name::new(format!("{stem}{suffix}"))?;
            if !taken.contains(&name) && !names.contains(&name) {
                names.push(name);
            }
        }
        Ok(names)
    }

    fn start_fork(
        &self,
        restoring: &Restoring,
        name: &Name,
        options: &ForkOptions,
    ) -> Result<Option<StartReport>, Error> {
        if !restoring.has_machine() {
            return Ok(None);
        }
        let start = StartOptions { from_snapshot: Some(restoring.reference()), ..options.start.clone() };
        self.start(name, &start).map(Some).inspect_err(|_| {
            // It never was anything but a copy. What cannot be removed now, `gc` will.
            let _ = self.state().acquire(name).and_then(Workspace::remove);
        })
    }

    /// Makes the workspace, with its disks. Until its machine runs it is one that goes with whoever makes it.
    fn make_fork(&self, restoring: &Restoring, name: &Name, options: &ForkOptions) -> Result<(), Error> {
        let workspace = self.state().create(name)?;
        match self.fill_fork(restoring, &workspace, options) {
            Ok(()) => Ok(()),
            Err(error) => {
                let _ = workspace.remove();
                Err(error)
            }
        }
    }

    fn fill_fork(&self, restoring: &Restoring, workspace: &Workspace, options: &ForkOptions) -> Result<(), Error> {
        let now = jiff::Timestamp::now();
        let then = &restoring.manifest().record;
        let mut record = WorkspaceRecord {
            name: workspace.name().clone(),
            created_at: now,
            updated_at: now,
            origin: Some(restoring.reference()),
            forwards: options.forwards.clone(),
            error: None,
            session: None,
            ..then.clone()
        };
        if !options.secrets {
            (record.secrets, record.swaps) = (SecretsRecord::default(), serde_json::Value::Null);
        }
        if record.hostname == then.name.to_hostname() {
            record.hostname = workspace.name().to_hostname();
        }
        for disk in &mut record.disks {
            let DiskSource::Bundle { path: Some(path), .. } = &mut disk.source else { continue };
            *path = workspace.path().join("disks").join(format!("{}.ext4", disk.name));
        }
        for (name, path, _) in own_disks(workspace.disk(), &record) {
            make_parent(&path)?;
            restoring.write_disk(&name, &path)?;
        }
        // One that has a machine to go on from is nothing without it.
        let goes_on = restoring.has_machine();
        record.phase = if goes_on { Phase::Starting } else { Phase::Prepared };
        record.disposable = goes_on;
        workspace.store(&record)?;
        let cause = self.cause(Some(format!("a copy of snapshot `{}`", restoring.reference())));
        Ok(workspace.note(&record, "forked", cause)?)
    }
}

/// Does something with each, on threads of their own: much of it is waiting.
fn side_by_side<T: Send, U: Send>(all: Vec<T>, act: impl Fn(T) -> U + Sync) -> Vec<U> {
    std::thread::scope(|scope| {
        let act = &act;
        let threads: Vec<_> = all.into_iter().map(|one| scope.spawn(move || act(one))).collect();
        threads.into_iter().map(|thread| thread.join().expect("what is done does not panic")).collect()
    })
}
