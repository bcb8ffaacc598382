//! Whether this host can run machines, and how.

use crate::Client;
use microagent_machine::engine::Capabilities;
use microagent_machine::probe::{
    FirecrackerVerdict, Host, KVM_DEADLINE, KvmVerdict, QemuVerdict, probe_firecracker, probe_kvm, probe_qemu,
};
use microagent_protocol::Fault;
use serde::Serialize;

/// Free space below which a first image does not fit: a small distribution's layers, their base image and a workspace.
const LITTLE_SPACE: u64 = 1 << 30;

/// Everything [`Client::doctor`] found.
#[derive(Clone, Debug, Serialize)]
pub struct Doctor {
    /// The sum of it.
    pub verdict: Verdict,
    /// What the processors of a machine would run on: `linux-kvm` or `linux-tcg`; absent when nothing can run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backend: Option<&'static str>,
    /// The engine program that would run it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub engine: Option<&'static str>,
    /// What that engine can do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub capabilities: Option<Capabilities>,
    /// What was looked at, one by one.
    pub checks: Vec<Check>,
}

/// Whether machines run here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// They run at full speed.
    Ok,
    /// They run, and something is less than it could be.
    Degraded,
    /// They do not run.
    Failed,
}

/// One thing that was looked at.
#[derive(Clone, Debug, Serialize)]
pub struct Check {
    /// What.
    pub name: &'static str,
    /// How it is.
    pub status: CheckStatus,
    /// What was found.
    pub detail: String,
    /// The command that mends it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fix: Option<String>,
}

/// How one thing is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CheckStatus {
    /// As it should be.
    Ok,
    /// Machines run without it.
    Warning,
    /// Machines do not run without it.
    Failed,
}

impl Check {
    fn ok(name: &'static str, detail: impl Into<String>) -> Check {
        Check { name, status: CheckStatus::Ok, detail: detail.into(), fix: None }
    }

    fn warning(name: &'static str, detail: impl Into<String>, fix: Option<String>) -> Check {
        Check { name, status: CheckStatus::Warning, detail: detail.into(), fix }
    }

    fn failed(name: &'static str, detail: impl Into<String>, fix: Option<String>) -> Check {
        Check { name, status: CheckStatus::Failed, detail: detail.into(), fix }
    }
}

pub(crate) fn examine(client: &Client) -> Doctor {
    let root = client.state().root();
    // Looked at afresh: what is remembered may be what a person has just mended.
    let checks = vec![
        check_kvm(&probe_kvm(KVM_DEADLINE)),
        check_qemu(&probe_qemu()),
        check_firecracker(&probe_firecracker()),
        check_kernel(client),
    ]
    .into_iter()
    .chain(check_state_dir(client))
    .collect::<Vec<_>>();
    let verdict =
        checks.iter().map(|check| check.status).fold(Verdict::Ok, |verdict, status| match (verdict, status) {
            (Verdict::Failed, _) | (_, CheckStatus::Failed) => Verdict::Failed,
            (_, CheckStatus::Warning) => Verdict::Degraded,
            (verdict, CheckStatus::Ok) => verdict,
        });
    let engine = microagent_machine::engine::choose(&Host::open(root), None).ok();
    Doctor {
        verdict,
        backend: engine.as_ref().map(|engine| engine.accelerator().backend()),
        engine: engine.as_ref().map(|engine| engine.name()),
        capabilities: engine.as_ref().map(|engine| engine.capabilities()),
        checks,
    }
}

fn check_kvm(verdict: &KvmVerdict) -> Check {
    const NAME: &str = "kvm";
    let emulated = format!("{verdict}; machines are emulated in software");
    match verdict {
        KvmVerdict::Works { .. } => Check::ok(NAME, verdict.to_string()),
        KvmVerdict::NoPermission { fix } => Check::warning(NAME, emulated, Some(fix.clone())),
        KvmVerdict::Absent => Check::warning(
            NAME,
            emulated,
            Some("enable virtualisation in the firmware, then `modprobe kvm_intel` or `modprobe kvm_amd`".to_owned()),
        ),
        _ => Check::warning(NAME, emulated, None),
    }
}

fn check_qemu(verdict: &QemuVerdict) -> Check {
    const NAME: &str = "qemu";
    let install = || Some("apt-get install qemu-system-x86".to_owned());
    match verdict {
        QemuVerdict::Found { microvm: true, .. } => Check::ok(NAME, verdict.to_string()),
        QemuVerdict::Missing { hint } => Check::failed(NAME, verdict.to_string(), Some(hint.clone())),
        _ => Check::failed(NAME, verdict.to_string(), install()),
    }
}

/// Nothing needs Firecracker yet, so its absence takes nothing away.
fn check_firecracker(verdict: &FirecrackerVerdict) -> Check {
    const NAME: &str = "firecracker";
    match verdict {
        FirecrackerVerdict::Found { .. } => Check::ok(NAME, format!("{verdict}; not used by this version")),
        FirecrackerVerdict::Missing { .. } => Check::ok(NAME, "not installed, and not needed"),
        _ => Check::ok(NAME, format!("{verdict}; not needed")),
    }
}

fn check_kernel(client: &Client) -> Check {
    const NAME: &str = "kernel";
    let install = || Some("microagent kernel install".to_owned());
    let kernel = match client.kernels().default_kernel() {
        Ok(kernel) => kernel,
        Err(error @ microagent_machine::kernel::Error::NoDefault { .. }) => {
            return Check::warning(NAME, format!("{error}; the first run installs one"), install());
        }
        Err(error) => return Check::failed(NAME, error.to_string(), error.hint().or_else(install)),
    };
    match client.kernels().verify(&kernel.name) {
        Ok(drift) if drift.is_empty() => {
            Check::ok(NAME, format!("{} installed, every file as recorded", kernel.release))
        }
        Ok(drift) => Check::failed(
            NAME,
            format!(
                "{}: {} files differ from what was installed, the first is `{}`",
                kernel.release,
                drift.len(),
                drift[0].path.display()
            ),
            Some(format!("microagent kernel remove {} && microagent kernel install", kernel.name)),
        ),
        Err(error) => Check::failed(NAME, error.to_string(), install()),
    }
}

fn check_state_dir(client: &Client) -> [Check; 2] {
    const NAME: &str = "state directory";
    const SPACE: &str = "space";
    // What cannot be made cannot be written to either, and that says why.
    let _ = client.state().prepare();
    let root = client.state().root();
    let writable = match tempfile::tempfile_in(root) {
        Ok(_probe) => Check::ok(NAME, format!("`{}` is writable", root.display())),
        Err(error) => Check::failed(
            NAME,
            format!("`{}` is not writable: {error}", root.display()),
            Some("choose another with --state-dir or MICROAGENT_STATE_DIR".to_owned()),
        ),
    };
    let space = match rustix::fs::statvfs(root) {
        Ok(stat) => {
            let free = stat.f_bavail.saturating_mul(stat.f_frsize);
            let detail = format!("{} MiB free in `{}`", free >> 20, root.display());
            if free < LITTLE_SPACE {
                Check::warning(SPACE, detail, Some("microagent image prune --all".to_owned()))
            } else {
                Check::ok(SPACE, detail)
            }
        }
        Err(errno) => {
            Check::failed(SPACE, format!("cannot ask for the free space of `{}`: {errno}", root.display()), None)
        }
    };
    [writable, space]
}
