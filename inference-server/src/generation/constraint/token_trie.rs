//! The token trie: a model's tokens by their bytes, in the form that the grammar library reads.
//!
//! The trie is also the library's tokenizer: forced text becomes the tokens that the model's own
//! tokenizer would choose, so that the model sees what it was trained on.

use std::collections::HashSet;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use tokenizers::normalizers::Sequence as Normalizers;
use tokenizers::pre_tokenizers::metaspace::PrependScheme;
use tokenizers::pre_tokenizers::sequence::Sequence as PreTokenizers;
use tokenizers::{NormalizerWrapper, PreTokenizerWrapper, Tokenizer};
use toktrie::{TokRxInfo, TokTrie, TokenId, TokenizerEnv};

use super::super::token_bytes::{ByteDecoder, fallback_byte};

/// Longest text, in bytes, that the model's own tokenizer splits: for one long word it takes more
/// than linear time. A choice, far above what constraints force at once.
const MAX_CANONICAL_BYTES: usize = 16 * 1024;

/// Tokens by their bytes, and the tokenizer that splits text in the middle of a sequence.
pub(super) struct TokenTrie {
    tokenizer: Arc<Tokenizer>,
    trie: TokTrie,
}

impl TokenTrie {
    /// See [`super::GrammarCompiler::new`].
    pub(super) fn new(tokenizer: &Arc<Tokenizer>, logits: usize, eos_ids: &[u32]) -> Result<Self> {
        let decoder = ByteDecoder::from_tokenizer(tokenizer).context(
            "constraints need a byte-level or SentencePiece vocabulary; the tokenizer's decoder is neither",
        )?;
        // Checked here, as the library would index past its masks.
        let last = tokenizer.get_vocab(true).into_values().max().unwrap_or_default();
        ensure!((last as usize) < logits, "token {last} has no logit: the model gives {logits}");
        let first = *eos_ids.first().context("the model has no end-of-sequence token")?;
        for id in eos_ids {
            ensure!(
                (*id as usize) < logits,
                "end-of-sequence token {id} has no logit: the model gives {logits}"
            );
        }
        let mut tokens: Vec<Vec<u8>> =
            (0..logits as u32).map(|id| trie_bytes(tokenizer, &decoder, id, eos_ids)).collect();
        // Otherwise a mask would allow two spellings, of which the model has seen one.
        clear_duplicate_bytes(tokenizer, &mut tokens);
        let trie = TokTrie::from(&TokRxInfo::new(logits as u32, first), &tokens).with_eos_tokens(eos_ids);
        // Forced text continues a sequence, where SentencePiece would put a space before it.
        let tokenizer = match without_prefix(tokenizer)? {
            Some(changed) => Arc::new(changed),
            None => Arc::clone(tokenizer),
        };
        Ok(Self { tokenizer, trie })
    }

    /// Splits a text as the model's tokenizer does in the middle of a sequence; takes the longest
    /// tokens if the tokenizer changes the text.
    fn canonical(&self, text: &str) -> Vec<TokenId> {
        let encoding = self.tokenizer.encode_fast(text, false).ok();
        // A normaliser may change the text, and then the tokens would not match the grammar.
        let ids = encoding.map(|encoding| encoding.get_ids().to_vec()).filter(|ids| {
            let mut rest = text.as_bytes();
            let unchanged = ids.iter().all(|id| {
                let after = rest.strip_prefix(self.trie.token(*id)).filter(|_| self.trie.token_len(*id) > 0);
                after.map(|after| rest = after).is_some()
            });
            unchanged && rest.is_empty()
        });
        ids.unwrap_or_else(|| self.trie.greedy_tokenize(text.as_bytes()))
    }
}

impl TokenizerEnv for TokenTrie {
    fn tok_trie(&self) -> &TokTrie {
        &self.trie
    }

    fn tokenize_bytes(&self, bytes: &[u8]) -> Vec<TokenId> {
        if bytes.len() > MAX_CANONICAL_BYTES {
            return self.trie.greedy_tokenize(bytes);
        }
        self.trie.tokenize_with_greedy_fallback(bytes, |text| self.canonical(text))
    }
}

