//! From text as published to text that is stored: entities decoded, markup turned into lines,
//! characters normalised, personal data removed. Raw text is not kept.

#[cfg(test)]
mod damaged;
mod entities;
mod markup;

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};
use unicode_normalization::UnicodeNormalization;

use crate::{
    privacy::{self, Kind, Scrubbed},
    text::fold::push_folded,
};

/// A text fit to be stored.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Cleaned {
    /// Plain text: paragraphs and list items on lines of their own, single blanks, NFC.
    pub text: String,
    /// Number of pieces of personal data that became marks, by kind.
    pub entities_removed: BTreeMap<Kind, u32>,
}

/// Removing markup can complete an entity and the other way round; more rounds settle that. Not
/// tuned: texts made to need more are cut off here.
const ROUNDS: usize = 32;
/// Bytes that further rounds read of one text. Advertisements settle in the second round; a long
/// one that is made to need many gets fewer of them. Not tuned.
const FURTHER: usize = 1 << 20;

/// Cleans a text; cleaning it again changes nothing. Mojibake is left alone: what it meant is a
/// guess.
pub fn clean(text: &str) -> Cleaned {
    clean_by(text, privacy::scrub)
}

/// The same for the name of a place.
pub(crate) fn clean_place(text: &str) -> Cleaned {
    clean_by(text, privacy::scrub_place)
}

fn clean_by(text: &str, scrub: fn(&str) -> Scrubbed) -> Cleaned {
    let mut cleaned = Cleaned { text: text.to_owned(), entities_removed: BTreeMap::new() };
    for _ in 0..ROUNDS.min(4 + FURTHER / text.len().max(1)) {
        // Decoded first: portals publish escaped HTML, whose tags show only then.
        let plain = normalise(&markup::to_text(&entities::decode(&cleaned.text)));
        // In every round, since what a round uncovers may hold personal data as well.
        let scrubbed = scrub(&plain);
        for (kind, count) in scrubbed.removed {
            *cleaned.entities_removed.entry(kind).or_default() += count;
        }
        if scrubbed.text == cleaned.text {
            break;
        }
        cleaned.text = scrubbed.text;
    }
    cleaned
}

/// NFC, odd blanks to blanks, controls and invisible characters out, at most one empty line in a
/// row.
fn normalise(text: &str) -> String {
    // One end of a line, or every line of a text from Windows would be a paragraph.
    let text = text.replace("\r\n", "\n");
    // Invisible characters go before NFC: between a letter and its accent they would part the two.
    let visible: String = text.chars().filter_map(visible).nfc().collect();
    let mut out = String::with_capacity(visible.len());
    let mut empty = 0;
    for line in visible.split('\n') {
        let mut words = line.split(' ').filter(|word| !word.is_empty());
        let Some(first) = words.next() else {
            empty += 1;
            continue;
        };
        if !out.is_empty() {
            out.push_str(if empty > 0 { "\n\n" } else { "\n" });
        }
        empty = 0;
        out.push_str(first);
        for word in words {
            out.push(' ');
            out.push_str(word);
        }
    }
    out
}

fn visible(character: char) -> Option<char> {
    match character {
        '\n' | '\r' | '\u{b}' | '\u{c}' | '\u{85}' | '\u{2028}' | '\u{2029}' => Some('\n'),
        // Soft hyphens, joiners and marks of direction split what a reader sees as one word, so
        // neither a skill nor an address would be recognised.
        '\u{ad}'
        | '\u{200b}'..='\u{200f}'
        | '\u{202a}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}'
        | '\u{feff}' => None,
        '\t' => Some(' '),
        other if other.is_whitespace() => Some(' '),
        other if other.is_control() => None,
        other => Some(other),
    }
}

/// The key under which two advertisements are the same text.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Content<'a> {
    /// Title.
    pub title: &'a str,
    /// Employer.
    pub company: &'a str,
    /// Place.
    pub location: &'a str,
    /// Body.
    pub description: &'a str,
    /// Requirements.
    pub requirements: &'a str,
}

