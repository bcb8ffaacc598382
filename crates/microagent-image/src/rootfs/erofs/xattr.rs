//! Extended attributes as they stand behind an inode.

use crate::rootfs::tree::Xattrs;

const HEADER: u64 = 12;
const ENTRY: u64 = 4;

/// The number of a name's namespace and what is left of the name.
fn namespace(name: &[u8]) -> Option<(u8, &[u8])> {
    const PREFIXES: [(&[u8], u8); 3] = [(b"user.", 1), (b"trusted.", 4), (b"security.", 6)];
    match name {
        b"system.posix_acl_access" => Some((2, b"")),
        b"system.posix_acl_default" => Some((3, b"")),
        name => PREFIXES.iter().find_map(|(prefix, index)| Some((*index, name.strip_prefix(*prefix)?))),
    }
}

/// Bytes that `xattrs` take behind an inode.
pub(super) fn size(xattrs: &Xattrs) -> u64 {
    let entries = xattrs.iter().filter_map(|(name, value)| {
        let (_, suffix) = namespace(name)?;
        Some((ENTRY + suffix.len() as u64 + value.len() as u64).next_multiple_of(4))
    });
    if xattrs.is_empty() { 0 } else { HEADER + entries.sum::<u64>() }
}

/// Writes `xattrs` as they stand behind an inode. The tree has bounded names and values to what the fields hold.
pub(super) fn encode(xattrs: &Xattrs) -> Vec<u8> {
    if xattrs.is_empty() {
        return Vec::new();
    }
    let mut area = vec![0; HEADER as usize];
    for (name, value) in xattrs {
        let Some((index, suffix)) = namespace(name) else {
            continue;
        };
        area.extend([suffix.len() as u8, index]);
        area.extend((value.len() as u16).to_le_bytes());
        area.extend_from_slice(suffix);
        area.extend_from_slice(value);
        area.resize(area.len().next_multiple_of(4), 0);
    }
    area
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_size_planned_is_the_size_written(
            xattrs in prop::collection::btree_map(
                "(user|trusted|security)\\.[a-z]{1,20}|system\\.posix_acl_(access|default)",
                prop::collection::vec(any::<u8>(), 0..100),
                0..5,
            ),
        ) {
            let xattrs: Xattrs = xattrs.into_iter().map(|(name, value)| (name.into_bytes(), value)).collect();
            prop_assert_eq!(encode(&xattrs).len() as u64, size(&xattrs));
        }
    }
}
