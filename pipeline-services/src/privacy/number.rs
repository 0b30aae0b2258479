//! Digits and what stands between them.
//!
//! Finds where numbers begin and end and how they are grouped; what a number is gets decided
//! elsewhere. The groups keep their places in the view, so that a part of a number can be removed.

use std::ops::Range;

use super::view::View;

/// A run of digits in groups.
#[derive(Debug, Clone)]
pub(super) struct Number {
    /// Its place in the view, from its first digit to its last.
    pub(super) range: Range<usize>,
    /// The digits alone.
    pub(super) digits: String,
    /// Places of the groups of digits.
    pub(super) groups: Vec<Range<usize>>,
}

impl Number {
    fn of(view: &View<'_>, groups: Vec<Range<usize>>) -> Option<Self> {
        let range = groups.first()?.start..groups.last()?.end;
        let digits = groups.iter().map(|group| &view.text()[group.clone()]).collect();
        Some(Self { range, digits, groups })
    }

    /// Number of digits in some of its groups.
    pub(super) fn count(&self, groups: Range<usize>) -> usize {
        self.groups[groups].iter().map(ExactSizeIterator::len).sum()
    }

    /// The lengths of its groups.
    pub(super) fn lengths(&self) -> Vec<usize> {
        self.groups.iter().map(ExactSizeIterator::len).collect()
    }

    /// A part of it, by groups.
    pub(super) fn part(&self, view: &View<'_>, groups: Range<usize>) -> Option<Self> {
        Self::of(view, self.groups.get(groups)?.to_vec())
    }

    /// The text between two groups.
    pub(super) fn gap<'a>(&self, view: &'a View<'_>, before: usize) -> &'a str {
        &view.text()[self.groups[before - 1].end..self.groups[before].start]
    }

    /// Returns whether nothing but such characters parts its groups, and something does.
    pub(super) fn is_parted_by(&self, view: &View<'_>, allowed: &str) -> bool {
        self.groups.len() > 1
            && (1..self.groups.len())
                .all(|index| self.gap(view, index).chars().all(|character| allowed.contains(character)))
    }
}

/// Characters that may part the digits of one number, and how many of them in a row. Not tuned: a
/// sign with a blank on either side has three.
const GAPS: &[u8] = b" .-/()*_|~,\n";
const LONGEST_GAP: usize = 4;

/// Every run of digits, in order; a run that continues a word or a longer number begins where its
/// digits do.
pub(super) fn runs(view: &View<'_>) -> Vec<Number> {
    let bytes = view.bytes();
    let mut runs = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        if !bytes[at].is_ascii_digit() {
            at += 1;
            continue;
        }
        let mut groups = vec![group(bytes, at)];
        at = groups[0].end;
        while let Some(next) = next_group(bytes, at) {
            at = next.end;
            groups.push(next);
        }
        runs.extend(Number::of(view, groups));
    }
    runs
}

fn group(bytes: &[u8], start: usize) -> Range<usize> {
    let length = bytes[start..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    start..start + length
}

/// The group behind a gap, if the gap is one that a number may have.
fn next_group(bytes: &[u8], end: usize) -> Option<Range<usize>> {
    let rest = &bytes[end..];
    // One more than is allowed, so that a longer gap is seen to be longer.
    let gap = rest.iter().take(LONGEST_GAP + 1).take_while(|byte| GAPS.contains(byte)).count();
    let gap_bytes = &rest[..gap];
    let breaks = gap_bytes.iter().filter(|byte| **byte == b'\n').count();
    // A comma or a full stop with a blank behind it ends a phrase.
    let phrase = gap_bytes.windows(2).any(|pair| matches!(pair, [b',' | b'.', b' ' | b'\n']));
    let fits = (1..=LONGEST_GAP).contains(&gap) && breaks <= 1 && !phrase;
    (fits && rest.get(gap).is_some_and(u8::is_ascii_digit)).then(|| group(bytes, end + gap))
}

/// The number that begins at a place, of at most `most` digits, as documents are written: dots,
/// commas, hyphens or slashes between digits, or blanks throughout; ` - ` and ` / ` before the last
/// group.
pub(super) fn written_at(view: &View<'_>, at: usize, most: usize) -> Option<Number> {
    let bytes = view.bytes();
    if !view.byte(at).is_ascii_digit() {
        return None;
    }
    let mut groups = vec![group(bytes, at)];
    let mut count = groups[0].len();
    let mut only_blanks = true;
    while let Some(last) = groups.last().cloned()
        && let Some((next, blank)) = next_written(bytes, last.end, only_blanks)
        && count + next.len() <= most
    {
        count += next.len();
        only_blanks &= blank;
        groups.push(next);
    }
    (count <= most).then(|| Number::of(view, groups)).flatten()
}

/// The next group of a document's number, and whether blanks alone stand before it.
fn next_written(bytes: &[u8], end: usize, only_blanks: bool) -> Option<(Range<usize>, bool)> {
    let rest = &bytes[end..];
    let gap = rest.iter().take(4).take_while(|byte| b" .,-/'".contains(byte)).count();
    if !rest.get(gap).is_some_and(u8::is_ascii_digit) {
        return None;
    }
    let next = group(bytes, end + gap);
    match &rest[..gap] {
        b"." | b"," | b"-" | b"/" | b"'" => Some((next, false)),
        b" " | b"  " if only_blanks => Some((next, true)),
        // A check digit, or the branch of a CNPJ.
        b" - " | b"- " | b" -" if next.len() <= 2 => Some((next, false)),
        b" / " | b"/ " | b" /" if next.len() == 4 => Some((next, false)),
        _ => None,
    }
}

/// Skips at most `most` of the given characters.
pub(super) fn skip(view: &View<'_>, at: usize, characters: &[u8], most: usize) -> usize {
    let rest = view.bytes().get(at..).unwrap_or_default();
    let count = rest.iter().take(most).take_while(|byte| characters.contains(byte)).count();
    at + count
}