/// SHA-256, hexadecimal, over the folded fields: case, accents, blanks and punctuation do not
/// count, except `+` and `#`, which tell C from C++ and C#.
pub(crate) fn content_hash(content: &Content<'_>) -> String {
    let mut hash = Sha256::new();
    let fields =
        [content.title, content.company, content.location, content.description, content.requirements];
    for field in fields {
        let folded = essence(field);
        // The length before the text keeps words from moving between fields unnoticed.
        hash.update((folded.len() as u64).to_le_bytes());
        hash.update(folded);
    }
    hex::encode(hash.finalize())
}

fn essence(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut gap = false;
    for character in text.nfc() {
        if !(character.is_alphanumeric() || matches!(character, '+' | '#')) {
            gap = true;
            continue;
        }
        if gap && !out.is_empty() {
            out.push(' ');
        }
        gap = false;
        push_folded(character, &mut out);
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn cleans_published_text() {
        for (text, expected) in [
            (
                "<p>Buscamos&nbsp;<b>Dise&ntilde;ador</b></p><ul><li>Figma</li><li>HTML</li></ul>",
                "Buscamos Diseñador\n- Figma\n- HTML",
            ),
            ("d&#xED;as &amp;amp; m&aacute;s &lt;br&gt; fin", "días & más\nfin"),
            ("a<script>var x = '<p>';</script>b<style>p{}</style>", "a b"),
            ("List<String> y x < 3 && y > 2", "List<String> y x < 3 && y > 2"),
            ("uno\u{a0}\u{200b}dos \t tres\r\n\r\n\r\ncuatro\u{7}", "uno dos tres\n\ncuatro"),
            ("uno\r\ndos\rtres\ncuatro", "uno\ndos\ntres\ncuatro"),
            ("e\u{301}xito", "éxito"),
            ("<a href=\"mailto:x\">rrhh@example.com</a>", "[email]"),
            ("programaciÃ³n", "programaciÃ³n"),
            ("<td>uno</td><td>dos</td>", "uno dos"),
            ("<!-- oculto -->visible<br/>línea", "visible\nlínea"),
            ("AT&T &copy; &unknown; &#0; &#999999999;", "AT&T © &unknown; &#0; &#999999999;"),
            ("<div title=\"a > b\">texto", "texto"),
            ("", ""),
        ] {
            assert_eq!(clean(text).text, expected, "{text}");
        }
    }

    #[test]
    fn the_hash_ignores_looks_and_keeps_fields_apart() {
        let hash = |title, description| content_hash(&Content { title, description, ..Content::default() });
        for (left, right, equal) in [
            (("Analista", "Excel y SQL."), ("ANALISTA!", "excel   y\nsql"), true),
            (("Programador C#", ""), ("Programador C++", ""), false),
            (("a b", "c"), ("a", "b c"), false),
            (("Diseño", ""), ("diseno", ""), true),
        ] {
            assert_eq!(hash(left.0, left.1) == hash(right.0, right.1), equal, "{left:?} {right:?}");
        }
    }

    proptest! {
        #[test]
        fn cleaning_twice_changes_nothing(
            parts in prop::collection::vec(
                prop_oneof![
                    "(\\PC|[\\x00-\\x20]){0,6}".boxed(),
                    prop::sample::select(vec![
                        "<p>", "</p>", "<li>", "<br", ">", "<script>", "</script>", "&amp;", "&lt;", "amp;", "&", "#38;", "&#60;", "b>", "<!--", "-->",
                        "a@b.co", "3150790793", "tel ", "\u{301}", "\u{200b}", "\n", "\"", "'", "&nbsp;",
                    ]).prop_map(str::to_owned).boxed(),
                ],
                0..16,
            ),
        ) {
            let once = clean(&parts.concat());
            let twice = clean(&once.text);
            prop_assert_eq!(&twice.text, &once.text);
            prop_assert!(twice.entities_removed.is_empty());
        }
    }
}
