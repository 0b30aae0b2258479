//! Incremental detokenization: text from tokens that come one by one.
//!
//! The `DecodeStream` of the tokenizers crate is not enough: it holds text that ends with a
//! replacement character back for ever, decodes a run of invalid bytes again for each of them, and
//! has already emitted text when byte tokens (`<0x41>`) turn out to be part of an invalid run. Here
//! the pieces together are exactly what decoding all tokens at once gives.

use std::borrow::Borrow;

use tokenizers::{DecoderWrapper, Tokenizer};

use super::token_bytes::{ByteDecoder, collect_steps, fallback_byte};

/// Number of token ids searched for an anchor. Not tuned: vocabularies have one among their first
/// thousands; the bound only keeps a strange one from being searched to its end.
const MAX_ANCHOR_ID: u32 = 100_000;

/// Mode of a tokenizer, by what the text of a token depends on.
#[derive(Debug)]
enum DecodeMode {
    /// On the token alone: the bytes of all tokens are read as UTF-8. Holds the bytes of a
    /// character that is not complete.
    Bytes(Vec<u8>),
    /// On whether it is the first token, and on its neighbours if those are single bytes.
    Chunks {
        /// A token of letters and its text. It is decoded before every chunk but the first, so that
        /// the chunk is not taken for the beginning of the text.
        anchor: (u32, String),
        /// Tokens not emitted as text yet.
        held: Vec<u32>,
        /// True if text has been emitted.
        started: bool,
        /// True if tokens such as `<0x0A>` are single bytes.
        byte_fallback: bool,
    },
    /// On all tokens, or not known: the text comes at the end.
    Whole(Vec<u32>),
}

/// Incremental detokenizer of one sequence. The cost of a push does not depend on the tokens
/// before, except for runs of single bytes.
#[derive(Debug)]
pub struct Detokenizer<T: Borrow<Tokenizer>> {
    tokenizer: T,
    skip_special: bool,
    mode: DecodeMode,
}

impl<T: Borrow<Tokenizer>> Detokenizer<T> {
    /// Creates the detokenizer of one sequence. Special tokens are left out if `skip_special`.
    pub fn new(tokenizer: T, skip_special: bool) -> Self {
        let mode = decode_mode(tokenizer.borrow());
        Self { tokenizer, skip_special, mode }
    }

    /// Adds the next token; returns the text that no later token can change, if there is any.
    pub fn push(&mut self, id: u32) -> Option<String> {
        let tokenizer = self.tokenizer.borrow();
        // Models may generate ids without a token: rows of logits are padded.
        let token = tokenizer.id_to_token(id)?;
        if self.skip_special && tokenizer.get_added_vocabulary().is_special_token(&token) {
            return None;
        }
        let text = match &mut self.mode {
            DecodeMode::Bytes(pending) => {
                pending.extend(ByteDecoder::ByteLevel.bytes(&token));
                take_complete(pending)
            }
            DecodeMode::Whole(ids) => {
                ids.push(id);
                return None;
            }
            DecodeMode::Chunks { held, byte_fallback, .. } => {
                held.push(id);
                if *byte_fallback && fallback_byte(&token).is_some() {
                    return None;
                }
                self.decode_held()
            }
        };
        Some(text).filter(|text| !text.is_empty())
    }

    /// Returns the rest of the text.
    pub fn finish(&mut self) -> String {
        match &mut self.mode {
            DecodeMode::Bytes(pending) => String::from_utf8_lossy(pending).into_owned(),
            DecodeMode::Chunks { .. } => self.decode_held(),
            DecodeMode::Whole(ids) => decode(self.tokenizer.borrow(), ids),
        }
    }

