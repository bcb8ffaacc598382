//! A guest sees exactly the tree that the image's layers describe.

use crate::host::Host;
use microagent_testing::{Registry, run, tool};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use tempfile::TempDir;
use xtask::images::{AWKWARD, DEBIAN_PYTHON};

const WALK: &str = include_str!("walk.py");
const PYTHON: &str = "/usr/bin/python3";

/// A Debian with Python and, on top of it, the layers that are hard to unpack; in a layout of its own.
fn awkward_debian(scratch: &Path) -> PathBuf {
    let layout = scratch.join("layout");
    let debian = DEBIAN_PYTHON.prepare().unwrap();
    run(tool("cp").arg("--archive").arg(debian.directory()).arg(&layout));
    let image = format!("{}:12", layout.display());
    let awkward = AWKWARD.prepare().unwrap();
    let manifest = run(tool("skopeo").args(["inspect", "--raw", &awkward.reference("1")]));
    let manifest: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
    for layer in manifest["layers"].as_array().unwrap() {
        let digest = layer["digest"].as_str().unwrap();
        let compressed = awkward.directory().join("blobs").join(digest.replace(':', "/"));
        let tar = scratch.join("layer.tar");
        std::fs::write(&tar, run(tool("gzip").args(["--decompress", "--stdout"]).arg(compressed))).unwrap();
        run(tool("umoci").args(["raw", "add-layer", "--image", &image]).arg(&tar));
    }
    layout
}

/// What umoci makes of the image, as its own Python sees it from inside.
fn unpacked(scratch: &TempDir, image: &str) -> String {
    let bundle = scratch.path().join("bundle");
    run(tool("umoci").args(["unpack", "--image", image]).arg(&bundle));
    let listing = run(tool("chroot").arg(bundle.join("rootfs")).args([PYTHON, "-c", WALK, "/"]));
    String::from_utf8(listing).unwrap()
}

fn by_path(listing: &str) -> BTreeMap<&str, &str> {
    listing.lines().map(|line| line.split_once('\t').expect("a path and its facts")).collect()
}

#[test]
fn the_guests_tree_is_the_one_an_independent_tool_unpacks() {
    assert!(rustix::process::geteuid().is_root(), "this test needs root: only root can unpack device nodes and owners");
    let scratch = tempfile::tempdir().unwrap();
    let layout = awkward_debian(scratch.path());
    let expected = unpacked(&scratch, &format!("{}:12", layout.display()));

    let registry = Registry::plain();
    registry.push(&format!("oci:{}:12", layout.display()), "awkward-debian:12", &[]);
    let host = Host::new();
    let image = registry.reference("awkward-debian:12");
    let seen = host.microagent(["run", "--quiet", "--profile", "medium", &image, PYTHON, "-c", WALK, "/"]).expect(0);

    let seen = seen.text();
    let (expected, seen) = (by_path(&expected), by_path(&seen));
    let mut differences = Vec::new();
    for path in expected.keys().chain(seen.keys().filter(|path| !expected.contains_key(*path))) {
        if expected.get(path) != seen.get(path) {
            differences.push(format!("{path}\n  expected {:?}\n  seen     {:?}", expected.get(path), seen.get(path)));
        }
    }
    let shown = &differences[..differences.len().min(20)];
    assert!(differences.is_empty(), "{} of {} paths differ:\n{}", differences.len(), expected.len(), shown.join("\n"));
    assert!(expected.len() > 5_000, "only {} paths were compared", expected.len());
}
