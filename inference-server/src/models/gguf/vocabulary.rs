//! The tokenizer of a file.

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
use super::value::{List, Value};

const MODEL: &str = "tokenizer.ggml.model";
const PRE: &str = "tokenizer.ggml.pre";
const TOKENS: &str = "tokenizer.ggml.tokens";
const TYPES: &str = "tokenizer.ggml.token_type";
const MERGES: &str = "tokenizer.ggml.merges";
const SCORES: &str = "tokenizer.ggml.scores";

/// Values of `token_type`.
const NORMAL: i64 = 1;
const UNKNOWN: i64 = 2;
const CONTROL: i64 = 3;
const USER_DEFINED: i64 = 4;
const BYTE: i64 = 6;

/// How texts are cut before pairs are merged, and what else depends on it.
struct Cutting {
    /// Regular expressions that isolate parts, one after the other; those of llama.cpp's
    /// `llama-vocab.cpp`.
    patterns: &'static [&'static str],
    /// Whether a part that is a token as a whole becomes that token.
    ignore_merges: bool,
    /// Whether a text begins with the token of the beginning where the file does not say.
    add_bos: bool,
    /// Whether texts are composed first, as their own tokenizer does (llama.cpp does not).
    compose: bool,
}

const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";

/// What `tokenizer.ggml.pre` may be.
const CUTTINGS: [(&str, Cutting); 4] = [
    (
        "qwen2",
        Cutting {
            patterns: &[
                r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
            ],
            ignore_merges: false,
            add_bos: false,
            compose: true,
        },
    ),
    (
        "llama-bpe",
        Cutting {
            patterns: &[
                r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
            ],
            ignore_merges: true,
            add_bos: true,
            compose: false,
        },
    ),
    ("gpt-2", Cutting { patterns: &[GPT2], ignore_merges: false, add_bos: false, compose: false }),
    (
        "default",
        Cutting {
            patterns: &[r"[\p{P}\$\+<=>\^~\|]+", GPT2, r"\p{N}+", r"[0-9][0-9][0-9]"],
            ignore_merges: false,
            add_bos: false,
            compose: false,
        },
    ),
];

impl Gguf {
    /// The tokenizer of the file: byte-level BPE (`gpt2`), or BPE by scores with bytes to fall back
    /// on (`llama`).
    ///
    /// # Errors
    /// Names the key that is missing or wrong; a kind of tokenizer or of cutting that is not known
    /// is an error too.
    pub fn tokenizer(&self) -> Result<Tokenizer> {
        let vocabulary = Vocabulary::read(self)?;
        let model = self.typed(MODEL, "a text", Value::text)?.with_context(|| format!("no key {MODEL}"))?;
        let mut tokenizer = match model {
            "gpt2" => vocabulary.byte_level()?,
            "llama" => vocabulary.by_scores()?,
            other => bail!("{MODEL} is {other:?}, supported are gpt2, llama"),
        };
        let of = |kind| vocabulary.of_kind(kind).map(|(_, token)| token.to_owned());
        let control = of(CONTROL).chain(of(UNKNOWN)).map(|token| AddedToken::from(token, true));
        tokenizer.add_special_tokens(control.collect::<Vec<_>>()).map_err(failed)?;
        let defined = of(USER_DEFINED).map(|token| AddedToken::from(token, false).normalized(false));
        tokenizer.add_tokens(defined.collect::<Vec<_>>()).map_err(failed)?;
        Ok(tokenizer)
    }

    /// The Jinja template of a conversation.
    ///
    /// # Errors
    /// If it is no text.
    pub fn chat_template(&self) -> Result<Option<&str>> {
        self.typed("tokenizer.chat_template", "a text", Value::text)
    }

    /// The special token `role`: `bos`, `eos`, `padding` …
    ///
    /// # Errors
    /// If it is no token of the vocabulary.
    pub fn special_token(&self, role: &str) -> Result<Option<&str>> {
        let id = self.special_id(role)?;
        let tokens = self.value(TOKENS).and_then(Value::texts).unwrap_or_default();
        Ok(id.map(|id| tokens[id as usize].as_str()))
    }

