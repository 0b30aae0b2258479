//! Reading of a model's JSON files.
//!
//! Every error names the file. A key that is `null` counts as left out, as transformers
//! writes defaults that way.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};

/// Upper limit on `max_position_embeddings`, far above the 8,192 of published encoders.
pub(super) const MAX_POSITIONS: usize = 1 << 18;

/// Reads a JSON file of the model's directory.
///
/// # Errors
/// If the file cannot be read, or is not JSON of this shape.
pub(crate) fn read_json<T: DeserializeOwned>(dir: &Path, name: &str) -> Result<T> {
    let path = dir.join(name);
    let text =
        fs::read_to_string(&path).with_context(|| format!("{name}: cannot read {}", path.display()))?;
    serde_json::from_str(&text).with_context(|| format!("{name}: not the JSON that was expected"))
}

/// Like [`read_json`]; `None` if the file does not exist.
///
/// # Errors
/// As [`read_json`].
pub(crate) fn read_optional<T: DeserializeOwned>(dir: &Path, name: &str) -> Result<Option<T>> {
    if dir.join(name).exists() { read_json(dir, name).map(Some) } else { Ok(None) }
}

/// Deserializes `null` as the default.
pub(crate) fn or_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(
    value: D,
) -> Result<T, D::Error> {
    Option::deserialize(value).map(Option::unwrap_or_default)
}

/// Checks a number of a configuration against 1 to `max`.
///
/// Callers choose `max` far above every published model, and low enough that products of two or
/// three such numbers do not overflow.
///
/// # Errors
/// Names the key, the value and the range.
pub(crate) fn check_range(key: &str, value: usize, max: usize) -> Result<()> {
    ensure!((1..=max).contains(&value), "invalid {key} {value}: expected 1 to {max}");
    Ok(())
}
