//! Kernel modules: drivers and file systems the guest kernel does not have built in.
//!
//! The initramfs holds them as plain files in `/modules`, and beside it [`LIST`]: one line a module, its stage and its file
//! name, dependencies first.
//!
//! ```text
//! boot virtio_ring.ko
//! boot virtio.ko
//! disk virtio_blk.ko
//! ```

use crate::console;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use std::path::Path;

const DIRECTORY: &str = "/modules";
const LIST: &str = "/modules.list";

/// What a module is needed for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// The channel to the host.
    Boot,
    /// Block devices and file systems.
    Disk,
    /// Network interfaces.
    Network,
    /// `AF_VSOCK`.
    Vsock,
}

impl Stage {
    fn parse(word: &str) -> Option<Stage> {
        match word {
            "boot" => Some(Stage::Boot),
            "disk" => Some(Stage::Disk),
            "network" => Some(Stage::Network),
            "vsock" => Some(Stage::Vsock),
            _ => None,
        }
    }
}

/// The modules of this initramfs.
pub(crate) struct Modules(Vec<(Stage, String)>);

impl Modules {
    /// Reads the list. A kernel with everything built in has none.
    pub(crate) fn read() -> Modules {
        Modules(parse(&std::fs::read_to_string(LIST).unwrap_or_default()))
    }

    /// Loads the modules of one stage. A module that does not load is reported and the next one tried: what really is missing
    /// shows when it is used, and the reason is then on the console.
    pub(crate) fn load(&self, stage: Stage) {
        for (_, file) in self.0.iter().filter(|(of, _)| *of == stage) {
            match load(&Path::new(DIRECTORY).join(file)) {
                // Built in, or a dependency that another module of the list has brought in.
                Ok(()) | Err(Errno::EXIST) => {}
                Err(error) => console::say(format_args!("cannot load module `{file}`: {error}")),
            }
        }
    }
}

/// Removes the files: they are memory, and a frozen guest is copied with it.
pub(crate) fn discard() {
    // Left-over files cost memory and nothing else.
    let _ = std::fs::remove_dir_all(DIRECTORY);
}

fn load(path: &Path) -> rustix::io::Result<()> {
    let file = rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    rustix::system::finit_module(file, c"", 0)
}

fn parse(list: &str) -> Vec<(Stage, String)> {
    list.lines()
        .filter_map(|line| {
            let (stage, file) = line.split_once(' ')?;
            Some((Stage::parse(stage)?, file.to_owned()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_keep_their_order_within_a_stage() {
        let modules = parse("boot virtio_ring.ko\nboot virtio.ko\ndisk virtio_blk.ko\nnetwork virtio_net.ko\n");
        let boot: Vec<_> = modules.iter().filter(|(stage, _)| *stage == Stage::Boot).map(|(_, file)| file).collect();
        assert_eq!(boot, ["virtio_ring.ko", "virtio.ko"]);
        assert_eq!(modules.len(), 4);
    }

    #[test]
    fn lines_that_are_not_modules_are_passed_over() {
        assert!(parse("\nboot\nmoon lander.ko\n").is_empty());
    }
}
