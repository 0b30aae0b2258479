//! The text of an advertisement, and an address.
#![no_main]

use libfuzzer_sys::fuzz_target;
use observatory_pipeline::testing::{cleaning, privacy};

fuzz_target!(|text: &str| {
    cleaning::clean(text);
    privacy::scrub_url(text);
});
