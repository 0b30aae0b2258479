//! Words of an advertisement as the tagger reads them.
//!
//! Marks of punctuation stand for themselves. Words that stand glued together where a line break
//! was lost ("EquipoConocimientos") are apart, and so are letters and digits.

use crate::{features::Hash, fold::push_folded};

/// A word and where it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Word {
    /// First byte in the text.
    pub(crate) start: usize,
    /// One past the last byte in the text.
    pub(crate) end: usize,
    /// First code point in the text.
    pub(crate) start_char: u32,
    /// One past the last code point.
    pub(crate) end_char: u32,
    pub(crate) gap: Gap,
    pub(crate) shape: Shape,
    folded: (usize, usize),
    hash: Hash,
    stem: Hash,
}

/// What stands before a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Gap {
    Nothing,
    Blank,
    Line,
}

/// How a word is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Shape {
    Lower,
    Capitalised,
    Capitals,
    Letter,
    Number,
    Mark,
}

/// The words of a text.
#[derive(Debug, Clone)]
pub(crate) struct Words<'text> {
    text: &'text str,
    folded: String,
    items: Vec<Word>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sort {
    Small,
    Capital,
    Digit,
    Blank,
    Mark,
}

fn sort(character: char) -> Sort {
    if character.is_ascii_lowercase() {
        Sort::Small
    } else if character.is_ascii_digit() || character.is_numeric() {
        Sort::Digit
    } else if character.is_uppercase() {
        Sort::Capital
    } else if character.is_alphabetic() || is_combining(character) {
        Sort::Small
    } else if character.is_whitespace()
        || matches!(character, '\u{200b}'..='\u{200f}' | '\u{feff}' | '\u{ad}')
    {
        // Characters of no width join nothing and part nothing that a reader sees.
        Sort::Blank
    } else {
        Sort::Mark
    }
}

fn is_combining(character: char) -> bool {
    ('\u{300}'..'\u{370}').contains(&character)
}

impl<'text> Words<'text> {
    /// Splits a text into words and marks.
    pub(crate) fn new(text: &'text str) -> Self {
        // About the bytes of a word with the blank behind it.
        let capacity = text.len() / 5;
        let mut words =
            Self { text, folded: String::with_capacity(text.len()), items: Vec::with_capacity(capacity) };
        let chars: Vec<(usize, char)> = text.char_indices().collect();
        let (mut at, mut gap) = (0, Gap::Line);
        while at < chars.len() {
            let first = sort(chars[at].1);
            if first == Sort::Blank {
                let line = matches!(chars[at].1, '\n' | '\r');
                gap = if line { Gap::Line } else { gap.max(Gap::Blank) };
                at += 1;
                continue;
            }
            let end = word_end(&chars, at, first);
            words.push(&chars, (at, end), gap, shape(&chars[at..end], first));
            (at, gap) = (end, Gap::Nothing);
        }
        words
    }

    fn push(&mut self, chars: &[(usize, char)], (first, end): (usize, usize), gap: Gap, shape: Shape) {
        let byte = |index: usize| chars.get(index).map_or(self.text.len(), |(byte, _)| *byte);
        let from = self.folded.len();
        let (start, stop) = (byte(first), byte(end));
        chars[first..end].iter().for_each(|(_, character)| push_folded(*character, &mut self.folded));
        let folded = &self.folded[from..];
        // All numbers are one word: which one it is says nothing about skills.
        let hash = if shape == Shape::Number { Hash::of("0") } else { Hash::of(folded) };
        let stem = Hash::of(stem(folded));
        self.items.push(Word {
            start,
            end: stop,
            start_char: first as u32,
            end_char: end as u32,
            gap,
            shape,
            folded: (from, self.folded.len()),
            hash,
            stem,
        });
    }

    /// The folded form of word `index`: lower case, accents off.
    pub(crate) fn folded(&self, index: usize) -> &str {
        let (start, end) = self.items[index].folded;
        &self.folded[start..end]
    }

