//! Making a workspace's disk larger.

use super::reach::Maintenance;
use crate::{Client, Error, Interrupt};
use microagent_protocol::{Capacity, Reply, Request};
use microagent_state::Name;
use serde::Serialize;

/// A disk that has another size now.
#[derive(Clone, Debug, Serialize)]
pub struct Resized {
    /// Name of the workspace.
    pub workspace: Name,
    /// What its size was.
    pub from_size_mib: u64,
    /// What it is.
    pub to_size_mib: u64,
    /// What the guest says of its file system.
    pub usage: Capacity,
}

impl Client {
    /// Makes the disk of a workspace at rest larger. It cannot be made smaller.
    pub fn resize(&self, name: &Name, size_mib: u64, interrupt: &Interrupt) -> Result<Resized, Error> {
        let (workspace, mut record) = self.hold(name)?;
        if !record.phase.can_start() {
            return Err(Error::WrongState { name: name.to_string(), state: record.phase, doing: "resize" });
        }
        let from_size_mib = record.resources.size_mib;
        crate::plan::check_size(size_mib)?;
        if size_mib < from_size_mib {
            return Err(Error::CannotShrink { name: name.to_string(), from: from_size_mib, to: size_mib });
        }
        let disk = workspace.disk();
        let grow = || std::fs::OpenOptions::new().write(true).open(&disk)?.set_len(size_mib << 20);
        grow().map_err(microagent_state::Error::io("resize", &disk))?;
        // The file is larger; from here on every boot makes the file system as large, whatever happens to this one.
        record.resources.size_mib = size_mib;
        workspace.store(&record)?;
        let machine = Maintenance::of(self, workspace, record, interrupt)?;
        let usage = match machine.call(&Request::Grow)?.wait(None)? {
            Reply::Grown(usage) => usage,
            other => {
                let what = format!("a request to grow was answered with {other:?}");
                return Err(microagent_machine::Error::ProtocolViolation { what }.into());
            }
        };
        let reason = format!("resized from {from_size_mib} to {size_mib} MiB");
        machine.workspace.note(&machine.record, "resized", self.cause(Some(reason)))?;
        machine.close()?;
        Ok(Resized { workspace: name.clone(), from_size_mib, to_size_mib: size_mib, usage })
    }
}
