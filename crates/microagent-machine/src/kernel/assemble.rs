//! From raw material to a kernel folder: find the image, find its modules, write both with their record.

use std::fs::{self, DirBuilder};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use super::image::BootImage;
use super::modules::{ModuleTree, Selection};
use super::record::{FileRecord, MODULES, ModuleRecord, Record};
use super::{Error, Facts, ImageFormat, Origin, Result};

/// Names an image has where there is one of them, best first.
const PLAIN_NAMES: [&str; 3] = ["vmlinux", "vmlinuz", "bzImage"];
/// What comes before the release where there may be several.
const VERSIONED_NAMES: [&str; 2] = ["vmlinux-", "vmlinuz-"];

/// Builds the kernel folder `into` from the image at `image` and its modules: those [`find_modules`] finds, `installed`
/// being where an installed kernel of a release has them.
pub(super) fn assemble(
    image: &Path,
    installed: &dyn Fn(&str) -> PathBuf,
    origin: Origin,
    into: &Path,
) -> Result<Record> {
    let boot = BootImage::read(image)?;
    let tree = match find_modules(image, &boot.release, &installed(&boot.release)) {
        Some(directory) => Some(ModuleTree::scan(&directory)?),
        None => None,
    };
    let selection = match &tree {
        Some(tree) => tree.select(&boot.release)?,
        None => Selection::default(),
    };
    let modules = into.join(MODULES);
    for directory in [into, &modules] {
        DirBuilder::new().mode(0o700).create(directory).map_err(Error::io("create the directory", directory))?;
    }
    let file = match boot.format {
        ImageFormat::Elf => "vmlinux",
        ImageFormat::BzImage => "bzImage",
    };
    let record = Record::new(
        boot.release,
        boot.format,
        origin,
        FileRecord::write(into, file, &boot.bytes)?,
        selection.modules.into_iter().map(|module| ModuleRecord::write(&modules, module)).collect::<Result<_>>()?,
        match tree.as_ref().and_then(ModuleTree::builtin_list) {
            Some(list) => Some(FileRecord::write(&modules, "modules.builtin", list)?),
            None => None,
        },
        Facts { pvh: boot.pvh, features: selection.features },
    );
    record.store(into)?;
    Ok(record)
}

/// The one kernel image in `directory`: itself a `/boot`, an unpacked package, or an image with modules beside it.
pub(super) fn find_image(directory: &Path) -> Result<PathBuf> {
    let mut places = vec![directory.to_owned(), directory.join("boot")];
    for modules in [directory.join("lib/modules"), directory.join("usr/lib/modules")] {
        places.extend(list(&modules)?);
    }
    if let Some(image) = PLAIN_NAMES
        .iter()
        .flat_map(|name| places.iter().map(move |place| place.join(name)))
        .find(|image| image.is_file())
    {
        return Ok(image);
    }
    let mut images = Vec::new();
    for place in &places {
        images.extend(list(place)?.into_iter().filter(|path| is_versioned_image(path) && path.is_file()));
    }
    match images.as_slice() {
        [image] => Ok(image.clone()),
        [] => Err(Error::NotAKernel {
            path: directory.to_owned(),
            problem: "no `vmlinux`, `vmlinuz` or `bzImage` lies in it, in its `boot` or in its `lib/modules`"
                .to_owned(),
        }),
        [first, second, ..] => Err(Error::Ambiguous {
            path: directory.to_owned(),
            count: images.len(),
            first: first.display().to_string(),
            second: second.display().to_string(),
        }),
    }
}

/// The directory with the modules of `release` for the image at `image`: one that lies near it, else
/// `installed`, else the host's.
pub(super) fn find_modules(image: &Path, release: &str, installed: &Path) -> Option<PathBuf> {
    let near = image.parent()?;
    // In a distribution that keeps images with their modules, the image lies in the very directory.
    if near.ends_with(Path::new("modules").join(release)) {
        return Some(near.to_owned());
    }
    let below = |root: &Path, path: &str| root.join(path).join(release);
    let mut places =
        vec![below(near, "modules"), near.join("modules"), below(near, "lib/modules"), below(near, "usr/lib/modules")];
    if let Some(root) = near.parent() {
        places.extend([below(root, "lib/modules"), below(root, "usr/lib/modules")]);
    }
    places.push(installed.to_owned());
    places.extend([below(Path::new("/"), "lib/modules"), below(Path::new("/"), "usr/lib/modules")]);
    places.into_iter().find(|place| place.is_dir())
}

fn is_versioned_image(path: &Path) -> bool {
    path.file_name()
        .and_then(|name| name.to_str())
        .is_some_and(|name| VERSIONED_NAMES.iter().any(|prefix| name.starts_with(prefix)))
}

/// The paths in `directory`, in order; none if there is no such directory.
fn list(directory: &Path) -> Result<Vec<PathBuf>> {
    if !directory.is_dir() {
        return Ok(Vec::new());
    }
    let mut paths = fs::read_dir(directory)
        .and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>, _>>())
        .map_err(Error::io("list", directory))?;
    paths.sort();
    Ok(paths)
}
