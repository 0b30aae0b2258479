//! Sentences of advertisements, whose line breaks are often lost: `…producción.Requisitos
//! Formación…`.

use std::ops::Range;

/// Words before a full stop that end no sentence: titles, legal forms and short forms of
/// advertisements. Longer ones cost nothing but a sentence that goes on.
const ABBREVIATIONS: [&str; 28] = [
    "lic", "ing", "sr", "sra", "srta", "dr", "dra", "arq", "cra", "cr", "etc", "ej", "aprox", "av", "avda",
    "nro", "no", "art", "tel", "cel", "depto", "adm", "mr", "mrs", "inc", "ltd", "vs", "gral",
];

/// The sentences of a text as byte ranges, in order, without the blanks and bullets between them.
pub(crate) fn sentences(text: &str) -> Vec<Range<usize>> {
    let chars: Vec<(usize, char)> = text.char_indices().collect();
    let byte = |index: usize| chars.get(index).map_or(text.len(), |(byte, _)| *byte);
    let mut found = Vec::new();
    let mut start = 0;
    for at in 0..chars.len() {
        if let Some(keep) = boundary(&chars, at) {
            push(&mut found, text, byte(start)..byte(at + usize::from(keep)));
            start = at + 1;
        }
    }
    push(&mut found, text, byte(start)..text.len());
    found
}

/// The sentence that contains a span, as a range of code points; where the span crosses sentences,
/// all of them. `start` and `end` are code points of `text`, clamped to it.
pub(crate) fn sentence_at(text: &str, start: u32, end: u32) -> Range<u32> {
    Sentences::of(text).at(start, end)
}

/// A text and its sentences, for several spans of it.
#[derive(Debug, Clone)]
pub(crate) struct Sentences<'t> {
    text: &'t str,
    /// Byte of each code point, and the length.
    bytes: Vec<usize>,
    ranges: Vec<Range<usize>>,
}

impl<'t> Sentences<'t> {
    /// The sentences of a text.
    pub(crate) fn of(text: &'t str) -> Self {
        let bytes = text.char_indices().map(|(byte, _)| byte).chain([text.len()]).collect();
        Self { text, bytes, ranges: sentences(text) }
    }

    /// As [`sentence_at`].
    pub(crate) fn at(&self, start: u32, end: u32) -> Range<u32> {
        let last = self.bytes.len() - 1;
        let (start, end) = ((start as usize).min(last), (end as usize).min(last));
        let (from, to) = (self.bytes[start], self.bytes[end.max(start)]);
        let first = self.ranges.partition_point(|sentence| sentence.end <= from);
        // An empty span counts as its first byte, so that it lies in a sentence.
        let behind = self.ranges.partition_point(|sentence| sentence.start < to.max(from + 1));
        let Some([first, .., last] | [first @ last]) = self.ranges.get(first..behind) else {
            return start as u32..end.max(start) as u32;
        };
        let stop = last.end;
        let position = |byte: usize| self.bytes.partition_point(|other| *other < byte) as u32;
        position(first.start.min(from))..position(stop.max(to))
    }

    /// The text of [`Self::at`].
    pub(crate) fn text_at(&self, start: u32, end: u32) -> &'t str {
        let sentence = self.at(start, end);
        &self.text[self.bytes[sentence.start as usize]..self.bytes[sentence.end as usize]]
    }
}

fn push(found: &mut Vec<Range<usize>>, text: &str, range: Range<usize>) {
    let part = &text[range.clone()];
    let start = range.start + (part.len() - part.trim_start_matches(is_between).len());
    let end = range.end - (part.len() - part.trim_end_matches(is_between).len());
    if start < end {
        found.push(start..end);
    }
}

fn is_between(character: char) -> bool {
    character.is_whitespace() || is_bullet(character)
}

/// For a character at which a sentence ends, whether it belongs to the sentence; else none.
fn boundary(chars: &[(usize, char)], at: usize) -> Option<bool> {
    let character = chars[at].1;
    let next = chars.get(at + 1).map(|(_, next)| *next);
    match character {
        '\n' | '\r' => Some(false),
        '!' | '?' | '…' => Some(true),
        ';' => Some(true),
        '.' => {
            let free = match next {
                None => true,
                Some(next) if next.is_whitespace() => !after_abbreviation(chars, at),
                // "producción.Requisitos": a full stop between a small and a capital letter.
                // "SQL.Ofrecemos" too, but not "ASP.NET" or "S.A.S".
                Some(next) => {
                    next.is_uppercase() && at > 0 && (is_closing(chars[at - 1].1) || starts_a_word(chars, at))
                }
            };
            free.then_some(true)
        }
        '-' | '*' | '–' => {
            // Between blanks it begins an item of a list, inside of a word it joins.
            let spaced =
                next.is_some_and(char::is_whitespace) && (at == 0 || chars[at - 1].1.is_whitespace());
            spaced.then_some(false)
        }
        other => is_bullet(other).then_some(false),
    }
}

