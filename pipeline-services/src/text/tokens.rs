//! Words of a text with their places, folded.
//!
//! A word is a run of letters and digits; `c++`, `c#`, `.net`, `node.js` and `2.500` stay whole.

use observatory_tagging::fold::push_folded;

/// Endings that belong to a product name after a dot (`node.js`, `asp.net`), lower case. Few on
/// purpose: with each, a full stop without a blank behind it joins two sentences.
const DOTTED_ENDINGS: [&str; 4] = ["js", "net", "io", "ai"];

/// One word and where it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Token {
    /// First byte in the text.
    pub start: usize,
    /// One past the last byte in the text.
    pub end: usize,
    /// First code point in the text.
    pub start_char: u32,
    /// One past the last code point.
    pub end_char: u32,
    /// Something stronger than a blank, hyphen or slash stands before this word, so no phrase runs
    /// over it.
    pub break_before: bool,
    folded_start: usize,
    folded_end: usize,
}

/// The words of one text.
#[derive(Debug, Clone)]
pub struct Tokens<'text> {
    text: &'text str,
    folded: String,
    items: Vec<Token>,
}

impl<'text> Tokens<'text> {
    /// Splits a text into folded words.
    pub fn new(text: &'text str) -> Self {
        let mut tokens = Self {
            text,
            folded: String::with_capacity(text.len()),
            // About the bytes of a word with the blank behind it.
            items: Vec::with_capacity(text.len() / 6),
        };
        // Both neighbours of a character decide, and places count code points as well as bytes.
        let chars: Vec<(usize, char)> = text.char_indices().collect();
        let mut at = 0;
        let mut gap_start = 0;
        while at < chars.len() {
            if !starts_word(&chars, at) {
                at += 1;
                continue;
            }
            let end = word_end(&chars, at);
            tokens.push(&chars, (gap_start, at, end));
            at = end;
            gap_start = end;
        }
        tokens
    }

    fn push(&mut self, chars: &[(usize, char)], (gap_start, start, end): (usize, usize, usize)) {
        let folded_start = self.folded.len();
        // A backslash inside of a word is Markdown's escape (`C\+\+`), no part of the name.
        let written = chars[start..end].iter().map(|(_, character)| *character);
        written
            .filter(|character| *character != '\\')
            .for_each(|character| push_folded(character, &mut self.folded));
        if self.folded.len() == folded_start {
            return;
        }
        let byte = |index: usize| chars.get(index).map_or(self.text.len(), |(byte, _)| *byte);
        self.items.push(Token {
            start: byte(start),
            end: byte(end),
            start_char: start as u32,
            end_char: end as u32,
            break_before: self.items.is_empty() || breaks(&chars[gap_start..start]),
            folded_start,
            folded_end: self.folded.len(),
        });
    }

    /// Parts words that stand glued together where a line break was lost
    /// ("interpersonalesResponsabilidades"), unless the whole is a name that is written so.
    pub fn part_glued(&mut self, is_name: impl Fn(&str) -> bool) {
        let mut items = Vec::with_capacity(self.items.len());
        for index in 0..self.items.len() {
            let seams = seams(self.surface(index));
            match seams.is_empty() || is_name(self.folded(index)) {
                true => items.push(self.items[index]),
                false => self.push_parts(index, &seams, &mut items),
            }
        }
        self.items = items;
    }

    fn push_parts(&mut self, index: usize, seams: &[usize], items: &mut Vec<Token>) {
        let (token, surface) = (self.items[index], self.surface(index));
        let (mut from, mut from_char) = (0, 0);
        for to in seams.iter().copied().chain([surface.len()]) {
            let part = &surface[from..to];
            let to_char = from_char + part.chars().count() as u32;
            // The parts are folded again and appended; what the whole word had stays behind unread.
            let folded_start = self.folded.len();
            part.chars().for_each(|character| push_folded(character, &mut self.folded));
            items.push(Token {
                start: token.start + from,
                end: token.start + to,
                start_char: token.start_char + from_char,
                end_char: token.start_char + to_char,
                break_before: from > 0 || token.break_before,
                folded_start,
                folded_end: self.folded.len(),
            });
            (from, from_char) = (to, to_char);
        }
    }

