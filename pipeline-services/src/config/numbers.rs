//! What the numbers of the settings may be.
//!
//! One table of ranges for all modules, so that a value out of range is refused when the process
//! starts, by name and with what is allowed, instead of surfacing in the middle of a run.

use anyhow::{Result, bail};

/// A numeric setting of a module, and the numbers that make sense.
struct Number {
    service: &'static str,
    key: &'static str,
    least: f64,
    most: f64,
    /// True if it counts something.
    whole: bool,
}

const fn whole(service: &'static str, key: &'static str, least: f64, most: f64) -> Number {
    Number { service, key, least, most, whole: true }
}

const fn real(service: &'static str, key: &'static str, least: f64, most: f64) -> Number {
    Number { service, key, least, most, whole: false }
}

/// Longest time in seconds, a year: what lies beyond is a typing error.
const YEAR: f64 = 31_536_000.0;

/// By sense, not tuned: below the least a module cannot work, and above the most stands a typing
/// error. 60 is [`observatory_clustering::eigenmap::MAX_COMPONENTS`].
const NUMBERS: [Number; 17] = [
    whole("scraper", "max_pages", 1.0, 1e6),
    whole("scraper", "max_ads", 1.0, 1e7),
    real("scraper", "delay", 0.0, 600.0),
    whole("enhancer", "concurrency", 1.0, 256.0),
    whole("enhancer", "max_tokens", 1.0, 1e6),
    whole("enhancer", "request_timeout", 1.0, 86_400.0),
    whole("embedder", "texts_per_request", 1.0, 1_000.0),
    // No entry turns a level of the cache off.
    whole("embedder", "memory_entries", 0.0, 1e8),
    whole("embedder", "memory_seconds", 1.0, YEAR),
    whole("embedder", "disk_entries", 0.0, 1e8),
    whole("embedder", "disk_seconds", 1.0, YEAR),
    // A point is its own first neighbour, and a cluster of one is none.
    whole("analyzer", "n_neighbors", 2.0, 1_000.0),
    real("analyzer", "min_dist", 0.0, 1.0),
    whole("analyzer", "seed", 0.0, i64::MAX as f64),
    whole("analyzer", "n_components", 1.0, 60.0),
    whole("analyzer", "min_cluster_size", 2.0, 1e6),
    whole("analyzer", "min_samples", 1.0, 1e6),
];

/// Checks the numbers of a module's settings; values of another type are left to the module.
///
/// # Errors
/// If one makes no sense; the text names it, the value, and what is expected.
pub(super) fn check(service: &str, settings: &toml::Table) -> Result<()> {
    for number in NUMBERS.iter().filter(|number| number.service == service) {
        let (value, found) = match settings.get(number.key) {
            Some(toml::Value::Integer(value)) => (*value as f64, value.to_string()),
            Some(toml::Value::Float(value)) => (*value, value.to_string()),
            _ => continue,
        };
        // TOML writes a whole number as an integer only: 3.0 for a count is a mistake about the
        // setting.
        let counts = !number.whole || matches!(settings.get(number.key), Some(toml::Value::Integer(_)));
        if !counts || !(number.least..=number.most).contains(&value) {
            let kind = if number.whole { "a whole number" } else { "a number" };
            bail!(
                "invalid modules.{service}.settings.{} `{found}`: expected {kind} from {} to {}",
                number.key,
                number.least,
                number.most
            );
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_make_no_sense_are_refused_by_name() {
        let check = |service: &str, text: &str, expected: &str| {
            let settings: toml::Table = toml::from_str(text).expect("toml");
            let refused = check(service, &settings).err().map(|error| error.to_string());
            let expected =
                (!expected.is_empty()).then(|| format!("invalid modules.{service}.settings.{expected}"));
            assert_eq!(refused, expected, "{text}");
        };
        check(
            "analyzer",
            "min_cluster_size = 0",
            "min_cluster_size `0`: expected a whole number from 2 to 1000000",
        );
        check("analyzer", "n_neighbors = 1", "n_neighbors `1`: expected a whole number from 2 to 1000");
        check("analyzer", "n_neighbors = -3", "n_neighbors `-3`: expected a whole number from 2 to 1000");
        check("analyzer", "min_samples = 0", "min_samples `0`: expected a whole number from 1 to 1000000");
        check("analyzer", "n_components = 61", "n_components `61`: expected a whole number from 1 to 60");
        check("analyzer", "n_components = 2.5", "n_components `2.5`: expected a whole number from 1 to 60");
        check("analyzer", "min_dist = nan", "min_dist `NaN`: expected a number from 0 to 1");
        check("analyzer", "min_dist = -0.1", "min_dist `-0.1`: expected a number from 0 to 1");
        check("analyzer", "min_dist = 0.1\nseed = 7\nn_neighbors = 15", "");
        check("scraper", "delay = inf", "delay `inf`: expected a number from 0 to 600");
        check("scraper", "delay = 2", "");
        check("scraper", "max_pages = 0", "max_pages `0`: expected a whole number from 1 to 1000000");
        check(
            "embedder",
            "texts_per_request = 0",
            "texts_per_request `0`: expected a whole number from 1 to 1000",
        );
        check("embedder", "memory_entries = 0", "");
        check("enhancer", "concurrency = 257", "concurrency `257`: expected a whole number from 1 to 256");
        check("enhancer", "seed = 0", "");
        check("analyzer", "seed = 'x'", "");
    }
}
