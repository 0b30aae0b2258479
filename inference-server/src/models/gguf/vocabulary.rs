//! The tokenizer in the metadata of a GGUF file, rebuilt for the `tokenizers` library.
//!
//! The file has a vocabulary and merges or scores, but not the rules by which texts are split
//! before that: these are known by name (`tokenizer.ggml.pre`) and have to be the same as in
//! llama.cpp. Unknown names are an error, since wrong splits give wrong tokens without any other
//! sign.

use anyhow::{Context, Result, anyhow, bail, ensure};
use tokenizers::decoders::byte_fallback::ByteFallback;
use tokenizers::decoders::fuse::Fuse;
use tokenizers::decoders::sequence::Sequence as Decoders;
use tokenizers::decoders::strip::Strip;
use tokenizers::models::bpe::{BPE, Merges, Vocab};
use tokenizers::normalizers::{NFC, Prepend, Replace, Sequence as Normalizers};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::sequence::Sequence as PreTokenizers;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::processors::template::TemplateProcessing;
use tokenizers::{AddedToken, PreTokenizerWrapper, SplitDelimiterBehavior, Tokenizer};

use super::Gguf;
use super::pre_tokenizer::PreTokenizer;
use super::value::{Array, Value};

const MODEL: &str = "tokenizer.ggml.model";
const PRE: &str = "tokenizer.ggml.pre";
const TOKENS: &str = "tokenizer.ggml.tokens";
const TYPES: &str = "tokenizer.ggml.token_type";
const MERGES: &str = "tokenizer.ggml.merges";
const SCORES: &str = "tokenizer.ggml.scores";

/// Values of `tokenizer.ggml.token_type`, those of `llama_token_type`.
const NORMAL: i64 = 1;
const UNKNOWN: i64 = 2;
const CONTROL: i64 = 3;
const USER_DEFINED: i64 = 4;
const BYTE: i64 = 6;

impl Gguf {
    /// The tokenizer of the file: byte-level BPE (`gpt2`), or SentencePiece BPE with byte fallback
    /// (`llama`).
    ///
    /// # Errors
    /// Names the key that is missing or invalid. Also if the model or the pre-tokenizer is unknown.
    pub fn tokenizer(&self) -> Result<Tokenizer> {
        let vocabulary = Vocabulary::read(self)?;
        let model =
            self.typed(MODEL, "a string", Value::string)?.with_context(|| format!("missing key {MODEL}"))?;
        let mut tokenizer = match model {
            "gpt2" => vocabulary.byte_level()?,
            "llama" => vocabulary.sentence_piece()?,
            other => bail!("invalid {MODEL} `{other}`: expected gpt2 or llama"),
        };
        // Control tokens are matched in texts and left out by decoding; user-defined ones are only
        // matched.
        let control = vocabulary.of_kind(CONTROL).chain(vocabulary.of_kind(UNKNOWN));
        let control = control.map(|(_, token)| AddedToken::from(token, true));
        tokenizer.add_special_tokens(control.collect::<Vec<_>>()).map_err(build_error)?;
        let defined = vocabulary.of_kind(USER_DEFINED);
        let defined = defined.map(|(_, token)| AddedToken::from(token, false).normalized(false));
        tokenizer.add_tokens(defined.collect::<Vec<_>>()).map_err(build_error)?;
        Ok(tokenizer)
    }

    /// The chat template, in Jinja.
    ///
    /// # Errors
    /// If it is not a string.
    pub fn chat_template(&self) -> Result<Option<&str>> {
        self.typed("tokenizer.chat_template", "a string", Value::string)
    }

    /// The special token `role`: `bos`, `eos`, `padding` …
    ///
    /// # Errors
    /// If its id is not in the vocabulary.
    pub fn special_token(&self, role: &str) -> Result<Option<&str>> {
        let id = self.special_id(role)?;
        let tokens = self.value(TOKENS).and_then(Value::strings).unwrap_or_default();
        Ok(id.map(|id| tokens[id as usize].as_str()))
    }

    /// The tokens that end a sequence: end of sequence, of turn and of message.
    ///
    /// # Errors
    /// If an id is not in the vocabulary.
    pub fn eos_ids(&self) -> Result<Vec<u32>> {
        let mut ids = Vec::new();
        for role in ["eos", "eot", "eom"] {
            ids.extend(self.special_id(role)?.filter(|id| !ids.contains(id)));
        }
        Ok(ids)
    }

    fn special_id(&self, role: &str) -> Result<Option<u32>> {
        let key = format!("tokenizer.ggml.{role}_token_id");
        let Some(id) = self.number(&key)? else { return Ok(None) };
        let count = self.value(TOKENS).and_then(Value::strings).map_or(0, <[String]>::len);
        ensure!(id < count, "invalid {key} {id}: the vocabulary has {count} tokens");
        Ok(Some(u32::try_from(id)?))
    }

