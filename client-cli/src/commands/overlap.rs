//! Spans of a text, how far two of them overlap, and which extracted span stands for which mark.
//!
//! Every mark has at most one span and every span at most one mark, the best overlaps first.

use serde::Deserialize;

/// Minimum overlap (intersection over union) for an extracted span to match a mark: the threshold
/// of PASCAL VOC for the detection of objects.
const LEAST_OVERLAP: f64 = 0.5;

/// Half-open code points of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
pub(super) struct Span {
    /// The first code point.
    pub(super) start: u32,
    /// The code point after the last one.
    pub(super) end: u32,
}

/// A mark and the extracted span that matches it, by their indices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pair {
    /// Index of the mark.
    pub(super) mark: usize,
    /// Index of the extracted span.
    pub(super) found: usize,
}

/// Matches marks and extracted spans one to one, pairing the best overlaps first.
pub(super) fn pairs(marks: &[Span], found: &[Span]) -> Vec<Pair> {
    let mut candidates = Vec::new();
    for (mark_index, mark) in marks.iter().enumerate() {
        for (index, span) in found.iter().enumerate() {
            let overlap = overlap(*mark, *span);
            if overlap >= LEAST_OVERLAP {
                candidates.push((overlap, mark_index, index));
            }
        }
    }
    // Ties by position: otherwise equal spans could be paired in either way.
    candidates.sort_by(|a, b| b.0.total_cmp(&a.0).then((a.1, a.2).cmp(&(b.1, b.2))));
    let (mut used_marks, mut used_spans) = (vec![false; marks.len()], vec![false; found.len()]);
    let mut pairs = Vec::new();
    for (_, mark, span) in candidates {
        if !used_marks[mark] && !used_spans[span] {
            (used_marks[mark], used_spans[span]) = (true, true);
            pairs.push(Pair { mark, found: span });
        }
    }
    pairs
}

/// Returns true if two spans share a code point.
pub(super) fn touches(a: Span, b: Span) -> bool {
    a.start.max(b.start) < a.end.min(b.end)
}

/// Intersection over union of two spans.
fn overlap(a: Span, b: Span) -> f64 {
    if !touches(a, b) {
        return 0.0;
    }
    let shared = a.end.min(b.end) - a.start.max(b.start);
    f64::from(shared) / f64::from(a.end.max(b.end) - a.start.min(b.start))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spans(spans: &[(u32, u32)]) -> Vec<Span> {
        spans.iter().map(|(start, end)| Span { start: *start, end: *end }).collect()
    }

    #[test]
    fn a_mark_is_found_once_by_the_span_that_covers_it_best() {
        let check = |marks: &[(u32, u32)], found: &[(u32, u32)], expected: &[(usize, usize)]| {
            let pairs = pairs(&spans(marks), &spans(found));
            let pairs: Vec<_> = pairs.iter().map(|pair| (pair.mark, pair.found)).collect();
            assert_eq!(pairs, expected, "{marks:?} {found:?}");
        };
        check(&[(0, 10)], &[(0, 10)], &[(0, 0)]);
        check(&[(0, 10)], &[(0, 5)], &[(0, 0)]);
        check(&[(0, 10)], &[(0, 4)], &[]);
        check(&[(0, 10)], &[(10, 20)], &[]);
        // Two spans in one mark count once; one span over two marks counts once.
        check(&[(0, 10)], &[(0, 6), (0, 10)], &[(0, 1)]);
        check(&[(0, 10), (10, 20)], &[(0, 20)], &[(0, 0)]);
        // The best pair is taken first, so that the other two fit as well.
        check(&[(0, 10), (4, 10)], &[(0, 10), (2, 10)], &[(0, 0), (1, 1)]);
        check(&[], &[(0, 1)], &[]);
    }

    #[test]
    fn spans_touch_if_they_share_a_character() {
        let check = |a: (u32, u32), b: (u32, u32), expected| {
            let spans = spans(&[a, b]);
            assert_eq!(touches(spans[0], spans[1]), expected, "{a:?} {b:?}");
        };
        check((0, 3), (2, 9), true);
        check((0, 3), (3, 9), false);
        check((4, 4), (3, 9), false);
    }
}
