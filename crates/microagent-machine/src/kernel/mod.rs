//! Guest kernels: where they come from, what is kept of them, and which one a machine boots.
//!
//! A [`KernelStore`] is the folder `kernels/<backend>/<arch>` of the state directory. Each installed kernel is one
//! folder there, named after its release:
//!
//! ```text
//! kernels/linux-kvm/amd64/
//!   default -> 6.1.0-56-cloud-amd64      the kernel a machine boots unless told otherwise
//!   6.1.0-56-cloud-amd64/
//!     vmlinux                            the ELF image (`bzImage` where no ELF can be had)
//!     modules/*.ko                       exactly the modules a guest needs, decompressed
//!     kernel.json                        the record: release, origin, facts, sha256 of every file
//! ```
//!
//! [`KernelStore::install`] fills it from a [`Source`]: the distribution's package manager, a package, an image or a
//! directory on this host, or a URL with a known digest. Whatever the source, the steps are the same: unpack what may
//! matter, find the image and cut the ELF out of it, find the modules of the same release, keep those a [`Feature`]
//! needs in an order that can be loaded front to back, write the record, and publish the folder by one rename. An
//! install that dies half way leaves a dot folder that [`KernelStore::collect_garbage`] removes.
//!
//! [`KernelStore::default_kernel`] is on the path of every run: it reads one small JSON file and hashes nothing.
//! [`KernelStore::verify`] is where the digests are checked. [`KernelStore::resolve`] makes a [`Kernel`] of any image
//! on this host, for `--kernel PATH`.
//!
//! ```no_run
//! use microagent_machine::kernel::{KernelStore, Source};
//!
//! # fn main() -> Result<(), microagent_machine::kernel::Error> {
//! let store = KernelStore::open("/home/user/.microagent/kernels".as_ref());
//! let kernel = store.install(&Source::Package, &mut |_| {})?;
//! println!("{} boots {}", kernel.release, kernel.image.display());
//! # Ok(())
//! # }
//! ```

mod apt;
mod archive;
mod assemble;
mod compression;
mod cpio;
mod dnf;
mod download;
mod error;
mod image;
mod install;
mod modinfo;
mod modules;
mod record;
mod resolve;
mod source;
mod store;
mod tool;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub use error::Error;
pub(crate) use record::hexadecimal;
pub use source::{Origin, Progress, Source};
pub use store::{Drift, Installed, KernelStore};

type Result<T, E = Error> = std::result::Result<T, E>;

/// The backend kernels are kept for. One kernel serves hardware virtualisation and emulation alike.
pub const BACKEND: &str = "linux-kvm";

/// A kernel that can be booted, and what is known about it without booting it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kernel {
    /// The name it is installed under; equal to the release unless that holds characters a file name should not.
    pub name: String,
    /// What `uname -r` says in the guest.
    pub release: String,
    /// The image, absolute.
    pub image: PathBuf,
    /// What the image is.
    pub format: ImageFormat,
    /// The modules a guest needs, in load order: boot modules first, each after those it depends on.
    pub modules: Vec<Module>,
    /// What the kernel can do.
    pub facts: Facts,
    /// Where it came from.
    pub origin: Origin,
    /// Hexadecimal sha256 over the image and the modules in order: equal digests boot the same code.
    pub digest: String,
}

/// What a kernel image is, and so who can boot it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ImageFormat {
    /// An uncompressed ELF executable: what Firecracker takes, and QEMU where [`Facts::pvh`] holds.
    Elf,
    /// An x86 boot image whose payload could not be decompressed here. QEMU boots it, slower; Firecracker does not.
    BzImage,
}

/// One kernel module on disk, uncompressed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Module {
    /// Its name as `/proc/modules` shows it.
    pub name: String,
    /// The `.ko` file, absolute.
    pub path: PathBuf,
    /// When the guest needs it.
    pub stage: Stage,
}

/// When a guest needs a module. A stage may be loaded without the ones after it, never without [`Stage::Boot`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// Before the channel to the host opens.
    Boot,
    /// Before a disk is mounted.
    Disk,
    /// Before the network comes up.
    Network,
    /// Before a vsock channel opens.
    Vsock,
}

impl Stage {
    /// The word used in records and in the initramfs.
    pub fn as_str(self) -> &'static str {
        match self {
            Stage::Boot => "boot",
            Stage::Disk => "disk",
            Stage::Network => "network",
            Stage::Vsock => "vsock",
        }
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a kernel can do, learnt from its files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Facts {
    /// The ELF carries a PVH entry note, so QEMU can start it directly.
    pub pvh: bool,
    /// How each feature is provided. A feature missing here is [`Support::Unknown`].
    pub features: BTreeMap<Feature, Support>,
}

impl Facts {
    /// How the kernel provides `feature`.
    pub fn support(&self, feature: Feature) -> Support {
        self.features.get(&feature).copied().unwrap_or(Support::Unknown)
    }
}

/// How a kernel provides a feature.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Support {
    /// It is part of the image.
    Builtin,
    /// It is one of the kept modules.
    Module,
    /// The kernel was built without it.
    Absent,
    /// Nothing came with the image that says; assume builtin.
    Unknown,
}

/// A kernel feature a microVM uses. The list decides which modules are kept, and for which [`Stage`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Feature {
    /// Virtio devices at fixed addresses: QEMU `microvm` and Firecracker.
    VirtioMmio,
    /// Virtio devices on PCI.
    VirtioPci,
    /// The serial port of the channel.
    VirtioConsole,
    /// Entropy from the host.
    VirtioRng,
    /// Disks.
    VirtioBlk,
    /// The file system of base images.
    Erofs,
    /// The file system of workspace disks.
    Ext4,
    /// A workspace stacked on a base image.
    Overlay,
    /// Network cards.
    VirtioNet,
    /// Sockets between host and guest.
    Vsock,
}

impl Feature {
    /// Every feature, in the order their modules are loaded within a stage.
    pub const ALL: [Feature; 10] = [
        Feature::VirtioMmio,
        Feature::VirtioPci,
        Feature::VirtioConsole,
        Feature::VirtioRng,
        Feature::VirtioBlk,
        Feature::Erofs,
        Feature::Ext4,
        Feature::Overlay,
        Feature::VirtioNet,
        Feature::Vsock,
    ];

    /// The module that provides it where it is not builtin.
    pub fn module(self) -> &'static str {
        match self {
            Feature::VirtioMmio => "virtio_mmio",
            Feature::VirtioPci => "virtio_pci",
            Feature::VirtioConsole => "virtio_console",
            Feature::VirtioRng => "virtio_rng",
            Feature::VirtioBlk => "virtio_blk",
            Feature::Erofs => "erofs",
            Feature::Ext4 => "ext4",
            Feature::Overlay => "overlay",
            Feature::VirtioNet => "virtio_net",
            Feature::Vsock => "vmw_vsock_virtio_transport",
        }
    }

    /// When a guest needs it.
    pub fn stage(self) -> Stage {
        match self {
            Feature::VirtioMmio | Feature::VirtioPci | Feature::VirtioConsole | Feature::VirtioRng => Stage::Boot,
            Feature::VirtioBlk | Feature::Erofs | Feature::Ext4 | Feature::Overlay => Stage::Disk,
            Feature::VirtioNet => Stage::Network,
            Feature::Vsock => Stage::Vsock,
        }
    }
}

/// The architecture of this host in the words of OCI: the only one whose kernels can be booted here.
pub fn host_architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}
