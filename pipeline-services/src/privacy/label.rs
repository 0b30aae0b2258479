//! Words that say what the number behind them is, and the way from the word to the number.
//!
//! Knows nothing of the kinds of numbers: a kind gives its pattern and the further words that may
//! stand between, and reads the number from the place it gets.

use std::{ops::Range, sync::LazyLock};

use regex::Regex;

use super::{Words, view::View, words};

/// A label in the text.
pub(super) struct Label<'a> {
    /// Its letters and blanks, without dots.
    pub(super) name: String,
    /// As it stands.
    pub(super) range: Range<usize>,
    view: &'a View<'a>,
}

/// Every match of a pattern that is not part of a longer word.
pub(super) fn labels<'a>(view: &'a View<'a>, pattern: &'a Regex) -> impl Iterator<Item = Label<'a>> {
    pattern.find_iter(view.text()).filter_map(move |label| {
        let range = label.range();
        let goes_on = view.text()[range.end..].chars().next().is_some_and(char::is_alphabetic);
        let letter_before = view.text()[..range.start].chars().next_back();
        if goes_on || letter_before.is_some_and(|letter| letter.is_alphanumeric() || letter == '_') {
            return None;
        }
        let name: String = label.as_str().chars().filter(|letter| *letter != '.').collect();
        Some(Label { name: name.split_whitespace().collect::<Vec<_>>().join(" "), range, view })
    })
}

/// Words between any label and its number.
static COMMON: LazyLock<Words> = LazyLock::new(|| {
    words(
        "no nro nr num numero numeros n o es de del al la el mi su registrado registrada con titular vigente \
        valido expedida anterior actual y clave",
    )
});

impl Label<'_> {
    /// Place where the number may begin: behind blanks, signs and at most six words that lead to
    /// it.
    pub(super) fn value(&self, words: &Words) -> usize {
        let view = self.view;
        let mut at = self.range.end;
        for _ in 0..6 {
            at = super::number::skip(view, at, b" .:;#=\n-*(),/\"'", 4);
            at += view.text()[at..].chars().next().filter(|sign| *sign == '°').map_or(0, char::len_utf8);
            at = super::number::skip(view, at, b" .:#=-", 3);
            let ahead = view.ahead(at, 24);
            let length = ahead.find(|letter: char| !letter.is_alphabetic()).unwrap_or(ahead.len());
            let word = &ahead[..length];
            if length == 0 || !(COMMON.contains(word) || words.contains(word)) {
                break;
            }
            at += length;
        }
        at
    }
}
