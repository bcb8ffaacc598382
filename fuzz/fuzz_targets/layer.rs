//! Any bytes at all as a layer: compressed or not, the host survives them and stays within its limits.
#![no_main]

use std::fs::File;

use libfuzzer_sys::fuzz_target;
use microagent_image::rootfs::{Limits, Tree, decompress};

const LAYER_BYTES: u64 = 1 << 20;

fuzz_target!(|input: &[u8]| {
    let limits = Limits { layer_bytes: LAYER_BYTES, ..Limits::default() };
    let layer = memory_file();
    if let Ok(unpacked) = decompress(input, &layer, &limits) {
        assert!(unpacked.size <= LAYER_BYTES);
        let mut tree = Tree::new(limits.clone());
        if tree.apply(&layer).is_ok() && tree.apply(&layer).is_ok() {
            assert!(tree.summary().bytes <= limits.total_bytes);
        }
    }
});

fn memory_file() -> File {
    let flags = rustix::fs::MemfdFlags::CLOEXEC;
    rustix::fs::memfd_create("layer", flags).expect("a file in memory").into()
}
