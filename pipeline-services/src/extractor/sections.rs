//! Sections of an advertisement by their headings, also where line breaks were lost.

use crate::text::{tokens::Tokens, trie::longest};

use super::{
    patterns::{Patterns, SECTIONS},
    sentences::is_bullet,
};

/// Text before the first heading.
pub const BODY: &str = "body";

/// The section of every word of a text.
#[derive(Clone, Debug)]
pub(super) struct Sections {
    // Words at which a section begins, ascending.
    starts: Vec<(usize, &'static str)>,
    // The words of the headings themselves.
    headings: Vec<(usize, usize)>,
}

impl Sections {
    /// Finds the headings of a text.
    pub(super) fn new(tokens: &Tokens<'_>, patterns: &Patterns) -> Self {
        let cues = longest(patterns.headings.find(tokens), |found| (found.first, found.end));
        let cues: Vec<_> = cues.into_iter().filter(|cue| is_heading(tokens, cue.first, cue.end)).collect();
        Self {
            starts: cues.iter().map(|cue| (cue.first, SECTIONS[cue.payload as usize])).collect(),
            headings: cues.iter().map(|cue| (cue.first, cue.end)).collect(),
        }
    }

    /// Whether these words are part of a heading, which asks for nothing ("Compensation and benefits").
    pub(super) fn is_heading(&self, first: usize, end: usize) -> bool {
        self.headings.iter().any(|(start, stop)| *start <= first && end <= *stop)
    }

    /// The section in which word `index` stands.
    pub(super) fn at(&self, index: usize) -> &'static str {
        let next = self.starts.partition_point(|(start, _)| *start <= index);
        next.checked_sub(1).map_or(BODY, |last| self.starts[last].1)
    }
}

/// A heading begins with a capital (or a line) and is set off: by a colon, a line end, or as the first words
/// of a sentence that goes on with another capital.
fn is_heading(tokens: &Tokens<'_>, first: usize, end: usize) -> bool {
    let text = tokens.text();
    let (start, stop) = (tokens.items()[first].start, tokens.items()[end - 1].end);
    let capital = text[start..].chars().next().is_some_and(char::is_uppercase);
    let before = text[..start].trim_end_matches(['*', '#', '_', '¿', '¡', '"', ' ', '\t', '\u{a0}']);
    let opens = match before.chars().next_back() {
        None => true,
        Some(last) => matches!(last, '.' | '!' | '?' | ':' | ';' | '\n' | ')' | '-') || is_bullet(last),
    };
    let line_start = before.is_empty() || before.ends_with('\n');
    let after = &text[stop..];
    let colon = heading_tail(after);
    let line_end = after.trim_start_matches([' ', '\t', ':', '?', '.', '*']).starts_with('\n')
        || after.trim().is_empty();
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
    after
        .chars()
        .take(30)
        .take_while(|character| !matches!(character, '.' | ',' | ';' | '\n' | '!'))
        .any(|character| matches!(character, ':' | '?'))
}

/// In a text set in capitals a capital marks nothing.
fn all_capitals(tokens: &Tokens<'_>, first: usize, end: usize) -> bool {
    let neighbour = |index: usize| {
        tokens.items().get(index).is_some_and(|token| {
            let surface = &tokens.text()[token.start..token.end];
            surface.chars().next().is_some_and(char::is_uppercase)
        })
    };
    first > 0 && neighbour(first - 1) && neighbour(end)
}

#[cfg(test)]
mod tests {
    use super::*;

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
            let sections = Sections::new(&tokens, &patterns);
            let index = (0..tokens.len()).find(|index| tokens.folded(*index) == word).unwrap();
            assert_eq!(sections.at(index), expected, "{word} in {text}");
        }
    }
}
