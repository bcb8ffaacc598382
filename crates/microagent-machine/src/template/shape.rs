//! What a frozen guest depends on.

use crate::initramfs::Initramfs;
use crate::kernel::{Kernel, hexadecimal};
use crate::probe::FileIdentity;
use microagent_protocol::PROTOCOL_VERSION;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::fmt::Write as _;
use std::fs::File;
use std::io::Read;

/// Changes when the files of a template, or the way machines are frozen and restored, do.
const LAYOUT: u32 = 3;

/// What tells one kind of processor from another in `/proc/cpuinfo`, on x86 and on Arm: what a guest has once seen of it, it relies on.
const PROCESSOR_FIELDS: [&str; 12] = [
    "vendor_id",
    "cpu family",
    "model",
    "model name",
    "stepping",
    "microcode",
    "flags",
    "Features",
    "CPU implementer",
    "CPU variant",
    "CPU part",
    "CPU revision",
];

/// Most of `/proc/cpuinfo` that is read. One processor takes a fraction of it, and the kernel makes the text up as it is read.
const CPUINFO_BYTES: u64 = 16 << 10;

/// Everything that a guest frozen in one machine needs to find the same in the machine it is restored in. Two machines of equal shapes can
/// be restored from the same template.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shape {
    layout: u32,
    protocol: u32,
    /// Digest of the kernel and its modules.
    kernel: String,
    pub(super) kernel_release: String,
    /// Key of the initramfs, and so of the agent.
    pub(super) initramfs: String,
    /// The host's processor.
    processor: String,
    pub(super) hardware: Hardware,
    /// What it is that machines are restored to, where it is not a guest that waits for whose it will be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    capture: Option<String>,
}

/// The engine and the virtual hardware.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hardware {
    /// The engine program's name.
    pub engine: String,
    /// The version it says it has.
    pub engine_version: String,
    /// Its file.
    pub program: Option<FileIdentity>,
    /// What the processors run on.
    pub backend: String,
    /// A digest of how the engine is started.
    pub arguments: String,
    /// RAM in MiB.
    pub memory_mib: u32,
    /// Number of virtual processors.
    pub cpus: u32,
    /// The disks, in order.
    pub disks: Vec<Disk>,
}

/// A disk, as far as a frozen machine has to do with it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Disk {
    /// Its serial number.
    pub serial: String,
    /// Whether it can be written to.
    pub writable: bool,
}

impl Shape {
    /// The shape of a machine with this hardware that boots `kernel` with `initramfs` on this host.
    pub fn new(kernel: &Kernel, initramfs: &Initramfs, hardware: Hardware) -> Shape {
        Shape {
            layout: LAYOUT,
            protocol: PROTOCOL_VERSION,
            kernel: kernel.digest.clone(),
            kernel_release: kernel.release.clone(),
            initramfs: initramfs.key.clone(),
            processor: processor(),
            hardware,
            capture: None,
        }
    }

    /// The shape of machines that go on from the one that was captured under the name `capture`: in the middle of its life, with its disks.
    #[must_use]
    pub fn of_capture(&self, capture: &str) -> Shape {
        Shape { capture: Some(capture.to_owned()), ..self.clone() }
    }

    /// Whether it is of machines that were captured in the middle of their lives.
    pub(super) fn is_capture(&self) -> bool {
        self.capture.is_some()
    }

