//! Features of a title: stems, pairs of stems, the first and last stem, pieces of stems.
//!
//! A feature is known by its hash alone, so that a model holds no text of a title.

use crate::words::stems;

/// What a feature looks at. The value is hashed, so it is part of the model's format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    /// A stem.
    Word = 1,
    /// The first stem, nearly always the trade or the rank.
    Head = 2,
    /// The last stem.
    Last = 3,
    /// Two neighbours.
    Pair = 4,
    /// Two stems near each other in any order.
    Near = 5,
    /// The first two stems.
    Opening = 6,
    /// Three to five letters of a stem with its ends marked.
    Piece = 7,
}

impl Kind {
    /// How much a feature counts; the best of a few values tried on held-out titles.
    fn weight(self) -> f32 {
        match self {
            Self::Word => 1.0,
            Self::Head => 1.5,
            Self::Last => 0.5,
            Self::Pair | Self::Near | Self::Opening | Self::Piece => 0.7,
        }
    }
}

/// How far apart two stems are still near; longer titles are rare.
const NEAR: usize = 5;
/// Stems read of a text; a title has a dozen at most, a description is cut here.
const MOST: usize = 400;

/// A feature of a text: what it is and how much it counts here.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Feature {
    pub(crate) hash: u32,
    pub(crate) kind: Kind,
    pub(crate) value: f32,
}

/// Features of a title, ascending by hash, each once.
pub(crate) fn of_title(text: &str) -> Vec<Feature> {
    let mut stems = stems(text);
    stems.truncate(MOST);
    let mut out = Vec::new();
    if let (Some(first), Some(last)) = (stems.first(), stems.last()) {
        out.push(feature(Kind::Head, &[first]));
        out.push(feature(Kind::Last, &[last]));
        out.push(match stems.get(1) {
            Some(second) => feature(Kind::Opening, &[first, second]),
            None => feature(Kind::Opening, &[first]),
        });
    }
    add_order(&stems, &mut out);
    merged(out)
}

/// Features of a running text, in which no place is special, ascending by hash, each once.
pub(crate) fn of_text(text: &str) -> Vec<Feature> {
    let mut stems = stems(text);
    stems.truncate(MOST);
    let mut out = Vec::new();
    add_order(&stems, &mut out);
    merged(out)
}

fn add_order(stems: &[String], out: &mut Vec<Feature>) {
    for (index, word) in stems.iter().enumerate() {
        out.push(feature(Kind::Word, &[word]));
        if let Some(next) = stems.get(index + 1) {
            out.push(feature(Kind::Pair, &[word, next]));
        }
        for other in stems[index + 1..].iter().take(NEAR) {
            out.push(feature(Kind::Near, &[word.min(other), word.max(other)]));
        }
        add_pieces(word, out);
    }
}

fn add_pieces(word: &str, out: &mut Vec<Feature>) {
    let marked: Vec<char> = std::iter::once('^').chain(word.chars()).chain(['$']).collect();
    for length in 3..=5 {
        for piece in marked.windows(length) {
            out.push(feature(Kind::Piece, &[&piece.iter().collect::<String>()]));
        }
    }
}

/// FNV-1a over kind and parts, folded to 32 bits.
fn feature(kind: Kind, parts: &[&str]) -> Feature {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let mut push = |byte: u8| hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    push(kind as u8);
    for part in parts {
        part.bytes().for_each(&mut push);
        push(0);
    }
    Feature { hash: (hash ^ (hash >> 32)) as u32, kind, value: kind.weight() }
}

/// One feature for equal ones, `1 + ln(count)` times its weight.
fn merged(mut features: Vec<Feature>) -> Vec<Feature> {
    features.sort_unstable_by_key(|feature| feature.hash);
    features
        .chunk_by(|left, right| left.hash == right.hash)
        .map(|equal| Feature {
            value: equal[0].kind.weight() * (1.0 + (equal.len() as f32).ln()),
            ..equal[0]
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(features: &[Feature], kind: Kind) -> usize {
        features.iter().filter(|feature| feature.kind == kind).count()
    }

    #[test]
    fn a_title_has_its_ends_and_a_text_has_none() {
        let (title, text) = (of_title("Jefe de cocina fría"), of_text("Jefe de cocina fría"));
        for kind in [Kind::Head, Kind::Last, Kind::Opening] {
            assert_eq!((kinds(&title, kind), kinds(&text, kind)), (1, 0), "{kind:?}");
        }
        assert_eq!(
            (kinds(&title, Kind::Word), kinds(&title, Kind::Pair), kinds(&title, Kind::Near)),
            (3, 2, 3)
        );
        assert!(of_title(" - ").is_empty());
    }

    #[test]
    fn features_ascend_and_equal_ones_are_counted() {
        let features = of_text("pan pan pan");
        assert!(features.is_sorted_by(|left, right| left.hash < right.hash));
        let word = features.iter().find(|feature| feature.kind == Kind::Word).unwrap();
        assert!((word.value - (1.0 + 3_f32.ln())).abs() < 1e-6);
    }

    #[test]
    fn the_order_of_two_stems_counts_as_a_pair_only() {
        let (left, right) = (of_text("pan sal"), of_text("sal pan"));
        let near =
            |features: &[Feature]| features.iter().find(|found| found.kind == Kind::Near).unwrap().hash;
        let pair =
            |features: &[Feature]| features.iter().find(|found| found.kind == Kind::Pair).unwrap().hash;
        assert_eq!(near(&left), near(&right));
        assert_ne!(pair(&left), pair(&right));
    }
}
