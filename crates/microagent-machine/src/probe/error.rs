//! A verdict turned into an error, by a caller that cannot go on without what was looked for.

use std::path::PathBuf;

use microagent_protocol::{Fault, FaultKind};

use super::{FirecrackerVerdict, KvmVerdict, QemuVerdict};

/// Something this host lacks and the caller needs. Probing itself does not fail: what goes wrong is the verdict.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// KVM was asked for and does not work here.
    #[error("this host has no usable KVM: {0}")]
    Kvm(KvmVerdict),
    /// QEMU was asked for and does not work here.
    #[error("this host has no usable QEMU: {0}")]
    Qemu(QemuVerdict),
    /// Firecracker was asked for and does not work here.
    #[error("this host has no usable Firecracker: {0}")]
    Firecracker(FirecrackerVerdict),
}

impl KvmVerdict {
    /// Nothing, if guest code runs on the processor.
    pub fn require(self) -> Result<(), Error> {
        match self {
            KvmVerdict::Works { .. } => Ok(()),
            other => Err(Error::Kvm(other)),
        }
    }
}

impl QemuVerdict {
    /// The program, if it can run microVMs.
    pub fn require(self) -> Result<PathBuf, Error> {
        match self {
            QemuVerdict::Found { path, microvm: true, .. } => Ok(path),
            other => Err(Error::Qemu(other)),
        }
    }
}

impl FirecrackerVerdict {
    /// The program, if there is one.
    pub fn require(self) -> Result<PathBuf, Error> {
        match self {
            FirecrackerVerdict::Found { path, .. } => Ok(path),
            other => Err(Error::Firecracker(other)),
        }
    }
}

impl Fault for Error {
    fn code(&self) -> &'static str {
        match self {
            Error::Kvm(_) => "kvm_unusable",
            Error::Qemu(QemuVerdict::Missing { .. }) => "qemu_missing",
            Error::Qemu(_) => "qemu_unusable",
            Error::Firecracker(FirecrackerVerdict::Missing { .. }) => "firecracker_missing",
            Error::Firecracker(_) => "firecracker_unusable",
        }
    }

    fn kind(&self) -> FaultKind {
        match self {
            Error::Kvm(KvmVerdict::NoPermission { .. }) => FaultKind::Denied,
            Error::Qemu(QemuVerdict::Missing { .. }) | Error::Firecracker(FirecrackerVerdict::Missing { .. }) => {
                FaultKind::NotFound
            }
            _ => FaultKind::Unsupported,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Error::Kvm(KvmVerdict::NoPermission { fix }) => Some(format!("run `{fix}`")),
            Error::Kvm(_) => Some("machines can be emulated by QEMU instead: use `--backend linux-tcg`".to_owned()),
            Error::Qemu(QemuVerdict::Missing { hint }) | Error::Firecracker(FirecrackerVerdict::Missing { hint }) => {
                Some(hint.clone())
            }
            Error::Qemu(QemuVerdict::Found { .. }) => {
                Some("install a QEMU that has the machine `microvm`, and name it with `MICROAGENT_QEMU`".to_owned())
            }
            Error::Qemu(_) | Error::Firecracker(_) => Some("install the program again".to_owned()),
        }
    }
}
