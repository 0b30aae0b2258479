//! Entities from one label per token, by the aggregation strategies of transformers' pipeline.
//!
//! The reference is `TokenClassificationPipeline` of transformers 5.23;
//! `tests/goldens/entities.json` has its answers. Its quirks are kept: models are evaluated with
//! them.

/// `aggregation_strategy` of transformers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Aggregation {
    /// `none`: one entity per token.
    None,
    /// `simple`: neighbouring tokens of the same tag are merged.
    Simple,
    /// `first`: like `simple` on words, which take the label of their first token.
    First,
    /// `average`: like `simple` on words, which take the label of the highest mean score.
    Average,
    /// `max`: like `simple` on words, which take the label of the token with the highest score.
    Max,
}

/// Position of a token in its text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TokenSpan {
    /// First code point.
    pub start: usize,
    /// One past the last code point.
    pub end: usize,
    /// True if the token continues the word of the previous token.
    pub subword: bool,
}

/// A labelled span.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Entity {
    /// The label, without the prefix "B-" or "I-" unless the aggregation is `none`.
    pub label: String,
    /// Probability; the mean over merged tokens or words.
    pub score: f32,
    /// First code point.
    pub start: usize,
    /// One past the last code point.
    pub end: usize,
}

/// Label of tokens outside of entities, in the IOB scheme.
pub(crate) const OUTSIDE: &str = "O";

/// Softmax in place.
pub(crate) fn softmax(logits: &mut [f32]) {
    let highest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    // Less the highest, so that no exponential overflows.
    logits.iter_mut().for_each(|x| *x = (*x - highest).exp());
    let sum: f32 = logits.iter().sum();
    logits.iter_mut().for_each(|x| *x /= sum);
}

/// Entities of one text, in order. `scores` has one row of probabilities per token, in the order of
/// `labels`.
pub(crate) fn entities(
    spans: &[TokenSpan],
    scores: &[Vec<f32>],
    labels: &[String],
    aggregation: Aggregation,
) -> Vec<Entity> {
    let tokens: Vec<usize> = (0..spans.len()).collect();
    let units: Vec<Entity> = match aggregation {
        Aggregation::None | Aggregation::Simple => {
            tokens.iter().map(|token| unit(&[*token], spans, labels, best(&scores[*token]))).collect()
        }
        _ => tokens
            .chunk_by(|_, next| spans[*next].subword)
            .map(|word| unit(word, spans, labels, word_label(word, scores, aggregation)))
            .collect(),
    };
    // Tokens outside of entities take part in merging, so that they separate entities.
    let found = if aggregation == Aggregation::None {
        units
    } else {
        units.chunk_by(|previous, next| continues(&previous.label, &next.label)).map(merge).collect()
    };
    found.into_iter().filter(|entity| entity.label != OUTSIDE).collect()
}

/// Index and value of the highest score; the first of equal ones.
pub(crate) fn best(scores: &[f32]) -> (usize, f32) {
    let mut best = (0, f32::NEG_INFINITY);
    for (index, score) in scores.iter().copied().enumerate() {
        // Strictly greater, as numpy's argmax takes the first of equals.
        if score > best.1 {
            best = (index, score);
        }
    }
    best
}

/// Label and score of a word.
fn word_label(word: &[usize], scores: &[Vec<f32>], aggregation: Aggregation) -> (usize, f32) {
    match aggregation {
        Aggregation::Average => {
            let width = scores[word[0]].len();
            let means = (0..width).map(|label| {
                let sum: f32 = word.iter().map(|token| scores[*token][label]).sum();
                sum / word.len() as f32
            });
            best(&means.collect::<Vec<f32>>())
        }
        Aggregation::Max => {
            let tops: Vec<(usize, f32)> = word.iter().map(|token| best(&scores[*token])).collect();
            tops[best(&tops.iter().map(|top| top.1).collect::<Vec<f32>>()).0]
        }
        _ => best(&scores[word[0]]),
    }
}

