//! Tokenizers rebuilt from the vocabulary of a GGUF file.
//!
//! A tokenizer is trained, written as GGUF keys and read back; both must give the same ids.

use tokenizers::decoders::byte_level::ByteLevel;
use tokenizers::models::TrainerWrapper;
use tokenizers::models::bpe::{BPE, BpeTrainerBuilder};
use tokenizers::normalizers::NFC;
use tokenizers::{AddedToken, PreTokenizerWrapper, Tokenizer};

use super::*;

const PROSE: &str = "La empresa busca un ingeniero de datos con 12345 horas de experiencia en Python y SQL.\n\n\
    We're hiring: it's a senior role (C++, Rust)...  Salario: 45.000 €; ¡únete!\tÑandú 日本語 🙂\r\n  fin  ";

/// A byte-level tokenizer as `cut` cuts texts, trained on a little prose.
fn trained(cut: &[&str]) -> Tokenizer {
    use tokenizers::pre_tokenizers::sequence::Sequence;
    use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
    let mut tokenizer = Tokenizer::new(BPE::default());
    let split = |pattern: &&str| {
        let pattern = SplitPattern::Regex((*pattern).to_owned());
        Split::new(pattern, tokenizers::SplitDelimiterBehavior::Isolated, false).unwrap().into()
    };
    let mut steps: Vec<PreTokenizerWrapper> = cut.iter().map(split).collect();
    steps.push(ByteLevel::new(false, true, false).into());
    tokenizer.with_pre_tokenizer(Some(Sequence::new(steps)));
    tokenizer.with_decoder(Some(ByteLevel::default()));
    let alphabet = ByteLevel::alphabet().into_iter().collect();
    let trainer =
        BpeTrainerBuilder::new().vocab_size(400).show_progress(false).initial_alphabet(alphabet).build();
    tokenizer.train(&mut TrainerWrapper::from(trainer), [PROSE.to_owned()].into_iter()).unwrap();
    tokenizer.add_special_tokens([AddedToken::from("<|im_end|>", true)]).unwrap();
    tokenizer.add_tokens([AddedToken::from("<tool>", false).normalized(false)]).unwrap();
    tokenizer
}

/// The keys that hold a byte-level tokenizer.
pub(super) fn keys(tokenizer: &Tokenizer, pre: &str) -> Vec<(&'static str, Written)> {
    let json: serde_json::Value = serde_json::from_str(&tokenizer.to_string(false).unwrap()).unwrap();
    let vocabulary = tokenizer.get_vocab(true);
    let count = vocabulary.values().max().unwrap() + 1;
    // Converters fill gaps between ids so.
    let mut tokens: Vec<(String, u32)> = (0..count).map(|id| (format!("[PAD{id}]"), id)).collect();
    for (token, id) in vocabulary {
        tokens[id as usize].0 = token;
    }
    let added = tokenizer.get_added_tokens_decoder();
    let kind = |id: &u32| match added.get(id) {
        Some(token) if token.special => 3,
        Some(_) => 4,
        None => 1,
    };
    let merges = json["model"]["merges"].as_array().unwrap().iter();
    let merge =
        |merge: &serde_json::Value| format!("{} {}", merge[0].as_str().unwrap(), merge[1].as_str().unwrap());
    let merges: Vec<String> = merges.map(merge).collect();
    vec![
        ("tokenizer.ggml.model", text("gpt2")),
        ("tokenizer.ggml.pre", text(pre)),
        ("tokenizer.ggml.tokens", texts(tokens.iter().map(|(token, _)| token.as_str()))),
        ("tokenizer.ggml.token_type", integers(tokens.iter().map(|(_, id)| kind(id)))),
        ("tokenizer.ggml.merges", texts(merges.iter().map(String::as_str))),
        ("tokenizer.ggml.eos_token_id", Written::U32(tokens.len() as u32 - 2)),
        ("tokenizer.chat_template", text("{{ messages }}")),
    ]
}

