//! Whether `/dev/kvm` is a KVM that works.
//!
//! That it opens says little: under a paravirtual KVM (`kvm_pvm`) every ioctl succeeds and an ordinary guest kernel is
//! interpreted instruction by instruction, a thousand times too slow to boot. So the probe runs guest code, in the mode
//! kernels run in, and looks at the time it takes.

use std::fmt;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use kvm_ioctls::Kvm;
use serde::{Deserialize, Serialize};

use super::vcpu::{LOOPS, Outcome, Vcpu};

/// How long the probe's two million loop rounds may take before KVM is taken to be emulated.
///
/// Measured on two cores: real KVM inside an emulated processor, the slowest KVM that is one, took 8 to 14 ms, and 11 to
/// 32 ms with a load of four; a host with `kvm_pvm` took 1.3 s idle and 2.1 to 2.7 s under that load. A processor does a
/// round in a clock cycle or two. The deadline lies six times from either side, and only emulated hosts wait for it.
pub const KVM_DEADLINE: Duration = Duration::from_millis(200);

pub(super) const DEVICE: &str = "/dev/kvm";
/// The API version has been this since 2007; `Documentation/virt/kvm/api.rst` in Linux tells programs to refuse others.
const API_VERSION: i32 = 12;

/// What `/dev/kvm` is good for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verdict", rename_all = "snake_case", deny_unknown_fields)]
#[non_exhaustive]
pub enum KvmVerdict {
    /// Guest code runs on the processor.
    Works {
        /// What the kernel calls its API.
        api_version: i32,
        /// How long the guest code took.
        took: Duration,
    },
    /// There is no `/dev/kvm`.
    Absent,
    /// This user may not open it.
    NoPermission {
        /// The command that changes that.
        fix: String,
    },
    /// It opens and every call succeeds, but guest code is interpreted: an ordinary kernel would not boot.
    Emulated {
        /// What gave it away.
        why: String,
    },
    /// Something in between failed.
    Failed {
        /// What was being done.
        step: String,
        /// What the kernel answered.
        error: String,
    },
}

impl fmt::Display for KvmVerdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            KvmVerdict::Works { took, .. } => write!(f, "KVM works, guest code ran in {} us", took.as_micros()),
            KvmVerdict::Absent => write!(f, "there is no `{DEVICE}`"),
            KvmVerdict::NoPermission { .. } => write!(f, "this user may not open `{DEVICE}`"),
            KvmVerdict::Emulated { why } => write!(f, "`{DEVICE}` is present but emulated: {why}"),
            KvmVerdict::Failed { step, error } => write!(f, "could not {step}: {error}"),
        }
    }
}

/// Runs guest code in a virtual CPU and tells what came of it, within about `deadline`.
pub fn probe_kvm(deadline: Duration) -> KvmVerdict {
    match Kvm::new() {
        Ok(kvm) => run(&kvm, deadline).unwrap_or_else(|failed| failed),
        Err(error) => cannot_open(&io::Error::from_raw_os_error(error.errno())),
    }
}

fn run(kvm: &Kvm, deadline: Duration) -> Result<KvmVerdict, KvmVerdict> {
    let api_version = kvm.get_api_version();
    if api_version != API_VERSION {
        return Err(KvmVerdict::Failed {
            step: format!("use `{DEVICE}`"),
            error: format!("it has API version {api_version}, not {API_VERSION}"),
        });
    }
    let vcpu = Vcpu::new(kvm).map_err(|(step, error)| failed(step, &error))?;
    Ok(match vcpu.run(deadline).map_err(|(step, error)| failed(step, &error))? {
        Outcome::Finished { took } => KvmVerdict::Works { api_version, took },
        Outcome::Stopped { done } => KvmVerdict::Emulated { why: explain(done, deadline) },
        Outcome::Unexpected { exit } => {
            KvmVerdict::Failed { step: "run guest code".to_owned(), error: format!("it ended with {exit}") }
        }
    })
}

fn cannot_open(error: &io::Error) -> KvmVerdict {
    match error.kind() {
        io::ErrorKind::NotFound => KvmVerdict::Absent,
        io::ErrorKind::PermissionDenied => KvmVerdict::NoPermission { fix: permission_fix() },
        _ => failed("open `/dev/kvm`", error),
    }
}

/// The command that lets this user in: joining the group that may, or, where no group may, an entry of its own.
fn permission_fix() -> String {
    let user = std::env::var("USER").unwrap_or_else(|_| rustix::process::getuid().as_raw().to_string());
    let group = fs::metadata(DEVICE).ok().filter(|device| device.gid() != 0 && device.mode() & 0o060 == 0o060);
    match group.and_then(|device| group_name(device.gid())) {
        Some(group) => format!("sudo usermod -aG {group} {user}    # then log in again"),
        None => format!("sudo setfacl -m u:{user}:rw {DEVICE}"),
    }
}

fn group_name(gid: u32) -> Option<String> {
    let groups = fs::read_to_string("/etc/group").ok()?;
    groups.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(gid)).then(|| name.to_owned())
    })
}

fn explain(done: u64, deadline: Duration) -> String {
    let module = if Path::new("/sys/module/kvm_pvm").exists() { "it is the paravirtual `kvm_pvm`; " } else { "" };
    format!("{module}a loop of {LOOPS} rounds was at {done} after {} ms", deadline.as_millis())
}

fn failed(step: &str, error: &io::Error) -> KvmVerdict {
    KvmVerdict::Failed { step: step.to_owned(), error: error.to_string() }
}
