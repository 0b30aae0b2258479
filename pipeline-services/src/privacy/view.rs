//! A text as the patterns read it: one spelling of letters, digits, blanks and signs, and the way
//! back.

use std::ops::Range;

use super::Kind;
use crate::text::fold::push_folded;

/// A folded text. Lower case without accents; full-width letters and digits are plain ones, every
/// dash is `-`, every blank but the line break is ` `, keycaps and invisible characters are gone,
/// encoded at-signs are `@`. What is removed already stands as control characters, one for each
/// kind, which no pattern reads across.
pub(super) struct View<'a> {
    source: &'a str,
    text: String,
    /// For each byte of the text the byte of the source that it comes from, and the source's
    /// length.
    origin: Vec<usize>,
    /// Kind of the text.
    of: Of,
}

/// Kind of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Of {
    /// A part of an advertisement.
    Text,
    /// The name of a place: many are named after persons, title and all.
    Place,
    /// A part of a web address or an identifier, where numbers are the portal's.
    Address,
}

/// Ways to write an at-sign or a dot for a machine.
const ENCODED: [(&str, char); 11] = [
    ("&#64;", '@'),
    ("&#064;", '@'),
    ("&#x40;", '@'),
    ("&#x0040;", '@'),
    ("&commat;", '@'),
    ("%40", '@'),
    ("%2540", '@'),
    ("\\u0040", '@'),
    ("&#46;", '.'),
    ("&#x2e;", '.'),
    ("&period;", '.'),
];

impl<'a> View<'a> {
    pub(super) fn new(source: &'a str) -> Self {
        let origin = Vec::with_capacity(source.len() + 1);
        let mut view = Self { source, text: String::new(), origin, of: Of::Text };
        let mut at = 0;
        while let Some(character) = source[at..].chars().next() {
            let start = at;
            at += view.read(start, character);
            // A character may fold to several bytes or to none.
            view.origin.resize(view.text.len(), start);
        }
        // A find at the end of the text ends here.
        view.origin.push(source.len());
        view.read_letters_as_digits();
        view
    }

