//! The descriptors of a process, and how a copy gets its own.

use crate::format::SLOTS;
use crate::plan::{Plan, number};
use crate::{Capture, Error, Provided};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

const F_SETFL: u64 = 4;
/// `O_ACCMODE | O_APPEND | O_NONBLOCK`: what a copy's descriptor has in common with the original's.
const KEPT_FLAGS: u64 = 0o3 | 0o2000 | 0o4000;
const NONBLOCK: u64 = 0o4000;

/// Standard input, output and error: whatever a copy is started with.
const INHERITED: i32 = 3;

/// An open descriptor.
struct Descriptor {
    number: i32,
    /// What it leads to, as `/proc/PID/fd` has it.
    target: String,
    /// Device and inode of that.
    file: (u64, u64),
    flags: u64,
    /// The lines of `/proc/PID/fdinfo` about it.
    info: String,
}

/// Adds the steps that make the descriptors of the process.
pub(crate) fn add(plan: &mut Plan, request: &Capture) -> Result<(), Error> {
    // What else was open where the copy is started is none of its business.
    plan.call(number::CLOSE_RANGE, &[INHERITED.cast_unsigned().into(), (SLOTS - 1).into(), 0], 0);
    for descriptor in list(request.pid)? {
        let number = descriptor.number.cast_unsigned().into();
        match slot(request, &descriptor) {
            _ if descriptor.number < INHERITED => {}
            // The process may still close it, which must not hit another that has come to have its number.
            None if request.forgotten.contains(&descriptor.file) => plan.open_path("/dev/null", 0, number),
            Some(slot) => {
                plan.call(number::DUP3, &[(SLOTS + slot).into(), number, 0], number);
                plan.call(number::FCNTL, &[number, F_SETFL, descriptor.flags & KEPT_FLAGS], 0);
            }
            None => make(plan, &descriptor, number)?,
        }
    }
    Ok(())
}

/// Where the caller of a copy leaves it.
fn slot(request: &Capture, descriptor: &Descriptor) -> Option<u32> {
    let given = request.given.iter().find(|(file, _)| *file == descriptor.file).map(|&(_, slot)| slot);
    let is_it =
        |provided: &Provided| provided.mapped.metadata().is_ok_and(|file| (file.dev(), file.ino()) == descriptor.file);
    given.or(request.provided.filter(is_it).map(|provided| provided.slot))
}

fn make(plan: &mut Plan, descriptor: &Descriptor, number: u64) -> Result<(), Error> {
    let nonblocking = descriptor.flags & NONBLOCK;
    match descriptor.target.as_str() {
        "anon_inode:[eventfd]" => {
            let count = u64::from_str_radix(descriptor.field("eventfd-count")?, 16);
            let semaphore = u64::from(descriptor.field("eventfd-semaphore").is_ok_and(|semaphore| semaphore == "1"));
            let count = count.map_err(|_| Error::Proc { what: "fdinfo" })?;
            plan.open(number::EVENTFD2, &[count, nonblocking | semaphore], number);
        }
        "anon_inode:[signalfd]" => {
            let mask = u64::from_str_radix(descriptor.field("sigmask")?, 16);
            let mask = plan.words(&[mask.map_err(|_| Error::Proc { what: "fdinfo" })?]);
            plan.open(number::SIGNALFD4, &[u64::MAX, mask, 8, nonblocking], number);
        }
        path @ "/dev/null" => plan.open_path(path, descriptor.flags & KEPT_FLAGS, number),
        what => return Err(Error::Descriptor { number: descriptor.number, what: what.to_owned() }),
    }
    Ok(())
}

impl Descriptor {
    fn field(&self, name: &str) -> Result<&str, Error> {
        let value = self.info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        value.map(str::trim).ok_or(Error::Proc { what: "fdinfo" })
    }
}

fn list(pid: i32) -> Result<Vec<Descriptor>, Error> {
    let failed = |source| Error::Trace { action: "list the descriptors of", source };
    let directory = format!("/proc/{pid}/fd");
    let mut all = Vec::new();
    for entry in fs::read_dir(&directory).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        let number = name.to_str().and_then(|name| name.parse().ok()).ok_or(Error::Proc { what: "fd" })?;
        let target = fs::read_link(Path::new(&directory).join(&name)).map_err(failed)?;
        let info = fs::read_to_string(format!("/proc/{pid}/fdinfo/{number}")).map_err(failed)?;
        let file = fs::metadata(Path::new(&directory).join(&name)).map_err(failed)?;
        let (file, target) = ((file.dev(), file.ino()), target.to_string_lossy().into_owned());
        let mut descriptor = Descriptor { number, target, file, flags: 0, info };
        descriptor.flags =
            u64::from_str_radix(descriptor.field("flags")?, 8).map_err(|_| Error::Proc { what: "fdinfo" })?;
        if descriptor.number.cast_unsigned() >= SLOTS {
            return Err(Error::Descriptor { number, what: descriptor.target });
        }
        all.push(descriptor);
    }
    all.sort_by_key(|descriptor| descriptor.number);
    Ok(all)
}
