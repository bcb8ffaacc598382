//! What to import, as a user writes it.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::Error;

/// The format of an image that comes as files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImportFormat {
    /// A directory with `oci-layout`, `index.json` and `blobs/`.
    OciLayout,
    /// A tar of such a directory.
    OciArchive,
    /// A tar with `manifest.json`, as `docker save` writes it.
    DockerArchive,
    /// A tar of a root filesystem.
    RootFilesystem,
}

impl ImportFormat {
    const ALL: [ImportFormat; 4] =
        [ImportFormat::OciLayout, ImportFormat::OciArchive, ImportFormat::DockerArchive, ImportFormat::RootFilesystem];

    /// What stands before the colon in front of a path.
    pub const fn prefix(self) -> &'static str {
        match self {
            ImportFormat::OciLayout => "oci",
            ImportFormat::OciArchive => "oci-archive",
            ImportFormat::DockerArchive => "docker-archive",
            ImportFormat::RootFilesystem => "rootfs",
        }
    }

    pub(super) const fn describe(self) -> &'static str {
        match self {
            ImportFormat::OciLayout => "OCI layout",
            ImportFormat::OciArchive => "OCI archive",
            ImportFormat::DockerArchive => "Docker archive",
            ImportFormat::RootFilesystem => "tar of a root filesystem",
        }
    }
}

/// Where an image to import is: a path, optionally with its format and the name of one of several images in it.
///
/// Written as the path alone, or as `oci:DIR[:NAME]`, `oci-archive:FILE[:NAME]`, `docker-archive:FILE[:NAME]` or
/// `rootfs:FILE`. Without a format, the content decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImportSource {
    /// The file or directory.
    pub path: PathBuf,
    /// Its format, if it was given.
    pub format: Option<ImportFormat>,
    /// The image to take, as recorded inside.
    pub image: Option<String>,
}

impl From<&Path> for ImportSource {
    fn from(path: &Path) -> ImportSource {
        ImportSource { path: path.to_owned(), format: None, image: None }
    }
}

impl FromStr for ImportSource {
    type Err = Error;

    /// Never fails; whether there is something to import turns out when it is opened.
    fn from_str(text: &str) -> Result<ImportSource, Error> {
        let prefixed = ImportFormat::ALL.into_iter().find_map(|format| {
            let rest = text.strip_prefix(format.prefix())?.strip_prefix(':')?;
            Some((format, rest))
        });
        // A file may be called `oci:x`, and one that is there is what was meant.
        let Some((format, rest)) = prefixed.filter(|_| !Path::new(text).exists()) else {
            return Ok(ImportSource::from(Path::new(text)));
        };
        let (path, image) = split_image(rest);
        Ok(ImportSource { path: PathBuf::from(path), format: Some(format), image: image.map(str::to_owned) })
    }
}

/// Splits `PATH:NAME`. Both may contain colons, so the file system decides: the path ends at the first colon where
/// something exists.
fn split_image(text: &str) -> (&str, Option<&str>) {
    if Path::new(text).exists() {
        return (text, None);
    }
    let mut colons = text.match_indices(':').map(|(at, _)| at);
    match colons.find(|&at| Path::new(&text[..at]).exists()) {
        Some(at) => (&text[..at], Some(&text[at + 1..])),
        None => (text, None),
    }
}

impl fmt::Display for ImportSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(format) = self.format {
            write!(f, "{}:", format.prefix())?;
        }
        write!(f, "{}", self.path.display())?;
        match &self.image {
            Some(image) => write!(f, ":{image}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_with_colons_are_told_from_paths_with_colons() {
        let directory = tempfile::tempdir().unwrap();
        let plain = directory.path().join("layout");
        let colon = directory.path().join("a:b");
        std::fs::create_dir(&plain).unwrap();
        std::fs::create_dir(&colon).unwrap();
        for (text, path, image) in [
            (format!("oci:{}", plain.display()), &plain, None),
            (format!("oci:{}:v1", plain.display()), &plain, Some("v1")),
            (format!("oci:{}:host:5000/x:v1", plain.display()), &plain, Some("host:5000/x:v1")),
            (format!("oci:{}", colon.display()), &colon, None),
            (format!("oci:{}:v1", colon.display()), &colon, Some("v1")),
        ] {
            let source: ImportSource = text.parse().unwrap();
            assert_eq!((&source.path, source.image.as_deref()), (path, image), "{text}");
            assert_eq!(source.format, Some(ImportFormat::OciLayout));
            assert_eq!(source.to_string(), text);
        }
        assert_eq!("x.tar".parse::<ImportSource>().unwrap().format, None);
        assert_eq!("docker-archive:x.tar".parse::<ImportSource>().unwrap().format, Some(ImportFormat::DockerArchive));
    }
}
