//! The bytes that a token stands for.

use std::sync::LazyLock;

use tokenizers::{DecoderWrapper, Tokenizer};

/// How a vocabulary writes bytes as text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Spelling {
    /// A character for each byte, as GPT-2 has it.
    ByteLevel,
    /// Text with a stand-in for the space, as SentencePiece has it.
    Spaced {
        /// The stand-in.
        space: Option<char>,
        /// Whether tokens such as `<0x0A>` are bytes.
        bytes: bool,
    },
}

impl Spelling {
    /// Reads it from the decoder; nothing where the text of a token depends on its neighbours in
    /// other ways.
    pub(super) fn of(tokenizer: &Tokenizer) -> Option<Self> {
        let mut steps = Vec::new();
        flatten(tokenizer.get_decoder()?, &mut steps);
        let mut spelling = Self::Spaced { space: None, bytes: false };
        for step in steps {
            match (step, &mut spelling) {
                (DecoderWrapper::ByteLevel(_), _) => return Some(Self::ByteLevel),
                (DecoderWrapper::Metaspace(step), Self::Spaced { space, .. }) => {
                    *space = Some(step.get_replacement());
                }
                (DecoderWrapper::Replace(step), Self::Spaced { space, .. }) => {
                    let step = serde_json::to_value(step).ok()?;
                    let mut pattern = step["pattern"]["String"].as_str()?.chars();
                    let only = pattern.next().filter(|_| pattern.next().is_none() && step["content"] == " ");
                    *space = Some(only?);
                }
                (DecoderWrapper::ByteFallback(_), Self::Spaced { bytes, .. }) => *bytes = true,
                (DecoderWrapper::Strip(strip), _) if strip.stop == 0 => {}
                (DecoderWrapper::Fuse(_), _) => {}
                _ => return None,
            }
        }
        Some(spelling)
    }

    /// The bytes of a token.
    pub(super) fn bytes(&self, token: &str) -> Vec<u8> {
        match self {
            Self::ByteLevel => {
                let bytes: Option<Vec<u8>> = token.chars().map(|c| BYTES.get(c as usize).copied()?).collect();
                bytes.unwrap_or_else(|| token.as_bytes().to_vec())
            }
            Self::Spaced { space, bytes } => match fallback_byte(token).filter(|_| *bytes) {
                Some(byte) => vec![byte],
                None => match space {
                    Some(space) => token.replace(*space, " ").into_bytes(),
                    None => token.as_bytes().to_vec(),
                },
            },
        }
    }
}

/// The steps of a decoder in their order.
pub(crate) fn flatten<'d>(decoder: &'d DecoderWrapper, steps: &mut Vec<&'d DecoderWrapper>) {
    match decoder {
        DecoderWrapper::Sequence(sequence) => {
            for decoder in sequence.get_decoders() {
                flatten(decoder, steps);
            }
        }
        step => steps.push(step),
    }
}

/// The byte of a token such as `<0x0A>`.
pub(crate) fn fallback_byte(token: &str) -> Option<u8> {
    let digits = token.strip_prefix("<0x")?.strip_suffix('>')?;
    if digits.len() == 2 { u8::from_str_radix(digits, 16).ok() } else { None }
}

/// The bytes of GPT-2's characters: itself where it can be printed, the others in their order from
/// 256 on.
static BYTES: LazyLock<Vec<Option<u8>>> = LazyLock::new(|| {
    let printed = |byte: u8| matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF);
    let mut bytes: Vec<Option<u8>> = (0..=255).map(|byte| Some(byte).filter(|byte| printed(*byte))).collect();
    bytes.extend((0..=255).filter(|byte| !printed(*byte)).map(Some));
    bytes
});

/// The character that GPT-2's vocabularies write for a byte.
#[cfg(test)]
pub(crate) fn byte_char(byte: u8) -> char {
    let code = BYTES.iter().position(|b| *b == Some(byte)).unwrap();
    char::from_u32(code as u32).unwrap()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_become_bytes() {
        fn check(spelling: &Spelling, token: &str, expected: &[u8]) {
            assert_eq!(spelling.bytes(token), expected, "{token}");
        }
        check(&Spelling::ByteLevel, "Ġa", b" a");
        check(&Spelling::ByteLevel, "Ċ", b"\n");
        check(&Spelling::ByteLevel, "ðŁĻĤ", "🙂".as_bytes());
        check(&Spelling::ByteLevel, "Ń", &[0xAD]);
        check(&Spelling::ByteLevel, "a▁", "a▁".as_bytes());
        let spaced = Spelling::Spaced { space: Some('▁'), bytes: true };
        check(&spaced, "▁a", b" a");
        check(&spaced, "<0x0A>", b"\n");
        check(&spaced, "<0xF0>", &[0xF0]);
        check(&spaced, "<0x0AB>", b"<0x0AB>");
        let plain = Spelling::Spaced { space: None, bytes: false };
        check(&plain, "<0x0A>", b"<0x0A>");
    }

    #[test]
    fn every_byte_has_a_character() {
        for byte in 0..=255 {
            assert_eq!(Spelling::ByteLevel.bytes(&byte_char(byte).to_string()), [byte]);
        }
    }

    #[test]
    fn the_spelling_is_read_from_the_decoder() {
        fn check(decoder: serde_json::Value, expected: Option<Spelling>) {
            let json = serde_json::json!({
                "version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "normalizer": null,
                "pre_tokenizer": null, "post_processor": null, "decoder": decoder,
                "model": {"type": "WordLevel", "vocab": {"a": 0}, "unk_token": "a"}
            });
            let tokenizer = Tokenizer::from_bytes(json.to_string()).unwrap();
            assert_eq!(Spelling::of(&tokenizer), expected, "{decoder}");
        }
        let json = |text: &str| serde_json::from_str(text).unwrap();
        let level =
            json(r#"{"type":"ByteLevel","add_prefix_space":true,"trim_offsets":true,"use_regex":true}"#);
        check(level, Some(Spelling::ByteLevel));
        let llama = json(
            r#"{"type":"Sequence","decoders":[{"type":"Replace","pattern":{"String":"▁"},"content":" "},
            {"type":"ByteFallback"},{"type":"Fuse"},{"type":"Strip","content":" ","start":1,"stop":0}]}"#,
        );
        check(llama, Some(Spelling::Spaced { space: Some('▁'), bytes: true }));
        let meta = json(r#"{"type":"Metaspace","replacement":"▁","prepend_scheme":"always","split":true}"#);
        check(meta, Some(Spelling::Spaced { space: Some('▁'), bytes: false }));
        check(json(r###"{"type":"WordPiece","prefix":"##","cleanup":true}"###), None);
        check(serde_json::Value::Null, None);
    }
}
