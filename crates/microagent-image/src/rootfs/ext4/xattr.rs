//! Extended attributes: one block for each set of them, shared by the inodes that have the same.

use super::BLOCK;
use super::superblock::Identity;
use crate::rootfs::crc32c::crc32c;
use crate::rootfs::linux::xattr_namespace;
use crate::rootfs::tree::Xattrs;

const HEADER: usize = 32;
const ENTRY: usize = 16;
/// Four zero bytes end the entries.
const END: usize = 4;

/// Inodes that may share a block.
pub(super) const SHARED_MAX: u32 = 1024;

/// Why a set of attributes cannot be stored.
pub(super) type Refusal = &'static str;

struct Attribute<'n> {
    index: u8,
    name: &'n [u8],
    value: Vec<u8>,
}

/// The block of a set of attributes, but for what depends on where it is and who shares it.
pub(super) fn encode(xattrs: &Xattrs) -> Result<[u8; BLOCK as usize], Refusal> {
    const MAGIC: u32 = 0xEA02_0000;
    const BLOCKS: u32 = 1;
    let mut block = [0; BLOCK as usize];
    block[0..4].copy_from_slice(&MAGIC.to_le_bytes());
    block[8..12].copy_from_slice(&BLOCKS.to_le_bytes());
    let (mut entry, mut value_start) = (HEADER, block.len());
    let mut hash = 0u32;
    for attribute in attributes(xattrs)? {
        let Attribute { index, name, value } = attribute;
        let entry_end = entry + (ENTRY + name.len()).next_multiple_of(4);
        let room = value_start.checked_sub(value.len().next_multiple_of(4));
        value_start = room
            .filter(|start| entry_end + END <= *start)
            .ok_or("its extended attributes are larger than one block")?;
        let entry_hash = entry_hash(name, &value);
        hash = hash.rotate_left(16) ^ entry_hash;
        block[entry] = name.len() as u8;
        block[entry + 1] = index;
        block[entry + 2..entry + 4].copy_from_slice(&(value_start as u16).to_le_bytes());
        block[entry + 8..entry + 12].copy_from_slice(&(value.len() as u32).to_le_bytes());
        block[entry + 12..entry + 16].copy_from_slice(&entry_hash.to_le_bytes());
        block[entry + ENTRY..entry + ENTRY + name.len()].copy_from_slice(name);
        block[value_start..value_start + value.len()].copy_from_slice(&value);
        entry = entry_end;
    }
    block[12..16].copy_from_slice(&hash.to_le_bytes());
    Ok(block)
}

/// Completes a block that will be at `position` blocks and is shared by `sharers` inodes.
pub(super) fn seal(block: &mut [u8; BLOCK as usize], position: u64, sharers: u32, identity: &Identity) {
    block[4..8].copy_from_slice(&sharers.to_le_bytes());
    block[16..20].fill(0);
    let checksum = crc32c(crc32c(identity.checksum_seed(), &position.to_le_bytes()), block);
    block[16..20].copy_from_slice(&checksum.to_le_bytes());
}

/// The attributes in the order in which Linux searches them: by namespace, then length of name, then name.
fn attributes(xattrs: &Xattrs) -> Result<Vec<Attribute<'_>>, Refusal> {
    let mut attributes = Vec::with_capacity(xattrs.len());
    for (name, value) in xattrs {
        let Some((index, name)) = xattr_namespace(name) else {
            continue;
        };
        let is_acl = name.is_empty();
        let value =
            if is_acl { stored_acl(value).ok_or("its access control list is malformed")? } else { value.clone() };
        attributes.push(Attribute { index, name, value });
    }
    attributes.sort_by_key(|attribute| (attribute.index, attribute.name.len(), attribute.name));
    Ok(attributes)
}

/// The hash by which Linux finds blocks to share.
fn entry_hash(name: &[u8], value: &[u8]) -> u32 {
    let named = name.iter().fold(0u32, |hash, byte| hash.rotate_left(5) ^ u32::from(*byte));
    value.chunks(4).fold(named, |hash, chunk| {
        let mut word = [0; 4];
        word[..chunk.len()].copy_from_slice(chunk);
        hash.rotate_left(16) ^ u32::from_le_bytes(word)
    })
}

/// An access control list as ext4 stores it, from the form in which `getxattr` shows it: of the entries (tag, permissions,
/// id), only those for a named user or group keep the id.
fn stored_acl(value: &[u8]) -> Option<Vec<u8>> {
    const SHOWN_VERSION: u32 = 2;
    const STORED_VERSION: u32 = 1;
    const NAMED_USER: u16 = 2;
    const NAMED_GROUP: u16 = 8;
    let (version, entries) = value.split_first_chunk::<4>()?;
    let (entries, rest) = entries.as_chunks::<8>();
    if u32::from_le_bytes(*version) != SHOWN_VERSION || !rest.is_empty() {
        return None;
    }
    let mut stored = STORED_VERSION.to_le_bytes().to_vec();
    for entry in entries {
        let tag = u16::from_le_bytes([entry[0], entry[1]]);
        let named = tag == NAMED_USER || tag == NAMED_GROUP;
        stored.extend_from_slice(&entry[..if named { 8 } else { 4 }]);
    }
    Some(stored)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn access_control_lists_keep_ids_of_named_entries_only() {
        let entry = |tag: u16, permissions: u16, id: u32| {
            [&tag.to_le_bytes()[..], &permissions.to_le_bytes(), &id.to_le_bytes()].concat()
        };
        let shown = [2u32.to_le_bytes().to_vec(), entry(1, 7, u32::MAX), entry(2, 5, 1000), entry(0x20, 0, u32::MAX)];
        let stored = stored_acl(&shown.concat()).unwrap();
        assert_eq!(stored, [1, 0, 0, 0, 1, 0, 7, 0, 2, 0, 5, 0, 0xe8, 3, 0, 0, 0x20, 0, 0, 0]);
        assert_eq!(stored_acl(b"\x02\0\0\0short"), None);
        assert_eq!(stored_acl(b""), None);
    }

    #[test]
    fn attributes_stand_in_the_order_linux_searches_them() {
        let names = ["security.capability", "security.selinux", "user.b", "user.aa", "system.posix_acl_access"];
        let xattrs: Xattrs = names.iter().map(|name| (name.as_bytes().to_vec(), 2u32.to_le_bytes().to_vec())).collect();
        let order: Vec<_> =
            attributes(&xattrs).unwrap().iter().map(|attribute| (attribute.index, attribute.name)).collect();
        let expected: [(u8, &[u8]); 5] = [(1, b"b"), (1, b"aa"), (2, b""), (6, b"selinux"), (6, b"capability")];
        assert_eq!(order, expected);
    }
}
