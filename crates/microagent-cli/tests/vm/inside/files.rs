//! Files of a workspace, and of the host.

use super::workspace::Workspace;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Everything below a directory of the host, one line each: kind, mode, owner, time, links, size, target or content.
pub(super) fn listing(directory: &Path) -> Vec<String> {
    let mut found = Vec::new();
    walk(directory, directory, &mut found);
    found.sort();
    found
}

fn walk(root: &Path, at: &Path, found: &mut Vec<String>) {
    for entry in fs::read_dir(at).unwrap() {
        let path = entry.unwrap().path();
        let stat = path.symlink_metadata().unwrap();
        let name = path.strip_prefix(root).unwrap().as_os_str().as_bytes().escape_ascii();
        let content = if stat.is_symlink() {
            fs::read_link(&path).unwrap().as_os_str().as_bytes().escape_ascii().to_string()
        } else if stat.is_file() {
            digest(&fs::read(&path).unwrap())
        } else {
            String::new()
        };
        let links = if stat.is_dir() { 0 } else { stat.nlink() };
        let size = if stat.is_dir() { 0 } else { stat.size() };
        // What a link permits is the same everywhere, and means nothing.
        let mode = if stat.is_symlink() { 0 } else { stat.mode() };
        let (uid, gid, time, nanos) = (stat.uid(), stat.gid(), stat.mtime(), stat.mtime_nsec());
        found.push(format!("{name} {mode:o} {uid}:{gid} {time}.{nanos:09} {links} {size} {content}"));
        if stat.is_dir() {
            walk(root, &path, found);
        }
    }
}

/// Tells contents apart.
fn digest(bytes: &[u8]) -> String {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    format!("{:016x}", hasher.finish())
}

/// Copies a tree into a workspace and back, and fails unless it is what it was.
#[track_caller]
pub(super) fn assert_returns(workspace: &Workspace, tree: &Path) {
    let scratch = tempfile::tempdir().unwrap();
    let back = scratch.path().join("back");
    let there = format!("box:/returned-{}", digest(tree.as_os_str().as_bytes()));
    workspace.microagent([OsStr::new("cp"), tree.as_os_str(), OsStr::new(&there)]).expect(0);
    workspace.microagent([OsStr::new("cp"), OsStr::new(&there), back.as_os_str()]).expect(0);
    let (expected, found) = (listing(tree), listing(&back));
    let differences: Vec<_> = expected.iter().filter(|line| !found.contains(line)).take(10).collect();
    assert!(expected == found, "{} and {} entries; not returned: {differences:#?}", expected.len(), found.len());
}