    /// Hash of the folded form.
    pub(crate) fn hash(&self, index: usize) -> Hash {
        self.items[index].hash
    }

    /// Hash of the folded form without its ending.
    pub(crate) fn stem_hash(&self, index: usize) -> Hash {
        self.items[index].stem
    }

    /// The words in order.
    pub(crate) fn items(&self) -> &[Word] {
        &self.items
    }

    /// Number of words.
    pub(crate) fn len(&self) -> usize {
        self.items.len()
    }

    /// The text from word `first` up to, not including, word `end`.
    #[cfg(test)]
    pub(crate) fn text_of(&self, first: usize, end: usize) -> &'text str {
        &self.text[self.items[first].start..self.items[end - 1].end]
    }
}

fn word_end(chars: &[(usize, char)], at: usize, first: Sort) -> usize {
    let run = |from: usize, wanted: Sort| {
        from + chars[from..].iter().take_while(|(_, character)| sort(*character) == wanted).count()
    };
    match first {
        Sort::Digit | Sort::Small => run(at, first),
        Sort::Mark | Sort::Blank => at + 1,
        Sort::Capital => {
            let capitals = run(at, Sort::Capital);
            let small = run(capitals, Sort::Small);
            let plural = small == capitals + 1 && chars[capitals].1 == 's';
            match capitals - at {
                1 => small,
                // "APIs": the plural of an acronym.
                _ if small == capitals || plural => small,
                // "SAPConocimientos": the last capital begins the next word.
                _ => capitals - 1,
            }
        }
    }
}

fn shape(chars: &[(usize, char)], first: Sort) -> Shape {
    match first {
        Sort::Digit => Shape::Number,
        Sort::Mark | Sort::Blank => Shape::Mark,
        Sort::Small => Shape::Lower,
        Sort::Capital if chars.len() == 1 => Shape::Letter,
        Sort::Capital if sort(chars[1].1) == Sort::Capital => Shape::Capitals,
        Sort::Capital => Shape::Capitalised,
    }
}

/// A folded word without the endings of number and gender; short words are left as they are.
pub(crate) fn stem(word: &str) -> &str {
    if word.len() < 4 {
        return word;
    }
    let plural = word.strip_suffix("es").filter(|rest| rest.len() >= 4);
    let singular = plural.or_else(|| word.strip_suffix('s')).unwrap_or(word);
    let gendered = singular.len() >= 5;
    singular.strip_suffix(['a', 'o', 'e']).filter(|_| gendered).unwrap_or(singular)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_parted_where_a_reader_would() {
        for (text, expected) in [
            ("Manejo de SAP.", "manejo|de|sap|."),
            ("en EquipoConocimientos SAPManejo", "en|equipo|conocimientos|sap|manejo"),
            ("APIs REST, KPIs", "apis|rest|,|kpis"),
            ("ISO9001 C++", "iso|9001|c|+|+"),
            ("proactivo/a (e\u{301}xito)", "proactivo|/|a|(|exito|)"),
            ("a\u{200b}b \u{1f600}c", "a|b|\u{1f600}|c"),
            ("", ""),
        ] {
            let words = Words::new(text);
            let found: Vec<&str> = (0..words.len()).map(|index| words.folded(index)).collect();
            assert_eq!(found.join("|"), expected, "{text}");
        }
    }

    #[test]
    fn places_count_code_points_and_bytes() {
        let words = Words::new("año\nInglés");
        let items = words.items();
        assert_eq!((items[1].start_char, items[1].end_char, items[1].gap), (4, 10, Gap::Line));
        assert_eq!(words.text_of(1, 2), "Inglés");
    }

    #[test]
    fn endings_come_off() {
        for (word, expected) in
            [("operaciones", "operacion"), ("activas", "activ"), ("sap", "sap"), ("redes", "rede")]
        {
            assert_eq!(stem(word), expected, "{word}");
        }
    }
}
