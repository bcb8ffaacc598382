//! Paths inside an archive: bytes, made of plain names, never leaving the root.

use crate::ArchiveError;
use crate::limits::{Limits, check};

/// The longest name Linux filesystems store.
const NAME_MAX: u64 = 255;

/// Splits `path` into its names. `/` and `./` in front mean the root; `..` anywhere is refused, because no honest archive needs it and two
/// readers seldom agree on what it means.
pub fn split<'p>(path: &'p [u8], limits: &Limits) -> Result<Vec<&'p [u8]>, ArchiveError> {
    check("path_bytes", path.len() as u64, limits.path_bytes)?;
    if path.contains(&0) {
        return Err(ArchiveError::entry(path, "its name contains a NUL byte"));
    }
    let mut names = Vec::new();
    for name in path.split(|byte| *byte == b'/') {
        match name {
            b"" | b"." => {}
            b".." => return Err(ArchiveError::entry(path, "its name contains `..`")),
            name => {
                check("name length", name.len() as u64, NAME_MAX)?;
                names.push(name);
            }
        }
    }
    check("path_depth", names.len() as u64, limits.path_depth)?;
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn split_default(path: &[u8]) -> Result<Vec<&[u8]>, ArchiveError> {
        split(path, &Limits::default())
    }

    #[test]
    fn leading_slashes_and_dots_mean_the_root() {
        for path in [&b"a/b"[..], b"/a/b", b"./a/b", b"//a/./b/", b"/./a//b"] {
            assert_eq!(split_default(path).unwrap(), [b"a", b"b"]);
        }
        assert!(split_default(b"/").unwrap().is_empty());
    }

    #[test]
    fn parents_nul_bytes_and_overlong_names_are_refused() {
        for path in [&b".."[..], b"a/../b", b"/..", b"a/..", b"a\0b"] {
            assert!(matches!(split_default(path), Err(ArchiveError::BadEntry { .. })), "{path:?}");
        }
        assert!(matches!(
            split_default(&[b'n'; 256]),
            Err(ArchiveError::Limit { what: "name length", found: 256, .. })
        ));
        assert!(split_default(&[b'n'; 255]).is_ok());
        assert!(matches!(split_default(&b"d/".repeat(300)), Err(ArchiveError::Limit { what: "path_depth", .. })));
        assert!(matches!(split_default(&b"d/".repeat(3000)), Err(ArchiveError::Limit { what: "path_bytes", .. })));
    }

    proptest! {
        #[test]
        fn accepted_paths_hold_only_plain_names(path in prop::collection::vec(prop::sample::select(b"a./\0b".to_vec()), 0..40)) {
            if let Ok(names) = split_default(&path) {
                for name in names {
                    prop_assert!(!name.is_empty() && name != b"." && name != b".." && !name.contains(&b'/') && !name.contains(&0));
                }
            }
        }
    }
}
