//! The bias that MPNet adds to attention scores by the distance of two tokens.
//!
//! Song et al. 2020 (arXiv:2004.09297), with the buckets of T5: Raffel et al. 2020
//! (arXiv:1910.10683). Near distances have a bucket each, far ones share them by their logarithm.
//! The reference is transformers' `MPNetEncoder`.

use std::ops::Range;

use candle_core::{Device, Result, Tensor};

use crate::models::checkpoint::architecture::Architecture;
use crate::models::checkpoint::encoder_config::EncoderConfig;
use crate::models::weights::Weights;

/// Buckets of both directions together; transformers computes with this number whatever the
/// configuration says.
const BUCKETS: usize = 32;
/// Distance from which on all tokens share the last bucket of their direction.
const MAX_DISTANCE: f32 = 128.0;

/// A learned number for each bucket and head.
#[derive(Debug)]
pub(crate) struct PositionBias {
    /// Buckets × heads, one bucket after the other.
    values: Vec<f32>,
    heads: usize,
}

impl PositionBias {
    /// Reads the bias that all layers share; `None` for other architectures than MPNet.
    ///
    /// # Errors
    /// Names the tensor if it is missing or has another shape.
    pub(super) fn load(config: &EncoderConfig, weights: &mut Weights) -> anyhow::Result<Option<Self>> {
        if config.architecture != Architecture::MpNet {
            return Ok(None);
        }
        let heads = config.num_attention_heads;
        let table = weights.encoder("encoder.relative_attention_bias.weight", &[BUCKETS, heads])?;
        Ok(Some(Self { values: table.flatten_all()?.to_vec1()?, heads }))
    }

    /// The numbers for these queries and keys, heads × queries × keys.
    pub(super) fn scores(
        &self,
        queries: Range<usize>,
        keys: Range<usize>,
        device: &Device,
    ) -> Result<Tensor> {
        let shape = (self.heads, queries.len(), keys.len());
        let mut scores = Vec::with_capacity(self.heads * queries.len() * keys.len());
        for head in 0..self.heads {
            for query in queries.clone() {
                scores.extend(keys.clone().map(|key| self.values[bucket(query, key) * self.heads + head]));
            }
        }
        Tensor::from_vec(scores, shape, device)
    }
}

/// The bucket of a key for a query: those after the query have the second half.
fn bucket(query: usize, key: usize) -> usize {
    let buckets = BUCKETS / 2;
    let exact = buckets / 2;
    let distance = query.abs_diff(key);
    let first = if key > query { buckets } else { 0 };
    if distance < exact {
        return first + distance;
    }
    let scale = (MAX_DISTANCE / exact as f32).ln();
    let far = (distance as f32 / exact as f32).ln() / scale * (buckets - exact) as f32;
    // Truncated and not rounded, as transformers converts it to an integer.
    first + (exact + far as usize).min(buckets - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn far_distances_share_buckets() {
        assert_eq!([(5, 5), (5, 4), (5, 6), (9, 2)].map(|(query, key)| bucket(query, key)), [0, 1, 17, 7]);
        assert_eq!([8, 11, 12, 127, 128, 9_000].map(|distance| bucket(distance, 0)), [8, 8, 9, 15, 15, 15]);
        assert_eq!(bucket(0, 9_000), 31);
    }
}
