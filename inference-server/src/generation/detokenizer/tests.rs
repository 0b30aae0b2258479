//! Detokenizers of every kind of decoder.
//!
//! The reference is always decoding all tokens at once.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::super::token_bytes::byte_char;
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
    for bytes in [&b" the"[..], "ñ".as_bytes(), &emoji[..2], &emoji[2..], &[emoji[3], b'a'], b"a\xF0\x9F"] {
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
    let mut tokens: Vec<String> = ["<unk>", "<s>", "▁", "a", "▁b", "▁▁", "ñ", "c▁d", "n't", "▁.", "\u{FFFD}"]
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
    let mut detokenizer = Detokenizer::new(tokenizer, skip_special);
    let mut texts: Vec<String> = ids.iter().map(|id| detokenizer.push(*id).unwrap_or_default()).collect();
    texts.push(detokenizer.finish());
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
        .filter(|(_, t)| matches!(decode_mode(t), DecodeMode::Whole(_)))
        .map(|(n, _)| n)
        .collect();
    assert_eq!(whole, [10]);
}

#[test]
fn broken_bytes_are_not_kept() {
    let tokenizer = byte_level();
    let mut detokenizer = Detokenizer::new(std::sync::Arc::new(tokenizer), true);
    for _ in 0..1_000 {
        detokenizer.push(0x80);
        assert!(matches!(&detokenizer.mode, DecodeMode::Bytes(pending) if pending.len() < 4));
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
