//! A QEMU started by hand: the fastest boot of the product's kernel and initramfs that the options of a command line give.
//!
//! The machine is the one the product makes, without disks, and without anything of the product on the host's side.

use std::fs;
use std::io::Read as _;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::io::{FdFlags, fcntl_setfd};
use serde_json::Value;

use super::sample::milliseconds_since;
use crate::{Error, Result, tool};

const QEMU: &str = "qemu-system-x86_64";
/// How long a boot may take: seconds, and a hundred times that on a host that is busy.
const BOOT_LIMIT: Duration = Duration::from_mins(5);

/// A machine to boot.
pub(super) struct PlainBoot {
    kernel: PathBuf,
    initramfs: PathBuf,
    memory: String,
    processors: String,
    accelerator: &'static str,
    processor: &'static str,
    command_line: String,
}

impl PlainBoot {
    /// The machine of the run that `report` tells of, from the state directory `state`.
    pub(super) fn of(report: &Value, state: &Path) -> Result<PlainBoot> {
        let archives = state.join("templates/initramfs");
        let mut entries = fs::read_dir(&archives).map_err(Error::file("list", &archives))?;
        let initramfs = entries.find_map(|entry| Some(entry.ok()?.path()));
        let kvm = report["response"]["backend"] == "linux-kvm";
        Ok(PlainBoot {
            kernel: report["kernel_path"].as_str().unwrap_or_default().into(),
            initramfs: initramfs.ok_or_else(|| Error::Check(format!("`{}` is empty", archives.display())))?,
            memory: format!("{}M", report["resources"]["memory_mib"]),
            processors: report["resources"]["cpu_count"].to_string(),
            accelerator: if kvm { "kvm" } else { "tcg,thread=multi" },
            processor: if kvm { "host" } else { "max,rdrand=off,rdseed=off,erms=off" },
            command_line: command_line(kvm, state),
        })
    }

    /// Boots it, and returns the milliseconds from its start to the first word of `/init`.
    pub(super) fn boot(&self) -> Result<f64> {
        let (mut ours, theirs) = UnixStream::pair().map_err(Error::file("make sockets for", QEMU))?;
        ours.set_read_timeout(Some(BOOT_LIMIT)).map_err(Error::file("limit the boot of", QEMU))?;
        let theirs = OwnedFd::from(theirs);
        fcntl_setfd(&theirs, FdFlags::empty()).map_err(|errno| Error::file("hand a socket to", QEMU)(errno.into()))?;
        let mut command = self.command(&theirs);
        let begun = Instant::now();
        let mut qemu = command.spawn().map_err(tool::start(&command))?;
        // With our copy gone, a machine that dies is the end of what can be read.
        drop(theirs);
        let heard = ours.read_exact(&mut [0]);
        let took = milliseconds_since(begun);
        // Both fail only if it has ended already.
        let _ = qemu.kill();
        let _ = qemu.wait();
        heard.map_err(Error::file("hear the guest of", QEMU))?;
        Ok(took)
    }

    fn command(&self, agent: &OwnedFd) -> Command {
        let mut command = Command::new(QEMU);
        command.args(["-machine", "microvm,acpi=on,rtc=on", "-accel", self.accelerator, "-cpu", self.processor]);
        command.args(["-m", &self.memory, "-smp", &self.processors, "-nodefaults", "-no-user-config", "-no-reboot"]);
        command.args(["-display", "none", "-serial", "null", "-append", &self.command_line]);
        command.arg("-kernel").arg(&self.kernel).arg("-initrd").arg(&self.initramfs);
        command.args(["-device", "virtio-serial-device,max_ports=2"]);
        command.args(["-chardev", &format!("socket,id=agent,fd={}", agent.as_raw_fd())]);
        command.args(["-device", "virtserialport,chardev=agent,name=microagent"]);
        command.stdin(Stdio::null()).stdout(Stdio::null());
        command
    }
}

/// As the product has it: see `kernel_command_line` in its engine for the reasons.
fn command_line(kvm: bool, state: &Path) -> String {
    let common = "console=ttyS0 quiet reboot=t panic=-1 cryptomgr.notests maxcpus=1";
    let record = fs::read(state.join("host.json")).unwrap_or_default();
    let record: Value = serde_json::from_slice(&record).unwrap_or_default();
    match (kvm, record["tsc_khz"].as_u64()) {
        (true, _) => common.to_owned(),
        (false, None) => format!("{common} no_timer_check"),
        (false, Some(khz)) => format!("{common} no_timer_check tsc=reliable tsc_early_khz={khz}"),
    }
}
