//! Texts to token ids, with the limit of the model and no padding.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, anyhow, ensure};
use tokenizers::utils::truncation::TruncationDirection;
use tokenizers::{Encoding, PostProcessor, Tokenizer};

use crate::error::Error;

/// What to do with a text longer than the model reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Truncation {
    /// Keep the beginning.
    Right,
    /// Keep the end.
    Left,
    /// Refuse the text.
    Reject,
}

/// One text as the model reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Encoded {
    /// Token ids, special tokens included.
    pub ids: Vec<u32>,
    /// Whether something was cut off.
    pub truncated: bool,
}

/// A model's own tokenizer.
#[derive(Debug)]
pub struct TextTokenizer {
    inner: Tokenizer,
    max_tokens: usize,
    /// Tokens that the model adds around a text.
    added: usize,
    lowercase: bool,
}

impl TextTokenizer {
    /// Reads `tokenizer.json` for a model with `vocab_size` token vectors that reads `max_tokens`.
    ///
    /// Truncation and padding stored in the file are ignored: the limits of the model rule.
    ///
    /// # Errors
    /// Names the file, and the first token that has no vector.
    pub fn read(dir: &Path, vocab_size: usize, max_tokens: usize, lowercase: bool) -> Result<Self> {
        let file = "tokenizer.json";
        let path = dir.join(file);
        let bytes = fs::read(&path).with_context(|| format!("{file}: cannot read {}", path.display()))?;
        let inner = Tokenizer::from_bytes(&bytes).map_err(|e| anyhow!("{file}: not a tokenizer: {e}"))?;
        let last = inner.get_vocab(true).into_iter().max_by_key(|(_, id)| *id);
        let (token, id) = last.with_context(|| format!("{file}: the vocabulary is empty"))?;
        ensure!(
            (id as usize) < vocab_size,
            "{file}: token {token:?} has id {id}, config.json says vocab_size {vocab_size}"
        );
        Self::new(inner, max_tokens, lowercase).with_context(|| file)
    }

    /// Wraps a tokenizer.
    ///
    /// # Errors
    /// Where `max_tokens` leaves no room beside the special tokens.
    pub fn new(mut inner: Tokenizer, max_tokens: usize, lowercase: bool) -> Result<Self> {
        inner.with_padding(None);
        inner.with_truncation(None).map_err(|e| anyhow!("{e}"))?;
        let added = inner.get_post_processor().map_or(0, |post| post.added_tokens(false));
        ensure!(added < max_tokens, "{added} special tokens leave no room in a limit of {max_tokens} tokens");
        Ok(Self { inner, max_tokens, added, lowercase })
    }

    /// The ids of `prompt` + `text` with special tokens, cut to the limit of the model.
    ///
    /// The prompt counts towards the limit; cutting on the left cuts it first, as sentence-transformers does.
    ///
    /// # Errors
    /// [`Error::EmptyInput`] for a text of white space only, [`Error::InputTooLong`] under [`Truncation::Reject`],
    /// both naming `field`.
    pub fn encode(
        &self,
        field: &str,
        prompt: &str,
        text: &str,
        truncation: Truncation,
    ) -> Result<Encoded, Error> {
        if text.trim().is_empty() {
            return Err(Error::EmptyInput { field: field.to_owned() });
        }
        let mut input = format!("{prompt}{text}");
        if self.lowercase {
            input = input.to_lowercase();
        }
        let mut encoding = self.content(&input)?;
        let (tokens, limit) = (encoding.len() + self.added, self.max_tokens);
        let truncated = tokens > limit;
        if truncated {
            let direction = match truncation {
                Truncation::Right => TruncationDirection::Right,
                Truncation::Left => TruncationDirection::Left,
                Truncation::Reject => {
                    return Err(Error::InputTooLong { field: field.to_owned(), tokens, limit });
                }
            };
            encoding.truncate(limit - self.added, 0, direction);
        }
        let ids = self.with_special(encoding)?.get_ids().to_vec();
        Ok(Encoded { ids, truncated })
    }

