//! Spelling of text inside addresses and pages.
//!
//! `comparable` is what tests compare by, since readers may lay out a text differently.

/// Spelling of characters outside ASCII in a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Entities {
    /// As they are.
    Plain,
    /// `&#xE1;`
    Hexadecimal,
    /// `&#225;`
    Decimal,
}

/// Text for use in a page, inside or outside of an attribute.
pub(crate) fn escape(text: &str, entities: Entities) -> String {
    let mut page = String::with_capacity(text.len() + 16);
    for char in text.chars() {
        match char {
            '&' => page.push_str("&amp;"),
            '<' => page.push_str("&lt;"),
            '>' => page.push_str("&gt;"),
            '"' => page.push_str("&quot;"),
            // By name in every mode, so that readers have to decode named entities, too.
            '\u{a0}' => page.push_str("&nbsp;"),
            char if char.is_ascii() || entities == Entities::Plain => page.push(char),
            char if entities == Entities::Decimal => page.push_str(&format!("&#{};", u32::from(char))),
            char => page.push_str(&format!("&#x{:X};", u32::from(char))),
        }
    }
    page
}

/// Lower case, without the accents of Spanish.
pub(crate) fn fold(text: &str) -> String {
    text.to_lowercase().chars().map(plain).collect()
}

fn plain(char: char) -> char {
    match char {
        'á' => 'a',
        'é' => 'e',
        'í' => 'i',
        'ó' => 'o',
        'ú' | 'ü' => 'u',
        'ñ' => 'n',
        char => char,
    }
}

/// The words of a text as an address holds them: `Médico/a General` gives `medico-a-general`.
pub(crate) fn slug(text: &str) -> String {
    let folded = fold(text);
    let words = folded.split(|char: char| !char.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    words.collect::<Vec<_>>().join("-")
}

/// Characters that begin an item of a list in running text.
const BULLETS: [char; 4] = ['•', '●', '*', '-'];

/// The text without what two honest readers of a page may write differently: runs of blanks are one
/// blank, and marks at the beginning of a list item are left out.
pub fn comparable(text: &str) -> String {
    let mut words: Vec<&str> = text.split_whitespace().collect();
    words.retain(|word| !word.chars().all(|char| BULLETS.contains(&char)));
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_as_each_portal_does() {
        let check = |text: &str, entities, expected: &str| assert_eq!(escape(text, entities), expected);
        check("Bogotá & <b>", Entities::Plain, "Bogotá &amp; &lt;b&gt;");
        check("Bogotá", Entities::Hexadecimal, "Bogot&#xE1;");
        check("Bogotá\u{a0}\"x\"", Entities::Decimal, "Bogot&#225;&nbsp;&quot;x&quot;");
    }

    #[test]
    fn slugs_are_plain_words() {
        let check = |text: &str, expected: &str| assert_eq!(slug(text), expected);
        check("Médico/a General", "medico-a-general");
        check("Bogotá, D.C.", "bogota-d-c");
        check("  Diseñador – Ñandú ", "disenador-nandu");
        check("", "");
    }

    #[test]
    fn comparable_text_has_no_layout() {
        let check = |text: &str, expected: &str| assert_eq!(comparable(text), expected);
        check("a\n\n- b\u{a0}c\n• d", "a b c d");
        check("e-mail 2 * 3", "e-mail 2 3");
    }
}
