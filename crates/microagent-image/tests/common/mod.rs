//! What the tests of pulling, importing and cleaning up share.

#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::fs;
use std::path::{Path, PathBuf};

use microagent_image::{BaseImage, Error, Image, ImageStore, PullOptions, Reference, Silent};
use microagent_testing::{Layout, run, tool};
use tempfile::TempDir;

/// A store in a directory of its own.
pub(crate) struct Store {
    pub(crate) images: ImageStore,
    directory: TempDir,
}

impl Store {
    pub(crate) fn new() -> Store {
        let directory = tempfile::tempdir().unwrap();
        Store { images: ImageStore::open(directory.path().join("images")), directory }
    }

    pub(crate) fn pull(&self, reference: &str) -> Result<(Image, BaseImage), Error> {
        self.pull_with(reference, &PullOptions::default())
    }

    pub(crate) fn pull_with(&self, reference: &str, options: &PullOptions) -> Result<(Image, BaseImage), Error> {
        self.images.ensure(&parse(reference), options, &Silent)
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.directory.path().join("images")
    }

    /// Every file in the store but its locks and its index, by path.
    pub(crate) fn files(&self) -> Vec<String> {
        let mut found = Vec::new();
        collect(&self.path(), &self.path(), &mut found);
        found.retain(|name| !name.starts_with("locks/") && name != "lock" && name != "index.json");
        found.sort();
        found
    }

    /// Fails unless the store holds nothing but locks and an index.
    pub(crate) fn assert_empty(&self) {
        assert_eq!(self.files(), Vec::<String>::new());
    }
}

fn collect(root: &Path, directory: &Path, found: &mut Vec<String>) {
    for entry in fs::read_dir(directory).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(root, &path, found);
        } else {
            found.push(path.strip_prefix(root).unwrap().to_str().unwrap().to_owned());
        }
    }
}

pub(crate) fn parse(reference: &str) -> Reference {
    reference.parse().unwrap()
}

/// A directory with these files.
pub(crate) fn files(contents: &[(&str, &[u8])]) -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    for (name, content) in contents {
        let path = directory.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
    directory
}

/// Bytes that do not compress, the same for the same seed.
pub(crate) fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[0]
    };
    (0..length).map(|_| next()).collect()
}

/// An image `v1` of two layers and a config, by `umoci`.
pub(crate) fn sample() -> Layout {
    let layout = Layout::new();
    let lower = files(&[("etc/name", b"lower"), ("etc/kept", b"kept")]);
    let upper = files(&[("name", b"upper")]);
    layout.image("v1").layer(lower.path(), "/").layer(upper.path(), "/etc").configure(&[
        "--config.cmd=/bin/true",
        "--config.cmd=now",
        "--config.env=GREETING=hello",
        "--config.user=1000:1000",
        "--config.workingdir=/srv",
    ]);
    layout
}

/// An image `big` with one layer of `megabytes` that do not compress.
pub(crate) fn big(megabytes: usize) -> Layout {
    let layout = Layout::new();
    let content = files(&[("noise", &noise(megabytes << 20, 7))]);
    layout.image("big").layer(content.path(), "/").configure(&["--config.cmd=/noise"]);
    layout
}

/// What the base holds, read by the tools of EROFS itself.
pub(crate) fn extract(base: &BaseImage) -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    let target = directory.path().join("root");
    run(tool("fsck.erofs").arg(format!("--extract={}", target.display())).arg(&base.path));
    directory
}

/// One file of the base.
pub(crate) fn read(base: &BaseImage, name: &str) -> Vec<u8> {
    fs::read(extract(base).path().join("root").join(name)).unwrap()
}

/// The digest of the first layer, without its algorithm.
pub(crate) fn layer_hex(image: &Image) -> String {
    image.layers[0].digest.hex().to_owned()
}