fn ids(tokenizer: &Tokenizer, text: &str) -> Vec<u32> {
    tokenizer.encode(text, true).unwrap().get_ids().to_vec()
}

#[test]
fn byte_level_tokenizers_come_back() {
    let qwen = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
    let mut original = trained(&[qwen]);
    original.with_normalizer(Some(NFC)).unwrap();
    let file = opened(&keys(&original, "qwen2"), &[]);
    let tokenizer = file.tokenizer().unwrap();
    for sample in [PROSE, "", " ", "x<|im_end|>y <tool>\n", "IT'S 1234", "e\u{301}", "a\u{0}b"] {
        let expected = ids(&original, sample);
        assert_eq!(ids(&tokenizer, sample), expected, "{sample:?}");
        let decoded = tokenizer.decode(&expected, false).unwrap();
        assert_eq!(decoded, original.decode(&expected, false).unwrap());
    }
    assert_eq!(tokenizer.decode(&ids(&tokenizer, PROSE), true).unwrap(), PROSE);
    assert_eq!(tokenizer.decode(&ids(&tokenizer, "a<|im_end|><tool>"), true).unwrap(), "a<tool>");
    assert_eq!(file.chat_template().unwrap(), Some("{{ messages }}"));
    let end = file.special_token("eos").unwrap();
    assert_eq!(end, Some("<|im_end|>"));
    assert_eq!(file.eos_ids().unwrap(), [tokenizer.token_to_id("<|im_end|>").unwrap()]);
    assert_eq!(file.special_token("bos").unwrap(), None);
}

#[test]
fn digits_are_cut_as_the_file_says() {
    fn check(pre: &str, expected: &[&str]) {
        let file = opened(&keys(&trained(&[]), pre), &[]);
        let cut = tokenizers::PreTokenizer::pre_tokenize;
        let mut parts = tokenizers::PreTokenizedString::from("ab 12345!");
        cut(file.tokenizer().unwrap().get_pre_tokenizer().unwrap(), &mut parts).unwrap();
        let parts = parts.get_splits(tokenizers::OffsetReferential::Original, tokenizers::OffsetType::Byte);
        assert_eq!(parts.iter().map(|(part, ..)| *part).collect::<Vec<_>>(), expected, "{pre}");
    }
    check("qwen2", &["ab", "Ġ", "1", "2", "3", "4", "5", "!"]);
    check("llama-bpe", &["ab", "Ġ", "123", "45", "!"]);
    check("gpt-2", &["ab", "Ġ12345", "!"]);
    check("default", &["ab", "Ġ", "123", "45", "!"]);
}

