//! What a kernel module says of itself: the `.modinfo` section of a `.ko`, and the list of what is builtin.
//!
//! Dependencies come from here and not from `modules.dep`, because a package downloaded and never installed has none:
//! `depmod` writes that file on the machine it is installed on, from these same sections.

use std::path::Path;

use object::elf::FileHeader64;
use object::endian::LittleEndian;
use object::read::elf::{FileHeader, SectionHeader};

use super::{Error, Result};

/// The parts of a module's `.modinfo` that decide how it is loaded.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct ModInfo {
    /// Modules whose symbols it uses.
    pub(super) depends: Vec<String>,
    /// Modules, or aliases of modules, it asks for by name when it starts.
    pub(super) softdep_pre: Vec<String>,
    /// The release it was built for.
    pub(super) release: String,
}

impl ModInfo {
    /// Reads the section out of the module in `ko`, which came from `path`.
    pub(super) fn parse(ko: &[u8], path: &Path) -> Result<ModInfo> {
        let damaged = |error: object::Error| Error::damaged(path, format!("its ELF structure is wrong: {error}"));
        let header = FileHeader64::<LittleEndian>::parse(ko).map_err(damaged)?;
        let sections = header.sections(LittleEndian, ko).map_err(damaged)?;
        let (_, section) = sections
            .section_by_name(LittleEndian, b".modinfo")
            .ok_or_else(|| Error::damaged(path, "it has no `.modinfo` section, so it is not a kernel module"))?;
        Ok(ModInfo::from_section(section.data(LittleEndian, ko).map_err(damaged)?))
    }

    /// The section is a run of `key=value` strings, each ended by one or more zero bytes.
    fn from_section(section: &[u8]) -> ModInfo {
        let mut info = ModInfo::default();
        for entry in section.split(|&byte| byte == 0) {
            let Some((key, value)) = std::str::from_utf8(entry).ok().and_then(|entry| entry.split_once('=')) else {
                continue;
            };
            match key {
                "depends" => info.depends = value.split(',').filter(|name| !name.is_empty()).map(canonical).collect(),
                "softdep" => info.softdep_pre.extend(softdep_pre(value)),
                "vermagic" => value.split(' ').next().unwrap_or_default().clone_into(&mut info.release),
                _ => {}
            }
        }
        info
    }
}

/// The names after `pre:` in a soft dependency (`pre: a b post: c`).
fn softdep_pre(value: &str) -> impl Iterator<Item = String> {
    value
        .split_whitespace()
        .skip_while(|word| *word != "pre:")
        .skip(1)
        .take_while(|word| !word.ends_with(':'))
        .map(canonical)
}

/// A module name the way `/proc/modules` spells it: files may use `-` where the name has `_`.
pub(super) fn canonical(name: &str) -> String {
    name.replace('-', "_")
}

/// The module name of a file such as `virtio-rng.ko.xz`, or `None` if it is not a module.
pub(super) fn name_of_file(file: &str) -> Option<String> {
    let (stem, extension) = file.split_once(".ko")?;
    matches!(extension, "" | ".gz" | ".xz" | ".zst").then(|| canonical(stem))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dependencies_are_read_from_the_section() {
        let section =
            b"alias=fs-erofs\0license=GPL\0\0softdep=pre: crypto-crc32c foo post: bar\0depends=libcrc32c,netfs\0\
            vermagic=6.1.0-56-cloud-amd64 SMP preempt mod_unload \0";
        assert_eq!(
            ModInfo::from_section(section),
            ModInfo {
                depends: vec!["libcrc32c".into(), "netfs".into()],
                softdep_pre: vec!["crypto_crc32c".into(), "foo".into()],
                release: "6.1.0-56-cloud-amd64".into(),
            }
        );
    }

    #[test]
    fn module_files_are_told_from_others() {
        assert_eq!(name_of_file("virtio-rng.ko.xz").as_deref(), Some("virtio_rng"));
        assert_eq!(name_of_file("erofs.ko").as_deref(), Some("erofs"));
        assert_eq!(name_of_file("modules.builtin"), None);
        assert_eq!(name_of_file("erofs.ko.debug"), None);
    }
}
