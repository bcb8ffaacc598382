//! The other processors of the machine.
//!
//! The kernel is told to boot on one: it patches its own code all the way up, which is cheap as long as nobody else may be running it,
//! and under emulation costs a quarter of the boot otherwise. The rest join here.

use std::fs;

const PROCESSORS: &str = "/sys/devices/system/cpu";

/// Brings up every processor that is not. One that does not come up is the kernel's to complain of: the machine works without it.
pub(crate) fn bring_up() {
    let entries = fs::read_dir(PROCESSORS).into_iter().flatten().flatten();
    for entry in entries {
        let online = entry.path().join("online");
        if fs::read(&online).is_ok_and(|state| state.starts_with(b"0")) {
            let _ = fs::write(online, "1");
        }
    }
}