    /// The tokens of a text with their byte offsets; never cut.
    ///
    /// # Errors
    /// [`Error::Backend`] where the tokenizer fails.
    pub fn tokens(&self, text: &str, special: bool) -> Result<Encoding, Error> {
        let encoding = self.content(text)?;
        if special { self.with_special(encoding) } else { Ok(encoding) }
    }

    /// Most tokens the model reads, special tokens included.
    pub fn max_tokens(&self) -> usize {
        self.max_tokens
    }

    fn content(&self, text: &str) -> Result<Encoding, Error> {
        self.inner.encode(text, false).map_err(|error| failed(&error))
    }

    fn with_special(&self, encoding: Encoding) -> Result<Encoding, Error> {
        self.inner.post_process(encoding, None, true).map_err(|error| failed(&error))
    }
}

fn failed(error: &tokenizers::Error) -> Error {
    tracing::error!(error.message = %error, "tokenizer failed");
    Error::Backend
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One token per word, `[CLS]` and `[SEP]` around.
    fn tokenizer(max_tokens: usize, lowercase: bool) -> Result<TextTokenizer> {
        let json = serde_json::json!({
            "version": "1.0", "truncation": {"direction": "Right", "max_length": 1, "strategy": "LongestFirst", "stride": 0},
            "padding": null, "added_tokens": [], "normalizer": null, "decoder": null,
            "pre_tokenizer": {"type": "WhitespaceSplit"},
            "post_processor": {"type": "BertProcessing", "sep": ["[SEP]", 2], "cls": ["[CLS]", 1]},
            "model": {"type": "WordLevel", "vocab": {"[UNK]": 0, "[CLS]": 1, "[SEP]": 2, "a": 3, "b": 4, "c": 5, "q:": 6}, "unk_token": "[UNK]"}
        });
        TextTokenizer::new(Tokenizer::from_bytes(json.to_string().as_bytes()).unwrap(), max_tokens, lowercase)
    }

    #[test]
    fn encodes_within_the_limit() {
        fn check(prompt: &str, text: &str, truncation: Truncation, expected: Result<(&[u32], bool), Error>) {
            let got = tokenizer(5, false).unwrap().encode("texts[0]", prompt, text, truncation);
            assert_eq!(got.as_ref().map(|e| (e.ids.as_slice(), e.truncated)), expected.as_ref().map(|e| *e));
        }
        let field = || "texts[0]".to_owned();
        check("", "a b", Truncation::Right, Ok((&[1, 3, 4, 2], false)));
        check("", "a b c", Truncation::Reject, Ok((&[1, 3, 4, 5, 2], false)));
        check("", "a b c a", Truncation::Right, Ok((&[1, 3, 4, 5, 2], true)));
        check("", "a b c a", Truncation::Left, Ok((&[1, 4, 5, 3, 2], true)));
        check("q: ", "a b c", Truncation::Right, Ok((&[1, 6, 3, 4, 2], true)));
        check(
            "",
            "a b c a",
            Truncation::Reject,
            Err(Error::InputTooLong { field: field(), tokens: 6, limit: 5 }),
        );
        check("q: ", " \n\u{a0}", Truncation::Right, Err(Error::EmptyInput { field: field() }));
        check("", "Z", Truncation::Right, Ok((&[1, 0, 2], false)));
    }

    #[test]
    fn lower_cases_where_the_package_says_so() {
        let encoded = tokenizer(5, true).unwrap().encode("t", "", "A B", Truncation::Right).unwrap();
        assert_eq!(encoded.ids, [1, 3, 4, 2]);
    }

    #[test]
    fn a_limit_without_room_is_refused() {
        assert!(tokenizer(2, false).unwrap_err().to_string().contains("no room"));
    }

    #[test]
    fn tokens_carry_byte_offsets() {
        let tokenizer = tokenizer(5, false).unwrap();
        let with = tokenizer.tokens("ñ  a", true).unwrap();
        assert_eq!(with.get_offsets(), [(0, 0), (0, 2), (4, 5), (0, 0)]);
        assert_eq!(tokenizer.tokens("ñ  a", false).unwrap().get_ids(), [0, 3]);
    }
}
