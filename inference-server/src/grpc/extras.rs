//! What an embedding may carry beside its vector: weights and vectors of single tokens.
//!
//! The forms are those of BGE-M3's own package, FlagEmbedding 1.4
//! (`inference/embedder/encoder_only/m3.py`).

use std::collections::BTreeMap;

use observatory_proto::inference::v1 as pb;

use crate::error::Error;
use crate::models::{Extras, ModelInfo};
use crate::scheduler::queue::Lane;
use crate::service::embedding_cache::Embedded;

/// What the settings ask for beside the vector.
///
/// # Errors
/// If the model does not make it.
pub(super) fn asked(settings: &pb::EmbedSettings, info: &ModelInfo) -> Result<Extras, Error> {
    let extras = Extras { sparse: settings.sparse, multi_vector: settings.multi_vector };
    let lacks = |task| Err(Error::WrongTask { model: info.name.clone(), task });
    if extras.sparse && !info.sparse {
        return lacks("sparse embedding");
    }
    if extras.multi_vector && info.multi_vector_dimensions == 0 {
        return lacks("multi-vector embedding");
    }
    Ok(extras)
}

/// Refuses a request whose token vectors would not fit into an answer of `limit` bytes, before they
/// are computed.
///
/// # Errors
/// [`Error::AnswerTooLarge`].
pub(super) fn check_size(lane: &Lane, tokens: u32, limit: usize) -> Result<(), Error> {
    let bytes = tokens as usize * lane.model().info.multi_vector_dimensions * size_of::<f32>();
    if !lane.extras().multi_vector || bytes <= limit {
        return Ok(());
    }
    Err(Error::AnswerTooLarge { bytes, limit })
}

/// The extras of an answer while it is put together.
#[derive(Default)]
pub(super) struct More {
    empty: Vec<u32>,
    dimensions: usize,
    /// One for each text where asked for.
    pub(super) sparse: Vec<pb::SparseVector>,
    /// One for each text where asked for.
    pub(super) multi_vectors: Vec<pb::MultiVector>,
}

impl More {
    /// Room for the extras of so many texts.
    pub(super) fn new(lane: &Lane, texts: usize) -> Self {
        let mut more = Self::default();
        if lane.extras().sparse {
            more.empty = lane.model().tokenizer.special_ids();
            more.sparse = vec![pb::SparseVector::default(); texts];
        }
        if lane.extras().multi_vector {
            more.dimensions = lane.model().info.multi_vector_dimensions;
            more.multi_vectors = vec![pb::MultiVector::default(); texts];
        }
        more
    }

    /// Takes what was asked for of the text at this place; false where it is not finite.
    pub(super) fn take(&mut self, index: usize, text: &Embedded, normalize: bool) -> bool {
        let Some(computed) = &text.more else { return true };
        if !self.sparse.is_empty() {
            match sparse_vector(&computed.ids, &computed.sparse, &self.empty) {
                Some(vector) => self.sparse[index] = vector,
                None => return false,
            }
        }
        if !self.multi_vectors.is_empty() {
            match multi_vector(&computed.multi_vector, self.dimensions, normalize) {
                Some(vector) => self.multi_vectors[index] = vector,
                None => return false,
            }
        }
        true
    }
}

/// The weight of each distinct token: the largest where it occurs more than once, none where it
/// stands for no text. `None` where a weight is not finite.
fn sparse_vector(ids: &[u32], weights: &[f32], empty: &[u32]) -> Option<pb::SparseVector> {
    let mut largest: BTreeMap<u32, f32> = BTreeMap::new();
    for (id, weight) in ids.iter().zip(weights) {
        if !weight.is_finite() {
            return None;
        }
        if *weight > 0.0 && !empty.contains(id) {
            let kept = largest.entry(*id).or_default();
            *kept = kept.max(*weight);
        }
    }
    let (token_ids, weights) = largest.into_iter().unzip();
    Some(pb::SparseVector { token_ids, weights })
}

/// The vectors of every token but the first, each divided by its norm where asked; `None` where one
/// is not finite.
fn multi_vector(values: &[f32], dimensions: usize, normalize: bool) -> Option<pb::MultiVector> {
    let mut vectors = Vec::with_capacity(size_of_val(values));
    for token in values.chunks_exact(dimensions).skip(1) {
        for value in super::encoding::finished(token.to_vec(), normalize)? {
            vectors.extend(value.to_le_bytes());
        }
    }
    Some(pb::MultiVector { dimensions: dimensions as u32, vectors })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_tokens_keep_their_largest_weight() {
        fn check(tokens: &[(u32, f32)], expected: Option<&[(u32, f32)]>) {
            let (ids, weights): (Vec<u32>, Vec<f32>) = tokens.iter().copied().unzip();
            let vector = sparse_vector(&ids, &weights, &[0, 2]);
            let pairs = vector.map(|v| v.token_ids.into_iter().zip(v.weights).collect::<Vec<_>>());
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
        let made = multi_vector(&[1.0, 1.0, 3.0, 4.0, 0.0, 2.0], 2, true).unwrap();
        let values: Vec<f32> =
            made.vectors.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
        assert_eq!((made.dimensions, values.as_slice()), (2, [0.6, 0.8, 0.0, 1.0].as_slice()));
        assert!(multi_vector(&[0.0, f32::INFINITY], 1, false).is_none());
    }
}
