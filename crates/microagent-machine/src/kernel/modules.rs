//! Choosing the modules of a kernel: those a [`Feature`] needs, with what they depend on, in an order that loads.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::{self, File};
use std::io::BufReader;
use std::path::{Path, PathBuf};

use super::modinfo::{ModInfo, canonical, name_of_file};
use super::{Error, Feature, Result, Stage, Support, compression};

/// The largest module that is believed, decompressed. The largest of those kept from Debian's is 0.4 MB.
const LARGEST_MODULE: u64 = 64 << 20;
/// The largest `modules.builtin` that is believed. Debian's is 5 KB.
const LARGEST_LIST: u64 = 4 << 20;
/// How many files a module directory may hold, and how deep. Debian's cloud kernel has 1,121 modules.
const MOST_FILES: usize = 200_000;
const DEEPEST: usize = 32;
/// How long a chain of dependencies may be. Real ones have five links.
const LONGEST_CHAIN: usize = 64;

/// A directory of modules: what is there, and what needs not be because it is builtin.
pub(super) struct ModuleTree {
    directory: PathBuf,
    files: HashMap<String, PathBuf>,
    /// `None` if nothing says what is builtin.
    builtin: Option<Builtin>,
}

/// A `modules.builtin`.
struct Builtin {
    list: Vec<u8>,
    names: BTreeSet<String>,
}

/// A module that goes with the kernel.
pub(super) struct Chosen {
    pub(super) name: String,
    pub(super) stage: Stage,
    pub(super) content: Vec<u8>,
}

/// The modules to keep, in load order, and what they say of the kernel.
#[derive(Default)]
pub(super) struct Selection {
    pub(super) modules: Vec<Chosen>,
    pub(super) features: BTreeMap<Feature, Support>,
}

impl ModuleTree {
    /// Looks at every file below `directory`, whatever its layout. Symbolic links are not followed.
    pub(super) fn scan(directory: &Path) -> Result<ModuleTree> {
        let mut tree = ModuleTree { directory: directory.to_owned(), files: HashMap::new(), builtin: None };
        tree.scan_directory(directory, 0, &mut 0)?;
        Ok(tree)
    }

    /// The `modules.builtin` that lies with the modules: one path of a `.ko` that does not exist per line.
    pub(super) fn builtin_list(&self) -> Option<&[u8]> {
        self.builtin.as_ref().map(|builtin| builtin.list.as_slice())
    }

    fn scan_directory(&mut self, directory: &Path, depth: usize, seen: &mut usize) -> Result<()> {
        for entry in fs::read_dir(directory).map_err(Error::io("list", directory))? {
            let entry = entry.map_err(Error::io("list", directory))?;
            let kind = entry.file_type().map_err(Error::io("look at", &entry.path()))?;
            *seen += 1;
            if *seen > MOST_FILES || depth > DEEPEST {
                let (limit, unit) =
                    if depth > DEEPEST { (DEEPEST, "levels of directories") } else { (MOST_FILES, "files") };
                return Err(Error::TooLarge { path: self.directory.clone(), limit: limit as u64, unit });
            }
            if kind.is_dir() {
                self.scan_directory(&entry.path(), depth + 1, seen)?;
            } else if let (true, Some(file)) = (kind.is_file(), entry.file_name().to_str()) {
                if let Some(name) = name_of_file(file) {
                    self.files.insert(name, entry.path());
                } else if file == "modules.builtin" {
                    self.builtin = Some(Builtin::read(&entry.path())?);
                }
            }
        }
        Ok(())
    }

    /// Chooses what the features need. Every module must have been built for `release`.
    pub(super) fn select(&self, release: &str) -> Result<Selection> {
        let mut loading =
            LoadOrder { tree: self, release, modules: Vec::new(), dependencies: Vec::new(), index: HashMap::new() };
        let mut features = BTreeMap::new();
        for feature in Feature::ALL {
            let name = feature.module();
            let support = if self.is_builtin(name) {
                Support::Builtin
            } else if self.files.contains_key(name) {
                loading.add(name, feature.stage(), &mut Vec::new())?;
                Support::Module
            } else if self.builtin.is_some() {
                Support::Absent
            } else {
                Support::Unknown
            };
            features.insert(feature, support);
        }
        // Stable, so the order within a stage stays such that dependencies come first; and a dependency is never in a
        // later stage than what needs it.
        loading.modules.sort_by_key(|module| module.stage);
        Ok(Selection { modules: loading.modules, features })
    }