fn is_closing(character: char) -> bool {
    character.is_lowercase() || matches!(character, ')' | '"' | '”' | '%') || character.is_ascii_digit()
}

/// A capitalised word after a word in capitals.
fn starts_a_word(chars: &[(usize, char)], dot: usize) -> bool {
    dot >= 2
        && at_is(chars, dot + 2, char::is_lowercase)
        && at_is(chars, dot - 1, char::is_alphanumeric)
        && at_is(chars, dot - 2, char::is_alphanumeric)
}

fn at_is(chars: &[(usize, char)], index: usize, test: fn(char) -> bool) -> bool {
    chars.get(index).is_some_and(|(_, character)| test(*character))
}

fn after_abbreviation(chars: &[(usize, char)], dot: usize) -> bool {
    let word: String = chars[..dot]
        .iter()
        .rev()
        .map(|(_, character)| *character)
        .take_while(|character| character.is_alphabetic())
        // Bounded: no abbreviation is longer.
        .take(8)
        .flat_map(char::to_lowercase)
        .collect();
    let word: String = word.chars().rev().collect();
    // A single letter is an initial, or part of "S.A.".
    ABBREVIATIONS.contains(&word.as_str()) || word.chars().count() == 1
}

/// Bullets, check marks and pictographs that portals leave between list items.
pub(crate) fn is_bullet(character: char) -> bool {
    matches!(character,
        '•' | '●' | '▪' | '◦' | '‣' | '∙' | '·' | '■' | '□' | '○' | '◆' | '❖' | '►' | '➢' | '➤' | '→' | '|' | '\u{fe0f}'
        | '\u{2600}'..='\u{27bf}' | '\u{1f000}'..='\u{1faff}')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn splits_run_together_text() {
        for (text, expected) in [
            (
                "Liderar la producción.Requisitos Formación",
                vec!["Liderar la producción.", "Requisitos Formación"],
            ),
            ("●Excel ●SAP", vec!["Excel", "SAP"]),
            ("- Uno\n- Dos", vec!["Uno", "Dos"]),
            ("Ing. Civil con exp. Node.js y ASP.NET", vec!["Ing. Civil con exp.", "Node.js y ASP.NET"]),
            ("Sueldo 2.500.000 al mes. Excel", vec!["Sueldo 2.500.000 al mes.", "Excel"]),
            ("✔️Word ✔️PowerPoint", vec!["Word", "PowerPoint"]),
            ("", vec![]),
            ("...", vec!["..."]),
        ] {
            let found: Vec<&str> = sentences(text).into_iter().map(|range| &text[range]).collect();
            assert_eq!(found, expected, "{text}");
        }
    }

    #[test]
    fn gives_the_sentence_of_a_span() {
        let text = "Somos así. Pedimos ñandúes y SQL.Ofrecemos más.";
        let chars: Vec<char> = text.chars().collect();
        let start = text.chars().count() as u32 - "SQL.Ofrecemos más.".len() as u32 + 1;
        let range = sentence_at(text, start, start + 3);
        let found: String = chars[range.start as usize..range.end as usize].iter().collect();
        assert_eq!(found, "Pedimos ñandúes y SQL.");
        assert_eq!(sentence_at("", 3, 9), 0..0);
    }

    proptest! {
        #[test]
        fn sentences_are_ordered_and_the_span_is_inside(text in "(\\PC|[. \n•-]){0,60}", start in 0_u32..70, length in 1_u32..9) {
            let mut last = 0;
            for range in sentences(&text) {
                prop_assert!(range.start >= last && range.end > range.start);
                prop_assert!(text.get(range.clone()).is_some());
                last = range.end;
            }
            let size = text.chars().count() as u32;
            let (start, end) = (start.min(size), (start + length).min(size));
            let found = sentence_at(&text, start, end);
            prop_assert!(found.start <= start && found.end >= end && found.end <= size);
        }
    }
}
