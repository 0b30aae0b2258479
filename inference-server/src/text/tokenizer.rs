//! Texts to token ids, with the limit of the model and no padding.

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

/// Set in a token id whose token belongs to the second text of a pair and is of token type 1.
///
/// So a row stays one list of numbers on its way to the device. Only models with two token types
/// see it.
pub(crate) const SECOND_TEXT: u32 = 1 << 31;

/// Tokens that windows of a long text share where nothing is asked for.
const DEFAULT_OVERLAP: usize = 64;

/// Tokens per byte assumed before the first text.
const ASSUMED_DENSITY: f32 = 0.3;
/// Bytes of text that halve the weight of what was read before.
const DENSITY_BYTES: f32 = 4_096.0;

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

impl Truncation {
    fn direction(self) -> Option<TruncationDirection> {
        match self {
            Self::Right => Some(TruncationDirection::Right),
            Self::Left => Some(TruncationDirection::Left),
            Self::Reject => None,
        }
    }
}

/// One text or pair as the model reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Encoded {
    /// Token ids, special tokens included.
    pub ids: Vec<u32>,
    /// Whether something was cut off.
    pub truncated: bool,
}

/// A part of a long text that the model reads at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Window {
    /// Token ids, special tokens included.
    pub ids: Vec<u32>,
    /// Special tokens before the first token of the text.
    pub lead: usize,
    /// Which token of the text stands first.
    pub first: usize,
    /// Tokens of the text in this window.
    pub tokens: usize,
}

/// A whole text, read in windows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Windowed {
    /// Where each token of the text stands, special tokens left out.
    pub spans: Vec<TokenSpan>,
    /// What the model reads; none where the text has no token.
    pub windows: Vec<Window>,
}

/// A model's own tokenizer.
#[derive(Debug)]
pub struct TextTokenizer {
    inner: Arc<Tokenizer>,
    max_tokens: usize,
    /// Tokens that the model adds around a text.
    added: usize,
    /// Tokens that the model adds around and between the texts of a pair.
    added_to_pair: usize,
    lowercase: bool,
    /// Whether the model tells the tokens of a pair's second text from those of the first.
    pair_types: bool,
    /// Tokens per byte of the texts read lately, as the bits of an f32.
    density: AtomicU32,
}

