//! Positions in a text, in the unit that the caller counts in.

use observatory_proto::inference::v1 as pb;

use crate::error::Error;

/// What the settings ask for.
///
/// # Errors
/// [`Error::InvalidValue`] for an unknown number.
pub(super) fn unit(value: i32) -> Result<pb::OffsetUnit, Error> {
    pb::OffsetUnit::try_from(value)
        .map_err(|_| super::invalid_enum("settings.offset_unit", value, "0 to 3 (see OffsetUnit)"))
}

/// Where the code points of a text begin.
pub(super) struct Places<'t> {
    text: &'t str,
    /// Byte of each code point, and the length of the text.
    bytes: Vec<u32>,
    /// The same in units of UTF-16, where asked for.
    utf16: Vec<u32>,
    unit: pb::OffsetUnit,
}

impl<'t> Places<'t> {
    /// The places of this text, to be told in this unit.
    pub(super) fn new(text: &'t str, unit: pb::OffsetUnit) -> Self {
        let ends = [text.len() as u32];
        let bytes = text.char_indices().map(|(at, _)| at as u32).chain(ends).collect();
        let mut utf16 = Vec::new();
        if unit == pb::OffsetUnit::Utf16 {
            utf16.push(0);
            utf16.extend(text.chars().scan(0, |at, char| {
                *at += char.len_utf16() as u32;
                Some(*at)
            }));
        }
        Self { text, bytes, utf16, unit }
    }

    /// The place of a code point (or of the end), in the unit.
    pub(super) fn of(&self, code_point: usize) -> u32 {
        match self.unit {
            pb::OffsetUnit::Unspecified | pb::OffsetUnit::CodePoint => code_point as u32,
            pb::OffsetUnit::Byte => self.bytes[code_point],
            pb::OffsetUnit::Utf16 => self.utf16[code_point],
        }
    }

    /// The text of a half-open span in code points.
    pub(super) fn text(&self, start: usize, end: usize) -> &'t str {
        &self.text[self.bytes[start] as usize..self.bytes[end] as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_unit_counts_its_own_way() {
        fn check(unit: pb::OffsetUnit, expected: [u32; 5]) {
            let places = Places::new("añ🙂b", unit);
            assert_eq!([0, 1, 2, 3, 4].map(|place| places.of(place)), expected, "{unit:?}");
            assert_eq!((places.text(1, 3), places.text(4, 4)), ("ñ🙂", ""));
        }
        check(pb::OffsetUnit::Unspecified, [0, 1, 2, 3, 4]);
        check(pb::OffsetUnit::CodePoint, [0, 1, 2, 3, 4]);
        check(pb::OffsetUnit::Byte, [0, 1, 3, 7, 8]);
        check(pb::OffsetUnit::Utf16, [0, 1, 2, 4, 5]);
        assert_eq!(Places::new("", pb::OffsetUnit::Utf16).of(0), 0);
        assert_eq!(unit(4).unwrap_err().field(), Some("settings.offset_unit"));
    }
}
