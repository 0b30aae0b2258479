//! A model's tokenizer: texts to token ids within the limit of the model, and back.
//!
//! Rows are never padded, and truncation is the caller's choice: what the tokenizer's file says
//! about either is ignored. Errors name the field of the request that the text came from. Safe to
//! share between threads.

mod end_token;

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result, anyhow, ensure};
use tokenizers::utils::truncation::{
    TruncationDirection, TruncationParams, TruncationStrategy, truncate_encodings,
};
use tokenizers::{Encoding, ModelWrapper, PostProcessor, Tokenizer};

use crate::error::Error;
use crate::text::entities::TokenSpan;
use crate::text::offsets::LowercaseMap;

/// Bit of a token id that marks token type 1, that of the second text of a pair.
///
/// With it a row remains a single list of numbers on its way to the device. Vocabularies are far
/// smaller than 2³¹. Only models with two token types get it.
pub(crate) const SECOND_TEXT: u32 = 1 << 31;

/// Default number of tokens that neighbouring windows share: context for an entity at their edge.
/// Not tuned: some sentences, and an eighth of a window of 512.
const DEFAULT_OVERLAP: usize = 64;

/// Tokens per byte before the first measurement. Not tuned: English takes a token for about four
/// bytes, and the first texts correct it.
const INITIAL_DENSITY: f32 = 0.3;
/// Length of a text in bytes that weighs as much as all measurements before it. Not tuned: a page
/// of text.
const DENSITY_BYTES: f32 = 4_096.0;

/// Treatment of a text that exceeds the limit of the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Truncation {
    /// Cut off the end.
    Right,
    /// Cut off the beginning.
    Left,
    /// Return an error.
    Reject,
}

impl Truncation {
    fn direction(self) -> Option<TruncationDirection> {
        match self {
            Self::Right => Some(TruncationDirection::Right),
            Self::Left => Some(TruncationDirection::Left),
            Self::Reject => None,
        }
    }
}

/// Token ids of a text or pair.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Encoded {
    /// Token ids, special tokens included.
    pub ids: Vec<u32>,
    /// True if tokens were cut off.
    pub truncated: bool,
}

/// A part of a long text that fits the limit of the model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Window {
    /// Token ids, special tokens included.
    pub ids: Vec<u32>,
    /// Number of special tokens before the first token of the text.
    pub lead: usize,
    /// Index, in the text, of the first token in this window.
    pub first: usize,
    /// Number of tokens of the text in this window.
    pub tokens: usize,
}

/// A whole text in windows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Windowed {
    /// Position of each token in the text, without special tokens.
    pub spans: Vec<TokenSpan>,
    /// Windows in order; none if the text has no token.
    pub windows: Vec<Window>,
}

/// A tokenizer with the limits of its model.
#[derive(Debug)]
pub struct TextTokenizer {
    inner: Arc<Tokenizer>,
    max_tokens: usize,
    /// Number of special tokens around a text.
    added: usize,
    /// Number of special tokens around and between the texts of a pair.
    added_to_pair: usize,
    lowercase: bool,
    /// True if the model has token types, so that ids are marked with [`SECOND_TEXT`].
    pair_types: bool,
    /// Moving average of tokens per byte, as the bits of an f32.
    density: AtomicU32,
}

/// Removes added tokens that the model has no embeddings for, and returns the file without them.
/// Language models cut out of multimodal ones have such tokens, for images; in a text these are
/// then ordinary characters.
fn without_tokens_beyond(file: &[u8], vocab_size: usize) -> Result<Vec<u8>> {
    let mut json: serde_json::Value = serde_json::from_slice(file)?;
    let mut dropped: Vec<String> = Vec::new();
    if let Some(added) = json["added_tokens"].as_array_mut() {
        added.retain(|token| {
            let has_embedding = token["id"].as_u64().is_none_or(|id| id < vocab_size as u64);
            if !has_embedding {
                dropped.extend(token["content"].as_str().map(str::to_owned));
            }
            has_embedding
        });
    }
    // A vocabulary may list added tokens as well, and would bring them back.
    if let Some(vocabulary) = json["model"]["vocab"].as_object_mut() {
        for token in &dropped {
            vocabulary.remove(token);
        }
    }
    Ok(serde_json::to_vec(&json)?)
}