    /// Gives words another folded form; places and surfaces stay.
    pub fn respell<'a>(&mut self, form: impl Fn(&str) -> Option<&'a str>) {
        let forms: Vec<Option<&str>> = (0..self.len()).map(|index| form(self.folded(index))).collect();
        for (token, form) in self.items.iter_mut().zip(forms) {
            if let Some(form) = form {
                token.folded_start = self.folded.len();
                self.folded.push_str(form);
                token.folded_end = self.folded.len();
            }
        }
    }

    /// The text the words came from.
    pub const fn text(&self) -> &'text str {
        self.text
    }

    /// The words in order.
    pub fn items(&self) -> &[Token] {
        &self.items
    }

    /// Number of words.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Returns whether the text holds no word.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// The folded form of word `index`.
    ///
    /// # Panics
    /// If there is no such word.
    pub fn folded(&self, index: usize) -> &str {
        let token = &self.items[index];
        &self.folded[token.folded_start..token.folded_end]
    }

    /// Word `index` as it stands in the text.
    ///
    /// # Panics
    /// If there is no such word.
    pub fn surface(&self, index: usize) -> &'text str {
        let token = &self.items[index];
        &self.text[token.start..token.end]
    }

    /// The text from word `first` up to, not including, word `end`.
    ///
    /// # Panics
    /// If the range is empty or runs past the words.
    pub fn span(&self, first: usize, end: usize) -> &'text str {
        &self.text[self.items[first].start..self.items[end - 1].end]
    }

    /// The folded words, joined by one blank.
    pub fn key(&self) -> String {
        let mut out = String::with_capacity(self.folded.len() + self.items.len());
        for index in 0..self.len() {
            if index > 0 {
                out.push(' ');
            }
            out.push_str(self.folded(index));
        }
        out
    }

    /// The first word that starts at or after this byte.
    pub fn first_from(&self, byte: usize) -> usize {
        self.items.partition_point(|token| token.start < byte)
    }
}

/// The bytes at which a capitalised word begins inside of another word.
fn seams(word: &str) -> Vec<usize> {
    let letters: Vec<(usize, char)> = word.char_indices().collect();
    let mut seams = Vec::new();
    for at in 3..letters.len().saturating_sub(2) {
        let is = |offset: usize, test: fn(char) -> bool| test(letters[offset].1);
        let ends = is(at - 2, char::is_alphabetic) && is(at - 1, char::is_lowercase);
        if ends
            && is(at, char::is_uppercase)
            && is(at + 1, char::is_lowercase)
            && is(at + 2, char::is_lowercase)
        {
            seams.push(letters[at].0);
        }
    }
    seams
}

/// The folded words of a phrase, joined by one blank: the key under which spellings of a label
/// meet.
pub(crate) fn key(phrase: &str) -> String {
    Tokens::new(phrase).key()
}

fn is_word(character: char) -> bool {
    // A decomposed accent stands behind its letter and must not end the word.
    character.is_alphanumeric() || ('\u{300}'..='\u{36f}').contains(&character)
}

fn at_is(chars: &[(usize, char)], index: usize, test: impl Fn(char) -> bool) -> bool {
    chars.get(index).is_some_and(|(_, character)| test(*character))
}

fn starts_word(chars: &[(usize, char)], at: usize) -> bool {
    let character = chars[at].1;
    if character == '.' {
        // Of all endings only .NET is a name by itself.
        let free = at == 0 || !is_word(chars[at - 1].1);
        return free && ending_after_dot(chars, at) == Some("net");
    }
    character.is_alphanumeric()
}

/// The product ending that directly follows the dot at `dot`, as a whole word.
fn ending_after_dot(chars: &[(usize, char)], dot: usize) -> Option<&'static str> {
    DOTTED_ENDINGS.into_iter().find(|ending| {
        let length = ending.len();
        ending.chars().enumerate().all(|(offset, wanted)| {
            at_is(chars, dot + 1 + offset, |found| found.eq_ignore_ascii_case(&wanted))
        }) && !at_is(chars, dot + 1 + length, is_word)
    })
}

/// One past the last character of the word that starts at `start`.
fn word_end(chars: &[(usize, char)], start: usize) -> usize {
    let mut at = start + 1;
    loop {
        while at_is(chars, at, is_word) {
            at += 1;
        }
        let digits =
            at_is(chars, at - 1, |c| c.is_ascii_digit()) && at_is(chars, at + 1, |c| c.is_ascii_digit());
        if at_is(chars, at, |c| c == '.' || c == ',') && digits {
            at += 1;
        } else if dotted(chars, at) {
            at = unescaped(chars, at) + 2;
        } else {
            break;
        }
    }
    let letter = chars[at - 1].1.is_ascii_alphabetic();
    let mark = unescaped(chars, at);
    if letter && at_is(chars, mark, |c| c == '+') {
        let second = unescaped(chars, mark + 1);
        if at_is(chars, second, |c| c == '+') {
            return second + 1;
        }
    }
    // `c#` and `f#`; behind a longer word it begins a number or a hashtag.
    if letter && at == start + 1 && at_is(chars, mark, |c| c == '#') {
        return mark + 1;
    }
    at
}

