//! Bytes of single tokens.
//!
//! Vocabularies spell bytes as text, in one of two ways. Which one follows from the tokenizer's
//! decoder; a decoder that joins tokens in any other way is not supported here.

use std::sync::LazyLock;

use tokenizers::{DecoderWrapper, Tokenizer};

/// Decodes tokens, as their vocabulary spells them, to bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ByteDecoder {
    /// One character per byte, as in GPT-2's `bytes_to_unicode`.
    ByteLevel,
    /// Text with a character in place of the space, as in SentencePiece.
    SentencePiece {
        /// Character that replaces the space.
        space: Option<char>,
        /// True if tokens such as `<0x0A>` are single bytes.
        byte_fallback: bool,
    },
}

impl ByteDecoder {
    /// Reads the spelling from the tokenizer's decoder. `None` if the text of a token depends on
    /// its neighbours in other ways.
    pub(super) fn from_tokenizer(tokenizer: &Tokenizer) -> Option<Self> {
        let mut steps = Vec::new();
        collect_steps(tokenizer.get_decoder()?, &mut steps);
        let mut decoder = Self::SentencePiece { space: None, byte_fallback: false };
        for step in steps {
            match (step, &mut decoder) {
                (DecoderWrapper::ByteLevel(_), _) => return Some(Self::ByteLevel),
                (DecoderWrapper::Metaspace(step), Self::SentencePiece { space, .. }) => {
                    *space = Some(step.get_replacement());
                }
                (DecoderWrapper::Replace(step), Self::SentencePiece { space, .. }) => {
                    let step = serde_json::to_value(step).ok()?;
                    let mut pattern = step["pattern"]["String"].as_str()?.chars();
                    let only = pattern.next().filter(|_| pattern.next().is_none() && step["content"] == " ");
                    *space = Some(only?);
                }
                (DecoderWrapper::ByteFallback(_), Self::SentencePiece { byte_fallback, .. }) => {
                    *byte_fallback = true;
                }
                (DecoderWrapper::Strip(strip), _) if strip.stop == 0 => {}
                (DecoderWrapper::Fuse(_), _) => {}
                _ => return None,
            }
        }
        Some(decoder)
    }

    /// Bytes of a token.
    pub(super) fn bytes(&self, token: &str) -> Vec<u8> {
        match self {
            Self::ByteLevel => {
                // Added tokens are spelled as plain text in the same vocabulary, with characters
                // that stand for no byte.
                let bytes: Option<Vec<u8>> =
                    token.chars().map(|c| GPT2_BYTES.get(c as usize).copied()?).collect();
                bytes.unwrap_or_else(|| token.as_bytes().to_vec())
            }
            Self::SentencePiece { space, byte_fallback } => {
                match fallback_byte(token).filter(|_| *byte_fallback) {
                    Some(byte) => vec![byte],
                    None => match space {
                        Some(space) => token.replace(*space, " ").into_bytes(),
                        None => token.as_bytes().to_vec(),
                    },
                }
            }
        }
    }
}

/// Collects the steps of a decoder in the order of their application.
pub(crate) fn collect_steps<'d>(decoder: &'d DecoderWrapper, steps: &mut Vec<&'d DecoderWrapper>) {
    match decoder {
        DecoderWrapper::Sequence(sequence) => {
            for decoder in sequence.get_decoders() {
                collect_steps(decoder, steps);
            }
        }
        step => steps.push(step),
    }
}

/// Byte of a token such as `<0x0A>`; `None` for any other token.
pub(crate) fn fallback_byte(token: &str) -> Option<u8> {
    let digits = token.strip_prefix("<0x")?.strip_suffix('>')?;
    if digits.len() == 2 { u8::from_str_radix(digits, 16).ok() } else { None }
}

/// Bytes by the code points that GPT-2's `bytes_to_unicode` gives them: a printable byte has its
/// own code point, the others follow in order from 256 on.
static GPT2_BYTES: LazyLock<Vec<Option<u8>>> = LazyLock::new(|| {
    let mut bytes: Vec<Option<u8>> = (0..=255).map(|byte| is_printed(byte).then_some(byte)).collect();
    bytes.extend((0..=255).filter(|byte| !is_printed(*byte)).map(Some));
    bytes
});

/// True for bytes that are visible characters of Latin-1.
fn is_printed(byte: u8) -> bool {
    matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF)
}

/// Character that GPT-2's vocabularies spell a byte with.
#[cfg(test)]
pub(crate) fn byte_char(byte: u8) -> char {
    let code = GPT2_BYTES.iter().position(|b| *b == Some(byte)).unwrap();
    char::from_u32(code as u32).unwrap()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_become_bytes() {
        fn check(decoder: &ByteDecoder, token: &str, expected: &[u8]) {
            assert_eq!(decoder.bytes(token), expected, "{token}");
        }
        check(&ByteDecoder::ByteLevel, "Ġa", b" a");
        check(&ByteDecoder::ByteLevel, "Ċ", b"\n");
        check(&ByteDecoder::ByteLevel, "ðŁĻĤ", "🙂".as_bytes());
        check(&ByteDecoder::ByteLevel, "Ń", &[0xAD]);
        check(&ByteDecoder::ByteLevel, "a▁", "a▁".as_bytes());
        let sentence_piece = ByteDecoder::SentencePiece { space: Some('▁'), byte_fallback: true };
        check(&sentence_piece, "▁a", b" a");
        check(&sentence_piece, "<0x0A>", b"\n");
        check(&sentence_piece, "<0xF0>", &[0xF0]);
        check(&sentence_piece, "<0x0AB>", b"<0x0AB>");
        let plain = ByteDecoder::SentencePiece { space: None, byte_fallback: false };
        check(&plain, "<0x0A>", b"<0x0A>");
    }

    #[test]
    fn every_byte_has_a_character() {
        for byte in 0..=255 {
            assert_eq!(ByteDecoder::ByteLevel.bytes(&byte_char(byte).to_string()), [byte]);
        }
    }

    #[test]
    fn the_spelling_is_read_from_the_decoder() {
        fn check(decoder: serde_json::Value, expected: Option<ByteDecoder>) {
            let json = serde_json::json!({
                "version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "normalizer": null,
                "pre_tokenizer": null, "post_processor": null, "decoder": decoder,
                "model": {"type": "WordLevel", "vocab": {"a": 0}, "unk_token": "a"}
            });
            let tokenizer = Tokenizer::from_bytes(json.to_string()).unwrap();
            assert_eq!(ByteDecoder::from_tokenizer(&tokenizer), expected, "{decoder}");
        }
        let json = |text: &str| serde_json::from_str(text).unwrap();
        let level =
            json(r#"{"type":"ByteLevel","add_prefix_space":true,"trim_offsets":true,"use_regex":true}"#);
        check(level, Some(ByteDecoder::ByteLevel));
        let llama = json(
            r#"{"type":"Sequence","decoders":[{"type":"Replace","pattern":{"String":"▁"},"content":" "},
            {"type":"ByteFallback"},{"type":"Fuse"},{"type":"Strip","content":" ","start":1,"stop":0}]}"#,
        );
        check(llama, Some(ByteDecoder::SentencePiece { space: Some('▁'), byte_fallback: true }));
        let meta = json(r#"{"type":"Metaspace","replacement":"▁","prepend_scheme":"always","split":true}"#);
        check(meta, Some(ByteDecoder::SentencePiece { space: Some('▁'), byte_fallback: false }));
        check(json(r###"{"type":"WordPiece","prefix":"##","cleanup":true}"###), None);
        check(serde_json::Value::Null, None);
    }
}
