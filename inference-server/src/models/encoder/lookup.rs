//! Which rows of the embedding tables a token takes: that of its id and that of its position.
//!
//! Token types cost nothing at run time: the position table is stored once for each type, with the
//! type's embedding added, and a token of type 1 looks its position up in the second copy.

use crate::kernels::embedding::Placed;
use crate::models::ComputeError;
use crate::models::checkpoint::encoder_config::EncoderConfig;
use crate::text::tokenizer::SECOND_TEXT;

/// Sizes of an encoder's embedding tables.
#[derive(Debug, Clone, Copy)]
pub(super) struct EmbeddingLookup {
    vocabulary: usize,
    /// Position of a text's first token.
    first_position: usize,
    /// Rows of the position table for one token type.
    positions: usize,
    /// True if there is a second copy of the position table, for token type 1.
    two_types: bool,
}

impl EmbeddingLookup {
    pub(super) fn new(config: &EncoderConfig) -> Self {
        Self {
            vocabulary: config.vocab_size,
            first_position: config.first_position(),
            positions: config.max_position_embeddings,
            two_types: config.type_vocab_size > 1,
        }
    }

    /// The table rows of every token, checked against the sizes of the tables.
    ///
    /// # Errors
    /// If a row is too long or a token id is not in the vocabulary.
    pub(super) fn places(&self, rows: &[&[u32]]) -> Result<Vec<Placed>, ComputeError> {
        let longest = self.positions - self.first_position;
        let mut places = Vec::with_capacity(rows.iter().map(|row| row.len()).sum());
        for row in rows {
            // Texts have been truncated before; this protects the position table from any other
            // caller.
            if row.len() > longest {
                return Err(ComputeError::Failed(format!(
                    "a text of {} tokens exceeds the {longest} position embeddings",
                    row.len()
                )));
            }
            for (index, &id) in row.iter().enumerate() {
                let token = (id & !SECOND_TEXT) as usize;
                // On a GPU nothing else would notice: the kernel would read whatever lies behind
                // the table.
                if token >= self.vocabulary {
                    return Err(ComputeError::Failed(format!(
                        "token id {token} exceeds the {} token embeddings",
                        self.vocabulary
                    )));
                }
                let second = self.two_types && id & SECOND_TEXT != 0;
                let copy = if second { self.positions } else { 0 };
                places.push(Placed { token, position: copy + self.first_position + index });
            }
        }
        Ok(places)
    }
}

/// Position embeddings, positions × width, with the embedding of a token type added to each row.
pub(super) fn add_token_type<'a>(
    positions: &'a [f32],
    token_type: &'a [f32],
) -> impl Iterator<Item = f32> + 'a {
    positions
        .chunks_exact(token_type.len())
        .flat_map(move |row| row.iter().zip(token_type).map(|(x, added)| x + added))
}
