//! Choosing the modules of a kernel: those a [`Feature`] needs, with what they depend on, in an order that loads.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::{self, File};
use std::io::BufReader;
use std::path::{Path, PathBuf};

use super::modinfo::{ModInfo, canonical, name_of_file};
use super::{Error, Feature, Result, Stage, Support, compression};

/// The largest module that is believed, decompressed. The largest one a guest needs, a modular ext4, is under 2 MB.
const LARGEST_MODULE: u64 = 64 << 20;
/// The largest `modules.builtin` that is believed. Real ones are 30 KB.
const LARGEST_LIST: u64 = 4 << 20;
/// How many files a module directory may hold, and how deep. Distributions ship up to 7,000, eight levels deep.
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
        let mut loading = LoadOrder { tree: self, release, modules: Vec::new(), index: HashMap::new() };
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
    index: HashMap<String, usize>,
}

impl LoadOrder<'_> {
    /// Adds `name` after everything it depends on. `path` is the chain of modules that led here.
    fn add(&mut self, name: &str, stage: Stage, path: &mut Vec<String>) -> Result<()> {
        let file = &self.tree.files[name];
        if path.len() > LONGEST_CHAIN || path.iter().any(|earlier| earlier == name) {
            return Err(Error::damaged(
                file,
                format!("it depends on itself, or on too much, through `{}`", path.join("` and `")),
            ));
        }
        let content = match self.index.get(name) {
            // Two stages, each of which may be loaded without the other, share what they need through the boot stage.
            Some(&known) if self.modules[known].stage != stage && self.modules[known].stage != Stage::Boot => {
                self.modules[known].stage = Stage::Boot;
                None
            }
            Some(_) => return Ok(()),
            None => Some(read_module(file)?),
        };
        let stage = if content.is_some() { stage } else { Stage::Boot };
        let bytes = content.as_deref().unwrap_or_else(|| &self.modules[self.index[name]].content);
        let info = ModInfo::parse(bytes, file)?;
        if info.release != self.release {
            return Err(Error::ReleaseMismatch {
                path: file.clone(),
                expected: self.release.to_owned(),
                found: info.release,
            });
        }
        path.push(name.to_owned());
        for dependency in info.softdep_pre.iter().filter_map(|name| self.tree.soft_provider(name)) {
            self.add(&dependency, stage, path)?;
        }
        for dependency in &info.depends {
            if self.tree.files.contains_key(dependency) {
                self.add(dependency, stage, path)?;
            } else if !self.tree.is_builtin(dependency) {
                return Err(Error::damaged(file, format!("it needs the module `{dependency}`, which is not there")));
            }
        }
        path.pop();
        if let Some(content) = content {
            self.index.insert(name.to_owned(), self.modules.len());
            self.modules.push(Chosen { name: name.to_owned(), stage, content });
        }
        Ok(())
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
