//! Numbers that Linux has given to things and every one of its filesystems stores.

/// What a file is, by the number directory entries give it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FileType {
    Regular = 1,
    Directory = 2,
    CharDevice = 3,
    BlockDevice = 4,
    Fifo = 5,
    Symlink = 7,
}

impl FileType {
    /// The bits of a mode that say what the file is.
    pub(super) fn mode_bits(self) -> u16 {
        match self {
            FileType::Fifo => 0o010_000,
            FileType::CharDevice => 0o020_000,
            FileType::Directory => 0o040_000,
            FileType::BlockDevice => 0o060_000,
            FileType::Regular => 0o100_000,
            FileType::Symlink => 0o120_000,
        }
    }
}

/// A device number of 32 bits: minor in bits 0-7 and 20-31, major in bits 8-19.
pub(super) fn device_number(major: u32, minor: u32) -> u32 {
    (minor & 0xff) | (major << 8) | ((minor & !0xff) << 12)
}

/// The number of the namespace of an extended attribute, and what is left of its name. `None` for a name that no
/// `setxattr` would accept for a file on a disk.
pub(super) fn xattr_namespace(name: &[u8]) -> Option<(u8, &[u8])> {
    const PREFIXES: [(&[u8], u8); 3] = [(b"user.", 1), (b"trusted.", 4), (b"security.", 6)];
    match name {
        b"system.posix_acl_access" => Some((2, b"")),
        b"system.posix_acl_default" => Some((3, b"")),
        name => PREFIXES
            .iter()
            .find_map(|(prefix, number)| Some((*number, name.strip_prefix(*prefix)?)))
            .filter(|(_, suffix)| !suffix.is_empty()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn device_numbers_keep_large_minors() {
        assert_eq!(device_number(1, 3), 0x103);
        assert_eq!(device_number(300, 70_000), 0x1111_2c70);
    }
}