    fn flag(&self, name: &str, default: bool) -> Result<bool> {
        let key = format!("tokenizer.ggml.{name}");
        Ok(self.typed(&key, "true or false", Value::bool)?.unwrap_or(default))
    }
}

fn build_error(error: tokenizers::Error) -> anyhow::Error {
    anyhow!("the tokenizer cannot be built: {error}")
}

/// The vocabulary of a file.
struct Vocabulary<'a> {
    file: &'a Gguf,
    tokens: &'a [String],
    types: Option<&'a [i64]>,
}

impl<'a> Vocabulary<'a> {
    fn read(file: &'a Gguf) -> Result<Self> {
        let tokens = file
            .typed(TOKENS, "an array of strings", Value::strings)?
            .with_context(|| format!("missing key {TOKENS}"))?;
        let types = file.typed(TYPES, "an array of integers", |value| match value.array()? {
            Array::Integers(types) => Some(types.as_slice()),
            _ => None,
        })?;
        let typed = types.map_or(tokens.len(), <[i64]>::len);
        ensure!(typed == tokens.len(), "invalid {TYPES} of length {typed}: expected {}", tokens.len());
        Ok(Self { file, tokens, types })
    }

    fn kind(&self, id: usize) -> i64 {
        self.types.map_or(NORMAL, |types| types[id])
    }

    fn of_kind(&self, kind: i64) -> impl Iterator<Item = (u32, &'a str)> {
        let tokens = self.tokens.iter().enumerate();
        tokens.filter(move |(id, _)| self.kind(*id) == kind).map(|(id, token)| (id as u32, token.as_str()))
    }

    fn ids(&self) -> Result<Vocab> {
        let ids: Vocab =
            self.tokens.iter().enumerate().map(|(id, token)| (token.clone(), id as u32)).collect();
        if ids.len() < self.tokens.len() {
            let twice = self.tokens.iter().enumerate().find(|(id, token)| ids[*token] != *id as u32);
            bail!("{TOKENS} has the duplicate {:?}", twice.map_or("", |(_, token)| token));
        }
        Ok(ids)
    }

