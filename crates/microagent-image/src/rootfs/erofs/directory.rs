//! Directories: blocks of entries sorted by name, each block's names behind its entries.

use super::format::{BLOCK, DIRENT_SIZE};
use crate::rootfs::linux::FileType;
use crate::rootfs::tree::Children;

/// The names of a directory in the order they are stored: its children's with `.` and `..` among them.
pub(super) fn names(children: &Children) -> impl Iterator<Item = &[u8]> {
    // Few names sort before the dots; they are found by comparing, so that no list is built of a million names.
    let before = |limit: &'static [u8]| move |name: &&[u8]| *name < limit;
    let stored = || children.keys().map(|name| &**name);
    let first = stored().take_while(before(b"."));
    let second = stored().skip_while(before(b".")).take_while(before(b".."));
    let third = stored().skip_while(before(b".."));
    first.chain([&b"."[..]]).chain(second).chain([&b".."[..]]).chain(third)
}

/// Bytes of a directory's data. Every block but the last is full size; an entry and its name never part.
pub(super) fn size(children: &Children) -> u64 {
    let (mut full, mut used) = (0, 0);
    for name in names(children) {
        let need = (DIRENT_SIZE + name.len()) as u64;
        if used + need > BLOCK {
            full += BLOCK;
            used = 0;
        }
        used += need;
    }
    full + used
}

/// What an entry leads to.
pub(super) struct Target {
    pub(super) nid: u64,
    pub(super) file_type: FileType,
}

/// Writes a directory's data. `target` says what each name leads to.
pub(super) fn encode<'c>(children: &'c Children, mut target: impl FnMut(&'c [u8]) -> Target) -> Vec<u8> {
    let mut data = Vec::new();
    let mut block: Vec<&[u8]> = Vec::new();
    let mut used = 0;
    for name in names(children) {
        let need = DIRENT_SIZE + name.len();
        if used + need > BLOCK as usize {
            encode_block(&mut data, &block, &mut target);
            data.resize(data.len().next_multiple_of(BLOCK as usize), 0);
            block.clear();
            used = 0;
        }
        block.push(name);
        used += need;
    }
    encode_block(&mut data, &block, &mut target);
    data
}

fn encode_block<'c>(data: &mut Vec<u8>, names: &[&'c [u8]], target: &mut impl FnMut(&'c [u8]) -> Target) {
    let mut name_offset = DIRENT_SIZE * names.len();
    for name in names {
        let Target { nid, file_type } = target(name);
        data.extend(nid.to_le_bytes());
        data.extend((name_offset as u16).to_le_bytes());
        data.extend([file_type as u8, 0]);
        name_offset += name.len();
    }
    for name in names {
        data.extend_from_slice(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rootfs::tree::NodeId;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn entries_are_sorted_with_the_dots_and_sizes_agree(
            names_in in prop::collection::btree_set(prop::collection::vec(any::<u8>(), 1..256), 0..100),
        ) {
            let children: Children = names_in.iter().map(|name| (name.clone().into(), NodeId::ROOT)).collect();
            prop_assume!(!names_in.contains(&b"."[..]) && !names_in.contains(&b".."[..]));
            let listed: Vec<&[u8]> = names(&children).collect();
            let mut expected: Vec<&[u8]> = names_in.iter().map(|name| &name[..]).chain([&b"."[..], b".."]).collect();
            expected.sort_unstable();
            prop_assert_eq!(listed, expected);
            let data = encode(&children, |_| Target { nid: 1, file_type: FileType::Regular });
            prop_assert_eq!(data.len() as u64, size(&children));
        }
    }
}
