//! What makes this machine itself and no other: clock, randomness, names.
//!
//! Two machines restored from one frozen guest are equal in all of this until the boot request sets them apart.

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
pub(crate) fn check(boot: &Boot) -> Result<(), Refusal> {
    let letters = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    if boot.hostname.is_empty() || boot.hostname.len() > MAX_HOSTNAME || !boot.hostname.bytes().all(letters) {
        let what = format!(
            "host name {} is not 1 to {MAX_HOSTNAME} letters, digits, `-`, `_` and `.`",
            quoted(&boot.hostname)
        );
        return Err(refusal(RefusalCode::BadRequest, what));
    }
    let digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    if boot.machine_id.len() != 32 || !boot.machine_id.bytes().all(digit) {
        let what = format!("machine id {} is not 32 lower-case hexadecimal digits", quoted(&boot.machine_id));
        return Err(refusal(RefusalCode::BadRequest, what));
    }
    if boot.entropy.len() < MIN_ENTROPY {
        let what = format!("{} bytes of entropy are fewer than {MIN_ENTROPY}", boot.entropy.len());
        return Err(refusal(RefusalCode::BadRequest, what));
    }
    Ok(())
}

/// Becomes the machine of the request. The randomness comes first: nothing that follows may draw from a generator whose
/// state another copy of this guest shares.
pub(crate) fn assume(boot: &Boot) -> Result<(), Refusal> {
    let failed = |action: &str, error: Errno| refusal(RefusalCode::System, format!("cannot {action}: {error}"));
    rustix::fs::open("/dev/urandom", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .and_then(|random| sys::reseed(random, &boot.entropy))
        .map_err(|error| failed("seed the random number generator", error))?;
    let now = boot.epoch_ns.saturating_add(monotonic_ns());
    let now = Timespec { tv_sec: (now / NS_PER_S).cast_signed(), tv_nsec: (now % NS_PER_S).cast_signed() };
    clock_settime(ClockId::Realtime, now).map_err(|error| failed("set the clock", error))?;
    rustix::system::sethostname(boot.hostname.as_bytes()).map_err(|error| failed("set the host name", error))
}
