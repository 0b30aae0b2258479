//! URIs by which skills of several exports are joined: the concept's, else one of our own.
//!
//! Ours are made of the folded name alone, so they are the same in every export and installation.

use crate::text::tokens;

/// What our URIs begin with: a scheme of its own, since no host serves them.
const OWN: &str = "observatory:skill/";

/// The URI of a skill by its concept, or by its name where the taxonomy has none for it.
pub(super) fn skill_uri(concept: Option<&str>, name: &str) -> String {
    if let Some(concept) = concept {
        return concept.to_owned();
    }
    let mut uri = OWN.to_owned();
    for byte in tokens::key(name).bytes() {
        match byte {
            b' ' => uri.push('-'),
            // Unreserved characters (RFC 3986, 2.3).
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => uri.push(char::from(byte)),
            _ => uri.push_str(&format!("%{byte:02X}")),
        }
    }
    uri
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_skill_without_a_concept_has_a_uri_of_its_name() {
        assert_eq!(skill_uri(Some("u:1"), "SQL"), "u:1");
        for (name, expected) in [
            ("Control de plagas", "observatory:skill/control-de-plagas"),
            ("CONTROL  de plagas", "observatory:skill/control-de-plagas"),
            ("Metrología", "observatory:skill/metrologia"),
            ("C++", "observatory:skill/c%2B%2B"),
            ("日本語", "observatory:skill/%E6%97%A5%E6%9C%AC%E8%AA%9E"),
        ] {
            assert_eq!(skill_uri(None, name), expected, "{name}");
        }
    }
}