    /// What of a machine of this host and this program is not as it was in `then`: what keeps one that was captured then from going on.
    pub fn difference(&self, then: &Shape) -> Option<&'static str> {
        let (now, then) = (self, then);
        let checks = [
            (
                now.layout == then.layout && now.protocol == then.protocol,
                "it was captured by another version of this program",
            ),
            (now.initramfs == then.initramfs, "its guest agent, or its kernel, is another now"),
            (now.kernel == then.kernel, "the kernel is another now"),
            (now.hardware.backend == then.hardware.backend, "it ran on another backend"),
            (
                now.hardware.engine == then.hardware.engine
                    && now.hardware.engine_version == then.hardware.engine_version,
                "the engine has another version now",
            ),
            (now.hardware.program == then.hardware.program, "the engine program has changed"),
            (now.processor == then.processor, "the host's processor, or its microcode, is another"),
            (
                (now.hardware.memory_mib, now.hardware.cpus) == (then.hardware.memory_mib, then.hardware.cpus),
                "the machine has another size",
            ),
            (now.hardware.disks == then.hardware.disks, "the machine has other disks"),
            (now.hardware.arguments == then.hardware.arguments, "the engine is started in another way"),
        ];
        checks.into_iter().find(|(holds, _)| !holds).map(|(_, why)| why)
    }

    /// Names the template of this shape: 32 hexadecimal digits.
    pub fn key(&self) -> String {
        let json = serde_json::to_vec(self).expect("a shape has only string keys");
        hexadecimal(&Sha256::digest(json)[..16])
    }

    /// Why no machine of this host and this program has the shape any more. `initramfs` are the keys of those machines are booted with.
    pub(super) fn outlived(&self, initramfs: &[String]) -> Option<&'static str> {
        if self.layout != LAYOUT || self.protocol != PROTOCOL_VERSION {
            return Some("it was made by another version of this program");
        }
        if !self.hardware.program.as_ref().is_some_and(FileIdentity::holds) {
            return Some("the engine program has changed");
        }
        if self.processor != processor() {
            return Some("the host's processor, or its microcode, is another");
        }
        (!initramfs.contains(&self.initramfs)).then_some("its kernel or its agent is not used any more")
    }
}

/// Whether a name can be a key.
pub(super) fn is_key(name: &str) -> bool {
    name.len() == 32 && name.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// Digest of what is known of the first processor.
fn processor() -> String {
    let mut text = String::new();
    // Where nothing can be read, nothing can be told apart, and nothing else could be done about it.
    let _ = File::open("/proc/cpuinfo").map(|file| file.take(CPUINFO_BYTES).read_to_string(&mut text));
    hexadecimal(&Sha256::digest(describe(&text))[..16])
}

fn describe(cpuinfo: &str) -> String {
    let first = cpuinfo.split("\n\n").next().unwrap_or_default();
    let fields = first.lines().filter_map(|line| line.split_once(':'));
    let telling = fields.filter(|(name, _)| PROCESSOR_FIELDS.contains(&name.trim()));
    telling.fold(String::new(), |mut text, (name, value)| {
        let _ = writeln!(text, "{}={}", name.trim(), value.trim());
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape() -> Shape {
        let hardware = Hardware {
            engine: "qemu".into(),
            engine_version: "7.2".into(),
            program: None,
            backend: "linux-tcg".into(),
            arguments: "a".into(),
            memory_mib: 512,
            cpus: 2,
            disks: vec![Disk { serial: "disk".into(), writable: true }],
        };
        Shape {
            layout: LAYOUT,
            protocol: PROTOCOL_VERSION,
            kernel: "k".into(),
            kernel_release: "6.1".into(),
            initramfs: "i".into(),
            processor: "p".into(),
            hardware,
            capture: None,
        }
    }

    #[test]
    fn whatever_differs_gives_another_key() {
        let changes: [fn(&mut Shape); 13] = [
            |shape| shape.layout += 1,
            |shape| shape.capture = Some(String::new()),
            |shape| shape.protocol += 1,
            |shape| shape.kernel.push('x'),
            |shape| shape.initramfs.push('x'),
            |shape| shape.processor.push('x'),
            |shape| shape.hardware.engine_version.push('x'),
            |shape| shape.hardware.program = FileIdentity::of("/".as_ref()),
            |shape| shape.hardware.backend.push('x'),
            |shape| shape.hardware.arguments.push('x'),
            |shape| shape.hardware.memory_mib += 1,
            |shape| shape.hardware.cpus += 1,
            |shape| shape.hardware.disks[0].serial.push('x'),
        ];
        let mut keys = vec![shape().key()];
        keys.extend(changes.map(|change| {
            let mut other = shape();
            change(&mut other);
            other.key()
        }));
        assert!(keys.iter().all(|key| is_key(key)), "{keys:?}");
        keys.sort();
        keys.dedup();
        assert_eq!(keys.len(), changes.len() + 1);
    }

    #[test]
    fn what_changes_from_moment_to_moment_is_not_the_processors_identity() {
        let one = "processor\t: 0\nmodel name\t: Fast\ncpu MHz\t\t: 2000.1\nflags\t\t: fpu sse\n\nprocessor\t: 1\n";
        let later = one.replace("2000.1", "3999.9");
        assert_eq!(describe(one), describe(&later));
        assert_eq!(describe(one), "model name=Fast\nflags=fpu sse\n");
        assert_ne!(describe(one), describe(&one.replace("sse", "sse avx")));
    }
}