/// The file without the added tokens that the model has no vectors for, such as the place of a
/// picture in models that were published without their eyes: in a text they are letters like any
/// others.
fn without_tokens_beyond(file: &[u8], vocab_size: usize) -> Result<Vec<u8>> {
    let mut json: serde_json::Value = serde_json::from_slice(file)?;
    let known = |token: &serde_json::Value| token["id"].as_u64().is_none_or(|id| id < vocab_size as u64);
    let mut dropped: Vec<String> = Vec::new();
    if let Some(added) = json["added_tokens"].as_array_mut() {
        let beyond = added.iter().filter(|token| !known(token));
        dropped.extend(beyond.filter_map(|token| token["content"].as_str().map(str::to_owned)));
        added.retain(known);
    }
    if let Some(vocabulary) = json["model"]["vocab"].as_object_mut() {
        dropped.iter().for_each(|token| {
            vocabulary.remove(token);
        });
    }
    Ok(serde_json::to_vec(&json)?)
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
        let parse =
            |bytes: &[u8]| Tokenizer::from_bytes(bytes).map_err(|e| anyhow!("{file}: not a tokenizer: {e}"));
        let mut inner = parse(&bytes)?;
        let highest = inner.get_vocab(true).into_values().max().unwrap_or_default();
        if highest as usize >= vocab_size {
            inner = parse(&without_tokens_beyond(&bytes, vocab_size)?)?;
        }
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
    /// If `max_tokens` leaves no room beside the special tokens.
    pub fn new(mut inner: Tokenizer, max_tokens: usize, lowercase: bool) -> Result<Self> {
        inner.with_padding(None);
        inner.with_truncation(None).map_err(|e| anyhow!("{e}"))?;
        let added = inner.get_post_processor().map_or(0, |post| post.added_tokens(false));
        ensure!(added < max_tokens, "{added} special tokens leave no room in a limit of {max_tokens} tokens");
        let added_to_pair = inner.get_post_processor().map_or(0, |post| post.added_tokens(true));
        let density = AtomicU32::new(ASSUMED_DENSITY.to_bits());
        let inner = Arc::new(inner);
        Ok(Self { inner, max_tokens, added, added_to_pair, lowercase, pair_types: false, density })
    }

    /// Marks the tokens of a pair's second text with [`SECOND_TEXT`] where asked.
    pub fn with_pair_types(self, pair_types: bool) -> Self {
        Self { pair_types, ..self }
    }

    /// The ids of `prompt` + `text` with special tokens, cut to the limit of the model.
    ///
    /// The prompt counts towards the limit; cutting on the left cuts it first, as
    /// sentence-transformers does.
    ///
    /// # Errors
    /// [`Error::EmptyInput`] for a text of white space only, [`Error::InputTooLong`] under
    /// [`Truncation::Reject`], both naming `field`.
    pub fn encode(
        &self,
        field: &str,
        prompt: &str,
        text: &str,
        truncation: Truncation,
    ) -> Result<Encoded, Error> {
        not_empty(field, text)?;
        let mut encoding = self.content(&self.cased(format!("{prompt}{text}")))?;
        let (tokens, limit) = (encoding.len() + self.added, self.max_tokens);
        let truncated = tokens > limit;
        if truncated {
            let direction = truncation.direction();
            let direction = direction.ok_or_else(|| too_long(field, tokens, limit))?;
            encoding.truncate(limit - self.added, 0, direction);
        }
        let ids = self.with_special(encoding)?.get_ids().to_vec();
        Ok(Encoded { ids, truncated })
    }

    /// The tokens of a pair's first text, for [`TextTokenizer::pair`].
    ///
    /// # Errors
    /// [`Error::EmptyInput`] for a text of white space only, naming `field`.
    pub fn first_of_pair(&self, field: &str, text: &str) -> Result<Encoding, Error> {
        not_empty(field, text)?;
        self.content(&self.cased(text.to_owned()))
    }

    /// The ids of a pair with special tokens, cut to the limit of the model: the longer text is cut
    /// first, then both to the same length, as transformers does by its strategy `longest_first`.
    ///
    /// # Errors
    /// As [`TextTokenizer::encode`], `field` naming the second text.
    pub fn pair(
        &self,
        field: &str,
        first: &Encoding,
        second: &str,
        truncation: Truncation,
    ) -> Result<Encoded, Error> {
        not_empty(field, second)?;
        let (mut first, mut second) = (first.clone(), self.content(&self.cased(second.to_owned()))?);
        let tokens = first.len() + second.len() + self.added_to_pair;
        let truncated = tokens > self.max_tokens;
        if truncated {
            let direction = truncation.direction();
            let params = TruncationParams {
                direction: direction.ok_or_else(|| too_long(field, tokens, self.max_tokens))?,
                max_length: self.max_tokens.saturating_sub(self.added_to_pair),
                strategy: TruncationStrategy::LongestFirst,
                stride: 0,
            };
            let (left, right) =
                truncate_encodings(first, Some(second), &params).map_err(|error| failed(&error))?;
            (first, second) = (left, right.ok_or(Error::Backend)?);
        }
        second.set_type_ids(vec![1; second.len()]);
        let whole = self.inner.post_process(first, Some(second), true).map_err(|error| failed(&error))?;
        let marked = |(id, kind): (&u32, &u32)| if *kind == 1 { id | SECOND_TEXT } else { *id };
        let ids = if self.pair_types {
            whole.get_ids().iter().zip(whole.get_type_ids()).map(marked).collect()
        } else {
            whole.get_ids().to_vec()
        };
        Ok(Encoded { ids, truncated })
    }

    /// The ids of a prompt for a model that writes text, never cut; `special` adds the tokens that
    /// the model puts around a text. Names of special tokens in the text are those tokens, as
    /// transformers reads them.
    ///
    /// # Errors
    /// [`Error::Backend`] where the tokenizer fails.
    pub fn prompt(&self, text: &str, special: bool) -> Result<Vec<u32>, Error> {
        let encoding = self.inner.encode_fast(text, special).map_err(|error| failed(&error))?;
        Ok(encoding.get_ids().to_vec())
    }

    /// The tokenizer itself.
    pub fn shared(&self) -> Arc<Tokenizer> {
        Arc::clone(&self.inner)
    }

    /// Ids of the tokens that stand for no text of their own: begin, end, padding, unknown.
    pub fn empty_tokens(&self) -> Vec<u32> {
        let names = ["<s>", "</s>", "<pad>", "<unk>", "[CLS]", "[SEP]", "[PAD]", "[UNK]"];
        names.iter().filter_map(|name| self.inner.token_to_id(name)).collect()
    }

    /// The tokens of a text with their byte offsets; never cut.
    ///
    /// # Errors
    /// [`Error::Backend`] where the tokenizer fails.
    pub fn tokens(&self, text: &str, special: bool) -> Result<Encoding, Error> {
        let encoding = self.content(text)?;
        if special { self.with_special(encoding) } else { Ok(encoding) }
    }

    /// The text of token ids, which are those of `field`; special tokens are left out unless they
    /// are to be kept.
    ///
    /// # Errors
    /// [`Error::InvalidValue`] for the first id that the vocabulary does not have.
    pub fn text(&self, field: &str, ids: &[u32], keep_special: bool) -> Result<String, Error> {
        if let Some(place) = ids.iter().position(|id| self.inner.id_to_token(*id).is_none()) {
            return Err(Error::InvalidValue {
                field: format!("{field}[{place}]"),
                value: ids[place].to_string(),
                allowed: format!("ids of the vocabulary, which has {}", self.inner.get_vocab_size(true)),
            });
        }
        self.inner.decode(ids, !keep_special).map_err(|error| failed(&error))
    }

    /// The tokens that windows of a long text share: what is asked for, or 64 and at most a quarter
    /// of a window.
    ///
    /// # Errors
    /// [`Error::InvalidValue`] where a window would hold no more than that.
    pub fn overlap(&self, asked: Option<usize>) -> Result<usize, Error> {
        let room = self.max_tokens - self.added;
        let overlap = asked.unwrap_or(DEFAULT_OVERLAP.min(room / 4));
        if overlap < room {
            return Ok(overlap);
        }
        Err(Error::InvalidValue {
            field: "settings.overlap_tokens".to_owned(),
            value: overlap.to_string(),
            allowed: format!("0 to {}", room - 1),
        })
    }

    /// The whole text in windows that share `overlap` tokens; see [`TextTokenizer::overlap`].
    ///
    /// # Errors
    /// [`Error::EmptyInput`] for a text of white space only, naming `field`.
    pub fn windows(&self, field: &str, text: &str, overlap: usize) -> Result<Windowed, Error> {
        not_empty(field, text)?;
        let room = self.max_tokens - self.added;
        let mut content = self.inner.encode_char_offsets(text, false).map_err(|error| failed(&error))?;
        let spans = self.spans(text, &content);
        if spans.is_empty() {
            return Ok(Windowed { spans, windows: Vec::new() });
        }
        content.truncate(room, overlap, TruncationDirection::Right);
        let rest = content.take_overflowing();
        let mut windows = Vec::new();
        for (index, part) in std::iter::once(content).chain(rest).enumerate() {
            let tokens = part.len();
            let whole = self.with_special(part)?;
            let lead = whole.get_special_tokens_mask().iter().take_while(|special| **special == 1).count();
            windows.push(Window {
                ids: whole.get_ids().to_vec(),
                lead,
                first: index * (room - overlap),
                tokens,
            });
        }
        Ok(Windowed { spans, windows })
    }

    /// Spans in code points. Which token continues a word is decided as transformers' pipeline
    /// decides it: by the marker of the vocabulary where it has one, else by the absence of a space
    /// before the token.
    fn spans(&self, text: &str, encoding: &Encoding) -> Vec<TokenSpan> {
        let chars: Vec<char> = text.chars().collect();
        let marks = match self.inner.get_model() {
            ModelWrapper::WordPiece(model) => !model.continuing_subword_prefix.is_empty(),
            ModelWrapper::BPE(model) => {
                model.continuing_subword_prefix.as_ref().is_some_and(|mark| !mark.is_empty())
            }
            _ => false,
        };
        let unknown = ["[UNK]", "<unk>"].map(|token| self.inner.token_to_id(token));
        let tokens = encoding.get_tokens().iter().zip(encoding.get_ids()).zip(encoding.get_offsets());
        tokens
            .map(|((token, id), (start, end))| {
                let (start, end) = (*start, *end);
                let subword = if marks {
                    token.chars().count() != end - start
                } else {
                    start > 0 && !chars[start - 1..(start + 1).min(chars.len())].contains(&' ')
                };
                TokenSpan { start, end, subword: subword && !unknown.contains(&Some(*id)) }
            })
            .collect()
    }

    /// Most tokens the model reads, special tokens included.
    pub fn max_tokens(&self) -> usize {
        self.max_tokens
    }

    /// About how many tokens a text of so many bytes has, special tokens included, from the texts
    /// read lately.
    pub fn estimate(&self, bytes: usize) -> usize {
        let density = f32::from_bits(self.density.load(Ordering::Relaxed));
        (bytes as f32 * density).ceil() as usize + self.added
    }

    fn cased(&self, text: String) -> String {
        if self.lowercase { text.to_lowercase() } else { text }
    }

    fn content(&self, text: &str) -> Result<Encoding, Error> {
        let encoding = self.inner.encode(text, false).map_err(|error| failed(&error))?;
        // Two readers at once may lose one of their measurements, which does no harm.
        let old = f32::from_bits(self.density.load(Ordering::Relaxed));
        let bytes = text.len() as f32;
        let new = (old * DENSITY_BYTES + encoding.len() as f32) / (DENSITY_BYTES + bytes);
        self.density.store(new.to_bits(), Ordering::Relaxed);
        Ok(encoding)
    }

    fn with_special(&self, encoding: Encoding) -> Result<Encoding, Error> {
        self.inner.post_process(encoding, None, true).map_err(|error| failed(&error))
    }
}

