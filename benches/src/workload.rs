//! Texts of known lengths, tokenised once and written to files that every worker reads.
//!
//! Peers read token ids, not text: the figures compare forward passes and no tokenizers.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;
use observatory_inference::testing::text::{TextTokenizer, Truncation};

use crate::store::{self, Random};

/// Token ids of some texts in order of arrival, and the file that holds them.
pub(crate) struct Workload {
    /// A JSON list of lists of ids.
    pub(crate) file: PathBuf,
    /// Tokens of each text, special tokens included.
    pub(crate) lengths: Vec<usize>,
}

impl Workload {
    /// Writes Spanish skill strings of these lengths.
    pub(crate) fn write(
        folder: &Path,
        name: &str,
        tokenizer: &TextTokenizer,
        lengths: Vec<usize>,
    ) -> Result<Self> {
        let mut random = Random(11);
        let ids = |length: &usize| {
            let text = store::texts(tokenizer, &mut random, *length, 1).remove(0);
            tokenizer.encode("", "", &text, Truncation::Right).map(|encoded| encoded.ids)
        };
        let texts: Vec<Vec<u32>> = lengths.iter().map(ids).collect::<Result<_, _>>()?;
        let file = folder.join(format!("{name}.json"));
        fs::write(&file, serde_json::to_string(&texts)?)?;
        Ok(Self { file, lengths })
    }

    /// Tokens of all texts.
    pub(crate) fn tokens(&self) -> usize {
        self.lengths.iter().sum()
    }

    /// Multiplications and additions of a forward pass without any padding, for an encoder with
    /// inner layers of four times its width: 24·width² for each token and 4·width for each pair of
    /// tokens of a text, in each layer.
    pub(crate) fn operations(&self, layers: usize, width: usize) -> f64 {
        let of = |length: &usize| 24 * length * width * width + 4 * length * length * width;
        self.lengths.iter().map(of).sum::<usize>() as f64 * layers as f64
    }
}

/// Lengths evenly spread over a range until they make up this many tokens, in an order that looks
/// random.
pub(crate) fn spread(shortest: usize, longest: usize, tokens: usize, seed: u64) -> Vec<usize> {
    let mut random = Random(seed);
    let mut lengths = Vec::new();
    while lengths.iter().sum::<usize>() < tokens {
        lengths.push(shortest + random.next() as usize % (longest - shortest + 1));
    }
    lengths
}