impl TextTokenizer {
    /// Reads `tokenizer.json` for a model with `vocab_size` token embeddings and a limit of
    /// `max_tokens` tokens, special tokens included.
    ///
    /// # Errors
    /// If the file is not a tokenizer, or has a token without an embedding.
    pub fn read(dir: &Path, vocab_size: usize, max_tokens: usize, lowercase: bool) -> Result<Self> {
        let file = "tokenizer.json";
        let path = dir.join(file);
        let bytes = fs::read(&path).with_context(|| format!("{file}: cannot read {}", path.display()))?;
        let mut inner = parse(file, &bytes)?;
        // Parsed again only if needed: most files have no such tokens.
        let highest = inner.get_vocab(true).into_values().max().unwrap_or_default();
        if highest as usize >= vocab_size {
            inner = parse(file, &without_tokens_beyond(&bytes, vocab_size)?)?;
        }
        let last = inner.get_vocab(true).into_iter().max_by_key(|(_, id)| *id);
        let (token, id) = last.with_context(|| format!("{file}: the vocabulary is empty"))?;
        ensure!(
            (id as usize) < vocab_size,
            "{file}: token {token:?} has id {id}, config.json says vocab_size {vocab_size}"
        );
        Self::new(inner, max_tokens, lowercase).with_context(|| file)
    }

    /// Wraps a tokenizer, without its truncation and padding.
    ///
    /// # Errors
    /// If the special tokens alone reach `max_tokens`.
    pub fn new(mut inner: Tokenizer, max_tokens: usize, lowercase: bool) -> Result<Self> {
        // Rows are packed, so padding would be computed for nothing; truncation is chosen by the
        // request.
        inner.with_padding(None);
        inner.with_truncation(None).map_err(|e| anyhow!("{e}"))?;
        let added = inner.get_post_processor().map_or(0, |post| post.added_tokens(false));
        ensure!(added < max_tokens, "{added} special tokens leave no room in a limit of {max_tokens} tokens");
        let added_to_pair = inner.get_post_processor().map_or(0, |post| post.added_tokens(true));
        let density = AtomicU32::new(INITIAL_DENSITY.to_bits());
        let inner = Arc::new(inner);
        Ok(Self { inner, max_tokens, added, added_to_pair, lowercase, pair_types: false, density })
    }

    /// Adds the end token that `tokenizer_config.json` asks for, if the tokenizer does not add it.
    ///
    /// # Errors
    /// If the file is malformed, or asks for a token that the vocabulary lacks.
    pub fn with_end_token(self, dir: &Path) -> Result<Self> {
        match end_token::added(&self.inner, dir)? {
            // By `new`, since the number of special tokens has changed; it also resets
            // `pair_types`.
            Some(inner) => Self::new(inner, self.max_tokens, self.lowercase),
            None => Ok(self),
        }
    }

    /// Sets whether token ids of a pair's second text are marked with `SECOND_TEXT`.
    pub fn with_pair_types(self, pair_types: bool) -> Self {
        Self { pair_types, ..self }
    }

    /// The ids of `prompt` + `text` with special tokens, truncated to the limit of the model.
    ///
    /// The prompt counts towards the limit, and truncation on the left cuts it off first, as in
    /// sentence-transformers.
    ///
    /// # Errors
    /// [`Error::EmptyInput`] for a text of white space alone, [`Error::InputTooLong`] under
    /// [`Truncation::Reject`], both naming `field`.
    pub fn encode(
        &self,
        field: &str,
        prompt: &str,
        text: &str,
        truncation: Truncation,
    ) -> Result<Encoded, Error> {
        check_not_empty(field, text)?;
        let mut encoding = self.encode_content(&self.lowercase_if_needed(format!("{prompt}{text}")))?;
        // By the tokens and not by the text's length: the whole text is tokenized, as in
        // transformers.
        let (tokens, limit) = (encoding.len() + self.added, self.max_tokens);
        let truncated = tokens > limit;
        if truncated {
            let direction = truncation.direction();
            let direction = direction.ok_or_else(|| too_long(field, tokens, limit))?;
            // Before special tokens are added, which must not be cut off.
            encoding.truncate(limit - self.added, 0, direction);
        }
        let ids = self.with_special(encoding)?.get_ids().to_vec();
        Ok(Encoded { ids, truncated })
    }

