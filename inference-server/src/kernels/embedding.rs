//! From token ids to the first hidden states.

use super::isa::Isa;
use super::matrix::Matrix;
use super::norm::Norm;
use super::parallel;

/// The tables a token's first state is the sum of.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tables<'a> {
    /// One row for each token of the vocabulary.
    pub words: &'a [f32],
    /// One row for each position, what all tokens share added.
    pub positions: &'a [f32],
}

/// A token and its place in the table of positions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Placed {
    /// Row of the table of words.
    pub token: usize,
    /// Row of the table of positions.
    pub position: usize,
}

/// `out` = norm(word + position), a row for each token. Ids must lie inside the tables.
pub(crate) fn embed(isa: Isa, tables: Tables<'_>, norm: &Norm, tokens: &[Placed], out: &mut Matrix) {
    let width = norm.scale.len();
    out.resize(tokens.len(), width);
    parallel::each_row(out, |index, row| {
        let Placed { token, position } = tokens[index];
        let word = &tables.words[token * width..][..width];
        let place = &tables.positions[position * width..][..width];
        for ((x, word), place) in row.iter_mut().zip(word).zip(place) {
            *x = word + place;
        }
        norm.apply_row(isa, row);
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_and_normalises() {
        let tables = Tables { words: &[1.0, 3.0, 5.0, 1.0], positions: &[0.0, 0.0, 1.0, 5.0] };
        let norm = Norm { scale: vec![1.0, 2.0], shift: vec![0.0, 0.5], epsilon: 0.0 };
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
