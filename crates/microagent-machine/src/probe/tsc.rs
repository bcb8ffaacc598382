//! How fast the time stamp counter of this host ticks.
//!
//! An emulated guest sees the host's counter, and has to be told its rate (`tsc_early_khz`): on a busy host its own
//! calibration fails and the boot hangs. The kernel knows the rate and prints it only to a log that ordinary users may
//! not read; `/proc/cpuinfo` shows the momentary clock of the core, which is another thing; CPUID names it on some
//! processors only. So it is measured, against the clock that is not slewed.
#![allow(unsafe_code)]

use std::fs;

/// How long to measure. The ends are read to within 100 ns, which over this time is 5 parts in a million; the kernel
/// accepts 500.
#[cfg(target_arch = "x86_64")]
const MEASURE: std::time::Duration = std::time::Duration::from_millis(20);
/// Readings taken at each end. The one interrupted least counts.
#[cfg(target_arch = "x86_64")]
const READINGS: usize = 16;

/// Measures the rate in kHz, in a few tens of milliseconds. `None` if this host has no counter of constant rate.
pub fn measure_tsc_khz() -> Option<u32> {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").ok()?;
    let flags = cpuinfo.lines().find(|line| line.starts_with("flags"))?;
    if !flags.split_whitespace().any(|flag| flag == "constant_tsc") {
        return None;
    }
    measure()
}

#[cfg(target_arch = "x86_64")]
fn measure() -> Option<u32> {
    let start = read();
    std::thread::sleep(MEASURE);
    let end = read();
    let ticks = u128::from(end.ticks.checked_sub(start.ticks)?);
    let nanoseconds = end.nanoseconds.checked_sub(start.nanoseconds).filter(|elapsed| *elapsed > 0)?;
    u32::try_from(ticks * 1_000_000 / nanoseconds).ok()
}

#[cfg(not(target_arch = "x86_64"))]
fn measure() -> Option<u32> {
    None
}

/// The counter and the clock at one moment.
#[cfg(target_arch = "x86_64")]
struct Reading {
    ticks: u64,
    nanoseconds: u128,
}

/// The reading with the least time between counter, clock, and counter again.
#[cfg(target_arch = "x86_64")]
fn read() -> Reading {
    let readings = (0..READINGS).map(|_| {
        let before = ticks();
        let clock = rustix::time::clock_gettime(rustix::time::ClockId::MonotonicRaw);
        let spent = ticks().wrapping_sub(before);
        let nanoseconds =
            u128::from(clock.tv_sec.unsigned_abs()) * 1_000_000_000 + u128::from(clock.tv_nsec.unsigned_abs());
        (spent, Reading { ticks: before.wrapping_add(spent / 2), nanoseconds })
    });
    readings.min_by_key(|(spent, _)| *spent).map_or(Reading { ticks: 0, nanoseconds: 0 }, |(_, reading)| reading)
}

#[cfg(target_arch = "x86_64")]
fn ticks() -> u64 {
    // SAFETY: every x86-64 processor has the instruction, and Linux lets user space use it unless a process forbids it
    // to itself.
    unsafe { core::arch::x86_64::_rdtsc() }
}