    /// The tokens of a pair's first text, for [`TextTokenizer::encode_pair`]: a query is tokenised
    /// once for all documents.
    ///
    /// # Errors
    /// [`Error::EmptyInput`] for a text of white space alone, naming `field`.
    pub fn encode_first_of_pair(&self, field: &str, text: &str) -> Result<Encoding, Error> {
        check_not_empty(field, text)?;
        self.encode_content(&self.lowercase_if_needed(text.to_owned()))
    }

    /// The ids of a pair with special tokens, truncated to the limit of the model: first the longer
    /// text, then both to the same length (`longest_first` of transformers).
    ///
    /// # Errors
    /// As [`TextTokenizer::encode`]; `field` is that of the second text.
    pub fn encode_pair(
        &self,
        field: &str,
        first: &Encoding,
        second: &str,
        truncation: Truncation,
    ) -> Result<Encoded, Error> {
        // Cloned, because truncation changes it and the next document needs it whole.
        check_not_empty(field, second)?;
        let (mut first, mut second) =
            (first.clone(), self.encode_content(&self.lowercase_if_needed(second.to_owned()))?);
        let tokens = first.len() + second.len() + self.added_to_pair;
        let truncated = tokens > self.max_tokens;
        if truncated {
            let direction = truncation.direction();
            // The library's own rule, so that the cut is at the same token as in transformers.
            let params = TruncationParams {
                direction: direction.ok_or_else(|| too_long(field, tokens, self.max_tokens))?,
                max_length: self.max_tokens.saturating_sub(self.added_to_pair),
                strategy: TruncationStrategy::LongestFirst,
                stride: 0,
            };
            let (left, right) =
                truncate_encodings(first, Some(second), &params).map_err(|error| backend_error(&error))?;
            (first, second) = (left, right.ok_or(Error::Backend)?);
        }
        // Not every post-processor sets token types, and without them all would be 0.
        second.set_type_ids(vec![1; second.len()]);
        let whole =
            self.inner.post_process(first, Some(second), true).map_err(|error| backend_error(&error))?;
        let mut ids = whole.get_ids().to_vec();
        if self.pair_types {
            for (id, kind) in ids.iter_mut().zip(whole.get_type_ids()) {
                if *kind == 1 {
                    *id |= SECOND_TEXT;
                }
            }
        }
        Ok(Encoded { ids, truncated })
    }

    /// The ids of a prompt for a language model, never truncated. `special` adds the special tokens
    /// around a text. Names of special tokens inside the text become these tokens, as in
    /// transformers.
    ///
    /// # Errors
    /// [`Error::Backend`] if the tokenizer fails.
    pub fn encode_prompt(&self, text: &str, special: bool) -> Result<Vec<u32>, Error> {
        // Without offsets, which a prompt has no use for.
        let encoding = self.inner.encode_fast(text, special).map_err(|error| backend_error(&error))?;
        Ok(encoding.get_ids().to_vec())
    }

    /// The underlying tokenizer.
    pub fn shared(&self) -> Arc<Tokenizer> {
        Arc::clone(&self.inner)
    }

    /// Ids of tokens that stand for no text: begin, end, padding, unknown. BGE-M3 leaves them out
    /// of sparse weights.
    pub fn special_ids(&self) -> Vec<u32> {
        let names = ["<s>", "</s>", "<pad>", "<unk>", "[CLS]", "[SEP]", "[PAD]", "[UNK]"];
        names.iter().filter_map(|name| self.inner.token_to_id(name)).collect()
    }