/// Bytes of a token for the trie: marked if it is special, empty if there is no such token.
fn trie_bytes(tokenizer: &Tokenizer, decoder: &ByteDecoder, id: u32, eos_ids: &[u32]) -> Vec<u8> {
    let token = tokenizer.id_to_token(id);
    let special =
        token.as_ref().is_some_and(|token| tokenizer.get_added_vocabulary().is_special_token(token));
    if !special && !eos_ids.contains(&id) {
        return token.map_or_else(Vec::new, |token| decoder.bytes(&token));
    }
    // The marker keeps special tokens out of text: in a constraint, `<|end|>` is spelled by
    // ordinary tokens. An end-of-sequence id without a token needs bytes of its own too.
    let mut bytes = vec![TokTrie::SPECIAL_TOKEN_MARKER];
    bytes.extend(token.unwrap_or_else(|| format!("<end {id}>")).bytes());
    bytes
}

/// Clears tokens such as `<0x41>` if there is one for the character too: no tokenizer produces
/// them.
fn clear_duplicate_bytes(tokenizer: &Tokenizer, tokens: &mut [Vec<u8>]) {
    let single = (0..tokens.len()).filter(|id| tokens[*id].len() == 1);
    let (bytes, characters): (Vec<usize>, Vec<usize>) = single.partition(|id| {
        let token = tokenizer.id_to_token(*id as u32);
        token.as_deref().and_then(fallback_byte).is_some()
    });
    let characters: HashSet<u8> = characters.into_iter().map(|id| tokens[id][0]).collect();
    for id in bytes {
        if characters.contains(&tokens[id][0]) {
            tokens[id].clear();
        }
    }
}

/// Copy of the tokenizer that adds no space before a text, for text in the middle of a sequence;
/// `None` if it adds none.
fn without_prefix(tokenizer: &Tokenizer) -> Result<Option<Tokenizer>> {
    let normalizer = tokenizer.get_normalizer().filter(|step| prepends(step)).cloned();
    let splitter = tokenizer.get_pre_tokenizer().filter(|step| adds_space(step)).cloned();
    if normalizer.is_none() && splitter.is_none() {
        return Ok(None);
    }
    let mut changed = tokenizer.clone();
    if let Some(normalizer) = normalizer {
        changed.with_normalizer(without_prepend(normalizer)).map_err(|error| anyhow::anyhow!("{error}"))?;
    }
    if let Some(splitter) = splitter {
        changed.with_pre_tokenizer(Some(without_space(splitter)));
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

fn without_prepend(step: NormalizerWrapper) -> Option<NormalizerWrapper> {
    match step {
        NormalizerWrapper::Prepend(_) => None,
        NormalizerWrapper::Sequence(steps) => {
            let steps: Vec<NormalizerWrapper> =
                steps.as_ref().iter().cloned().filter_map(without_prepend).collect();
            Some(NormalizerWrapper::Sequence(Normalizers::new(steps)))
        }
        step => Some(step),
    }
}

fn adds_space(step: &PreTokenizerWrapper) -> bool {
    match step {
        PreTokenizerWrapper::Metaspace(step) => step.prepend_scheme != PrependScheme::Never,
        PreTokenizerWrapper::ByteLevel(step) => step.add_prefix_space,
        PreTokenizerWrapper::Sequence(steps) => steps.as_ref().iter().any(adds_space),
        _ => false,
    }
}

fn without_space(step: PreTokenizerWrapper) -> PreTokenizerWrapper {
    match step {
        PreTokenizerWrapper::Metaspace(mut step) => {
            step.prepend_scheme = PrependScheme::Never;
            PreTokenizerWrapper::Metaspace(step)
        }
        PreTokenizerWrapper::ByteLevel(step) => PreTokenizerWrapper::ByteLevel(step.add_prefix_space(false)),
        PreTokenizerWrapper::Sequence(steps) => {
            let steps = steps.as_ref().iter().cloned().map(without_space).collect();
            PreTokenizerWrapper::Sequence(PreTokenizers::new(steps))
        }
        step => step,
    }
}
