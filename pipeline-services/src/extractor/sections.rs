//! Sections of an advertisement by their headings, also where line breaks were lost.
//!
//! Every word gets a section; a word before the first heading is of the body. Which words are
//! headings is said by the patterns file, this module says where they count.

use crate::text::{sentences::is_bullet, tokens::Tokens, trie::longest};

use super::patterns::{Patterns, SECTIONS};

/// Text before the first heading.
pub(crate) const BODY: &str = "body";

/// The section of every word of a text.
#[derive(Debug, Clone)]
pub(super) struct Sections {
    // Words at which a section begins, ascending.
    starts: Vec<(usize, &'static str)>,
    // The words of the headings themselves.
    headings: Vec<(usize, usize)>,
}

/// Sections whose words say nothing of the candidate; a sentence that asks for something ends them.
const ASIDE: [&str; 4] = ["benefits", "conditions", "about", "legal"];

impl Sections {
    /// Finds the headings of a text; `sentence` holds the number of each word's sentence.
    pub(super) fn new(tokens: &Tokens<'_>, sentence: &[u32], patterns: &Patterns) -> Self {
        let cues = longest(patterns.headings.find(tokens), |found| (found.first, found.end));
        let cues: Vec<_> = cues.into_iter().filter(|cue| is_heading(tokens, cue.first, cue.end)).collect();
        let mut starts: Vec<(usize, &'static str)> = Vec::with_capacity(cues.len());
        let mut asks = asking(tokens, sentence, patterns).into_iter().peekable();
        let line_ends = line_ends(sentence);
        let mut main = BODY;
        for (index, cue) in cues.iter().enumerate() {
            let name = SECTIONS[cue.payload as usize];
            let next = cues.get(index + 1).map_or(tokens.len(), |next| next.first);
            starts.push((cue.first, name));
            if !ASIDE.contains(&name) {
                main = name;
                continue;
            }
            // Both are in the order of the text, so it is passed once.
            while asks.next_if(|ask| *ask < cue.end).is_some() {}
            let asked = asks.peek().copied().unwrap_or(next);
            // A heading such as "Horario:" covers its line, or the next one where it has the line
            // for itself.
            let line_end = line_ends.get(cue.end).copied().unwrap_or(cue.end);
            let end = if name == "conditions" { line_end.min(asked) } else { asked };
            if end < next {
                // The section before an aside goes on after it.
                starts.push((end, main));
            }
        }
        Self { starts, headings: cues.iter().map(|cue| (cue.first, cue.end)).collect() }
    }

    /// Returns whether these words are part of a heading, which asks for nothing ("Compensation and
    /// benefits").
    pub(super) fn is_heading(&self, first: usize, end: usize) -> bool {
        // Headings are apart and in order.
        let next = self.headings.partition_point(|(start, _)| *start <= first);
        next.checked_sub(1).is_some_and(|last| end <= self.headings[last].1)
    }

    /// The section in which word `index` stands.
    pub(super) fn at(&self, index: usize) -> &'static str {
        let next = self.starts.partition_point(|(start, _)| *start <= index);
        next.checked_sub(1).map_or(BODY, |last| self.starts[last].1)
    }
}

/// The first words of the sentences that ask for something ("Buscamos personas con …"), ascending.
fn asking(tokens: &Tokens<'_>, sentence: &[u32], patterns: &Patterns) -> Vec<usize> {
    /// Words that may stand before the phrase ("Para este puesto se requiere"). Not tuned.
    const BEFORE: usize = 4;
    let mut starts: Vec<usize> = patterns
        .asking
        .find(tokens)
        .iter()
        .filter_map(|found| {
            let id = sentence[found.first];
            // No further than needed: counting whole sentences would take time by the square of
            // their phrases.
            let inside =
                sentence[..found.first].iter().rev().take(BEFORE + 1).take_while(|other| **other == id);
            let before = inside.count();
            (before <= BEFORE).then(|| found.first - before)
        })
        .collect();
    starts.dedup();
    starts
}

/// One past the last word of the sentence of every word.
fn line_ends(sentence: &[u32]) -> Vec<usize> {
    let mut ends = Vec::with_capacity(sentence.len());
    for words in sentence.chunk_by(|left, right| left == right) {
        ends.extend(std::iter::repeat_n(ends.len() + words.len(), words.len()));
    }
    ends
}

/// A heading begins with a capital (or a line) and is set off: by a colon, a line end, or as the
/// first words of a sentence that goes on with another capital.
fn is_heading(tokens: &Tokens<'_>, first: usize, end: usize) -> bool {
    let text = tokens.text();
    let (start, stop) = (tokens.items()[first].start, tokens.items()[end - 1].end);
    let capital = text[start..].chars().next().is_some_and(char::is_uppercase);
    // Marks of Markdown and inverted Spanish ones stand before headings.
    let before = text[..start].trim_end_matches(['*', '#', '_', '¿', '¡', '"', ' ', '\t', '\u{a0}']);
    let opens = match before.chars().next_back() {
        None => true,
        Some(last) => matches!(last, '.' | '!' | '?' | ':' | ';' | '\n' | ')' | '-') || is_bullet(last),
    };
    let line_start = before.is_empty() || before.ends_with('\n');
    let after = &text[stop..];
    let colon = heading_tail(after);
    let line_end = after.trim_start_matches([' ', '\t', ':', '?', '.', '*']).starts_with('\n')
        || !after.contains(|character: char| !character.is_whitespace());
    let next_capital = tokens.items().get(end).is_some_and(|next| {
        after[..next.start - stop].chars().all(|gap| !gap.is_alphanumeric() && gap != ',')
            && text[next.start..].chars().next().is_some_and(char::is_uppercase)
    });
    (capital && colon)
        || (line_start && (colon || line_end))
        || (capital && opens && (next_capital || end - first >= 2 || first == 0 && line_end))
        || (capital && next_capital && !all_capitals(tokens, first, end))
}

/// A colon shortly after the cue, in the same sentence ("Requisitos excluyentes para el puesto:").
fn heading_tail(after: &str) -> bool {
    // Not tuned: the rest of a heading is a few words.
    after
        .chars()
        .take(30)
        .take_while(|character| !matches!(character, '.' | ',' | ';' | '\n' | '!'))
        // Headings may be questions ("¿Qué ofrecemos?").
        .any(|character| matches!(character, ':' | '?'))
}

/// In a text set in capitals a capital marks nothing.
fn all_capitals(tokens: &Tokens<'_>, first: usize, end: usize) -> bool {
    first > 0 && begins_capital(tokens, first - 1) && begins_capital(tokens, end)
}

fn begins_capital(tokens: &Tokens<'_>, index: usize) -> bool {
    tokens.items().get(index).is_some_and(|token| {
        let surface = &tokens.text()[token.start..token.end];
        surface.chars().next().is_some_and(char::is_uppercase)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::sentences::sentences;

    #[test]
    fn finds_headings_with_and_without_line_breaks() {
        let patterns = Patterns::built_in().unwrap();
        for (text, word, expected) in [
            ("Mejorar la producción.Requisitos Formación técnica", "tecnica", "requirements"),
            ("Requisitos: Excel. Ofrecemos: clases de inglés", "excel", "requirements"),
            ("Requisitos: Excel. Ofrecemos: clases de inglés", "ingles", "benefits"),
            ("¿Qué tenemos para ofrecerte? Descuentos", "descuentos", "benefits"),
            ("Cumplir los requisitos y usar Excel", "excel", "body"),
            ("About us\nWe build.\nRequirements\nPython", "python", "requirements"),
            ("About us\nWe build.\nRequirements\nPython", "build", "about"),
            ("Responsabilidades principales: vender", "vender", "responsibilities"),
            ("Nuestro equipo ofrece experiencia en SQL", "sql", "body"),
        ] {
            let tokens = Tokens::new(text);
            let mut sentence = vec![0; tokens.len()];
            for (id, range) in sentences(text).iter().enumerate() {
                sentence[tokens.first_from(range.start)..tokens.first_from(range.end)].fill(id as u32);
            }
            let sections = Sections::new(&tokens, &sentence, &patterns);
            let index = (0..tokens.len()).find(|index| tokens.folded(*index) == word).unwrap();
            assert_eq!(sections.at(index), expected, "{word} in {text}");
        }
    }
}
