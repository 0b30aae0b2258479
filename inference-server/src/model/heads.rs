//! From the hidden states of a packed batch to the answer for each row.

use candle_core::{Result, Tensor};
use candle_nn::{Linear, Module};

use super::Pooling;

/// What an encoder answers with.
pub enum Head {
    /// One vector per row.
    Pooled(Pooling),
    /// Logits per token.
    Labels(Linear),
}

impl Head {
    /// One flat output per row; `hidden` is tokens × width, the rows of `lengths` one after the other.
    ///
    /// # Errors
    /// Where the device fails.
    pub fn outputs(&self, hidden: &Tensor, lengths: impl Iterator<Item = usize>) -> Result<Vec<Vec<f32>>> {
        let mut start = 0;
        let mut outputs = Vec::new();
        for length in lengths {
            outputs.push(self.output(&hidden.narrow(0, start, length)?)?);
            start += length;
        }
        // One copy from the device for the whole batch, not one for each row.
        let counts: Vec<usize> = outputs.iter().map(Tensor::elem_count).collect();
        let mut values = Tensor::cat(&outputs, 0)?.to_vec1::<f32>()?.into_iter();
        Ok(counts.into_iter().map(|count| values.by_ref().take(count).collect()).collect())
    }

    fn output(&self, tokens: &Tensor) -> Result<Tensor> {
        match self {
            Self::Pooled(Pooling::Mean) => tokens.mean(0),
            Self::Pooled(Pooling::Cls) => tokens.get(0),
            Self::Labels(head) => head.forward(tokens)?.flatten_all(),
        }
    }
}
