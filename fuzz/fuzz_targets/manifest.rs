//! Any bytes are a manifest, an index or a refusal of one line.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Err(error) = microagent_image::check_manifest(bytes) {
        assert!(!error.to_string().contains('\n'));
    }
});