    /// The tokens that end a text: end of sequence, of turn and of message.
    ///
    /// # Errors
    /// If one is no token of the vocabulary.
    pub fn end_ids(&self) -> Result<Vec<u32>> {
        let mut ids = Vec::new();
        for role in ["eos", "eot", "eom"] {
            ids.extend(self.special_id(role)?.filter(|id| !ids.contains(id)));
        }
        Ok(ids)
    }

    fn special_id(&self, role: &str) -> Result<Option<u32>> {
        let key = format!("tokenizer.ggml.{role}_token_id");
        let Some(id) = self.number(&key)? else { return Ok(None) };
        let count = self.value(TOKENS).and_then(Value::texts).map_or(0, <[String]>::len);
        ensure!(id < count, "{key} is {id}, the vocabulary has {count} tokens");
        Ok(Some(u32::try_from(id)?))
    }

    fn flag(&self, name: &str, default: bool) -> Result<bool> {
        let key = format!("tokenizer.ggml.{name}");
        Ok(self.typed(&key, "true or false", Value::bool)?.unwrap_or(default))
    }
}

fn failed(error: tokenizers::Error) -> anyhow::Error {
    anyhow!("the tokenizer cannot be built: {error}")
}

/// The tokens of a file.
struct Vocabulary<'a> {
    file: &'a Gguf,
    tokens: &'a [String],
    types: Option<&'a [i64]>,
}

