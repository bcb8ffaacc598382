//! QEMU's migration stream, as far as it has to be written by us (`migration/savevm.c` in QEMU).
//!
//! What devices are saved to begins with the same two words as a migration, and then lacks the section that says what kind of machine it is
//! of. With that section it is a migration whose RAM is in a shared file, and is loaded like that of a template.

/// `QEMU_VM_FILE_MAGIC` and `QEMU_VM_FILE_VERSION`.
const BEGINNING: [u8; 8] = *b"QEVM\0\0\0\x03";

/// `QEMU_VM_SUBSECTION`, `QEMU_VM_DESCRIPTION`, `QEMU_VM_CONFIGURATION`.
const SUBSECTION: u8 = 0x05;
const DESCRIPTION: u8 = 0x06;
const CONFIGURATION: u8 = 0x07;

/// The machine of [`super::arguments`].
const MACHINE: &str = "microvm";

/// What the receiving side is told to do, and checks against what the stream says.
const CAPABILITY: &str = "x-ignore-shared";

/// A migration stream of what `xen-save-devices-state` wrote; `None` if that is something else.
pub(super) fn complete(devices: &[u8]) -> Option<Vec<u8>> {
    let sections = devices.strip_prefix(&BEGINNING)?;
    let mut stream = BEGINNING.to_vec();
    stream.push(CONFIGURATION);
    push_text(&mut stream, MACHINE);
    stream.push(SUBSECTION);
    push_short(&mut stream, "configuration/capabilities");
    // Its version, and how many there are.
    stream.extend([0, 0, 0, 1, 0, 0, 0, 1]);
    push_short(&mut stream, CAPABILITY);
    stream.extend_from_slice(sections);
    stream.push(DESCRIPTION);
    push_text(&mut stream, "{}");
    Some(stream)
}

fn push_text(stream: &mut Vec<u8>, text: &str) {
    stream.extend((text.len() as u32).to_be_bytes());
    stream.extend_from_slice(text.as_bytes());
}

fn push_short(stream: &mut Vec<u8>, text: &str) {
    stream.push(text.len() as u8);
    stream.extend_from_slice(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_stream_does_not_become_one() {
        assert_eq!(complete(b""), None);
        assert_eq!(complete(b"QEVM\0\0\0\x04rest"), None);
        let stream = complete(b"QEVM\0\0\0\x03rest").unwrap();
        assert!(stream.starts_with(b"QEVM\0\0\0\x03\x07\0\0\0\x07microvm\x05"));
        assert!(stream.ends_with(b"rest\x06\0\0\0\x02{}"));
    }
}
