//! A model's tokens as bytes, in the form that the grammar library reads.

use std::collections::HashSet;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use tokenizers::normalizers::Sequence as Normalizers;
use tokenizers::pre_tokenizers::metaspace::PrependScheme;
use tokenizers::pre_tokenizers::sequence::Sequence as PreTokenizers;
use tokenizers::{NormalizerWrapper, PreTokenizerWrapper, Tokenizer};
use toktrie::{TokRxInfo, TokTrie, TokenId, TokenizerEnv};

use super::super::bytes::{Spelling, fallback_byte};

/// Bytes up to which a text is cut as the model's tokenizer cuts it: for one long word that takes
/// more than linear time.
const CANONICAL: usize = 16 * 1024;

/// Tokens by their bytes.
pub(super) struct Vocabulary {
    tokenizer: Arc<Tokenizer>,
    trie: TokTrie,
}

impl Vocabulary {
    /// See [`super::Grammars::new`].
    pub(super) fn new(tokenizer: &Arc<Tokenizer>, logits: usize, eos: &[u32]) -> Result<Self> {
        let spelling = Spelling::of(tokenizer).context(
            "constraints need a vocabulary of bytes or of spaced text, which the decoder does not say",
        )?;
        let last = tokenizer.get_vocab(true).into_values().max().unwrap_or_default();
        ensure!((last as usize) < logits, "token {last} has no logit: the model gives {logits}");
        let first = *eos.first().context("no token ends a text")?;
        for id in eos {
            ensure!(
                (*id as usize) < logits,
                "token {id} ends a text and has no logit: the model gives {logits}"
            );
        }
        let mut words: Vec<Vec<u8>> =
            (0..logits as u32).map(|id| word(tokenizer, &spelling, id, eos)).collect();
        without_doubles(tokenizer, &mut words);
        let trie = TokTrie::from(&TokRxInfo::new(logits as u32, first), &words).with_eos_tokens(eos);
        let tokenizer = match without_prefix(tokenizer)? {
            Some(changed) => Arc::new(changed),
            None => Arc::clone(tokenizer),
        };
        Ok(Self { tokenizer, trie })
    }

    /// As the model's tokenizer cuts a text that does not begin one; the longest tokens where that
    /// gives other text.
    fn canonical(&self, text: &str) -> Vec<TokenId> {
        let encoding = self.tokenizer.encode_fast(text, false).ok();
        let ids = encoding.map(|encoding| encoding.get_ids().to_vec()).filter(|ids| {
            let mut rest = text.as_bytes();
            let whole = ids.iter().all(|id| {
                let after = rest.strip_prefix(self.trie.token(*id)).filter(|_| self.trie.token_len(*id) > 0);
                after.map(|after| rest = after).is_some()
            });
            whole && rest.is_empty()
        });
        ids.unwrap_or_else(|| self.trie.greedy_tokenize(text.as_bytes()))
    }
}

impl TokenizerEnv for Vocabulary {
    fn tok_trie(&self) -> &TokTrie {
        &self.trie
    }

    fn tokenize_bytes(&self, bytes: &[u8]) -> Vec<TokenId> {
        if bytes.len() > CANONICAL {
            return self.trie.greedy_tokenize(bytes);
        }
        self.trie.tokenize_with_greedy_fallback(bytes, |text| self.canonical(text))
    }
}

/// The bytes of a token; marked where it is no text, none where there is no such token.
fn word(tokenizer: &Tokenizer, spelling: &Spelling, id: u32, eos: &[u32]) -> Vec<u8> {
    let token = tokenizer.id_to_token(id);
    let special =
        token.as_ref().is_some_and(|token| tokenizer.get_added_vocabulary().is_special_token(token));
    if !special && !eos.contains(&id) {
        return token.map_or_else(Vec::new, |token| spelling.bytes(&token));
    }
    let mut word = vec![TokTrie::SPECIAL_TOKEN_MARKER];
    word.extend(token.unwrap_or_else(|| format!("<end {id}>")).bytes());
    word
}

/// Leaves out tokens such as `<0x41>` where there is one for the character too: no tokenizer writes
/// them.
fn without_doubles(tokenizer: &Tokenizer, words: &mut [Vec<u8>]) {
    let byte = |id: usize| tokenizer.id_to_token(id as u32).as_deref().and_then(fallback_byte);
    let single = (0..words.len()).filter(|id| words[*id].len() == 1);
    let (bytes, characters): (Vec<usize>, Vec<usize>) = single.partition(|id| byte(*id).is_some());
    let characters: HashSet<u8> = characters.into_iter().map(|id| words[id][0]).collect();
    for id in bytes {
        if characters.contains(&words[id][0]) {
            words[id].clear();
        }
    }
}

/// The tokenizer without what it sets before a text, for texts in the middle; nothing where it sets
/// nothing.
fn without_prefix(tokenizer: &Tokenizer) -> Result<Option<Tokenizer>> {
    let normalizer = tokenizer.get_normalizer().filter(|step| prepends(step)).cloned();
    let splitter = tokenizer.get_pre_tokenizer().filter(|step| sets_space(step)).cloned();
    if normalizer.is_none() && splitter.is_none() {
        return Ok(None);
    }
    let mut changed = tokenizer.clone();
    if let Some(normalizer) = normalizer {
        changed.with_normalizer(kept(normalizer)).map_err(|error| anyhow::anyhow!("{error}"))?;
    }
    if let Some(splitter) = splitter {
        changed.with_pre_tokenizer(Some(spaceless(splitter)));
    }
    Ok(Some(changed))
}

fn prepends(step: &NormalizerWrapper) -> bool {
    match step {
        NormalizerWrapper::Prepend(_) => true,
        NormalizerWrapper::Sequence(steps) => steps.as_ref().iter().any(prepends),
        _ => false,
    }
}

fn kept(step: NormalizerWrapper) -> Option<NormalizerWrapper> {
    match step {
        NormalizerWrapper::Prepend(_) => None,
        NormalizerWrapper::Sequence(steps) => {
            let steps: Vec<NormalizerWrapper> = steps.as_ref().iter().cloned().filter_map(kept).collect();
            Some(NormalizerWrapper::Sequence(Normalizers::new(steps)))
        }
        step => Some(step),
    }
}

fn sets_space(step: &PreTokenizerWrapper) -> bool {
    match step {
        PreTokenizerWrapper::Metaspace(step) => step.prepend_scheme != PrependScheme::Never,
        PreTokenizerWrapper::ByteLevel(step) => step.add_prefix_space,
        PreTokenizerWrapper::Sequence(steps) => steps.as_ref().iter().any(sets_space),
        _ => false,
    }
}

fn spaceless(step: PreTokenizerWrapper) -> PreTokenizerWrapper {
    match step {
        PreTokenizerWrapper::Metaspace(mut step) => {
            step.prepend_scheme = PrependScheme::Never;
            PreTokenizerWrapper::Metaspace(step)
        }
        PreTokenizerWrapper::ByteLevel(step) => PreTokenizerWrapper::ByteLevel(step.add_prefix_space(false)),
        PreTokenizerWrapper::Sequence(steps) => {
            let steps = steps.as_ref().iter().cloned().map(spaceless).collect();
            PreTokenizerWrapper::Sequence(PreTokenizers::new(steps))
        }
        step => step,
    }
}
