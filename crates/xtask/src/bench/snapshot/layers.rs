//! What a snapshot takes on disk, where there is one before it.

use super::source::Source;
use crate::bench::Bench;
use crate::bench::goal::Goal;
use crate::bench::sample::{Sample, in_turns};
use crate::{Error, Result};
use std::cell::Cell;

const NAME: &str = "snap-disk";

/// What a snapshot may take for what has changed: as much again, for what is on the same pages.
const GOAL_MEMORY: &str = "a snapshot after 1 MiB to memory, above one after nothing";
const GOAL_DISK: &str = "the same after 1 MiB to a file: in memory and on the disk";

/// What is in use of the guest's memory, in KiB.
const IN_USE: &str = "awk '/^MemTotal/ {all=$2} /^MemFree/ {free=$2} END {print all-free}' /proc/meminfo";

pub(super) fn measure(bench: &Bench) -> Result<Vec<Goal>> {
    let source = Source::start(bench, NAME)?;
    let in_use = source.shell(IN_USE)?;
    let wanted = || Error::Unexpected { line: IN_USE.to_owned(), wanted: "number" };
    let in_use = in_use.trim().parse::<f64>().map_err(|_| wanted())? / 1024.0;
    let first = source.snapshot("first")?;
    let number = Cell::new(0);
    // Each is of what has changed since the one before it, which is what it says here.
    let after = |line: &str| -> Result<f64> {
        number.set(number.get() + 1);
        source.shell(&line.replace("FILE", &format!("piece-{}", number.get())))?;
        Ok(source.snapshot(&format!("after-{}", number.get()))?.own)
    };
    let nothing = || after("true");
    let memory = || after("head -c 1048576 /dev/urandom > /dev/shm/FILE");
    let disk = || after("head -c 1048576 /dev/urandom > /root/FILE; sync");
    let [nothing, memory, disk]: [Sample; 3] = in_turns(bench.times, [&nothing, &memory, &disk])?;
    println!("\n{:<38}{:>26}", "snapshots, MiB of their own", "MiB");
    println!("{:<38}{in_use:>26.1}", "the guest's memory in use");
    println!("{:<38}{:>26.1}", "the first", first.own);
    println!("{:<38}{:>26.1}", "what the first shares with others", first.shared);
    println!("{:<38}{:>26}", "a later one, after nothing", nothing.to_string());
    println!("{:<38}{:>26}", "after 1 MiB to memory", memory.to_string());
    println!("{:<38}{:>26}", "after 1 MiB to a file on its disk", disk.to_string());
    let above = |sample: &Sample| sample.median() - nothing.median();
    Ok(vec![Goal::at_most(2.0, "MiB", GOAL_MEMORY, above(&memory)), Goal::at_most(4.0, "MiB", GOAL_DISK, above(&disk))])
}