    /// Decodes the held tokens.
    fn decode_held(&mut self) -> String {
        let tokenizer = self.tokenizer.borrow();
        let DecodeMode::Chunks { anchor: (anchor, before), held, started, .. } = &mut self.mode else {
            return String::new();
        };
        if !*started {
            // Decoders strip leading space: how much shows only once there is other text.
            let text = decode(tokenizer, held);
            if !text.is_empty() {
                *started = true;
                held.clear();
            }
            return text;
        }
        if held.is_empty() {
            return String::new();
        }
        // With the anchor before it, the decoder does not strip the chunk.
        held.insert(0, *anchor);
        let text = decode(tokenizer, held);
        held.clear();
        text.strip_prefix(before.as_str()).map(str::to_owned).unwrap_or(text)
    }
}

fn decode(tokenizer: &Tokenizer, ids: &[u32]) -> String {
    // Special tokens to be skipped were left out by `push`.
    tokenizer.decode(ids, false).unwrap_or_else(|error| {
        tracing::error!(error.message = %error, "tokenizer failed");
        String::new()
    })
}

/// Takes the complete characters out of `pending`, and a replacement character for each run of
/// bytes that cannot become one.
fn take_complete(pending: &mut Vec<u8>) -> String {
    let mut text = String::new();
    let mut rest = pending.as_slice();
    for chunk in pending.utf8_chunks() {
        let (valid, invalid) = (chunk.valid(), chunk.invalid());
        text.push_str(valid);
        rest = &rest[valid.len()..];
        let incomplete = std::str::from_utf8(invalid).is_err_and(|error| error.error_len().is_none());
        // The next token may complete a character at the end.
        if invalid.is_empty() || (incomplete && invalid.len() == rest.len()) {
            break;
        }
        text.push(char::REPLACEMENT_CHARACTER);
        rest = &rest[invalid.len()..];
    }
    let done = pending.len() - rest.len();
    pending.drain(..done);
    text
}

/// Chooses the mode by the steps of the tokenizer's decoder.
fn decode_mode(tokenizer: &Tokenizer) -> DecodeMode {
    let mut steps = Vec::new();
    if let Some(decoder) = tokenizer.get_decoder() {
        collect_steps(decoder, &mut steps);
    }
    if let [DecoderWrapper::ByteLevel(_)] = steps[..] {
        return DecodeMode::Bytes(Vec::new());
    }
    // Steps before `Fuse` see one token at a time, those after it the whole text.
    let fused = steps.iter().position(|step| matches!(step, DecoderWrapper::Fuse(_))).unwrap_or(steps.len());
    // These change a token by itself or by whether it is the first one. Stripping the end of a text
    // would take back what has been emitted.
    let by_token = steps[..fused].iter().all(|step| match step {
        DecoderWrapper::Strip(strip) => strip.stop == 0,
        DecoderWrapper::Replace(_)
        | DecoderWrapper::Metaspace(_)
        | DecoderWrapper::WordPiece(_)
        | DecoderWrapper::ByteFallback(_) => true,
        _ => false,
    });
    let at_start = steps[fused..].iter().all(|step| match step {
        DecoderWrapper::Strip(strip) => strip.stop == 0,
        DecoderWrapper::Fuse(_) => true,
        _ => false,
    });
    match anchor(tokenizer).filter(|_| by_token && at_start) {
        Some(anchor) => {
            let byte_fallback = steps.iter().any(|step| matches!(step, DecoderWrapper::ByteFallback(_)));
            DecodeMode::Chunks { anchor, held: Vec::new(), started: false, byte_fallback }
        }
        None => DecodeMode::Whole(Vec::new()),
    }
}

/// Finds a token whose text is the same at any position.
fn anchor(tokenizer: &Tokenizer) -> Option<(u32, String)> {
    for id in 0..MAX_ANCHOR_ID {
        let Some(token) = tokenizer.id_to_token(id) else { continue };
        let special = tokenizer.get_added_vocabulary().is_special_token(&token);
        let letters = !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_alphanumeric());
        // Plain letters are changed by no decoder, so the text before a chunk is known without
        // decoding.
        if letters && !special && decode(tokenizer, &[id]) == token {
            return Some((id, token));
        }
    }
    None
}

#[cfg(test)]
mod tests;
