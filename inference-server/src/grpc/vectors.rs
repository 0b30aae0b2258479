//! From texts to vectors: what a unary request and the items of a stream share.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Api, Call, extras};
use crate::error::Error;
use crate::models::{Extras, RowOutput};
use crate::registry::loaded::LoadedModel;
use crate::scheduler::queue::WorkSource;
use crate::service::embedding_cache::{Embedded, Key, Keys, More};
use crate::text::tokenizer::Truncation;

/// How texts are read before they are embedded.
#[derive(Debug, Clone)]
pub(super) struct Reading {
    /// Put before every text.
    pub(super) prompt: String,
    /// What to do with a text over the model's limit.
    pub(super) truncation: Truncation,
    /// The path in the request of the text at this place, for messages.
    pub(super) field: fn(usize) -> String,
}

/// The answer for some texts, in their order.
#[derive(Default)]
pub(super) struct Vectors {
    /// The vector as the model gave it, not normalised; or why there is none.
    pub(super) items: Vec<Result<Arc<Embedded>, Error>>,
    /// Time for reading the texts.
    pub(super) tokenize: Duration,
    /// From submission to the first batch.
    pub(super) queued: Duration,
    /// Time on the device.
    pub(super) compute: Duration,
}

/// A text that the cache does not have.
struct Missing {
    index: usize,
    text: String,
    key: Option<Key>,
}

impl Api {
    /// The vectors of the texts: from the cache where they are there, else through the device.
    ///
    /// A text at fault fails by itself. The whole fails where there is no room, the caller went
    /// away or was late, or the model failed.
    pub(super) async fn vectors(
        &self,
        call: &Call,
        source: &WorkSource<LoadedModel>,
        reading: Reading,
        texts: Vec<String>,
    ) -> Result<Vectors, Error> {
        let plain = source.extras() == Extras::default();
        let keys = Keys::new(&source.model().info.revision, &reading.prompt, reading.truncation);
        let cache = &self.0.vectors;
        let (mut known, mut missing) = (Vec::with_capacity(texts.len()), Vec::new());
        for (index, text) in texts.into_iter().enumerate() {
            let key = (plain && cache.is_on()).then(|| keys.key(&text));
            known.push(key.as_ref().and_then(|key| cache.get(key)));
            if known[index].is_none() {
                missing.push(Missing { index, text, key });
            }
        }
        if plain && cache.is_on() {
            self.0.metrics.cached(known.len() - missing.len(), missing.len());
        }
        if missing.is_empty() {
            return Ok(Vectors {
                items: known.into_iter().flatten().map(Ok).collect(),
                ..Vectors::default()
            });
        }
        let mut answer = self.computed(call, source, reading, missing).await?;
        let mut computed = std::mem::take(&mut answer.items).into_iter();
        let items = known.into_iter().map(|known| match known {
            Some(known) => Ok(known),
            None => computed.next().unwrap_or(Err(Error::Backend)),
        });
        answer.items = items.collect();
        Ok(answer)
    }

    /// Reads and embeds what the cache does not have.
    async fn computed(
        &self,
        call: &Call,
        source: &WorkSource<LoadedModel>,
        reading: Reading,
        missing: Vec<Missing>,
    ) -> Result<Vectors, Error> {
        let permit = {
            let texts = missing.iter().map(|missing| missing.text.as_str());
            self.reserve(source.model(), &reading.prompt, texts)?
        };
        let keys: Vec<Option<Key>> = missing.iter().map(|missing| missing.key).collect();
        let texts = missing.into_iter().map(|missing| (missing.index, missing.text)).collect();
        let started = Instant::now();
        let (model, Reading { prompt, truncation, field }) = (Arc::clone(source.model()), reading);
        let read = move |field: &str, text: &str| model.tokenizer.encode(field, &prompt, text, truncation);
        let (_, mut encodings) = self.each_at(call, texts, field, read).await?;
        let tokenize = started.elapsed();
        let rows = encodings.iter_mut().flatten().map(|encoded| std::mem::take(&mut encoded.ids));
        let rows: Vec<Vec<u32>> = rows.collect();
        let tokens: Vec<u32> = rows.iter().map(|row| row.len() as u32).collect();
        extras::check_size(source, tokens.iter().sum(), self.0.limits.response_bytes)?;
        let plain = source.extras() == Extras::default();
        let mut kept = if plain { Vec::new() } else { rows.clone() }.into_iter();
        let done = self.compute(call, source, rows, permit).await?;

        let mut outputs = done.outputs.into_iter().zip(tokens);
        let items = encodings.into_iter().zip(keys).map(|(encoded, key)| {
            let truncated = encoded?.truncated;
            let (RowOutput { values: vector, sparse, multi_vector }, tokens) =
                outputs.next().ok_or(Error::Backend)?;
            let more = kept.next().map(|ids| Box::new(More { ids, sparse, multi_vector }));
            let value = Arc::new(Embedded { vector, tokens, truncated, more });
            if let Some(key) = key.filter(|_| value.vector.iter().all(|x| x.is_finite())) {
                self.0.vectors.insert(key, Arc::clone(&value));
            }
            Ok(value)
        });
        let items = items.collect();
        Ok(Vectors { items, tokenize, queued: done.queued, compute: done.compute })
    }
}
