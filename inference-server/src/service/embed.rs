//! Embeddings: one vector per text, with token outputs where they are asked for.
//!
//! A unary request and the items of a stream take the same path: [`EmbedPlan`] is what the settings
//! come to, [`Service::embed_texts`] looks texts up in the cache and computes the others.

use std::sync::Arc;
use std::time::Instant;

use super::call::{Call, CallContext};
use super::embedding_cache::{Embedded, Key, Keys, TokenOutputs};
use super::normalize::cut;
use super::read::FieldPath;
use super::token_outputs::{self, SparseWeights, TokenVectors};
use super::{ModelRef, Service, Timing};
use crate::error::Error;
use crate::models::{Extras, ModelInfo, RowOutput, Task};
use crate::registry::loaded::LoadedModel;
use crate::scheduler::batcher::Priority;
use crate::scheduler::queue::WorkSource;
use crate::text::tokenizer::Truncation;

/// Bytes of a caller's own prompt at most: it is tokenized once more with every text. Not tuned:
/// the instructions that embedding models are published with have some hundred bytes.
const LONGEST_PROMPT: usize = 4_096;

/// Prompt in front of every text.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) enum Prompt {
    /// The model's default prompt, if it has one.
    #[default]
    Default,
    /// The model's prompt of this name.
    Named(String),
    /// This text.
    Text(String),
}

/// Settings of an embedding request.
#[derive(Debug, Clone)]
pub(crate) struct EmbedSettings {
    /// The model.
    pub model: ModelRef,
    /// Put before every text.
    pub prompt: Prompt,
    /// Handling of a text over the model's limit.
    pub truncation: Truncation,
    /// Class of the request in the queue.
    pub priority: Priority,
    /// True to divide vectors by their L2 norm; `None` does as the model was published.
    pub normalize: Option<bool>,
    /// Length to cut vectors to (Matryoshka); `None` for all of it.
    pub dimensions: Option<u32>,
    /// Token outputs to compute in the same pass.
    pub token_outputs: Extras,
}

/// Checked settings: which model computes what, and in which form it is answered.
pub(crate) struct EmbedPlan {
    /// The model.
    pub model: Arc<LoadedModel>,
    source: WorkSource<LoadedModel>,
    prompt: String,
    truncation: Truncation,
    /// Length of a vector.
    pub dimensions: usize,
    normalize: bool,
    /// Token ids that stand for no text and get no sparse weight; empty unless weights are asked
    /// for.
    no_text_tokens: Vec<u32>,
    /// Outputs for single tokens.
    pub token_outputs: Extras,
}

/// The embedding of one text.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Embedding {
    /// Cut and normalised as asked for; finite.
    pub vector: Vec<f32>,
    /// Tokens read, special tokens included.
    pub tokens: u32,
    /// True if tokens were cut off.
    pub truncated: bool,
    /// One weight per distinct token, if asked for.
    pub sparse: Option<SparseWeights>,
    /// One vector per token, if asked for.
    pub token_vectors: Option<TokenVectors>,
}

/// Embeddings of some texts, in their order. An invalid text fails individually.
pub(crate) struct Embeddings {
    /// One for each text.
    pub items: Vec<Result<Embedding, Error>>,
    /// Times of the request's phases.
    pub timing: Timing,
}

/// A text that the cache does not have.
struct Missing {
    index: usize,
    text: String,
    key: Option<Key>,
}

impl Service {
    /// Embeds the texts of a request; `field` gives their paths.
    ///
    /// # Errors
    /// If the whole request is refused: no room, invalid settings, a caller who went away or was
    /// late, a model that failed.
    pub(crate) async fn embed(
        &self,
        context: &CallContext,
        settings: EmbedSettings,
        texts: Vec<String>,
        field: FieldPath,
    ) -> Result<(EmbedPlan, Embeddings), Error> {
        // First of all: a refusal for lack of room must cost nothing, not even the checks below.
        let call = self.admit(context)?;
        self.check_count("texts", texts.len())?;
        let plan = self.embed_plan(context, settings)?;
        let embeddings = self.embed_texts(&call, &plan, texts, field).await?;
        Ok((plan, embeddings))
    }

