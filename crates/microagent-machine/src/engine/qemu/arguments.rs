//! The command line of QEMU for a machine.

use super::Qemu;
use crate::engine::machine::Ends;
use crate::engine::{Accelerator, DiskMode, DiskSpec, MachineSpec};
use std::ffi::{OsStr, OsString};
use std::os::fd::RawFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};

/// Where the RAM is.
#[derive(Clone, Copy, Debug)]
pub(super) enum Ram {
    /// In the engine, which has an inherited file mapped that is empty and stays so: what the guest writes is told from what it never touched.
    Private(RawFd),
    /// In an inherited file, and what the guest writes goes there. The disks are placeholders.
    Template(RawFd),
    /// The same, of a machine that is restored.
    Rehearsal(RawFd),
    /// In an inherited file, and what the guest writes stays in the engine.
    Restored {
        /// The file.
        file: RawFd,
        /// Whether the engine can do so without the right to write to the file.
        read_only: bool,
    },
}

/// The guest's address on its own link, where it is alone with the gateway: one that is administered locally, from QEMU's own range.
const GUEST_MAC: &str = "52:54:00:12:34:56";

/// Bytes of the largest packet. The guest takes it over. Far fewer packets pass than with the 1500 of an ethernet, and none leaves the host.
const MTU: u32 = 65520;

/// Name of the virtio-serial port the agent looks for.
const PORT: &str = "microagent";

pub(super) fn build(qemu: &Qemu, spec: &MachineSpec, ends: Ends, ram: Ram) -> Vec<OsString> {
    let mut arguments = Arguments::default();
    arguments
        .ram(spec.memory_mib, ram)
        .pair("-accel", accelerator(qemu.accelerator))
        .pair("-cpu", processor(qemu.accelerator))
        .pair("-m", &format!("{}M", spec.memory_mib))
        .pair("-smp", &spec.cpus.to_string())
        .flags(&["-nodefaults", "-no-user-config", "-no-reboot"])
        .pair("-display", "none")
        .pair("-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny")
        // A restored machine has its kernel in its RAM. QEMU does not write this one there, but gives the machine the ROM that starts
        // such a kernel, which is part of the state.
        .path_pair("-kernel", spec.kernel.as_os_str())
        .path_pair("-initrd", spec.initramfs.as_os_str())
        .pair("-append", &kernel_command_line(qemu, spec.wipes))
        .pair("-chardev", &format!("socket,id=monitor,fd={}", ends.monitor))
        .pair("-mon", "chardev=monitor,mode=control")
        .pair("-chardev", &format!("socket,id=console,fd={}", ends.console))
        .pair("-serial", "chardev:console")
        .pair("-device", "virtio-serial-device,max_ports=2")
        .pair("-chardev", &format!("socket,id=agent,fd={}", ends.channel))
        .pair("-device", &format!("virtserialport,chardev=agent,name={PORT}"));
    for (index, disk) in spec.disks.iter().enumerate() {
        arguments.disk(index, disk, ram);
    }
    if let Some(link) = ends.link {
        arguments
            .pair("-netdev", &format!("socket,id=link,fd={link}"))
            .pair("-device", &format!("virtio-net-device,netdev=link,mac={GUEST_MAC},host_mtu={MTU}"));
    }
    if matches!(ram, Ram::Restored { .. } | Ram::Rehearsal(_)) {
        arguments.pair("-incoming", "defer");
    }
    arguments.0
}

