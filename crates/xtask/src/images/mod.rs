//! Images to demonstrate and test with, made by other people's tools.
//!
//! An image is made once and kept, as an OCI layout in the cache, under the digest of its recipe. The recipe is the
//! source file that makes it: changing the file makes the image anew.
//!
//! | image | tags | made by | what it is for |
//! |---|---|---|---|
//! | `debian-python` | `12` | mmdebstrap, umoci | a real distribution with a real interpreter, in three layers |
//! | `busybox` | `1`, `entrypoint`, `both`, `user` | buildah | the ways an image can say what it runs, and as whom |
//! | `echo` | `1` | umoci | one static program and nothing else: no shell, no `/etc` |
//! | `awkward` | `1` | umoci, layers by hand | everything a layer may hold that is easily got wrong |
//! | `multi-arch` | `1` | buildah | an index with an image for amd64 and another for arm64 |

mod awkward;
mod busybox;
mod debian_python;
mod echo;
mod multi_arch;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use sha2::{Digest, Sha256};

use crate::{Error, Result, tool, workspace};

/// How an image, or several from the same files, is made.
#[derive(Debug)]
pub struct Recipe {
    /// Name of the repository.
    pub name: &'static str,
    /// The tags that it makes.
    pub tags: &'static [&'static str],
    source: &'static str,
    make: fn(&Layout, &Path) -> Result<()>,
}

/// The image of the demo.
pub const DEBIAN_PYTHON: Recipe = Recipe {
    name: "debian-python",
    tags: &["12"],
    source: include_str!("debian_python.rs"),
    make: debian_python::make,
};
/// The smallest image with a shell.
pub const BUSYBOX: Recipe = Recipe {
    name: "busybox",
    tags: &["1", "entrypoint", "both", "user"],
    source: include_str!("busybox.rs"),
    make: busybox::make,
};
/// The smallest image.
pub const ECHO: Recipe = Recipe { name: "echo", tags: &["1"], source: include_str!("echo.rs"), make: echo::make };
/// The image whose layers are hard to unpack.
pub const AWKWARD: Recipe =
    Recipe { name: "awkward", tags: &["1"], source: include_str!("awkward.rs"), make: awkward::make };
/// The image that is an index.
pub const MULTI_ARCH: Recipe =
    Recipe { name: "multi-arch", tags: &["1"], source: include_str!("multi_arch.rs"), make: multi_arch::make };

/// Every recipe.
pub const RECIPES: [&Recipe; 5] = [&DEBIAN_PYTHON, &BUSYBOX, &ECHO, &AWKWARD, &MULTI_ARCH];

/// An OCI layout that holds the images of one recipe.
#[derive(Clone, Debug)]
pub struct Layout {
    directory: PathBuf,
}

impl Recipe {
    /// The images, which are made if the cache has none from this recipe.
    pub fn prepare(&self) -> Result<Layout> {
        let cache = workspace::cache("images")?;
        let layout = Layout { directory: cache.join(format!("{}-{}", self.name, self.digest())) };
        if layout.directory.exists() {
            return Ok(layout);
        }
        eprintln!("making image {}", self.name);
        let start = Instant::now();
        let scratch = tempfile::tempdir_in(&cache).map_err(Error::file("create a directory in", &cache))?;
        let made = Layout { directory: scratch.path().join("layout") };
        let files = scratch.path().join("files");
        fs::create_dir(&files).map_err(Error::file("create", &files))?;
        (self.make)(&made, &files)?;
        match fs::rename(&made.directory, &layout.directory) {
            // Another process was quicker: its images are as good.
            Err(_) if layout.directory.exists() => {}
            renamed => renamed.map_err(Error::file("rename", &made.directory))?,
        }
        eprintln!("made image {} in {:.1} s", self.name, start.elapsed().as_secs_f64());
        Ok(layout)
    }

    /// What tells this recipe from others and from its former self.
    pub fn digest(&self) -> String {
        let digest = Sha256::digest(self.source);
        let start = digest.iter().take(6).fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
        format!("{start:012x}")
    }
}

impl Layout {
    /// The directory.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The image `tag`, in the notation of skopeo and buildah.
    pub fn reference(&self, tag: &str) -> String {
        format!("oci:{}:{tag}", self.directory.display())
    }

    /// The image `tag`, in the notation of umoci.
    fn image(&self, tag: &str) -> String {
        format!("{}:{tag}", self.directory.display())
    }

    /// Starts the layout with an image `tag` that has no layers yet, and no history that differs from day to day.
    fn start(&self, tag: &str) -> Result<()> {
        tool::capture(Command::new("umoci").arg("init").arg("--layout").arg(&self.directory))?;
        self.umoci(&["new"], tag, &[])
    }

    /// Runs an `umoci` command on the image `tag`. The arguments are those after `--image`.
    fn umoci(&self, command: &[&str], tag: &str, arguments: &[&str]) -> Result<()> {
        let mut umoci = Command::new("umoci");
        umoci.args(command).args(["--image", &self.image(tag)]).args(arguments);
        tool::capture(&mut umoci).map(drop)
    }
}
