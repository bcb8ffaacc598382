//! The lab's initramfs: busybox, the modules in the order to load them, the init script, and the command.

use std::fs;
use std::path::Path;

use super::kernel::Kernel;
use crate::packages::BUSYBOX;
use crate::{Error, Result};

const INIT: &str = include_str!("init.sh");
/// Directories that the init script mounts something on.
const MOUNT_POINTS: [&str; 7] = ["bin", "dev", "host", "memory", "modules", "proc", "sys"];

const DIRECTORY: u32 = 0o040_755;
const PROGRAM: u32 = 0o100_755;
const FILE: u32 = 0o100_644;

/// Builds the initramfs that runs the shell script `command`, as the bytes of a cpio archive.
pub(super) fn build(kernel: &Kernel, command: &str) -> Result<Vec<u8>> {
    let mut archive = Archive::default();
    for name in MOUNT_POINTS {
        archive.add(name, DIRECTORY, &[]);
    }
    archive.add("bin/busybox", PROGRAM, &read(Path::new(BUSYBOX))?);
    for module in kernel.modules()? {
        let name = module.file_name().unwrap_or_default().to_string_lossy();
        archive.add(&format!("modules/{name}"), FILE, &read(&module)?);
    }
    archive.add("command", FILE, command.as_bytes());
    archive.add("init", PROGRAM, INIT.as_bytes());
    Ok(archive.finish())
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).map_err(Error::file("read", path))
}

/// A cpio archive in the "new ASCII" format, the one the kernel unpacks (`Documentation/driver-api/early-userspace`).
#[derive(Default)]
struct Archive {
    bytes: Vec<u8>,
    entries: u32,
}

impl Archive {
    fn add(&mut self, name: &str, mode: u32, content: &[u8]) {
        self.entries += 1;
        let inode = self.entries;
        let (links, owner, time, device) = (1, 0, 0, 0);
        let fields = [
            inode,
            mode,
            owner,
            owner,
            links,
            time,
            content.len() as u32,
            device,
            device,
            device,
            device,
            name.len() as u32 + 1,
            0,
        ];
        self.bytes.extend_from_slice(b"070701");
        for field in fields {
            self.bytes.extend_from_slice(format!("{field:08x}").as_bytes());
        }
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(0);
        self.align();
        self.bytes.extend_from_slice(content);
        self.align();
    }

    fn align(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    fn finish(mut self) -> Vec<u8> {
        self.add("TRAILER!!!", 0, &[]);
        self.bytes
    }
}
