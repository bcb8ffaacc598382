//! The other processors of the machine.
//!
//! The kernel is told to boot on one: it patches its own code all the way up, which is cheap as long as nobody else may be running it,
//! and under emulation costs a quarter of the boot otherwise. The rest join here.

use rustix::thread::{CpuSet, sched_setaffinity};
use std::fs;

const PROCESSORS: &str = "/sys/devices/system/cpu";

/// A mask of the processors that take the interrupts of new devices (`Documentation/core-api/irq/irq-affinity.rst` in Linux).
const INTERRUPTS: &str = "/proc/irq/default_smp_affinity";

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

/// Keeps this process, and the interrupts of devices that are yet to come, on the first processor.
///
/// The agent does one thing at a time, so it gains nothing from the others. Two processors that work on the same device keep waiting for
/// each other's locks, and an emulated one that waits for another that the host does not run at the moment waits at full speed.
pub(crate) fn stay_on_first() {
    let mut first = CpuSet::new();
    first.set(0);
    // Elsewhere it does the same work.
    let _ = sched_setaffinity(None, &first);
    let _ = fs::write(INTERRUPTS, "1");
}

/// Lets this process run on every processor.
pub(crate) fn use_all() {
    let mut all = CpuSet::new();
    (0..CpuSet::MAX_CPU).for_each(|processor| all.set(processor));
    // On the first alone it runs all the same.
    let _ = sched_setaffinity(None, &all);
}