    /// Checks the settings of a request or a stream.
    ///
    /// # Errors
    /// Names the field at fault.
    pub(crate) fn embed_plan(
        &self,
        context: &CallContext,
        settings: EmbedSettings,
    ) -> Result<EmbedPlan, Error> {
        let model = self.resolve(context, &settings.model, Some(Task::Embedding))?;
        let prompt = prompt(&model.info, settings.prompt)?;
        let dimensions = dimensions(settings.dimensions, &model.info)?;
        token_outputs::check(settings.token_outputs, &model.info)?;
        let no_text_tokens =
            if settings.token_outputs.sparse { model.tokenizer.special_ids() } else { Vec::new() };
        Ok(EmbedPlan {
            source: WorkSource::new(&model, settings.priority).with_extras(settings.token_outputs),
            prompt,
            truncation: settings.truncation,
            dimensions,
            normalize: settings.normalize.unwrap_or(model.info.normalize),
            no_text_tokens,
            token_outputs: settings.token_outputs,
            model,
        })
    }

    /// Embeds texts: from the cache if they are there, else through the device.
    ///
    /// # Errors
    /// As [`Service::embed`].
    pub(crate) async fn embed_texts(
        &self,
        call: &Call,
        plan: &EmbedPlan,
        texts: Vec<String>,
        field: FieldPath,
    ) -> Result<Embeddings, Error> {
        let (cached, missing) = self.look_up(plan, texts);
        let (computed, timing) = match missing.is_empty() {
            true => (Vec::new(), Timing::default()),
            false => self.embed_missing(call, plan, missing, field).await?,
        };
        self.count_refused_items(&computed);
        let mut computed = computed.into_iter();
        let mut items = Vec::with_capacity(cached.len());
        for known in cached {
            let embedded = match known {
                Some(known) => Ok(known),
                // Texts that the cache lacked were computed in their order, so they fill the gaps
                // one by one.
                None => computed.next().unwrap_or(Err(Error::Backend)),
            };
            items.push(embedded.and_then(|embedded| plan.finish(&embedded)));
        }
        Ok(Embeddings { items, timing })
    }

    /// Looks texts up in the cache; returns the hits in place and the texts that are missing.
    fn look_up(&self, plan: &EmbedPlan, texts: Vec<String>) -> (Vec<Option<Arc<Embedded>>>, Vec<Missing>) {
        let cache = &self.0.cache;
        // Token outputs are large and rarely asked for twice, so such answers are not cached.
        let uses_cache = cache.is_on() && plan.token_outputs == Extras::default();
        let keys = Keys::new(&plan.model.info.revision, &plan.prompt, plan.truncation);
        let (mut cached, mut missing) = (Vec::with_capacity(texts.len()), Vec::new());
        for (index, text) in texts.into_iter().enumerate() {
            let key = uses_cache.then(|| keys.key(&text));
            let known = key.as_ref().and_then(|key| cache.get(key));
            if known.is_none() {
                missing.push(Missing { index, text, key });
            }
            cached.push(known);
        }
        if uses_cache {
            self.0.metrics.cached(cached.len() - missing.len(), missing.len());
        }
        (cached, missing)
    }

    /// Tokenizes and computes what the cache does not have, and caches it.
    async fn embed_missing(
        &self,
        call: &Call,
        plan: &EmbedPlan,
        missing: Vec<Missing>,
        field: FieldPath,
    ) -> Result<(Vec<Result<Arc<Embedded>, Error>>, Timing), Error> {
        // Reserved by an estimate before tokenizing: an overloaded server spends no time on texts.
        let permit = {
            let texts = missing.iter().map(|missing| missing.text.as_str());
            self.reserve(&plan.model, &plan.prompt, texts)?
        };
        let keys: Vec<Option<Key>> = missing.iter().map(|missing| missing.key).collect();
        let texts = missing.into_iter().map(|missing| (missing.index, missing.text)).collect();
        let started = Instant::now();
        let (model, prompt, truncation) = (Arc::clone(&plan.model), plan.prompt.clone(), plan.truncation);
        let (_, mut encodings) = self
            .read_each(call, texts, field, move |field, text| {
                model.tokenizer.encode(field, &prompt, text, truncation)
            })
            .await?;
        let tokenize = started.elapsed();

        // Ids move to the queue without a copy.
        let rows: Vec<Vec<u32>> =
            encodings.iter_mut().flatten().map(|encoded| std::mem::take(&mut encoded.ids)).collect();
        let tokens: Vec<u32> = rows.iter().map(|row| row.len() as u32).collect();
        // Before they are computed: an answer that cannot be sent is work for nothing.
        plan.check_answer(tokens.iter().sum(), self.limits().response_bytes)?;
        // Ids are kept only for token outputs, which are answered by token.
        let keeps_ids = plan.token_outputs != Extras::default();
        let mut ids = if keeps_ids { rows.clone() } else { Vec::new() }.into_iter();
        let done = self.compute(call, &plan.source, rows, permit).await?;

        let mut outputs = done.outputs.into_iter().zip(tokens);
        let mut items = Vec::with_capacity(encodings.len());
        for (encoded, key) in encodings.into_iter().zip(keys) {
            items.push(match encoded {
                Err(error) => Err(error),
                Ok(encoded) => outputs.next().ok_or(Error::Backend).map(|(output, tokens)| {
                    let embedded = Arc::new(embedded(output, ids.next(), tokens, encoded.truncated));
                    self.remember(key, &embedded);
                    embedded
                }),
            });
        }
        Ok((items, Timing { queued: done.queued, tokenize, compute: done.compute }))
    }

