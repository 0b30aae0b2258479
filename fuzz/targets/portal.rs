//! A portal file.
#![no_main]

use libfuzzer_sys::fuzz_target;
use observatory_pipeline::testing::scraper::Portal;

fuzz_target!(|text: &str| {
    let _ = Portal::parse(text);
});
