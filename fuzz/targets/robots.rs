//! A robots.txt, and a path that is looked up in it: what follows the last line break.
#![no_main]

use libfuzzer_sys::fuzz_target;
use observatory_pipeline::testing::scraper::{PRODUCT, Robots};

fuzz_target!(|bytes: &[u8]| {
    let path = bytes.rsplit(|byte| *byte == b'\n').next().unwrap_or_default();
    Robots::parse(bytes, PRODUCT).allows(&String::from_utf8_lossy(path));
});