    fn remember(&self, key: Option<Key>, embedded: &Arc<Embedded>) {
        // A broken vector must not outlive whatever broke it.
        if let Some(key) = key.filter(|_| embedded.vector.iter().all(|x| x.is_finite())) {
            self.0.cache.insert(key, Arc::clone(embedded));
        }
    }
}

impl EmbedPlan {
    /// Refuses an answer whose token vectors would have more than `limit` bytes.
    fn check_answer(&self, tokens: u32, limit: usize) -> Result<(), Error> {
        let bytes = tokens as usize * self.model.info.multi_vector_dimensions * size_of::<f32>();
        if !self.token_outputs.multi_vector || bytes <= limit {
            return Ok(());
        }
        Err(Error::AnswerTooLarge { bytes, limit })
    }

    /// Cuts and normalises what the model made.
    ///
    /// # Errors
    /// [`Error::Backend`] if a number is not finite.
    fn finish(&self, embedded: &Embedded) -> Result<Embedding, Error> {
        let vector = cut(&embedded.vector, self.dimensions, self.normalize).ok_or(Error::Backend)?;
        let (mut sparse, mut token_vectors) = (None, None);
        if let Some(outputs) = &embedded.token_outputs {
            if self.token_outputs.sparse {
                let weights = SparseWeights::of(&outputs.ids, &outputs.sparse, &self.no_text_tokens);
                sparse = Some(weights.ok_or(Error::Backend)?);
            }
            if self.token_outputs.multi_vector {
                let dimensions = self.model.info.multi_vector_dimensions;
                let vectors = TokenVectors::of(&outputs.multi_vector, dimensions, self.normalize);
                token_vectors = Some(vectors.ok_or(Error::Backend)?);
            }
        }
        let (tokens, truncated) = (embedded.tokens, embedded.truncated);
        Ok(Embedding { vector, tokens, truncated, sparse, token_vectors })
    }
}

/// The output of a row as it is cached; `ids` are those of its tokens, if token outputs are kept.
fn embedded(output: RowOutput, ids: Option<Vec<u32>>, tokens: u32, truncated: bool) -> Embedded {
    let RowOutput { values: vector, sparse, multi_vector } = output;
    let token_outputs = ids.map(|ids| Box::new(TokenOutputs { ids, sparse, multi_vector }));
    Embedded { vector, tokens, truncated, token_outputs }
}

/// The lengths that a model was trained to be cut to, and its own.
fn dimensions(asked: Option<u32>, info: &ModelInfo) -> Result<usize, Error> {
    let Some(asked) = asked else { return Ok(info.dimensions) };
    let lengths: Vec<usize> = info.matryoshka.iter().copied().chain([info.dimensions]).collect();
    // Any length could be cut; one the model was not trained for would give a poor vector without a
    // sign.
    if lengths.contains(&(asked as usize)) {
        return Ok(asked as usize);
    }
    let lengths: Vec<String> = lengths.iter().map(usize::to_string).collect();
    Err(Error::InvalidValue {
        field: "settings.dimensions".to_owned(),
        value: asked.to_string(),
        allowed: format!("{} (what {} was trained for)", lengths.join(", "), info.name),
    })
}

/// The text to put before every input.
fn prompt(info: &ModelInfo, prompt: Prompt) -> Result<String, Error> {
    let name = match prompt {
        Prompt::Text(text) if text.len() > LONGEST_PROMPT => {
            let (field, bytes) = ("settings.prompt".to_owned(), text.len());
            return Err(Error::InputTooLarge { field, bytes, limit: LONGEST_PROMPT });
        }
        Prompt::Text(text) => return Ok(text),
        Prompt::Named(name) => name,
        Prompt::Default => match &info.default_prompt {
            // An empty name stands for no prompt, as null does.
            Some(name) if !name.is_empty() => name.clone(),
            _ => return Ok(String::new()),
        },
    };
    info.prompts.get(&name).cloned().ok_or_else(|| {
        let names: Vec<&str> = info.prompts.keys().map(String::as_str).collect();
        let known = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
        Error::UnknownPrompt { model: info.name.clone(), asked: name, known }
    })
}
