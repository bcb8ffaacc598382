//! Any text is a reference or a refusal of one line, and what is accepted reads back as the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use microagent_image::Reference;

fuzz_target!(|text: &str| {
    match text.parse::<Reference>() {
        Ok(reference) => {
            for form in [reference.to_string(), reference.familiar()] {
                assert!(form.parse::<Reference>().is_ok_and(|parsed| parsed == reference), "{form}");
            }
        }
        Err(error) => assert!(!error.to_string().contains('\n')),
    }
});