    fn is_builtin(&self, name: &str) -> bool {
        self.builtin.as_ref().is_some_and(|builtin| builtin.names.contains(name))
    }

    /// The modules to load before the one in `file`: those it asks for by name, then those whose symbols it uses.
    fn dependencies(&self, info: &ModInfo, file: &Path) -> Result<Vec<String>> {
        let mut names: Vec<String> = info.softdep_pre.iter().filter_map(|name| self.soft_provider(name)).collect();
        for name in &info.depends {
            if self.files.contains_key(name) {
                names.push(name.clone());
            } else if !self.is_builtin(name) {
                return Err(Error::damaged(file, format!("it needs the module `{name}`, which is not there")));
            }
        }
        Ok(names)
    }

    /// The module that answers to the soft dependency `name`: itself, or the generic provider of a crypto algorithm,
    /// whose module is by convention called `<algorithm>_generic`. `None` if builtin or not to be had, which a soft
    /// dependency tolerates.
    fn soft_provider(&self, name: &str) -> Option<String> {
        let algorithm = name.strip_prefix("crypto_").unwrap_or(name);
        let candidates = [name.to_owned(), algorithm.to_owned(), format!("{algorithm}_generic")];
        if candidates.iter().any(|candidate| self.is_builtin(candidate)) {
            return None;
        }
        candidates.into_iter().find(|candidate| self.files.contains_key(candidate))
    }
}

/// Modules in the order found: depth first, so each after its dependencies.
struct LoadOrder<'a> {
    tree: &'a ModuleTree,
    release: &'a str,
    modules: Vec<Chosen>,
    /// Of each module, the positions of those it depends on.
    dependencies: Vec<Vec<usize>>,
    index: HashMap<String, usize>,
}

impl LoadOrder<'_> {
    /// Adds `name` after everything it depends on and returns its position. `chain` is what led here.
    fn add(&mut self, name: &str, stage: Stage, chain: &mut Vec<String>) -> Result<usize> {
        if let Some(&known) = self.index.get(name) {
            // Stages other than boot may be loaded without each other, so what two of them need is loaded before both.
            if self.modules[known].stage != stage {
                self.move_to_boot(known);
            }
            return Ok(known);
        }
        let file = &self.tree.files[name];
        if chain.len() > LONGEST_CHAIN || chain.iter().any(|earlier| earlier == name) {
            let problem = format!("it depends on itself, or on too much, through `{}`", chain.join("` and `"));
            return Err(Error::damaged(file, problem));
        }
        let content = read_module(file)?;
        let info = ModInfo::parse(&content, file)?;
        if info.release != self.release {
            let (expected, found) = (self.release.to_owned(), info.release);
            return Err(Error::ReleaseMismatch { path: file.clone(), expected, found });
        }
        chain.push(name.to_owned());
        let needed = self.tree.dependencies(&info, file)?;
        let dependencies = needed.iter().map(|name| self.add(name, stage, chain)).collect::<Result<_>>()?;
        chain.pop();
        let position = self.modules.len();
        self.index.insert(name.to_owned(), position);
        self.modules.push(Chosen { name: name.to_owned(), stage, content });
        self.dependencies.push(dependencies);
        Ok(position)
    }

    /// Moves a module and all it depends on to the boot stage.
    fn move_to_boot(&mut self, position: usize) {
        if self.modules[position].stage != Stage::Boot {
            self.modules[position].stage = Stage::Boot;
            for dependency in self.dependencies[position].clone() {
                self.move_to_boot(dependency);
            }
        }
    }
}

fn read_module(path: &Path) -> Result<Vec<u8>> {
    let file = File::open(path).map_err(Error::io("open the module", path))?;
    compression::read_at_most(compression::reader(BufReader::new(file), path)?, LARGEST_MODULE, path)
}

