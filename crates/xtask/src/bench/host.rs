//! The machine that is measured on.

use std::fs;
use std::process::Command;

use crate::{Error, Result, tool};

/// One line about the processors, the memory and the programs that are compared.
pub(super) fn describe() -> Result<String> {
    let information = read("/proc/cpuinfo")?;
    let of = |name: &str, text: &str| {
        let line = text.lines().find(|line| line.starts_with(name)).and_then(|line| line.split_once(':'));
        line.map_or_else(|| "unknown".to_owned(), |(_, value)| value.trim().to_owned())
    };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let version = |program: &str| -> Result<String> {
        let printed = tool::capture(Command::new(program).arg("--version"))?;
        Ok(printed.lines().next().unwrap_or_default().to_owned())
    };
    Ok(format!(
        "{cores} cores of {}, {} of memory; Linux {}; {}; {}",
        of("model name", &information),
        of("MemTotal", &read("/proc/meminfo")?),
        rustix::system::uname().release().to_string_lossy(),
        version("qemu-system-x86_64")?,
        version("podman")?,
    ))
}

/// The processes that wanted to run, averaged over the last minute.
pub(super) fn load() -> Result<String> {
    Ok(read("/proc/loadavg")?.split(' ').next().unwrap_or_default().to_owned())
}

fn read(path: &'static str) -> Result<String> {
    fs::read_to_string(path).map_err(Error::file("read", path))
}