    fn pre_tokenizer(&self) -> Result<&'static PreTokenizer> {
        let name = self.file.typed(PRE, "a string", Value::string)?.unwrap_or("default");
        PreTokenizer::by_name(name).with_context(|| {
            let known: Vec<&str> = PreTokenizer::names().collect();
            format!("invalid {PRE} `{name}`: expected one of {}", known.join(", "))
        })
    }

    /// Byte-level BPE (Radford et al. 2019).
    fn byte_level(&self) -> Result<Tokenizer> {
        let pre_tokenizer = self.pre_tokenizer()?;
        let merges = self.file.typed(MERGES, "an array of strings", Value::strings)?;
        let merges = merges.with_context(|| format!("missing key {MERGES}"))?;
        let mut pairs = Merges::with_capacity(merges.len());
        for merge in merges {
            // The first token of a pair may itself begin with a space.
            let at = merge.char_indices().skip(1).find(|(_, letter)| *letter == ' ').map(|(at, _)| at);
            let at = at.with_context(|| format!("{MERGES} has {merge:?}, which is not a pair"))?;
            pairs.push((merge[..at].to_owned(), merge[at + 1..].to_owned()));
        }
        let model = BPE::builder()
            .vocab_and_merges(self.ids()?, pairs)
            .ignore_merges(pre_tokenizer.ignore_merges)
            .build()
            .map_err(build_error)?;
        let mut tokenizer = Tokenizer::new(model);
        if pre_tokenizer.nfc {
            tokenizer.with_normalizer(Some(NFC)).map_err(build_error)?;
        }
        let mut steps: Vec<PreTokenizerWrapper> = Vec::new();
        for pattern in pre_tokenizer.patterns {
            let pattern = SplitPattern::Regex((*pattern).to_owned());
            let split = Split::new(pattern, SplitDelimiterBehavior::Isolated, false).map_err(build_error)?;
            steps.push(split.into());
        }
        // No regular expression of its own: the patterns before it have split the text already.
        steps.push(ByteLevel::new(false, true, false).into());
        tokenizer.with_pre_tokenizer(Some(PreTokenizers::new(steps)));
        tokenizer.with_decoder(Some(ByteLevel::default()));
        match self.post_processor(pre_tokenizer.add_bos)? {
            Some(template) => tokenizer.with_post_processor(Some(template)),
            None => tokenizer.with_post_processor(Some(ByteLevel::new(false, false, false))),
        };
        Ok(tokenizer)
    }

    /// SentencePiece BPE (Kudo and Richardson 2018, arXiv:1808.06226).
    fn sentence_piece(&self) -> Result<Tokenizer> {
        const SPACE: &str = "\u{2581}";
        let unknown = self.of_kind(UNKNOWN).next().map(|(_, token)| token.to_owned());
        let mut model = BPE::builder()
            .vocab_and_merges(self.ids()?, self.merges_by_score()?)
            .byte_fallback(self.of_kind(BYTE).next().is_some())
            // SentencePiece makes one unknown token of neighbours.
            .fuse_unk(true);
        if let Some(unknown) = unknown {
            model = model.unk_token(unknown);
        }
        let mut tokenizer = Tokenizer::new(model.build().map_err(build_error)?);
        let prefix = self.file.flag("add_space_prefix", true)?;
        // SentencePiece marks spaces with U+2581 inside of tokens.
        let spaces = Replace::new(" ", SPACE).map_err(build_error)?;
        let mut normalizers = vec![spaces.into()];
        if prefix {
            normalizers.insert(0, Prepend::new(SPACE.to_owned()).into());
        }
        tokenizer.with_normalizer(Some(Normalizers::new(normalizers))).map_err(build_error)?;
        let back = Replace::new(SPACE, " ").map_err(build_error)?;
        let mut decoders = vec![back.into(), ByteFallback::new().into(), Fuse::new().into()];
        if prefix {
            decoders.push(Strip::new(' ', 1, 0).into());
        }
        tokenizer.with_decoder(Some(Decoders::new(decoders)));
        if let Some(template) = self.post_processor(true)? {
            tokenizer.with_post_processor(Some(template));
        }
        Ok(tokenizer)
    }

    /// Every split of a token into two others, by descending score of the token. SentencePiece
    /// merges by scores and the library by ranks, so ranks are derived as transformers does when it
    /// converts such models.
    fn merges_by_score(&self) -> Result<Merges> {
        let scores = self.file.typed(SCORES, "an array of floats", |value| match value.array()? {
            Array::Floats(scores) => Some(scores),
            _ => None,
        })?;
        let scores = scores.with_context(|| format!("missing key {SCORES}"))?;
        let (count, tokens) = (scores.len(), self.tokens.len());
        ensure!(count == tokens, "invalid {SCORES} of length {count}: expected {tokens}");
        // Control and byte tokens are not made by merges.
        let ids: Vocab = self.of_kind(NORMAL).map(|(id, token)| (token.to_owned(), id)).collect();
        let mut found = Vec::new();
        for (id, token) in self.of_kind(NORMAL) {
            for (at, _) in token.char_indices().skip(1) {
                let (left, right) = token.split_at(at);
                if let (Some(first), Some(second)) = (ids.get(left), ids.get(right)) {
                    found.push((scores[id as usize], (id, *first, *second), (left, right)));
                }
            }
        }
        found.sort_by(|(a, ids, _), (b, others, _)| b.total_cmp(a).then(ids.cmp(others)));
        Ok(found.into_iter().map(|(_, _, (left, right))| (left.to_owned(), right.to_owned())).collect())
    }

    /// The token at an edge of a text and its id, if the flag asks for it.
    fn edge_token(&self, flag: &str, default: bool, role: &str) -> Result<Option<Edge>> {
        if !self.file.flag(flag, default)? {
            return Ok(None);
        }
        let id = self.file.special_id(role)?;
        let id =
            id.with_context(|| format!("missing key tokenizer.ggml.{role}_token_id, which {flag} needs"))?;
        Ok(Some((self.tokens[id as usize].clone(), id)))
    }

    /// Adds the tokens around a text; `None` if there are none.
    fn post_processor(&self, add_bos: bool) -> Result<Option<TemplateProcessing>> {
        // Only a flag in the file insists on a token, not a default.
        let has_bos = self.file.value("tokenizer.ggml.bos_token_id").is_some();
        let first = self.edge_token("add_bos_token", add_bos && has_bos, "bos")?;
        let last = self.edge_token("add_eos_token", false, "eos")?;
        if first.is_none() && last.is_none() {
            return Ok(None);
        }
        let edges = (first.as_ref(), last.as_ref());
        let single = between("$A:0", 0, edges);
        let pair = [between("$A:0", 0, edges), between("$B:1", 1, edges)].concat();
        let template = TemplateProcessing::builder()
            .try_single(single)
            .and_then(|builder| builder.try_pair(pair))
            .map_err(|error| anyhow!("the tokenizer cannot be built: {error}"))?
            .special_tokens([first.clone(), last.clone()].into_iter().flatten().collect::<Vec<_>>())
            .build()
            .context("the tokenizer cannot be built")?;
        Ok(Some(template))
    }
}

/// A token at an edge of a text, and its id.
type Edge = (String, u32);

/// The pieces of a template: a text between the tokens at its edges, all of one token type.
fn between(text: &str, kind: u8, edges: (Option<&Edge>, Option<&Edge>)) -> Vec<String> {
    let mut pieces = Vec::new();
    pieces.extend(edges.0.map(|(token, _)| format!("{token}:{kind}")));
    pieces.push(text.to_owned());
    pieces.extend(edges.1.map(|(token, _)| format!("{token}:{kind}")));
    pieces
}