    /// The tokens of a text with their byte offsets, never truncated; `special` adds the special
    /// tokens around it. A text is lower-cased as for [`TextTokenizer::encode`], so that its ids
    /// are those that the model reads; offsets are those of the text as it was given.
    ///
    /// # Errors
    /// [`Error::Backend`] if the tokenizer fails.
    pub fn tokens(&self, text: &str, special: bool) -> Result<Encoding, Error> {
        let mut encoding = self.encode_content(&self.lowercase_if_needed(text.to_owned()))?;
        if self.lowercase {
            encoding = with_offsets_of(text, &encoding);
        }
        if special { self.with_special(encoding) } else { Ok(encoding) }
    }

    /// The text of token ids; special tokens are left out unless `keep_special` is set.
    ///
    /// # Errors
    /// [`Error::InvalidValue`] for the first id outside of the vocabulary, naming `field`.
    pub fn decode(&self, field: &str, ids: &[u32], keep_special: bool) -> Result<String, Error> {
        // The library would leave unknown ids out without a word.
        if let Some(index) = ids.iter().position(|id| self.inner.id_to_token(*id).is_none()) {
            return Err(Error::InvalidValue {
                field: format!("{field}[{index}]"),
                value: ids[index].to_string(),
                allowed: format!("ids of the vocabulary, which has {}", self.inner.get_vocab_size(true)),
            });
        }
        self.inner.decode(ids, !keep_special).map_err(|error| backend_error(&error))
    }

    /// Number of tokens that neighbouring windows share: the requested one, or 64 but at most a
    /// quarter of a window.
    ///
    /// # Errors
    /// [`Error::InvalidValue`] if the overlap is not smaller than a window.
    pub fn overlap(&self, requested: Option<usize>) -> Result<usize, Error> {
        let window = self.max_tokens - self.added;
        let overlap = requested.unwrap_or(DEFAULT_OVERLAP.min(window / 4));
        if overlap < window {
            return Ok(overlap);
        }
        Err(Error::InvalidValue {
            field: "settings.overlap_tokens".to_owned(),
            value: overlap.to_string(),
            allowed: format!("0 to {}", window - 1),
        })
    }

    /// The whole text in windows that share `overlap` tokens; see [`TextTokenizer::overlap`].
    ///
    /// # Errors
    /// [`Error::EmptyInput`] for a text of white space alone, naming `field`.
    pub fn windows(&self, field: &str, text: &str, overlap: usize) -> Result<Windowed, Error> {
        check_not_empty(field, text)?;
        let window = self.max_tokens - self.added;
        // Not lower-cased: `do_lower_case` is a setting of sentence-transformers, and transformers'
        // pipeline, which token classifiers are evaluated with, knows nothing of it.
        let mut content =
            self.inner.encode_char_offsets(text, false).map_err(|error| backend_error(&error))?;
        // Before the text is cut into windows, which leaves only the first window in `content`.
        let spans = self.spans(text, &content);
        if spans.is_empty() {
            return Ok(Windowed { spans, windows: Vec::new() });
        }
        content.truncate(window, overlap, TruncationDirection::Right);
        // The library keeps further windows as overflow of the first.
        let rest = content.take_overflowing();
        let mut windows = Vec::new();
        for (index, part) in std::iter::once(content).chain(rest).enumerate() {
            let tokens = part.len();
            let whole = self.with_special(part)?;
            // Counted in the result: templates may put more than one token in front.
            let lead = whole.get_special_tokens_mask().iter().take_while(|special| **special == 1).count();
            windows.push(Window {
                ids: whole.get_ids().to_vec(),
                lead,
                first: index * (window - overlap),
                tokens,
            });
        }
        Ok(Windowed { spans, windows })
    }

