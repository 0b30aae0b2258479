//! Positions in a text, in the unit that a caller counts in.
//!
//! Inside the server spans of entities count code points; callers may want bytes (Rust, Go) or
//! UTF-16 code units (JavaScript, Java). Spans of a text that was lower-cased are those of the text
//! as it was given.

/// The unit of the offsets in an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum OffsetUnit {
    /// Unicode scalar values, as Python counts.
    #[default]
    CodePoint,
    /// Bytes of UTF-8.
    Byte,
    /// UTF-16 code units.
    Utf16,
}

/// Maps code point positions of one text to the unit a caller counts in.
pub(crate) struct OffsetMap<'t> {
    text: &'t str,
    /// Byte position of each code point, then the length of the text.
    bytes: Vec<u32>,
    /// The same in UTF-16 code units; empty unless the unit asks for it.
    utf16: Vec<u32>,
    unit: OffsetUnit,
}

impl<'t> OffsetMap<'t> {
    /// Indexes the text, in time linear in its length.
    pub(crate) fn new(text: &'t str, unit: OffsetUnit) -> Self {
        let ends = [text.len() as u32];
        let bytes = text.char_indices().map(|(at, _)| at as u32).chain(ends).collect();
        let mut utf16 = Vec::new();
        if unit == OffsetUnit::Utf16 {
            utf16.push(0);
            utf16.extend(text.chars().scan(0, |at, char| {
                *at += char.len_utf16() as u32;
                Some(*at)
            }));
        }
        Self { text, bytes, utf16, unit }
    }

    /// Position of a code point (or of the end of the text), in the unit.
    pub(crate) fn of(&self, code_point: usize) -> u32 {
        match self.unit {
            OffsetUnit::CodePoint => code_point as u32,
            OffsetUnit::Byte => self.bytes[code_point],
            OffsetUnit::Utf16 => self.utf16[code_point],
        }
    }

    /// Text of a half-open span of code points.
    pub(crate) fn text(&self, start: usize, end: usize) -> &'t str {
        &self.text[self.bytes[start] as usize..self.bytes[end] as usize]
    }
}

/// Maps byte positions of a text's lower-case form to those of the text. Lower case may be longer:
/// U+0130 (İ) has two bytes and becomes three.
pub(super) struct LowercaseMap {
    /// For each byte of the lower-case form, the span of the character that it comes from.
    characters: Vec<(usize, usize)>,
    length: usize,
}

impl LowercaseMap {
    /// Indexes the text, in time linear in its length.
    pub(super) fn new(text: &str) -> Self {
        let mut characters = Vec::with_capacity(text.len());
        for (at, character) in text.char_indices() {
            // `str::to_lowercase` takes another sigma at the end of a word, which is as long.
            let bytes = character.to_lowercase().map(char::len_utf8).sum();
            characters.extend(std::iter::repeat_n((at, at + character.len_utf8()), bytes));
        }
        Self { characters, length: text.len() }
    }

    /// The span in the text of a span of its lower-case form: of all characters that it touches.
    pub(super) fn span(&self, (start, end): (usize, usize)) -> (usize, usize) {
        let start = self.characters.get(start).map_or(self.length, |character| character.0);
        let last = end.checked_sub(1).and_then(|last| self.characters.get(last));
        (start, last.map_or(0, |character| character.1).max(start))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_unit_counts_its_own_way() {
        fn check(unit: OffsetUnit, expected: [u32; 5]) {
            let offsets = OffsetMap::new("añ🙂b", unit);
            assert_eq!([0, 1, 2, 3, 4].map(|point| offsets.of(point)), expected, "{unit:?}");
            assert_eq!((offsets.text(1, 3), offsets.text(4, 4)), ("ñ🙂", ""));
        }
        check(OffsetUnit::CodePoint, [0, 1, 2, 3, 4]);
        check(OffsetUnit::Byte, [0, 1, 3, 7, 8]);
        check(OffsetUnit::Utf16, [0, 1, 2, 4, 5]);
        assert_eq!(OffsetMap::new("", OffsetUnit::Utf16).of(0), 0);
    }
}
