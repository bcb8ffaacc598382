//! Block devices of the machine.
//!
//! A driver reads the size of a disk once, when it takes the device on, and keeps what it has read of its contents. The
//! disks of a guest that may be frozen and copied are therefore left without a driver until the boot request: the driver
//! then meets the disks of this machine, and of no other.

use crate::refusal::{quoted, refusal};
use microagent_protocol::{Refusal, RefusalCode};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

const VIRTIO_BUS: &str = "/sys/bus/virtio";

/// Device type of a block device (virtio specification, section 5), as the `device` attribute shows it.
const BLOCK: &str = "0x0002";

/// Runs `load`, which loads the block driver, so that the driver takes no device on.
pub(crate) fn without_binding(load: impl FnOnce()) {
    let automatic = Path::new(VIRTIO_BUS).join("drivers_autoprobe");
    // Without the switch the driver takes the disks on at once, which costs a machine that is not frozen nothing.
    let _ = fs::write(&automatic, "0");
    load();
    let _ = fs::write(&automatic, "1");
}

/// Gives every block device to the driver. When this returns they are usable.
pub(crate) fn bind() -> Result<(), Refusal> {
    hand_over(false, "bind").map_err(|error| refusal(RefusalCode::System, format!("cannot attach the disks: {error}")))
}

/// Takes every block device from the driver.
pub(crate) fn unbind() -> Result<(), Refusal> {
    hand_over(true, "unbind").map_err(|error| refusal(RefusalCode::System, format!("cannot detach the disks: {error}")))
}

/// Writes the name of every block device that has a driver, or has none, to a file of the driver.
fn hand_over(bound: bool, file: &str) -> io::Result<()> {
    let mut disks = Vec::new();
    for device in fs::read_dir(Path::new(VIRTIO_BUS).join("devices"))? {
        let path = device?.path();
        let is_disk = fs::read_to_string(path.join("device")).is_ok_and(|device| device.trim_end() == BLOCK);
        if is_disk && path.join("driver").exists() == bound {
            disks.extend(path.file_name().map(ToOwned::to_owned));
        }
    }
    // In the order of their addresses, so that the first disk of the host is `vda`.
    disks.sort_by_key(|name| (name.len(), name.clone()));
    let file = Path::new(VIRTIO_BUS).join("drivers/virtio_blk").join(file);
    disks.iter().try_for_each(|name| fs::write(&file, name.as_encoded_bytes()))
}

/// How many bytes a device has.
pub(crate) fn size(device: &Path) -> io::Result<u64> {
    /// The kernel counts sectors of that size, whatever those of the device are.
    const SECTOR: u64 = 512;
    let file = Path::new("/sys/block").join(device.file_name().unwrap_or_default()).join("size");
    let sectors: Option<u64> = fs::read_to_string(file)?.trim_end().parse().ok();
    sectors.map(|sectors| sectors * SECTOR).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// The device file of the disk with that serial number.
pub(crate) fn find(serial: &str) -> Result<PathBuf, Refusal> {
    fs::read_dir("/sys/block")
        .into_iter()
        .flatten()
        .filter_map(Result::ok)
        .find(|disk| fs::read_to_string(disk.path().join("serial")).is_ok_and(|found| found.trim_end() == serial))
        .map(|disk| Path::new("/dev").join(disk.file_name()))
        .ok_or_else(|| refusal(RefusalCode::DiskMissing, format!("no disk has the serial number {}", quoted(serial))))
}