fn not_empty(field: &str, text: &str) -> Result<(), Error> {
    if text.trim().is_empty() { Err(Error::EmptyInput { field: field.to_owned() }) } else { Ok(()) }
}

fn too_long(field: &str, tokens: usize, limit: usize) -> Error {
    Error::InputTooLong { field: field.to_owned(), tokens, limit }
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
    fn pairs_are_cut_longest_first() {
        fn check(first: &str, second: &str, truncation: Truncation, expected: Result<(&[u32], bool), Error>) {
            let tokenizer = tokenizer(7, false).unwrap().with_pair_types(true);
            let first = tokenizer.first_of_pair("query", first).unwrap();
            let got = tokenizer.pair("documents[0]", &first, second, truncation);
            let got = got.map(|e| (e.ids, e.truncated));
            assert_eq!(got, expected.map(|(ids, truncated)| (ids.to_vec(), truncated)));
        }
        let two = |id: u32| id | SECOND_TEXT;
        check("a", "b", Truncation::Right, Ok((&[1, 3, 2, two(4), two(2)], false)));
        check("a", "a b c a", Truncation::Right, Ok((&[1, 3, 2, two(3), two(4), two(5), two(2)], true)));
        check("a b c", "a b c", Truncation::Left, Ok((&[1, 4, 5, 2, two(4), two(5), two(2)], true)));
        check("a b c", "c", Truncation::Right, Ok((&[1, 3, 4, 5, 2, two(5), two(2)], false)));
        let field = || "documents[0]".to_owned();
        let too_long = Error::InputTooLong { field: field(), tokens: 8, limit: 7 };
        check("a b", "a b c", Truncation::Reject, Err(too_long));
        check("a", " ", Truncation::Right, Err(Error::EmptyInput { field: field() }));
        let plain = tokenizer(7, false).unwrap();
        let first = plain.first_of_pair("query", "a").unwrap();
        assert_eq!(plain.pair("d", &first, "b", Truncation::Right).unwrap().ids, [1, 3, 2, 4, 2]);
        assert_eq!(plain.empty_tokens(), [1, 2, 0]);
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
    fn long_texts_are_read_in_windows() {
        fn check(text: &str, overlap: Option<usize>, expected: &[(&[u32], usize)]) {
            let tokenizer = tokenizer(5, false).unwrap();
            let windowed = tokenizer.windows("t", text, tokenizer.overlap(overlap).unwrap()).unwrap();
            let got: Vec<(&[u32], usize)> =
                windowed.windows.iter().map(|w| (w.ids.as_slice(), w.first)).collect();
            assert_eq!(got, expected, "{text}");
            assert_eq!(windowed.spans.len(), text.split_whitespace().count());
            for window in &windowed.windows {
                assert_eq!((window.lead, window.tokens + 2), (1, window.ids.len()));
            }
        }
        check("a b c", None, &[(&[1, 3, 4, 5, 2], 0)]);
        check("a b c a", None, &[(&[1, 3, 4, 5, 2], 0), (&[1, 3, 2], 3)]);
        check("a b c a b", Some(1), &[(&[1, 3, 4, 5, 2], 0), (&[1, 5, 3, 4, 2], 2)]);
        check("a b c a", Some(2), &[(&[1, 3, 4, 5, 2], 0), (&[1, 4, 5, 3, 2], 1)]);
        let error = tokenizer(5, false).unwrap().overlap(Some(3)).unwrap_err();
        assert_eq!(error.to_string(), "settings.overlap_tokens is 3; allowed: 0 to 2");
    }

    #[test]
    fn spans_count_code_points() {
        let spans = tokenizer(9, false).unwrap().windows("t", "ñ 🙂a b", 0).unwrap().spans;
        let places: Vec<(usize, usize, bool)> = spans.iter().map(|s| (s.start, s.end, s.subword)).collect();
        assert_eq!(places, [(0, 1, false), (2, 4, false), (5, 6, false)]);
    }

    #[test]
    fn the_estimate_follows_the_texts() {
        let tokenizer = tokenizer(5, false).unwrap();
        assert_eq!(tokenizer.estimate(150), 47);
        for _ in 0..100 {
            tokenizer.tokens(&"abcdefghi ".repeat(100), false).unwrap();
        }
        assert!(tokenizer.estimate(1_000).abs_diff(102) < 3, "{}", tokenizer.estimate(1_000));
        assert_eq!(tokenizer.estimate(0), 2);
    }

    #[test]
    fn ids_become_text_again() {
        let tokenizer = tokenizer(5, false).unwrap();
        let ids = tokenizer.tokens("a c b", true).unwrap().get_ids().to_vec();
        assert_eq!(tokenizer.text("ids", &ids, true).unwrap(), "[CLS] a c b [SEP]");
        assert_eq!(tokenizer.text("ids", &[], false).unwrap(), "");
        let error = tokenizer.text("ids", &[3, 7], false).unwrap_err();
        assert_eq!(error.to_string(), "ids[1] is 7; allowed: ids of the vocabulary, which has 7");
    }

    #[test]
    fn tokens_carry_byte_offsets() {
        let tokenizer = tokenizer(5, false).unwrap();
        let with = tokenizer.tokens("ñ  a", true).unwrap();
        assert_eq!(with.get_offsets(), [(0, 0), (0, 2), (4, 5), (0, 0)]);
        assert_eq!(tokenizer.tokens("ñ  a", false).unwrap().get_ids(), [0, 3]);
    }
}
