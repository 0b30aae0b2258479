//! Text from tokens that come one by one.
//!
//! tokenizers' own `DecodeStream` is not enough: it keeps what ends with a replacement character
//! for ever, decodes a run of broken bytes anew for each of them, and has already given text away
//! when byte tokens (`<0x41>`) turn out to be part of a broken run. Here the pieces together are
//! exactly what decoding all tokens at once gives.

use std::borrow::Borrow;

use tokenizers::{DecoderWrapper, Tokenizer};

use super::bytes::{Spelling, fallback_byte, flatten};

/// How far to look for a token that can stand before others.
const ANCHORS: u32 = 100_000;

/// What the text of a token depends on.
#[derive(Debug)]
enum Way {
    /// On itself: the bytes of all tokens are read as UTF-8.
    Bytes(Vec<u8>),
    /// On whether it is the first, and on its neighbours where those are single bytes.
    Chunks {
        /// A token of letters and its text, decoded before all but the first chunk.
        anchor: (u32, String),
        /// Tokens that have not become text.
        held: Vec<u32>,
        /// Whether there was text.
        begun: bool,
        /// Whether tokens such as `<0x0A>` are bytes.
        bytes: bool,
    },
    /// On all tokens, or on what is not known: the text comes at the end.
    Whole(Vec<u32>),
}

/// Makes text of tokens; what a push costs does not depend on those before, but for runs of single
/// bytes.
#[derive(Debug)]
pub struct Pieces<T: Borrow<Tokenizer>> {
    tokenizer: T,
    skip_special: bool,
    way: Way,
}

impl<T: Borrow<Tokenizer>> Pieces<T> {
    /// For one text; special tokens become no text where `skip_special`. Takes a reference or an
    /// `Arc`.
    pub fn new(tokenizer: T, skip_special: bool) -> Self {
        let way = way(tokenizer.borrow());
        Self { tokenizer, skip_special, way }
    }

    /// Reads the next token and gives the text that no later token can change.
    pub fn push(&mut self, id: u32) -> Option<String> {
        let tokenizer = self.tokenizer.borrow();
        let token = tokenizer.id_to_token(id)?;
        if self.skip_special && tokenizer.get_added_vocabulary().is_special_token(&token) {
            return None;
        }
        let text = match &mut self.way {
            Way::Bytes(pending) => {
                pending.extend(Spelling::ByteLevel.bytes(&token));
                settled(pending)
            }
            Way::Whole(ids) => {
                ids.push(id);
                return None;
            }
            Way::Chunks { held, bytes, .. } => {
                held.push(id);
                if *bytes && fallback_byte(&token).is_some() {
                    return None;
                }
                self.chunk()
            }
        };
        Some(text).filter(|text| !text.is_empty())
    }

    /// The rest of the text.
    pub fn finish(&mut self) -> String {
        match &mut self.way {
            Way::Bytes(pending) => String::from_utf8_lossy(pending).into_owned(),
            Way::Chunks { .. } => self.chunk(),
            Way::Whole(ids) => decode(self.tokenizer.borrow(), ids),
        }
    }

    /// The text of the tokens that are held.
    fn chunk(&mut self) -> String {
        let tokenizer = self.tokenizer.borrow();
        let Way::Chunks { anchor: (anchor, before), held, begun, .. } = &mut self.way else {
            return String::new();
        };
        if !*begun {
            // What is stripped from the beginning shows only once there is something else.
            let text = decode(tokenizer, held);
            if !text.is_empty() {
                *begun = true;
                held.clear();
            }
            return text;
        }
        if held.is_empty() {
            return String::new();
        }
        held.insert(0, *anchor);
        let text = decode(tokenizer, held);
        held.clear();
        text.strip_prefix(before.as_str()).map(str::to_owned).unwrap_or(text)
    }
}

fn decode(tokenizer: &Tokenizer, ids: &[u32]) -> String {
    // Special tokens that become no text were left out before.
    tokenizer.decode(ids, false).unwrap_or_else(|error| {
        tracing::error!(error.message = %error, "tokenizer failed");
        String::new()
    })
}

/// Takes the characters that are complete, and a replacement character for each run that cannot
/// become one.
fn settled(pending: &mut Vec<u8>) -> String {
    let mut text = String::new();
    let mut rest = pending.as_slice();
    for chunk in pending.utf8_chunks() {
        let (valid, invalid) = (chunk.valid(), chunk.invalid());
        text.push_str(valid);
        rest = &rest[valid.len()..];
        let open = std::str::from_utf8(invalid).is_err_and(|error| error.error_len().is_none());
        if invalid.is_empty() || (open && invalid.len() == rest.len()) {
            break;
        }
        text.push(char::REPLACEMENT_CHARACTER);
        rest = &rest[invalid.len()..];
    }
    let done = pending.len() - rest.len();
    pending.drain(..done);
    text
}

