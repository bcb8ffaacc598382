//! Extended attributes as they stand behind an inode.

use crate::rootfs::linux::xattr_namespace;
use crate::rootfs::tree::Xattrs;

const HEADER: u64 = 12;
const ENTRY: u64 = 4;

/// Bytes that `xattrs` take behind an inode.
pub(super) fn size(xattrs: &Xattrs) -> u64 {
    let entries = xattrs.iter().filter_map(|(name, value)| {
        let (_, suffix) = xattr_namespace(name)?;
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
        let Some((index, suffix)) = xattr_namespace(name) else {
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