#[test]
fn the_beginning_is_added_where_the_file_says() {
    fn check(pre: &str, more: &[(&'static str, Written)], expected: &[&str]) {
        let original = trained(&[]);
        let mut keys = keys(&original, pre);
        keys.extend(more.iter().cloned());
        let encoding = opened(&keys, &[]).tokenizer().unwrap().encode("7", true).unwrap();
        assert_eq!(encoding.get_tokens(), expected, "{pre}");
    }
    let bos =
        || ("tokenizer.ggml.bos_token_id", Written::U32(trained(&[]).token_to_id("<|im_end|>").unwrap()));
    check("llama-bpe", &[bos()], &["<|im_end|>", "7"]);
    check("llama-bpe", &[], &["7"]);
    check("llama-bpe", &[bos(), ("tokenizer.ggml.add_bos_token", Written::Bool(false))], &["7"]);
    check("qwen2", &[bos()], &["7"]);
    check("qwen2", &[bos(), ("tokenizer.ggml.add_bos_token", Written::Bool(true))], &["<|im_end|>", "7"]);
    check("qwen2", &[("tokenizer.ggml.add_eos_token", Written::Bool(true))], &["7", "<|im_end|>"]);
}

#[test]
fn tokenizers_by_scores() {
    let bytes: Vec<String> = (0..256).map(|byte| format!("<0x{byte:02X}>")).collect();
    let mut tokens: Vec<(&str, i32, f32)> = vec![("<unk>", 2, 0.0), ("<s>", 3, 0.0), ("</s>", 3, 0.0)];
    tokens.extend(bytes.iter().map(|byte| (byte.as_str(), 6, 0.0)));
    let pieces = ["▁a", "al", "▁al", "go", "algo", "▁algo", "a", "l", "g", "o", "▁"];
    tokens.extend(pieces.iter().enumerate().map(|(rank, piece)| (*piece, 1, -(rank as f32))));
    let list = |write: fn(&(&str, i32, f32)) -> Written| Written::Array(tokens.iter().map(write).collect());
    let keys = [
        ("tokenizer.ggml.model", text("llama")),
        ("tokenizer.ggml.tokens", list(|(token, ..)| text(token))),
        ("tokenizer.ggml.token_type", list(|(_, kind, _)| Written::I32(*kind))),
        ("tokenizer.ggml.scores", list(|(.., score)| Written::F32(*score))),
        ("tokenizer.ggml.bos_token_id", Written::U32(1)),
    ];
    let tokenizer = opened(&keys, &[]).tokenizer().unwrap();
    let encoding = tokenizer.encode("algo é", true).unwrap();
    assert_eq!(encoding.get_tokens(), ["<s>", "▁algo", "▁", "<0xC3>", "<0xA9>"]);
    assert_eq!(tokenizer.decode(encoding.get_ids(), true).unwrap(), "algo é");
}

#[test]
fn tokenizers_that_are_not_known() {
    fn check(change: (&'static str, Option<Written>), expected: &str) {
        let mut keys = keys(&trained(&[]), "qwen2");
        keys.retain(|(key, _)| *key != change.0);
        keys.extend(change.1.map(|value| (change.0, value)));
        let error = format!("{:#}", opened(&keys, &[]).tokenizer().unwrap_err());
        assert!(error.starts_with(expected), "{error}");
    }
    check(
        ("tokenizer.ggml.pre", Some(text("tekken9"))),
        "invalid tokenizer.ggml.pre `tekken9`: expected one of default, gpt-2, phi-2, ",
    );
    check(
        ("tokenizer.ggml.model", Some(text("bert"))),
        "invalid tokenizer.ggml.model `bert`: expected gpt2 or llama",
    );
    check(("tokenizer.ggml.model", None), "missing key tokenizer.ggml.model");
    check(("tokenizer.ggml.tokens", None), "missing key tokenizer.ggml.tokens");
    check(
        ("tokenizer.ggml.tokens", Some(Written::U8(1))),
        "invalid tokenizer.ggml.tokens 1: expected an array of strings",
    );
    check(("tokenizer.ggml.tokens", Some(texts(["a", "a"]))), "invalid tokenizer.ggml.token_type of length");
    check(
        ("tokenizer.ggml.merges", Some(texts(["ab"]))),
        "tokenizer.ggml.merges has \"ab\", which is not a pair",
    );
    check(("tokenizer.ggml.merges", Some(texts(["a 日"]))), "the tokenizer cannot be built: ");
    let tokens = [
        ("tokenizer.ggml.model", text("gpt2")),
        ("tokenizer.ggml.tokens", texts(["a", "b", "a"])),
        ("tokenizer.ggml.merges", texts(["a b"])),
        ("tokenizer.ggml.eos_token_id", Written::U32(3)),
    ];
    let file = opened(&tokens, &[]);
    assert_eq!(file.tokenizer().unwrap_err().to_string(), "tokenizer.ggml.tokens has the duplicate \"a\"");
    let error = file.special_token("eos").unwrap_err().to_string();
    assert_eq!(error, "invalid tokenizer.ggml.eos_token_id 3: the vocabulary has 3 tokens");
}
