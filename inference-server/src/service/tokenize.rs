//! Tokenization: token ids of texts, their number, and texts of token ids.
//!
//! Nothing here touches the device, so nothing is reserved on it.

use std::sync::Arc;

use super::call::CallContext;
use super::{ModelRef, Service};
use crate::error::Error;
use crate::models::Task;
use crate::registry::loaded::LoadedModel;

/// The tokens of one text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Tokens {
    /// Token ids.
    pub ids: Vec<u32>,
    /// The tokens as the vocabulary spells them.
    pub tokens: Vec<String>,
    /// Byte where each begins; 0 for special tokens.
    pub starts: Vec<u32>,
    /// Byte after each; 0 for special tokens.
    pub ends: Vec<u32>,
}

impl Tokens {
    fn of(encoding: tokenizers::Encoding) -> Self {
        Self {
            ids: encoding.get_ids().to_vec(),
            tokens: encoding.get_tokens().to_vec(),
            starts: encoding.get_offsets().iter().map(|span| span.0 as u32).collect(),
            ends: encoding.get_offsets().iter().map(|span| span.1 as u32).collect(),
        }
    }
}

impl Service {
    /// The tokens of each text. One that cannot be read fails the request.
    ///
    /// # Errors
    /// Names the field at fault.
    pub(crate) async fn tokenize(
        &self,
        context: &CallContext,
        model: &ModelRef,
        texts: Vec<String>,
        special_tokens: bool,
    ) -> Result<(Arc<LoadedModel>, Vec<Tokens>), Error> {
        self.each_encoding(context, model, (texts, special_tokens), Tokens::of).await
    }

    /// The number of tokens of each text.
    ///
    /// # Errors
    /// As [`Service::tokenize`].
    pub(crate) async fn count_tokens(
        &self,
        context: &CallContext,
        model: &ModelRef,
        texts: Vec<String>,
        special_tokens: bool,
    ) -> Result<(Arc<LoadedModel>, Vec<u32>), Error> {
        self.each_encoding(context, model, (texts, special_tokens), |encoding| encoding.len() as u32).await
    }

    async fn each_encoding<T: Send + 'static>(
        &self,
        context: &CallContext,
        model: &ModelRef,
        (texts, special_tokens): (Vec<String>, bool),
        one: impl Fn(tokenizers::Encoding) -> T + Send + Sync + 'static,
    ) -> Result<(Arc<LoadedModel>, Vec<T>), Error> {
        let call = self.admit(context)?;
        self.check_count("texts", texts.len())?;
        // Any task: every model has a tokenizer.
        let model = self.resolve(context, model, None)?;
        let reader = Arc::clone(&model);
        let read = move |_: &str, text: &str| reader.tokenizer.tokens(text, special_tokens).map(&one);
        let texts = texts.into_iter().enumerate().collect();
        let (_, texts) = self.read_each(&call, texts, |index| format!("texts[{index}]"), read).await?;
        Ok((model, texts.into_iter().collect::<Result<_, _>>()?))
    }

    /// The texts of sequences of token ids.
    ///
    /// # Errors
    /// Names the id that the model does not have.
    pub(crate) async fn detokenize(
        &self,
        context: &CallContext,
        model: &ModelRef,
        sequences: Vec<Vec<u32>>,
        keep_special_tokens: bool,
    ) -> Result<(Arc<LoadedModel>, Vec<String>), Error> {
        let call = self.admit(context)?;
        self.check_count("sequences", sequences.len())?;
        let model = self.resolve(context, model, None)?;
        let reader = Arc::clone(&model);
        // One job: decoding is a look-up for each id, too little to be shared out.
        let job = move || decode(&reader, &sequences, keep_special_tokens);
        let texts = self.read(&call, vec![job])?.remove(0).await.map_err(|_| Error::Backend)??;
        Ok((model, texts))
    }

    /// The text of token ids of an embedding model's own tokenizer; `field` names them in messages.
    ///
    /// # Errors
    /// If the model is not there or does not have an id.
    pub(crate) fn text_of(&self, model: &str, field: &str, ids: &[u32]) -> Result<String, Error> {
        let model = self.0.registry.resolve(model, "", Some(Task::Embedding))?;
        model.tokenizer.decode(field, ids, false)
    }
}

fn decode(
    model: &LoadedModel,
    sequences: &[Vec<u32>],
    keep_special_tokens: bool,
) -> Result<Vec<String>, Error> {
    let mut texts = Vec::with_capacity(sequences.len());
    for (index, ids) in sequences.iter().enumerate() {
        let field = format!("sequences[{index}].ids");
        texts.push(model.tokenizer.decode(&field, ids, keep_special_tokens)?);
    }
    Ok(texts)
}