/// Returns whether a product ending (`.js`) follows at this place.
fn dotted(chars: &[(usize, char)], at: usize) -> bool {
    let dot = unescaped(chars, at);
    at_is(chars, dot, |c| c == '.') && ending_after_dot(chars, dot).is_some()
}

/// The place behind a backslash, by which Markdown escapes the character that follows.
fn unescaped(chars: &[(usize, char)], at: usize) -> usize {
    at + usize::from(at_is(chars, at, |c| c == '\\'))
}

/// Returns whether the characters between two words end a phrase.
fn breaks(gap: &[(usize, char)]) -> bool {
    let mut strong = 0;
    for (_, character) in gap {
        if is_blank(*character) {
            continue;
        }
        if !matches!(character, '-' | '/' | '_' | '&' | '\'' | '’' | '\u{ad}' | '‐' | '‑') {
            return true;
        }
        strong += 1;
    }
    // " - " separates list items, "machine-learning" joins words.
    let spaced_hyphen =
        gap.len() >= 3 && gap.iter().any(|(_, character)| *character == '-') && is_blank(gap[0].1);
    strong > 1 || spaced_hyphen
}

fn is_blank(character: char) -> bool {
    matches!(character, ' ' | '\t' | '\u{a0}')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn keeps_names_of_technology_whole() {
        for (text, expected) in [
            ("C++, C# y F#", "c++ c# y f#"),
            (".NET Core / ASP.NET", ".net core asp.net"),
            ("Node.js.Requisitos Vue.JS", "node.js requisitos vue.js"),
            ("producción.Requisitos", "produccion requisitos"),
            ("salario 2.500.000,00 al mes.", "salario 2.500.000,00 al mes"),
            ("CI/CD R&D", "ci cd r d"),
            ("HTML5+CSS3", "html5 css3"),
            (r"\* C\+\+ \* C\# Node\.js \.NET", "c++ c# node.js .net"),
            ("#3150790793", "3150790793"),
            ("", ""),
            ("•—", ""),
        ] {
            assert_eq!(key(text), expected, "{text}");
        }
    }

    #[test]
    fn parts_words_whose_line_break_was_lost() {
        for (text, expected) in [
            ("Relaciones interpersonalesResponsabilidades", "relaciones interpersonales responsabilidades"),
            ("presenciaProactividadCapacidad", "presencia proactividad capacidad"),
            ("JavaScript, PowerPoint", "javascript power point"),
            ("OpenCV, iOS, McKinsey, DataOps", "opencv ios mckinsey dataops"),
            ("educaciónÁrea", "educacion area"),
        ] {
            let mut tokens = Tokens::new(text);
            tokens.part_glued(|word| word == "javascript" || word == "dataops");
            assert_eq!(tokens.key(), expected, "{text}");
            for (index, token) in tokens.items().iter().enumerate() {
                let chars = text.chars().skip(token.start_char as usize);
                let surface: String = chars.take((token.end_char - token.start_char) as usize).collect();
                assert_eq!(surface, tokens.surface(index));
            }
        }
    }

    #[test]
    fn punctuation_breaks_phrases() {
        for (text, expected) in [
            ("machine learning", false),
            ("machine-learning", false),
            ("machine, learning", true),
            ("machine - learning", true),
            ("machine\nlearning", true),
            ("machine / learning", false),
            ("machine. learning", true),
        ] {
            assert_eq!(Tokens::new(text).items()[1].break_before, expected, "{text}");
        }
    }

    proptest! {
        #[test]
        fn offsets_point_at_the_words(text in "(\\PC|[ .,+#áéñ-]){0,80}") {
            let tokens = Tokens::new(&text);
            let chars: Vec<char> = text.chars().collect();
            let mut last = 0;
            for (index, token) in tokens.items().iter().enumerate() {
                let by_char: String = chars[token.start_char as usize..token.end_char as usize].iter().collect();
                prop_assert_eq!(by_char.as_str(), tokens.surface(index));
                prop_assert!(token.start >= last && token.end > token.start);
                prop_assert!(!tokens.folded(index).is_empty());
                last = token.end;
            }
        }
    }
}