fn way(tokenizer: &Tokenizer) -> Way {
    let mut steps = Vec::new();
    if let Some(decoder) = tokenizer.get_decoder() {
        flatten(decoder, &mut steps);
    }
    if let [DecoderWrapper::ByteLevel(_)] = steps[..] {
        return Way::Bytes(Vec::new());
    }
    let fused = steps.iter().position(|step| matches!(step, DecoderWrapper::Fuse(_))).unwrap_or(steps.len());
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
            let bytes = steps.iter().any(|step| matches!(step, DecoderWrapper::ByteFallback(_)));
            Way::Chunks { anchor, held: Vec::new(), begun: false, bytes }
        }
        None => Way::Whole(Vec::new()),
    }
}

/// A token that stays the same wherever it stands.
fn anchor(tokenizer: &Tokenizer) -> Option<(u32, String)> {
    let plain = |id: &u32| {
        let token = tokenizer.id_to_token(*id)?;
        let special = tokenizer.get_added_vocabulary().is_special_token(&token);
        let letters = !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_alphanumeric());
        let text = decode(tokenizer, &[*id]);
        (letters && !special && text == token).then_some((*id, token))
    };
    (0..ANCHORS).find_map(|id| plain(&id))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::super::bytes::byte_char;
    use super::*;

    fn tokenizer(decoder: &Value, model: &Value, special: &[(u32, &str)]) -> Tokenizer {
        let added: Vec<Value> = special
            .iter()
            .map(|(id, content)| {
                json!({"id": id, "content": content, "special": true, "single_word": false,
                    "lstrip": false, "rstrip": false, "normalized": false})
            })
            .collect();
        let whole = json!({
            "version": "1.0", "truncation": null, "padding": null, "added_tokens": added, "normalizer": null,
            "pre_tokenizer": null, "post_processor": null, "decoder": decoder, "model": model
        });
        Tokenizer::from_bytes(whole.to_string()).unwrap()
    }

    /// All bytes, some longer tokens that begin or end within a character, and a special token.
    fn byte_level() -> Tokenizer {
        let level = |bytes: &[u8]| -> String { bytes.iter().map(|byte| byte_char(*byte)).collect() };
        let mut tokens: Vec<String> = (0..=255).map(|byte| level(&[byte])).collect();
        let emoji = "🙂".as_bytes();
        for bytes in [&b" the"[..], "ñ".as_bytes(), &emoji[..2], &emoji[2..], &[emoji[3], b'a'], b"a\xF0\x9F"]
        {
            tokens.push(level(bytes));
        }
        let vocabulary: serde_json::Map<String, Value> =
            tokens.into_iter().enumerate().map(|(id, token)| (token, json!(id))).collect();
        let last = vocabulary.len() as u32;
        let model = json!({"type": "BPE", "vocab": vocabulary, "merges": []});
        let decoder =
            json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true});
        tokenizer(&decoder, &model, &[(last, "<|end|>"), (last + 1, "<|é|>")])
    }

    fn unigram(decoder: &Value) -> Tokenizer {
        let mut tokens: Vec<String> =
            ["<unk>", "<s>", "▁", "a", "▁b", "▁▁", "ñ", "c▁d", "n't", "▁.", "\u{FFFD}"]
                .map(str::to_owned)
                .to_vec();
        tokens.extend((0..=255).map(|byte| format!("<0x{byte:02X}>")));
        let scored: Vec<Value> = tokens.iter().map(|token| json!([token, -1.0])).collect();
        let model = json!({"type": "Unigram", "unk_id": 0, "vocab": scored, "byte_fallback": true});
        tokenizer(decoder, &model, &[(1, "<s>")])
    }

    fn word_pieces(decoder: &Value) -> Tokenizer {
        let vocabulary =
            json!({"[UNK]": 0, "a": 1, "##b": 2, ".": 3, "n't": 4, "[SEP]": 5, "##": 6, "do": 7, "not": 8});
        let model = json!({"type": "WordPiece", "vocab": vocabulary, "unk_token": "[UNK]",
            "continuing_subword_prefix": "##", "max_input_chars_per_word": 100});
        tokenizer(decoder, &model, &[(5, "[SEP]")])
    }

    fn replace() -> Value {
        json!({"type": "Replace", "pattern": {"String": "▁"}, "content": " "})
    }

    fn sequence(decoders: &[Value]) -> Value {
        json!({"type": "Sequence", "decoders": decoders})
    }

    fn tokenizers() -> Vec<Tokenizer> {
        let (fuse, bytes) = (json!({"type": "Fuse"}), json!({"type": "ByteFallback"}));
        let strip = |start: u32| json!({"type": "Strip", "content": " ", "start": start, "stop": 0});
        let metaspace = |scheme: &str| json!({"type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": true});
        vec![
            byte_level(),
            unigram(&sequence(&[replace(), bytes.clone(), fuse.clone(), strip(1)])),
            unigram(&sequence(&[replace(), bytes.clone(), fuse.clone(), strip(3)])),
            unigram(&sequence(&[replace(), bytes.clone(), fuse.clone()])),
            unigram(&sequence(&[bytes.clone(), metaspace("first")])),
            unigram(&sequence(&[strip(1), bytes, fuse])),
            unigram(&metaspace("always")),
            unigram(&metaspace("never")),
            word_pieces(&json!({"type": "WordPiece", "prefix": "##", "cleanup": true})),
            word_pieces(&Value::Null),
            word_pieces(&json!({"type": "BPEDecoder", "suffix": "b"})),
        ]
    }

    fn streamed(tokenizer: &Tokenizer, ids: &[u32], skip_special: bool) -> Vec<String> {
        let mut pieces = Pieces::new(tokenizer, skip_special);
        let mut texts: Vec<String> = ids.iter().map(|id| pieces.push(*id).unwrap_or_default()).collect();
        texts.push(pieces.finish());
        texts
    }

    #[test]
    fn characters_come_when_they_are_complete() {
        fn check(tokenizer: &Tokenizer, tokens: &[&str], expected: &[&str]) {
            let ids: Vec<u32> = tokens.iter().map(|token| tokenizer.token_to_id(token).unwrap()).collect();
            assert_eq!(streamed(tokenizer, &ids, true), expected);
        }
        let level = byte_level();
        check(&level, &["a", "ðŁ", "ĻĤ", "Ġthe", "<|end|>"], &["a", "", "🙂", " the", "", ""]);
        check(&level, &["ðŁ", "a", "ðŁ"], &["", "\u{FFFD}a", "", "\u{FFFD}"]);
        check(&level, &["aðŁ", "<|end|>", "Ļ", "Ĥa"], &["a", "", "", "🙂a", ""]);
        let llama = &tokenizers()[1];
        check(llama, &["▁", "▁b", "a"], &["", " b", "a", ""]);
        check(llama, &["a", "<0xC3>", "<0xB1>", "a"], &["a", "", "", "ña", ""]);
        check(llama, &["a", "<0x41>", "<0xC3>", "a"], &["a", "", "", "\u{FFFD}\u{FFFD}a", ""]);
        check(llama, &["a", "<0xC3>", "<s>", "<0xB1>"], &["a", "", "", "", "ñ"]);
        check(&tokenizers()[10], &["a", "##b"], &["", "", "a##"]);
    }

    #[test]
    fn all_but_the_unknown_decoders_stream() {
        let whole: Vec<usize> = (0..)
            .zip(tokenizers())
            .filter(|(_, t)| matches!(way(t), Way::Whole(_)))
            .map(|(n, _)| n)
            .collect();
        assert_eq!(whole, [10]);
    }

    #[test]
    fn broken_bytes_are_not_kept() {
        let tokenizer = byte_level();
        let mut pieces = Pieces::new(std::sync::Arc::new(tokenizer), true);
        for _ in 0..1_000 {
            pieces.push(0x80);
            assert!(matches!(&pieces.way, Way::Bytes(pending) if pending.len() < 4));
        }
    }

    proptest! {
        #[test]
        fn pieces_together_are_the_whole(
            picks in proptest::collection::vec(any::<prop::sample::Index>(), 0..60),
            near in any::<bool>(),
            skip_special in any::<bool>(),
        ) {
            for tokenizer in tokenizers() {
                // One beyond the vocabulary too; the last tokens alone are those of broken
                // characters.
                let size = tokenizer.get_vocab_size(true) + 1;
                let ids: Vec<u32> = picks
                    .iter()
                    .map(|pick| if near { size - 1 - pick.index(size.min(120)) } else { pick.index(size.min(20)) })
                    .map(|id| id as u32)
                    .collect();
                let expected = tokenizer.decode(&ids, skip_special).unwrap();
                prop_assert_eq!(streamed(&tokenizer, &ids, skip_special).concat(), expected);
            }
        }

        #[test]
        fn text_of_a_byte_level_vocabulary_streams(text in "[ a-cñ🙂é漢\n]{0,30}") {
            let tokenizer = byte_level();
            let ids: Vec<u32> = text.bytes().map(|byte| tokenizer.token_to_id(&byte_char(byte).to_string()).unwrap()).collect();
            let pieces = streamed(&tokenizer, &ids, true);
            prop_assert!(pieces.iter().all(|piece| piece.chars().count() <= 1));
            prop_assert_eq!(pieces.concat(), text);
        }
    }
}
