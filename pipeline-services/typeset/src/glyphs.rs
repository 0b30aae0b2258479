//! Text that the fonts at hand can show.
//!
//! Advertisements are full of emoji and stray control characters. A reader should see that
//! something stood there, not an empty box, and a document that must meet PDF/UA may not contain
//! such a box.

use std::collections::HashMap;

use serde_json::Value;
use typst::text::Font;

/// Stands for one or more characters that no font can show.
const REPLACEMENT: char = '\u{fffd}';

/// Makes every string of `data` printable with `fonts`: control characters become spaces, invisible
/// direction marks and joiners go away, a run of characters without glyph becomes one U+FFFD.
/// Returns how many characters had no glyph.
pub(crate) fn make_printable(data: &mut Value, fonts: &[Font]) -> usize {
    Printer { fonts, known: HashMap::new(), missing: 0 }.walk(data)
}

struct Printer<'a> {
    fonts: &'a [Font],
    known: HashMap<char, bool>,
    missing: usize,
}

impl Printer<'_> {
    fn walk(mut self, data: &mut Value) -> usize {
        let mut open = vec![data];
        while let Some(value) = open.pop() {
            match value {
                // Nearly all strings are printable ASCII and stay as they are.
                Value::String(text) if !text.is_ascii() || text.contains(|c: char| c.is_control()) => {
                    *text = self.printable(text);
                }
                Value::Array(items) => open.extend(items),
                Value::Object(fields) => open.extend(fields.values_mut()),
                _ => {}
            }
        }
        self.missing
    }

    fn printable(&mut self, text: &str) -> String {
        let mut out = String::with_capacity(text.len());
        let mut replaced = false;
        for c in text.chars() {
            // Most fonts have no glyph for them, but nothing is missing when they are left out.
            if is_invisible(c) {
                continue;
            }
            let shown = match c {
                c if c.is_control() => Some(' '),
                c => self.has_glyph(c).then_some(c),
            };
            match shown {
                Some(c) => out.push(c),
                None => {
                    self.missing += 1;
                    if !replaced {
                        out.push(REPLACEMENT);
                    }
                }
            }
            replaced = shown.is_none();
        }
        out
    }

    fn has_glyph(&mut self, c: char) -> bool {
        let fonts = self.fonts;
        // The built-in fonts have all of these; for others each font has to be searched.
        c.is_ascii()
            || *self
                .known
                .entry(c)
                .or_insert_with(|| fonts.iter().any(|f| f.info().coverage.contains(c.into())))
    }
}

/// Direction overrides, joiners, zero-width spaces and variation selectors.
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
        || matches!(c, '\u{fe00}'..='\u{fe0f}' | '\u{e0000}'..='\u{e0fff}')
}

#[cfg(test)]
mod tests {
    use super::*;
    use typst::foundations::Bytes;

    #[test]
    fn only_what_has_a_glyph_is_left() {
        let fonts: Vec<Font> = typst_assets::fonts().flat_map(|f| Font::iter(Bytes::new(f))).collect();
        let check = |text: &str, expected: &str, missing: usize| {
            let mut data = serde_json::json!({"a": [1, {"b": text}]});
            assert_eq!(make_printable(&mut data, &fonts), missing, "{text:?}");
            assert_eq!(data["a"][1]["b"], expected, "{text:?}");
        };
        check("", "", 0);
        check("Señor – “ñandú” 5 €", "Señor – “ñandú” 5 €", 0);
        check("a\tb\r\nc\u{0}", "a b  c ", 0);
        check("go \u{1f680}\u{1f680} now \u{1f600}", "go \u{fffd} now \u{fffd}", 3);
        check("\u{202e}abc\u{200b}\u{feff}", "abc", 0);
        check("☎\u{fe0f} 1", "☎ 1", 0);
    }
}
