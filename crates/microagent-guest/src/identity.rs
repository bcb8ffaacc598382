//! What makes this machine itself and no other: clock, randomness, names.
//!
//! Two machines restored from one frozen guest are equal in all of this until the boot request sets them apart, or, where the guest was a
//! workspace's already, the request to wake.

use crate::refusal::{quoted, refusal};
use crate::sys;
use microagent_protocol::{Boot, Refusal, RefusalCode};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::time::{ClockId, Timespec, clock_gettime, clock_settime};

/// Less entropy than this does not make a key.
const MIN_ENTROPY: usize = 32;

/// Longest host name the kernel takes.
const MAX_HOSTNAME: usize = 64;

const NS_PER_S: u64 = 1_000_000_000;

/// The guest's clock, in nanoseconds since the Unix epoch.
pub(crate) fn now_ns() -> u64 {
    let now = clock_gettime(ClockId::Realtime);
    now.tv_sec.cast_unsigned() * NS_PER_S + now.tv_nsec.cast_unsigned()
}

/// Nanoseconds since the guest kernel started.
pub(crate) fn monotonic_ns() -> u64 {
    let up = clock_gettime(ClockId::Monotonic);
    up.tv_sec.cast_unsigned() * NS_PER_S + up.tv_nsec.cast_unsigned()
}

/// Milliseconds since the guest kernel started.
pub(crate) fn uptime_ms() -> u64 {
    monotonic_ns() / 1_000_000
}

/// Refuses names that would corrupt the files they are written to.
pub(crate) fn check(hostname: &str, machine_id: &str) -> Result<(), Refusal> {
    let bad = |what: String| Err(refusal(RefusalCode::BadRequest, what));
    let letters = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    if hostname.is_empty() || hostname.len() > MAX_HOSTNAME || !hostname.bytes().all(letters) {
        let name = quoted(hostname);
        return bad(format!("host name {name} is not 1 to {MAX_HOSTNAME} letters, digits, `-`, `_` and `.`"));
    }
    if machine_id.len() != 32 || !machine_id.bytes().all(is_digit) {
        return bad(format!("machine id {} is not 32 lower-case hexadecimal digits", quoted(machine_id)));
    }
    Ok(())
}

/// Refuses too little entropy.
pub(crate) fn check_entropy(entropy: &[u8]) -> Result<(), Refusal> {
    if entropy.len() >= MIN_ENTROPY {
        return Ok(());
    }
    let what = format!("{} bytes of entropy are fewer than {MIN_ENTROPY}", entropy.len());
    Err(refusal(RefusalCode::BadRequest, what))
}

/// Refuses what the kernel's own file could not hold.
pub(crate) fn check_boot_id(boot_id: &str) -> Result<(), Refusal> {
    let groups = boot_id.split('-').map(str::len);
    if groups.eq([8, 4, 4, 4, 12]) && boot_id.bytes().all(|byte| byte == b'-' || is_digit(byte)) {
        return Ok(());
    }
    Err(refusal(RefusalCode::BadRequest, format!("boot id {} is not a UUID in lower case", quoted(boot_id))))
}

fn is_digit(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'a'..=b'f')
}

/// Becomes the machine of the request. The randomness comes first: nothing that follows may draw from a generator whose
/// state another copy of this guest shares.
pub(crate) fn assume(boot: &Boot) -> Result<(), Refusal> {
    reseed(&boot.entropy)?;
    set_clock(boot.epoch_ns)?;
    set_hostname(&boot.hostname)
}

/// Parts with every other copy of this guest as far as randomness goes.
pub(crate) fn reseed(entropy: &[u8]) -> Result<(), Refusal> {
    rustix::fs::open("/dev/urandom", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .and_then(|random| sys::reseed(random, entropy))
        .map_err(|error| failed("seed the random number generator", error))
}

/// Sets the clock by what the host's said at the zero of the monotonic one.
pub(crate) fn set_clock(epoch_ns: u64) -> Result<(), Refusal> {
    let now = epoch_ns.saturating_add(monotonic_ns());
    let now = Timespec { tv_sec: (now / NS_PER_S).cast_signed(), tv_nsec: (now % NS_PER_S).cast_signed() };
    clock_settime(ClockId::Realtime, now).map_err(|error| failed("set the clock", error))
}

/// Tells the kernel its name.
pub(crate) fn set_hostname(name: &str) -> Result<(), Refusal> {
    rustix::system::sethostname(name.as_bytes()).map_err(|error| failed("set the host name", error))
}

fn failed(action: &str, error: Errno) -> Refusal {
    refusal(RefusalCode::System, format!("cannot {action}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_boot_id_is_a_uuid_as_the_kernel_writes_it() {
        assert_eq!(check_boot_id("0e2c9f6a-1b7d-4c3e-9a55-7d0f4b8c2e11"), Ok(()));
        for bad in [
            "",
            "0e2c9f6a1b7d4c3e9a557d0f4b8c2e11",
            "0E2C9F6A-1B7D-4C3E-9A55-7D0F4B8C2E11",
            "0e2c9f6a-1b7d-4c3e-9a55-7d0f4b8c2e11\n",
            "0e2c9f6a-1b7d-4c3e-9a557-d0f4b8c2e11",
            "0e2c9f6a-1b7d-4c3e-9a55-7d0f4b8c2e1/",
        ] {
            assert_eq!(check_boot_id(bad).unwrap_err().code, RefusalCode::BadRequest, "{bad:?}");
        }
    }
}