    /// `31O-555-l234`: an O and an l among at least five digits are a nought and a one.
    fn read_letters_as_digits(&mut self) {
        let mut bytes = std::mem::take(&mut self.text).into_bytes();
        for token in bytes
            .split_mut(|byte| !(byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.') || *byte >= 0x80))
        {
            let digits = token.iter().filter(|byte| byte.is_ascii_digit()).count();
            let others = token.iter().filter(|byte| !b"0123456789ol-.".contains(byte)).count();
            if digits < 5
                || others > 0
                || !token[0].is_ascii_digit()
                || !token[token.len() - 1].is_ascii_alphanumeric()
            {
                continue;
            }
            for byte in token {
                match *byte {
                    b'o' => *byte = b'0',
                    b'l' => *byte = b'1',
                    _ => {}
                }
            }
        }
        // Letters gave way to digits of the same length.
        self.text = String::from_utf8_lossy(&bytes).into_owned();
    }

    /// The same for a text of another kind.
    pub(super) fn of(source: &'a str, of: Of) -> Self {
        Self { of, ..Self::new(source) }
    }

    /// Returns whether numbers without a word next to them count.
    pub(super) fn has_bare_numbers(&self) -> bool {
        self.of != Of::Address
    }

    /// Returns whether persons are named in it.
    pub(super) fn has_names(&self) -> bool {
        self.of == Of::Text
    }

    /// Appends what stands at a place of the source; returns its length there.
    fn read(&mut self, at: usize, character: char) -> usize {
        let rest = &self.source[at..];
        // Marks of an earlier round stand for what was removed: no finder reads across them.
        if character == '[' {
            let mark = Kind::ALL.into_iter().find(|kind| rest.starts_with(kind.mark()));
            if let Some(kind) = mark {
                self.text.push(barrier(kind));
                return kind.mark().len();
            }
        }
        if matches!(character, '&' | '%' | '\\') {
            let encoded = ENCODED.into_iter().find(|(code, _)| {
                // `get`, since the length may end inside of a character.
                rest.get(..code.len()).is_some_and(|start| start.eq_ignore_ascii_case(code))
            });
            if let Some((code, sign)) = encoded {
                self.text.push(sign);
                return code.len();
            }
        }
        push_plain(character, &mut self.text);
        character.len_utf8()
    }

    /// The folded text.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// The folded text as bytes; ASCII stands for itself.
    pub(super) fn bytes(&self) -> &[u8] {
        self.text.as_bytes()
    }

    /// A byte; a line break beyond the ends.
    pub(super) fn byte(&self, at: usize) -> u8 {
        self.bytes().get(at).copied().unwrap_or(b'\n')
    }

    /// The byte before a place; a line break at the beginning.
    pub(super) fn byte_before(&self, at: usize) -> u8 {
        at.checked_sub(1).map_or(b'\n', |before| self.byte(before))
    }

    /// Returns whether the source has a capital there.
    pub(super) fn is_upper(&self, at: usize) -> bool {
        let start = self.origin.get(at).copied().unwrap_or(self.source.len());
        self.source[start..].chars().next().is_some_and(char::is_uppercase)
    }

    /// The source of a range of the view.
    pub(super) fn source_range(&self, range: &Range<usize>) -> Range<usize> {
        self.origin[range.start]..self.origin[range.end]
    }

    /// The largest place on a character's boundary that is not behind `at`.
    pub(super) fn floor(&self, at: usize) -> usize {
        let mut at = at.min(self.text.len());
        while !self.text.is_char_boundary(at) {
            at -= 1;
        }
        at
    }

    /// The text from a place on, up to a number of bytes.
    pub(super) fn ahead(&self, at: usize, bytes: usize) -> &str {
        let at = self.floor(at);
        &self.text[at..self.floor(at + bytes)]
    }

    /// The text before a place, up to a number of bytes.
    pub(super) fn behind(&self, at: usize, bytes: usize) -> &str {
        let mut start = at.saturating_sub(bytes);
        while !self.text.is_char_boundary(start) {
            start += 1;
        }
        &self.text[start..at]
    }

    /// Blocks out what a finder found, so that no other one reads it or across it.
    pub(super) fn mask(&mut self, found: &[(Range<usize>, Kind)]) {
        if found.is_empty() {
            return;
        }
        let mut bytes = std::mem::take(&mut self.text).into_bytes();
        for (range, kind) in found {
            bytes[range.clone()].fill(barrier(*kind) as u8);
        }
        // Whole characters gave way to ASCII, so this is a conversion without loss.
        self.text = String::from_utf8_lossy(&bytes).into_owned();
    }
}

/// Sign in place of a removed piece: a control character of its kind.
pub(super) fn barrier(kind: Kind) -> char {
    char::from(1 + kind as u8)
}

/// Returns whether a byte belongs to a removed piece.
pub(super) fn is_barrier(byte: u8) -> bool {
    (1..=8).contains(&byte)
}

fn push_plain(character: char, out: &mut String) {
    match character {
        '\n' => out.push('\n'),
        // Controls other than these are what barriers are made of.
        '\0'..='\u{1f}' | '\u{7f}' => out.push(' '),
        ' '..='~' => out.push(character.to_ascii_lowercase()),
        '\u{ff01}'..='\u{ff5e}' => {
            let plain = char::from_u32(u32::from(character) - 0xfee0).unwrap_or(character);
            out.push(plain.to_ascii_lowercase());
        }
        '\u{fe6b}' | 'ⓐ' | 'Ⓐ' => out.push('@'),
        '\u{2010}'..='\u{2015}' | '\u{2212}' | '\u{2043}' | '\u{fe63}' => out.push('-'),
        '\u{2019}' | '\u{b4}' => out.push('\''),
        '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{2060}' | '\u{feff}' | '\u{fe0f}' | '\u{20e3}' => {}
        '\u{2028}' | '\u{2029}' | '\u{85}' => out.push('\n'),
        other if other.is_whitespace() => out.push(' '),
        other => push_folded(other, out),
    }
}

/// A word of the surroundings.
#[derive(Debug, Clone, Copy)]
pub(super) struct Word<'a> {
    /// Its folded letters and digits.
    pub(super) text: &'a str,
    /// Its beginning.
    pub(super) start: usize,
    /// Its end.
    pub(super) end: usize,
}

impl View<'_> {
    /// The words before a place, the nearest first, as far as `bytes` reach; a removed piece is a
    /// word.
    pub(super) fn words_before(&self, at: usize, bytes: usize) -> Vec<Word<'_>> {
        let window = self.behind(at, bytes);
        let offset = at - window.len();
        let mut words = split(window, offset);
        // A word that the window cuts is none.
        if words.first().is_some_and(|word| word.start == offset && is_wordy(self.byte_before(offset))) {
            words.remove(0);
        }
        words.reverse();
        words
    }

    /// The words from a place on, as far as `bytes` reach.
    pub(super) fn words_after(&self, at: usize, bytes: usize) -> Vec<Word<'_>> {
        let window = self.ahead(at, bytes);
        let mut words = split(window, at);
        let end = at + window.len();
        if words.last().is_some_and(|word| word.end == end && is_wordy(self.byte(end))) {
            words.pop();
        }
        words
    }
}

fn is_wordy(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte >= 0x80
}

fn split(window: &str, offset: usize) -> Vec<Word<'_>> {
    let mut words: Vec<Word<'_>> = Vec::new();
    let mut open = false;
    for (at, character) in window.char_indices() {
        let removed = character.is_ascii() && is_barrier(character as u8);
        if !removed && !character.is_alphanumeric() {
            open = false;
            continue;
        }
        let end = at + character.len_utf8();
        match words.last_mut() {
            Some(word) if open && removed == is_barrier(word.text.as_bytes()[0]) => {
                word.end = offset + end;
                word.text = &window[word.start - offset..end];
            }
            _ => words.push(Word { text: &window[at..end], start: offset + at, end: offset + end }),
        }
        open = true;
    }
    words
}