/// An emulated processor's random numbers come from a generator in QEMU, which copies of a QEMU share: they would be the same in each.
/// Its fast string operations (`erms`) are a loop over single bytes, with which kernel and C library would clear and copy memory: without
/// them they use larger pieces, and a warm run takes a tenth less.
fn processor(accelerator: Accelerator) -> &'static str {
    match accelerator {
        Accelerator::Kvm => "host",
        Accelerator::Tcg => "max,rdrand=off,rdseed=off,erms=off",
    }
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
/// emulated boot, and prove nothing about a kernel that is the same in every run. Memory that is freed keeps its content until somebody
/// gets it; a machine that has secrets pays for wiping it.
pub(super) fn kernel_command_line(qemu: &Qemu, wipes: bool) -> String {
    let common = "console=ttyS0 quiet reboot=t panic=-1 cryptomgr.notests maxcpus=1";
    let common = if wipes { format!("{common} init_on_free=1") } else { common.to_owned() };
    match (qemu.accelerator, qemu.tsc_khz) {
        (Accelerator::Kvm, _) => common,
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

    fn ram(&mut self, mebibytes: u32, ram: Ram) -> &mut Self {
        // Guests find virtio-mmio devices through ACPI: distribution kernels do not read them from the command line.
        const MACHINE: &str = "microvm,acpi=on,rtc=on";
        let (file, rest) = match ram {
            Ram::Template(file) | Ram::Rehearsal(file) => (file, "share=on"),
            Ram::Private(file) | Ram::Restored { file, read_only: false } => (file, "share=off"),
            Ram::Restored { file, read_only: true } => (file, "share=off,readonly=on,rom=off"),
        };
        let path = inherited(file);
        self.pair("-machine", &format!("{MACHINE},memory-backend=ram"))
            .pair("-object", &format!("memory-backend-file,id=ram,size={mebibytes}M,mem-path={path},{rest}"))
    }

    fn disk(&mut self, index: usize, disk: &DiskSpec, ram: Ram) {
        let (access, cache) = match disk.mode {
            DiskMode::ReadOnly => ("on", "writeback"),
            DiskMode::Durable => ("off", "writeback"),
            DiskMode::Scratch => ("off", "unsafe"),
        };
        // By default a full host disk stops the machine until somebody tells it to go on; the guest can deal with an error.
        let device = format!("virtio-blk-device,drive=disk{index},serial={},werror=report,rerror=report", disk.serial);
        if matches!(ram, Ram::Template(_) | Ram::Rehearsal(_)) {
            let nothing =
                format!("driver=null-co,node-name=null{index},size=1048576,read-zeroes=on,read-only={access}");
            let disk = format!("driver=raw,node-name=disk{index},file=null{index},read-only={access}");
            self.pair("-blockdev", &nothing).pair("-blockdev", &disk).pair("-device", &device);
            return;
        }
        // Locking is the workspace lease's business; QEMU's own locks would refuse the base that all machines share.
        let rest = format!(
            ",if=none,id=disk{index},format=raw,readonly={access},cache={cache},discard=unmap,file.locking=off"
        );
        self.option("-drive", "file=", disk.path.as_os_str(), &rest).pair("-device", &device);
    }
}

/// A path that leads to an inherited descriptor, whatever has become of the name it was opened by.
fn inherited(file: RawFd) -> String {
    format!("/proc/self/fd/{file}")
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

    fn spec() -> MachineSpec {
        MachineSpec {
            kernel: "/k".into(),
            initramfs: "/i".into(),
            memory_mib: 256,
            cpus: 1,
            disks: vec![DiskSpec {
                path: "/state,readonly=off/base".into(),
                serial: "base".into(),
                mode: DiskMode::ReadOnly,
            }],
            network: false,
            wipes: false,
            serial_log: "/s".into(),
            engine_log: "/e".into(),
        }
    }

    fn arguments(ram: Ram) -> Vec<String> {
        let qemu = Qemu::new(PathBuf::from("qemu"), String::new(), Accelerator::Tcg, None);
        let arguments = build(&qemu, &spec(), Ends { channel: 3, console: 4, monitor: 5, link: None }, ram);
        arguments.into_iter().map(|argument| argument.into_string().unwrap()).collect()
    }

    #[test]
    fn a_comma_in_a_path_cannot_add_an_option() {
        let arguments = arguments(Ram::Private(6));
        let drive = arguments.iter().find(|argument| argument.starts_with("file=")).unwrap();
        assert!(drive.starts_with("file=/state,,readonly=off/base,if=none,"));
    }

    #[test]
    fn a_machine_that_is_to_be_frozen_knows_no_disk_of_anybody() {
        let arguments = arguments(Ram::Template(7));
        assert!(arguments.iter().all(|argument| !argument.contains("/state")), "{arguments:?}");
        assert!(arguments.iter().any(|argument| argument.ends_with("mem-path=/proc/self/fd/7,share=on")));
    }

    #[test]
    fn a_restored_machine_keeps_what_it_writes_to_itself() {
        for (read_only, ending) in [(false, ",share=off"), (true, ",share=off,readonly=on,rom=off")] {
            let arguments = arguments(Ram::Restored { file: 7, read_only });
            let memory = arguments.iter().find(|argument| argument.contains("mem-path=")).unwrap();
            assert!(memory.ends_with(&format!("/proc/self/fd/7{ending}")), "{memory}");
        }
    }
}
