//! The model card: the README of a checkpoint on the hub.
//!
//! Only the languages are read from it. They are for listings: no request is decided by them, so a
//! card that is missing or malformed is not an error.

use std::fs;
use std::path::Path;

/// Languages that the card in a model's directory names, as BCP 47 tags; none without a card.
pub(super) fn languages(dir: &Path) -> Vec<String> {
    fs::read_to_string(dir.join("README.md")).map_or_else(|_| Vec::new(), |text| front_matter(&text))
}

/// Languages in the YAML front matter of a card (`language: en` or a list), in its order.
///
/// Values that do not look like a language tag are left out: many cards say "multilingual".
fn front_matter(readme: &str) -> Vec<String> {
    let mut lines = readme.lines();
    if lines.next().map(str::trim) != Some("---") {
        return Vec::new();
    }
    let mut found = Vec::new();
    let mut inside = false;
    // Not a YAML parser: two forms of one key are read, and anything else is skipped.
    for line in lines.take_while(|line| line.trim() != "---") {
        if let Some(value) = line.strip_prefix("language:") {
            inside = true;
            found.extend(tags(value));
        } else if inside && let Some(value) = line.trim_start().strip_prefix("- ") {
            found.extend(tags(value));
        } else {
            inside = false;
        }
    }
    found
}

fn tags(value: &str) -> impl Iterator<Item = String> {
    value
        .split([',', '[', ']'])
        .map(|tag| tag.trim().trim_matches(['"', '\'']))
        .filter(|tag| is_tag(tag))
        .map(str::to_owned)
}

fn is_tag(tag: &str) -> bool {
    let mut parts = tag.split('-');
    let language = parts.next().unwrap_or_default();
    (2..=3).contains(&language.len())
        && language.bytes().all(|b| b.is_ascii_lowercase())
        && parts.all(|part| (2..=8).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_alphanumeric()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_front_matter() {
        fn check(readme: &str, expected: &[&str]) {
            assert_eq!(front_matter(readme), expected);
        }
        check("", &[]);
        check("# Title\nlanguage: en\n", &[]);
        check("---\nlanguage: en\nlicense: mit\n---\nlanguage: fr\n", &["en"]);
        check("---\nlanguage:\n- es\n- pt-BR\n- multilingual\ntags:\n- fr\n---\n", &["es", "pt-BR"]);
        check("---\nlanguage: [\"es\", 'en']\n---\n", &["es", "en"]);
        check("---\nlanguage: multilingual\n---\n", &[]);
    }
}