impl<'a> Vocabulary<'a> {
    fn read(file: &'a Gguf) -> Result<Self> {
        let tokens =
            file.typed(TOKENS, "texts", Value::texts)?.with_context(|| format!("no key {TOKENS}"))?;
        let types = file.typed(TYPES, "integers", |value| match value.list()? {
            List::Integers(types) => Some(types.as_slice()),
            _ => None,
        })?;
        let typed = types.map_or(tokens.len(), <[i64]>::len);
        ensure!(typed == tokens.len(), "{TYPES} has {typed} values for {} tokens", tokens.len());
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
            bail!("{TOKENS} has {:?} twice", twice.map_or("", |(_, token)| token));
        }
        Ok(ids)
    }

    fn cutting(&self) -> Result<&'static Cutting> {
        let name = self.file.typed(PRE, "a text", Value::text)?.unwrap_or("default");
        // Names that llama.cpp treats alike.
        let same = match name {
            "llama3" | "llama-v3" => "llama-bpe",
            "deepseek-r1-qwen" => "qwen2",
            name => name,
        };
        let found = CUTTINGS.iter().find(|(known, _)| *known == same).map(|(_, cutting)| cutting);
        found.with_context(|| {
            format!(
                "{PRE} is {name:?}, supported are {}",
                CUTTINGS.each_ref().map(|(name, _)| *name).join(", ")
            )
        })
    }

    /// Byte-level BPE (Radford et al. 2019).
    fn byte_level(&self) -> Result<Tokenizer> {
        let cutting = self.cutting()?;
        let merges = self.file.typed(MERGES, "texts", Value::texts)?;
        let merges = merges.with_context(|| format!("no key {MERGES}"))?;
        let pair = |merge: &String| {
            // A token may itself begin with a space.
            let at = merge.char_indices().skip(1).find(|(_, letter)| *letter == ' ').map(|(at, _)| at);
            let at = at.with_context(|| format!("{MERGES} has {merge:?}, which is no pair"))?;
            Ok((merge[..at].to_owned(), merge[at + 1..].to_owned()))
        };
        let merges = merges.iter().map(pair).collect::<Result<Merges>>()?;
        let model = BPE::builder()
            .vocab_and_merges(self.ids()?, merges)
            .ignore_merges(cutting.ignore_merges)
            .build()
            .map_err(failed)?;
        let mut tokenizer = Tokenizer::new(model);
        if cutting.compose {
            tokenizer.with_normalizer(Some(NFC)).map_err(failed)?;
        }
        let mut steps: Vec<PreTokenizerWrapper> = Vec::new();
        for pattern in cutting.patterns {
            let pattern = SplitPattern::Regex((*pattern).to_owned());
            let split = Split::new(pattern, SplitDelimiterBehavior::Isolated, false).map_err(failed)?;
            steps.push(split.into());
        }
        steps.push(ByteLevel::new(false, true, false).into());
        tokenizer.with_pre_tokenizer(Some(PreTokenizers::new(steps)));
        tokenizer.with_decoder(Some(ByteLevel::default()));
        match self.surroundings(cutting.add_bos)? {
            Some(template) => tokenizer.with_post_processor(Some(template)),
            None => tokenizer.with_post_processor(Some(ByteLevel::new(false, false, false))),
        };
        Ok(tokenizer)
    }

    /// BPE by scores, as SentencePiece does it (Kudo and Richardson 2018).
    fn by_scores(&self) -> Result<Tokenizer> {
        const SPACE: &str = "\u{2581}";
        let unknown = self.of_kind(UNKNOWN).next().map(|(_, token)| token.to_owned());
        let mut model = BPE::builder()
            .vocab_and_merges(self.ids()?, self.merges_by_score()?)
            .byte_fallback(self.of_kind(BYTE).next().is_some())
            .fuse_unk(true);
        if let Some(unknown) = unknown {
            model = model.unk_token(unknown);
        }
        let mut tokenizer = Tokenizer::new(model.build().map_err(failed)?);
        let prefix = self.file.flag("add_space_prefix", true)?;
        let spaces = Replace::new(" ", SPACE).map_err(failed)?;
        let mut normalizers = vec![spaces.into()];
        if prefix {
            normalizers.insert(0, Prepend::new(SPACE.to_owned()).into());
        }
        tokenizer.with_normalizer(Some(Normalizers::new(normalizers))).map_err(failed)?;
        let back = Replace::new(SPACE, " ").map_err(failed)?;
        let mut decoders = vec![back.into(), ByteFallback::new().into(), Fuse::new().into()];
        if prefix {
            decoders.push(Strip::new(' ', 1, 0).into());
        }
        tokenizer.with_decoder(Some(Decoders::new(decoders)));
        if let Some(template) = self.surroundings(true)? {
            tokenizer.with_post_processor(Some(template));
        }
        Ok(tokenizer)
    }

    /// Every way to make a token of two others, those of higher scores first; as transformers
    /// converts such models.
    fn merges_by_score(&self) -> Result<Merges> {
        let scores = self.file.typed(SCORES, "floating point numbers", |value| match value.list()? {
            List::Floats(scores) => Some(scores),
            _ => None,
        })?;
        let scores = scores.with_context(|| format!("no key {SCORES}"))?;
        let (count, tokens) = (scores.len(), self.tokens.len());
        ensure!(count == tokens, "{SCORES} has {count} values for {tokens} tokens");
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
        found.sort_by(|(a, places, _), (b, others, _)| b.total_cmp(a).then(places.cmp(others)));
        Ok(found.into_iter().map(|(_, _, (left, right))| (left.to_owned(), right.to_owned())).collect())
    }

    /// The tokens around a text, where there are any.
    fn surroundings(&self, add_bos: bool) -> Result<Option<TemplateProcessing>> {
        let token = |flag: &str, default: bool, role: &str| -> Result<Option<(String, u32)>> {
            if !self.file.flag(flag, default)? {
                return Ok(None);
            }
            let id = self.file.special_id(role)?;
            let id =
                id.with_context(|| format!("no key tokenizer.ggml.{role}_token_id, which {flag} asks for"))?;
            Ok(Some((self.tokens[id as usize].clone(), id)))
        };
        // A default is not insisted on.
        let has_bos = self.file.value("tokenizer.ggml.bos_token_id").is_some();
        let first = token("add_bos_token", add_bos && has_bos, "bos")?;
        let last = token("add_eos_token", false, "eos")?;
        if first.is_none() && last.is_none() {
            return Ok(None);
        }
        let text = |letter: &str, kind: u8| {
            let edge =
                |token: &Option<(String, u32)>| token.as_ref().map(|(token, _)| format!("{token}:{kind}"));
            let parts = [edge(&first), Some(format!("{letter}:{kind}")), edge(&last)];
            parts.into_iter().flatten().collect::<Vec<_>>()
        };
        let (single, pair) = (text("$A", 0), [text("$A", 0), text("$B", 1)].concat());
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
