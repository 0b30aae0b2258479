//! The one thing read from a model's card: which languages it says it was trained on.

/// Languages in the front matter of a hub's README (`language: en` or a list), in its order.
///
/// Only values shaped like a language tag count: cards also write "multilingual".
pub(crate) fn languages(readme: &str) -> Vec<String> {
    let mut lines = readme.lines();
    if lines.next().map(str::trim) != Some("---") {
        return Vec::new();
    }
    let mut found = Vec::new();
    let mut inside = false;
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
            assert_eq!(languages(readme), expected);
        }
        check("", &[]);
        check("# Title\nlanguage: en\n", &[]);
        check("---\nlanguage: en\nlicense: mit\n---\nlanguage: fr\n", &["en"]);
        check("---\nlanguage:\n- es\n- pt-BR\n- multilingual\ntags:\n- fr\n---\n", &["es", "pt-BR"]);
        check("---\nlanguage: [\"es\", 'en']\n---\n", &["es", "en"]);
        check("---\nlanguage: multilingual\n---\n", &[]);
    }
}
