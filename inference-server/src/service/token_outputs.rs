//! Outputs of an embedding in addition to its vector: weights and vectors of single tokens.
//!
//! The forms are those of BGE-M3's own package, FlagEmbedding 1.4
//! (`inference/embedder/encoder_only/m3.py`).

use std::collections::BTreeMap;

use super::normalize::finished;
use crate::error::Error;
use crate::models::{Extras, ModelInfo};

/// Lexical weights: one per distinct token.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct SparseWeights {
    /// Token ids, ascending.
    pub token_ids: Vec<u32>,
    /// Their weights, positive.
    pub weights: Vec<f32>,
}

/// One vector per token but the first.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct TokenVectors {
    /// Length of a vector.
    pub dimensions: usize,
    /// Tokens × dimensions, row-major.
    pub values: Vec<f32>,
}

/// Checks that the model makes what is asked for.
///
/// # Errors
/// [`Error::WrongTask`].
pub(super) fn check(asked: Extras, info: &ModelInfo) -> Result<(), Error> {
    let task = match asked {
        Extras { sparse: true, .. } if !info.sparse => "sparse embedding",
        Extras { multi_vector: true, .. } if info.multi_vector_dimensions == 0 => "multi-vector embedding",
        _ => return Ok(()),
    };
    Err(Error::WrongTask { model: info.name.clone(), task })
}

impl SparseWeights {
    /// The weight of each distinct token: the largest if it occurs more than once, none for tokens
    /// in `no_text`. `None` if a weight is not finite.
    pub(super) fn of(ids: &[u32], weights: &[f32], no_text: &[u32]) -> Option<Self> {
        let mut largest: BTreeMap<u32, f32> = BTreeMap::new();
        for (id, weight) in ids.iter().zip(weights) {
            if !weight.is_finite() {
                return None;
            }
            // ReLU leaves zeros for most tokens; FlagEmbedding drops them too.
            if *weight > 0.0 && !no_text.contains(id) {
                let kept = largest.entry(*id).or_default();
                *kept = kept.max(*weight);
            }
        }
        let (token_ids, weights) = largest.into_iter().unzip();
        Some(Self { token_ids, weights })
    }
}

impl TokenVectors {
    /// The vectors of every token but the first (BGE-M3 leaves out `<s>`), each divided by its norm
    /// if asked. `None` if a number is not finite.
    pub(super) fn of(values: &[f32], dimensions: usize, normalize: bool) -> Option<Self> {
        let mut vectors = Vec::with_capacity(values.len());
        // FlagEmbedding's ColBERT head starts behind `<s>`, whose vector stands for the whole text.
        for token in values.chunks_exact(dimensions).skip(1) {
            vectors.extend(finished(token.to_vec(), normalize)?);
        }
        Some(Self { dimensions, values: vectors })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_tokens_keep_their_largest_weight() {
        fn check(tokens: &[(u32, f32)], expected: Option<&[(u32, f32)]>) {
            let (ids, weights): (Vec<u32>, Vec<f32>) = tokens.iter().copied().unzip();
            let sparse = SparseWeights::of(&ids, &weights, &[0, 2]);
            let pairs = sparse.map(|s| s.token_ids.into_iter().zip(s.weights).collect::<Vec<_>>());
            assert_eq!(pairs.as_deref(), expected);
        }
        check(
            &[(0, 9.0), (7, 0.5), (5, 0.25), (7, 1.5), (7, 1.0), (6, 0.0), (2, 9.0)],
            Some(&[(5, 0.25), (7, 1.5)]),
        );
        check(&[(0, 1.0), (2, 1.0)], Some(&[]));
        check(&[(5, f32::NAN)], None);
    }

    #[test]
    fn token_vectors_leave_out_the_first() {
        let vectors = TokenVectors::of(&[1.0, 1.0, 3.0, 4.0, 0.0, 2.0], 2, true).unwrap();
        assert_eq!((vectors.dimensions, vectors.values.as_slice()), (2, [0.6, 0.8, 0.0, 1.0].as_slice()));
        assert!(TokenVectors::of(&[0.0, f32::INFINITY], 1, false).is_none());
    }
}
