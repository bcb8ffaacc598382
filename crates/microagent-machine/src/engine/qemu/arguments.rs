//! The command line of QEMU for a machine.

use super::Qemu;
use crate::engine::machine::Sockets;
use crate::engine::{Accelerator, DiskMode, DiskSpec, MachineSpec};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

/// Name of the virtio-serial port the agent looks for.
const PORT: &str = "microagent";

pub(super) fn build(qemu: &Qemu, spec: &MachineSpec, sockets: &Sockets) -> Vec<OsString> {
    let mut arguments = Arguments::default();
    arguments
        // Guests find virtio-mmio devices through ACPI: distribution kernels do not read them from the command line.
        .pair("-machine", "microvm,acpi=on,rtc=on")
        .pair("-accel", accelerator(qemu.accelerator))
        .pair("-cpu", if qemu.accelerator == Accelerator::Kvm { "host" } else { "max" })
        .pair("-m", &format!("{}M", spec.memory_mib))
        .pair("-smp", &spec.cpus.to_string())
        .flags(&["-nodefaults", "-no-user-config", "-no-reboot"])
        .pair("-display", "none")
        .pair("-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny")
        .path_pair("-kernel", spec.kernel.as_os_str())
        .path_pair("-initrd", spec.initramfs.as_os_str())
        .pair("-append", &kernel_command_line(qemu))
        .pair("-chardev", &format!("socket,id=console,fd={}", sockets.console_fd()))
        .pair("-serial", "chardev:console")
        .pair("-device", "virtio-serial-device,max_ports=2")
        .pair("-chardev", &format!("socket,id=agent,fd={}", sockets.channel_fd()))
        .pair("-device", &format!("virtserialport,chardev=agent,name={PORT}"));
    for (index, disk) in spec.disks.iter().enumerate() {
        arguments.disk(index, disk);
    }
    arguments.0
}

fn accelerator(accelerator: Accelerator) -> &'static str {
    match accelerator {
        Accelerator::Kvm => "kvm",
        Accelerator::Tcg => "tcg,thread=multi",
    }
}

/// `panic=-1 reboot=t` with `-no-reboot`: a guest that panics or restarts ends the engine process at once. Under emulation the guest's
/// calibration of its clock fails on a busy host and the boot hangs, so it is told the frequency; and its watchdog would find the counter
/// wanting and fall back to a clock of 4 ms, so it is told to trust it. The self-tests of the kernel's cryptography are an eighth of an
/// emulated boot, and prove nothing about a kernel that is the same in every run.
fn kernel_command_line(qemu: &Qemu) -> String {
    let common = "console=ttyS0 quiet reboot=t panic=-1 cryptomgr.notests maxcpus=1";
    match (qemu.accelerator, qemu.tsc_khz) {
        (Accelerator::Kvm, _) => common.to_owned(),
        (Accelerator::Tcg, None) => format!("{common} no_timer_check"),
        (Accelerator::Tcg, Some(khz)) => format!("{common} no_timer_check tsc=reliable tsc_early_khz={khz}"),
    }
}

#[derive(Default)]
struct Arguments(Vec<OsString>);

impl Arguments {
    fn flags(&mut self, flags: &[&str]) -> &mut Self {
        self.0.extend(flags.iter().map(OsString::from));
        self
    }

    fn pair(&mut self, flag: &str, value: &str) -> &mut Self {
        self.flags(&[flag, value])
    }

    fn path_pair(&mut self, flag: &str, path: &OsStr) -> &mut Self {
        self.0.extend([flag.into(), path.to_owned()]);
        self
    }

    /// A path inside an option list.
    fn option(&mut self, flag: &str, before: &str, path: &OsStr, after: &str) -> &mut Self {
        let mut value = OsString::from(before);
        value.push(escaped(path));
        value.push(after);
        self.0.extend([flag.into(), value]);
        self
    }

    fn disk(&mut self, index: usize, disk: &DiskSpec) {
        let (access, cache) = match disk.mode {
            DiskMode::ReadOnly => ("on", "writeback"),
            DiskMode::Durable => ("off", "writeback"),
            DiskMode::Scratch => ("off", "unsafe"),
        };
        // Locking is the workspace lease's business; QEMU's own locks would refuse the base that all machines share.
        let rest = format!(
            ",if=none,id=disk{index},format=raw,readonly={access},cache={cache},discard=unmap,file.locking=off"
        );
        self.option("-drive", "file=", disk.path.as_os_str(), &rest)
            // By default a full host disk stops the machine until somebody tells it to go on; the guest can deal with an error.
            .pair(
                "-device",
                &format!("virtio-blk-device,drive=disk{index},serial={},werror=report,rerror=report", disk.serial),
            );
    }
}

/// QEMU's option lists end a value at a comma unless it is doubled.
fn escaped(path: &OsStr) -> OsString {
    let mut bytes = Vec::with_capacity(path.len());
    for &byte in path.as_bytes() {
        if byte == b',' {
            bytes.push(b',');
        }
        bytes.push(byte);
    }
    OsString::from_vec(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    #[test]
    fn a_comma_in_a_path_cannot_add_an_option() {
        let qemu = Qemu::new(PathBuf::from("qemu"), Accelerator::Tcg, None);
        let spec = MachineSpec {
            kernel: "/k".into(),
            initramfs: "/i".into(),
            memory_mib: 256,
            cpus: 1,
            disks: vec![DiskSpec {
                path: "/state,readonly=off/base".into(),
                serial: "base".into(),
                mode: DiskMode::ReadOnly,
            }],
            serial_log: "/s".into(),
            engine_log: "/e".into(),
        };
        let arguments = build(&qemu, &spec, &Sockets::new().unwrap());
        let drive = arguments.iter().find(|argument| argument.as_bytes().starts_with(b"file=")).unwrap();
        assert!(drive.to_str().unwrap().starts_with("file=/state,,readonly=off/base,if=none,"));
    }
}
