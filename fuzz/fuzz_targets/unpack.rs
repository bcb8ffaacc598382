//! Archives of a stranger: whatever they hold, nothing outside of the directory they are unpacked in is touched.
#![no_main]

use std::fs::{self, File};
use std::path::Path;

use libfuzzer_sys::fuzz_target;
use microagent_tar::{Limits, UnpackOptions, unpack};

fuzz_target!(|archive: &[u8]| {
    let scratch = tempfile::tempdir().expect("a directory to try in");
    let target = scratch.path().join("target");
    fs::create_dir(&target).expect("a directory to unpack in");
    fs::write(scratch.path().join("secret"), "untouched").expect("a file that nobody may touch");
    let limits = Limits { total_bytes: 1 << 20, entries: 1000, ..Limits::default() };
    let options = UnpackOptions { limits, ..UnpackOptions::default() };
    // Whether it can be unpacked is not what is asked.
    let _ = unpack(File::open(&target).expect("the directory"), archive, &options);
    let mut left: Vec<_> = names(scratch.path());
    left.sort();
    assert_eq!(left, ["secret", "target"]);
    assert_eq!(fs::read(scratch.path().join("secret")).expect("the file"), b"untouched");
});

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).expect("the directory");
    entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect()
}
