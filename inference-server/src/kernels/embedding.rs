//! The embedding layer of encoders: from token ids to the first hidden states.
//!
//! Token types (BERT's segments) are folded into the position table by the caller, so a token is
//! the sum of two rows.

use super::isa::Isa;
use super::layer_norm::LayerNorm;
use super::matrix::Matrix;
use super::parallel;

/// The embedding tables, row-major and as wide as a hidden state.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tables<'a> {
    /// Token embeddings, a row for each token of the vocabulary.
    pub words: &'a [f32],
    /// Position embeddings, a row for each position and token type.
    pub positions: &'a [f32],
}

/// The rows that a token takes from the tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Placed {
    /// Row of the token embeddings.
    pub token: usize,
    /// Row of the position embeddings.
    pub position: usize,
}

/// `out` = norm(token embedding + position embedding), a row for each token.
///
/// # Panics
/// If a token's rows lie outside of the tables.
pub(crate) fn embed(isa: Isa, tables: Tables<'_>, norm: &LayerNorm, tokens: &[Placed], out: &mut Matrix) {
    let width = norm.scale.len();
    out.resize(tokens.len(), width);
    parallel::each_row(out, |index, row| {
        let Placed { token, position } = tokens[index];
        let word = &tables.words[token * width..][..width];
        let place = &tables.positions[position * width..][..width];
        for ((x, word), place) in row.iter_mut().zip(word).zip(place) {
            *x = word + place;
        }
        // At once, while the row is in L1.
        norm.apply_row(isa, row);
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_and_normalises() {
        let tables = Tables { words: &[1.0, 3.0, 5.0, 1.0], positions: &[0.0, 0.0, 1.0, 5.0] };
        let norm = LayerNorm { scale: vec![1.0, 2.0], shift: vec![0.0, 0.5], epsilon: 0.0 };
        let tokens = [
            Placed { token: 0, position: 0 },
            Placed { token: 1, position: 0 },
            Placed { token: 0, position: 1 },
        ];
        for isa in Isa::available() {
            let mut out = Matrix::default();
            embed(isa, tables, &norm, &tokens, &mut out);
            assert_eq!(out.row(0), [-1.0, 2.5], "{isa:?}");
            assert_eq!(out.row(1), [1.0, -1.5], "{isa:?}");
            assert_eq!(out.row(2), [-1.0, 2.5], "{isa:?}");
        }
    }
}
