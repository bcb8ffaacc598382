//! `--disk`, `--bundle` and `--volume`.

use crate::error::Error;
use clap::ArgAction;
use microagent::{DiskRecord, Disks};

/// Disks besides the workspace's own.
#[derive(clap::Args, Clone, Debug)]
#[command(next_help_heading = "Disks")]
pub(super) struct DiskArgs {
    /// Attach an ext4 file or block device; repeatable
    #[arg(long, value_name = "NAME=PATH:/MOUNT[:ro|rw]", action = ArgAction::Append)]
    disk: Vec<String>,
    /// Attach a disk made of a tar archive; repeatable
    #[arg(long, value_name = "NAME=PATH:/MOUNT[:ro|rw]", action = ArgAction::Append)]
    bundle: Vec<String>,
    /// Attach a named volume, a tar archive or an ext4 file; repeatable
    #[arg(long, short, value_name = "SRC:/MOUNT[:ro|rw]", action = ArgAction::Append)]
    volume: Vec<String>,
}

impl DiskArgs {
    /// The disks of `before`, and those of the command line.
    pub(super) fn add_to(&self, before: Vec<DiskRecord>) -> Result<Vec<DiskRecord>, Error> {
        let here = std::env::current_dir().map_err(Error::system("find the current directory"))?;
        let mut disks = Disks::new(here);
        let added = before
            .into_iter()
            .try_for_each(|record| disks.add(record))
            .and_then(|()| self.disk.iter().try_for_each(|value| disks.add_disk(value)))
            .and_then(|()| self.bundle.iter().try_for_each(|value| disks.add_bundle(value)))
            .and_then(|()| self.volume.iter().try_for_each(|value| disks.add_volume(value)));
        added?;
        Ok(disks.into_records())
    }
}