    /// Spans in code points. As in transformers' pipeline, a token continues a word if it has the
    /// vocabulary's subword prefix, or, in a vocabulary without one, if no space precedes it.
    fn spans(&self, text: &str, encoding: &Encoding) -> Vec<TokenSpan> {
        let chars: Vec<char> = text.chars().collect();
        let has_prefix = match self.inner.get_model() {
            ModelWrapper::WordPiece(model) => !model.continuing_subword_prefix.is_empty(),
            ModelWrapper::BPE(model) => {
                model.continuing_subword_prefix.as_ref().is_some_and(|prefix| !prefix.is_empty())
            }
            _ => false,
        };
        // transformers takes an unknown token for the beginning of a word, whatever stands before
        // it.
        let unknown = ["[UNK]", "<unk>"].map(|token| self.inner.token_to_id(token));
        let tokens = encoding.get_tokens().iter().zip(encoding.get_ids()).zip(encoding.get_offsets());
        tokens
            .map(|((token, id), (start, end))| {
                let (start, end) = (*start, *end);
                let subword = if has_prefix {
                    token.chars().count() != end - start
                } else {
                    start > 0 && !chars[start - 1..(start + 1).min(chars.len())].contains(&' ')
                };
                TokenSpan { start, end, subword: subword && !unknown.contains(&Some(*id)) }
            })
            .collect()
    }

    /// Limit of the model, special tokens included.
    pub fn max_tokens(&self) -> usize {
        self.max_tokens
    }

    /// Estimated tokens of a text of `bytes` bytes, special tokens included, by the texts read so
    /// far.
    pub fn estimate(&self, bytes: usize) -> usize {
        let density = f32::from_bits(self.density.load(Ordering::Relaxed));
        (bytes as f32 * density).ceil() as usize + self.added
    }

    fn lowercase_if_needed(&self, text: String) -> String {
        if self.lowercase { text.to_lowercase() } else { text }
    }

    /// The tokens of a text without special tokens; updates the density.
    fn encode_content(&self, text: &str) -> Result<Encoding, Error> {
        // Special tokens come later, behind truncation.
        let encoding = self.inner.encode(text, false).map_err(|error| backend_error(&error))?;
        // Concurrent updates may lose a measurement, which an estimate can afford.
        let old = f32::from_bits(self.density.load(Ordering::Relaxed));
        let bytes = text.len() as f32;
        let new = (old * DENSITY_BYTES + encoding.len() as f32) / (DENSITY_BYTES + bytes);
        self.density.store(new.to_bits(), Ordering::Relaxed);
        Ok(encoding)
    }

    fn with_special(&self, encoding: Encoding) -> Result<Encoding, Error> {
        self.inner.post_process(encoding, None, true).map_err(|error| backend_error(&error))
    }
}

/// The tokens of a text's lower-case form with their offsets in the text.
fn with_offsets_of(text: &str, encoding: &Encoding) -> Encoding {
    let map = LowercaseMap::new(text);
    Encoding::new(
        encoding.get_ids().to_vec(),
        encoding.get_type_ids().to_vec(),
        encoding.get_tokens().to_vec(),
        encoding.get_word_ids().to_vec(),
        encoding.get_offsets().iter().map(|span| map.span(*span)).collect(),
        encoding.get_special_tokens_mask().to_vec(),
        encoding.get_attention_mask().to_vec(),
        Vec::new(),
        // No ranges stand for one sequence.
        Default::default(),
    )
}

fn parse(file: &str, bytes: &[u8]) -> Result<Tokenizer> {
    Tokenizer::from_bytes(bytes).map_err(|error| anyhow!("{file}: not a tokenizer: {error}"))
}

fn check_not_empty(field: &str, text: &str) -> Result<(), Error> {
    if text.trim().is_empty() { Err(Error::EmptyInput { field: field.to_owned() }) } else { Ok(()) }
}

fn too_long(field: &str, tokens: usize, limit: usize) -> Error {
    Error::InputTooLong { field: field.to_owned(), tokens, limit }
}

fn backend_error(error: &tokenizers::Error) -> Error {
    tracing::error!(error.message = %error, "tokenizer failed");
    Error::Backend
}

#[cfg(test)]
mod tests;
