//! Images made by `umoci` from directories.

use std::path::{Path, PathBuf};

use serde_json::Value;
use tempfile::TempDir;

use crate::registry::Registry;
use crate::tool::{run, tool};

/// An OCI layout in a temporary directory.
#[derive(Debug)]
pub struct Layout {
    directory: TempDir,
}

/// One image of a [`Layout`], while it is put together.
#[derive(Debug)]
pub struct LayoutImage<'a> {
    layout: &'a Layout,
    tag: String,
}

impl Default for Layout {
    fn default() -> Layout {
        Layout::new()
    }
}

impl Layout {
    /// A layout without images.
    pub fn new() -> Layout {
        let directory = tempfile::tempdir().expect("creating a temporary directory");
        let layout = Layout { directory };
        run(tool("umoci").args(["init", "--layout"]).arg(layout.path()));
        layout
    }

    /// The directory.
    pub fn path(&self) -> PathBuf {
        self.directory.path().join("layout")
    }

    /// A new image for this machine without layers, named `tag`.
    pub fn image(&self, tag: &str) -> LayoutImage<'_> {
        let image = LayoutImage { layout: self, tag: tag.to_owned() };
        run(tool("umoci").args(["new", "--image", &image.name()]));
        image
    }

    /// A new image named `tag` that starts as a copy of the image `base`, sharing its layers.
    pub fn image_from(&self, base: &str, tag: &str) -> LayoutImage<'_> {
        let base = LayoutImage { layout: self, tag: base.to_owned() };
        run(tool("umoci").args(["tag", "--image", &base.name(), tag]));
        LayoutImage { layout: self, tag: tag.to_owned() }
    }

    /// The image in the notation of `skopeo`.
    pub fn source(&self, tag: &str) -> String {
        format!("oci:{}:{tag}", self.path().display())
    }

    /// Copies the image `tag` to `repository` (which has a tag of its own) in `registry`.
    pub fn push(&self, tag: &str, registry: &Registry, repository: &str) {
        registry.push(&self.source(tag), repository, &[]);
    }

    /// The manifest of the image `tag`.
    pub fn manifest(&self, tag: &str) -> Value {
        let index = self.json("index.json");
        let entries = index["manifests"].as_array().expect("the index lists manifests");
        let named = |entry: &&Value| entry["annotations"]["org.opencontainers.image.ref.name"] == tag;
        let entry = entries.iter().find(named).expect("the index has the tag");
        let digest = entry["digest"].as_str().expect("a descriptor has a digest");
        self.json(&format!("blobs/{}", digest.replace(':', "/")))
    }

    fn json(&self, name: &str) -> Value {
        let bytes = std::fs::read(self.path().join(name)).expect("reading a document of the layout");
        serde_json::from_slice(&bytes).expect("documents of a layout are JSON")
    }
}

impl LayoutImage<'_> {
    /// Adds a layer that puts the contents of `directory` at `target` in the image.
    pub fn layer(&self, directory: &Path, target: &str) -> &Self {
        run(tool("umoci").args(["insert", "--rootless", "--image", &self.name()]).arg(directory).arg(target));
        self
    }

    /// Adds a layer whose tar is the one given, entry for entry.
    pub fn tar_layer(&self, tar: &Path) -> &Self {
        run(tool("umoci").args(["raw", "add-layer", "--image", &self.name()]).arg(tar));
        self
    }

    /// Changes the config, with the options of `umoci config`.
    pub fn configure(&self, options: &[&str]) -> &Self {
        run(tool("umoci").args(["config", "--image", &self.name()]).args(options));
        self
    }

    fn name(&self) -> String {
        format!("{}:{}", self.layout.path().display(), self.tag)
    }
}
