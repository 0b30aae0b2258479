//! A line of an import: JSON to a posting that is cleaned and without personal data.
#![no_main]

use chrono::DateTime;
use libfuzzer_sys::fuzz_target;
use observatory_pipeline::testing::intake;

fuzz_target!(|line: &str| {
    if let Ok(posting) = intake::parse(line) {
        let _ = intake::prepare(posting, &["CO".to_owned()], DateTime::UNIX_EPOCH);
    }
});