/// The entity of a word, or of a single token.
fn unit(word: &[usize], spans: &[TokenSpan], labels: &[String], label: (usize, f32)) -> Entity {
    let (first, last) = (word[0], word[word.len() - 1]);
    Entity { label: labels[label.0].clone(), score: label.1, start: spans[first].start, end: spans[last].end }
}

/// Returns true if a label begins an entity, and its tag. A label without "B-" or "I-" does not.
fn split_label(label: &str) -> (bool, &str) {
    match label.split_at_checked(2) {
        Some(("B-", tag)) => (true, tag),
        Some(("I-", tag)) => (false, tag),
        _ => (false, label),
    }
}

/// Returns true if `next` continues the entity of `previous`.
fn continues(previous: &str, next: &str) -> bool {
    let (begins, next) = split_label(next);
    !begins && split_label(previous).1 == next
}

/// The label of an entity that was merged from tokens of this label: without "B-" or "I-".
pub(crate) fn entity_label(label: &str) -> &str {
    // transformers cuts at the first hyphen, also if there is no B or I before it.
    label.split_once('-').map_or(label, |(_, rest)| rest)
}

fn merge(group: &[Entity]) -> Entity {
    let (first, last) = (&group[0], &group[group.len() - 1]);
    Entity {
        label: entity_label(&first.label).to_owned(),
        score: group.iter().map(|entity| entity.score).sum::<f32>() / group.len() as f32,
        start: first.start,
        end: last.end,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Tokens as (subword, label, score); the rest of the probability is "PLAIN".
    fn check(tokens: &[(bool, &str, f32)], aggregation: Aggregation, expected: &[(&str, usize, usize)]) {
        let labels = ["O", "B-S", "I-S", "I-K", "PLAIN"].map(str::to_owned);
        let mut spans = Vec::new();
        let mut scores = Vec::new();
        for (place, (subword, label, score)) in tokens.iter().enumerate() {
            spans.push(TokenSpan { start: place, end: place + 1, subword: *subword });
            let mut row = vec![0.0; labels.len()];
            row[4] = 1.0 - score;
            row[labels.iter().position(|known| known == label).unwrap()] += score;
            scores.push(row);
        }
        let found = entities(&spans, &scores, &labels, aggregation);
        let found: Vec<_> = found.iter().map(|e| (e.label.as_str(), e.start, e.end)).collect();
        assert_eq!(found, expected, "{tokens:?} {aggregation:?}");
    }

    #[test]
    fn tokens_join_by_tag() {
        use Aggregation::{None, Simple};
        check(&[], Simple, &[]);
        check(&[(false, "O", 0.9)], Simple, &[]);
        let text = [(false, "B-S", 0.9), (true, "I-S", 0.8), (false, "B-S", 0.7), (false, "I-K", 0.9)];
        check(&text, None, &[("B-S", 0, 1), ("I-S", 1, 2), ("B-S", 2, 3), ("I-K", 3, 4)]);
        check(&text, Simple, &[("S", 0, 2), ("S", 2, 3), ("K", 3, 4)]);
        check(&[(false, "PLAIN", 0.9), (false, "PLAIN", 0.9)], Simple, &[("PLAIN", 0, 2)]);
    }

    #[test]
    fn words_take_one_label() {
        use Aggregation::{Average, First, Max};
        let text = [(false, "B-S", 0.6), (true, "I-K", 0.9), (true, "I-K", 0.7)];
        check(&text, First, &[("S", 0, 3)]);
        check(&text, Max, &[("K", 0, 3)]);
        check(&text, Average, &[("K", 0, 3)]);
        check(&[(false, "O", 0.9), (true, "B-S", 0.95)], First, &[]);
        check(&[(false, "O", 0.9), (true, "B-S", 0.95)], Max, &[("S", 0, 2)]);
        check(&[(true, "B-S", 0.9), (false, "I-S", 0.9)], First, &[("S", 0, 2)]);
    }

    #[test]
    fn softmax_sums_to_one() {
        let mut row = [1000.0, 1000.0, -1000.0];
        softmax(&mut row);
        assert_eq!(row, [0.5, 0.5, 0.0]);
    }
}