impl Builtin {
    fn read(path: &Path) -> Result<Builtin> {
        let file = File::open(path).map_err(Error::io("open", path))?;
        let list = compression::read_at_most(file, LARGEST_LIST, path)?;
        let text = std::str::from_utf8(&list).map_err(|_| Error::damaged(path, "it is not text"))?;
        let names =
            text.lines().filter_map(|line| line.rsplit('/').next()?.strip_suffix(".ko")).map(canonical).collect();
        Ok(Builtin { list, names })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RELEASE: &str = "6.1.0-test";

    /// An ELF with one section, `.modinfo`, as `modpost` would fill it.
    fn module(info: &str) -> Vec<u8> {
        let info = format!("vermagic={RELEASE} SMP\0{info}\0");
        let names = b"\0.modinfo\0.shstrtab\0";
        let section = |name: u32, kind: u32, offset: usize, size: usize| {
            let mut header = [0; 64];
            header[..4].copy_from_slice(&name.to_le_bytes());
            header[4..8].copy_from_slice(&kind.to_le_bytes());
            header[24..32].copy_from_slice(&(offset as u64).to_le_bytes());
            header[32..40].copy_from_slice(&(size as u64).to_le_bytes());
            header
        };
        let mut elf = vec![0; 64];
        elf[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
        elf[16..24].copy_from_slice(&[1, 0, 62, 0, 1, 0, 0, 0]);
        let names_at = 64 + info.len();
        elf[40..48].copy_from_slice(&((names_at + names.len()) as u64).to_le_bytes());
        elf[52..64].copy_from_slice(&[64, 0, 56, 0, 0, 0, 64, 0, 3, 0, 2, 0]);
        elf.extend(info.as_bytes());
        elf.extend(names);
        elf.extend([0; 64]);
        elf.extend(section(1, 1, 64, info.len()));
        elf.extend(section(10, 3, names_at, names.len()));
        elf
    }

    fn select(modules: &[(&str, &str)], builtin: &str) -> Result<Vec<(String, Stage)>> {
        let directory = tempfile::tempdir().unwrap();
        for (name, info) in modules {
            fs::write(directory.path().join(format!("{name}.ko")), module(info)).unwrap();
        }
        fs::write(directory.path().join("modules.builtin"), builtin).unwrap();
        let selection = ModuleTree::scan(directory.path())?.select(RELEASE)?;
        Ok(selection.modules.into_iter().map(|module| (module.name, module.stage)).collect())
    }

    #[test]
    fn what_two_stages_need_is_loaded_before_both_with_its_own_needs() {
        let modules = [
            ("erofs", "depends=shared"),
            ("virtio_net", "depends=shared,failover"),
            ("shared", "depends=base"),
            ("base", "depends="),
            ("failover", "depends="),
        ];
        let expected = [
            ("base", Stage::Boot),
            ("shared", Stage::Boot),
            ("erofs", Stage::Disk),
            ("failover", Stage::Network),
            ("virtio_net", Stage::Network),
        ];
        assert_eq!(select(&modules, "").unwrap(), expected.map(|(name, stage)| (name.to_owned(), stage)));
    }

    #[test]
    fn a_checksum_asked_for_by_name_comes_first_unless_it_is_builtin() {
        let modules = [
            ("erofs", "depends=libcrc32c"),
            ("libcrc32c", "softdep=pre: crc32c\0depends="),
            ("crc32c-generic", "depends="),
        ];
        let names =
            |builtin| -> Vec<String> { select(&modules, builtin).unwrap().into_iter().map(|(name, _)| name).collect() };
        assert_eq!(names(""), ["crc32c_generic", "libcrc32c", "erofs"]);
        assert_eq!(names("kernel/crypto/crc32c_generic.ko\n"), ["libcrc32c", "erofs"]);
    }

    #[test]
    fn dependencies_that_cannot_be_met_are_errors_that_name_the_module() {
        let error = select(&[("erofs", "depends=netfs")], "").unwrap_err();
        assert!(error.to_string().contains("erofs.ko") && error.to_string().contains("`netfs`"), "{error}");
        let error = select(&[("erofs", "depends=a"), ("a", "depends=b"), ("b", "depends=a")], "").unwrap_err();
        assert!(error.to_string().contains("depends on itself"), "{error}");
    }
}
