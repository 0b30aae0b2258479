//! Frequent given and family names, and words that names of persons do not hold.
//!
//! The lists are files of `privacy/`, read once; everything is compared in folded form. An unlisted
//! word has an empty entry.

use std::{
    collections::{HashMap, HashSet},
    sync::LazyLock,
};

/// Parts that a word can play in a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Entry {
    /// A given name.
    pub(super) given: bool,
    /// A family name.
    pub(super) family: bool,
    /// An ordinary word or a place too.
    pub(super) ambiguous: bool,
}

static NAMES: LazyLock<HashMap<&'static str, Entry>> = LazyLock::new(|| {
    let mut names: HashMap<&'static str, Entry> = HashMap::new();
    for (list, given) in
        [(include_str!("../../privacy/given.txt"), true), (include_str!("../../privacy/family.txt"), false)]
    {
        for word in words(list) {
            // A star in the lists marks what is an ordinary word or a place too.
            let name = word.trim_end_matches('*');
            let entry = names.entry(name).or_default();
            entry.given |= given;
            entry.family |= !given;
            entry.ambiguous |= name != word;
        }
    }
    names
});

static OTHERS: LazyLock<[HashSet<&'static str>; 2]> = LazyLock::new(|| {
    let (whole, end) = include_str!("../../privacy/others.txt").split_once("== end").unwrap_or_default();
    [whole, end].map(|list| words(list).collect())
});

fn words(list: &'static str) -> impl Iterator<Item = &'static str> {
    list.lines().filter(|line| !line.starts_with(['#', '='])).flat_map(str::split_whitespace)
}

/// The entry of a folded word.
pub(super) fn entry(word: &str) -> Entry {
    NAMES.get(word).copied().unwrap_or_default()
}

/// Returns whether a folded word says that what it stands in is no person: an office, a company, an
/// occupation.
pub(super) fn is_office(word: &str) -> bool {
    OTHERS[0].contains(word)
}

/// Returns whether a name ends before this folded word.
pub(super) fn ends_name(word: &str) -> bool {
    OTHERS[1].contains(word)
}

/// Returns whether a token is a given and a family name with no more than digits, dots or
/// underscores between: the handle or the mailbox of a person.
pub(super) fn is_joined_name(token: &str) -> bool {
    let token = token.trim_end_matches(|sign: char| sign.is_ascii_digit() || "._-".contains(sign));
    let parts: Vec<&str> = token.split(['.', '_', '-']).filter(|part| !part.is_empty()).collect();
    match parts.as_slice() {
        // Shorter names occur in most tokens by chance.
        [joined] => (3..joined.len().saturating_sub(2)).any(|at| {
            joined.is_char_boundary(at) && entry(&joined[..at]).given && entry(&joined[at..]).family
        }),
        [first, .., last] => {
            (entry(first).given && entry(last).family) || (entry(first).family && entry(last).given)
        }
        [] => false,
    }
}
