//! Constraints of every kind, on texts generated from random logits: each must satisfy its
//! constraint, however few tokens it may have.

mod bounds;

use serde_json::{Value, json};
use tokenizers::AddedToken;
use tokenizers::models::TrainerWrapper;
use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;

use super::super::sampler::{Sampler, SamplingParams};
use super::definition::MAX_BYTES;
use super::error::{MAX_MESSAGE, TOO_MUCH_WORK};
use super::matcher::Progress;
use super::*;

const EOS: &str = "<|end|>";
/// The model has a few logits more than the tokenizer has tokens, as many models do.
const PADDING: usize = 37;

fn corpus() -> Vec<String> {
    let words = [
        "the job asks for",
        "SQL",
        "Python and Java",
        "años de experiencia",
        "Bogotá",
        "🙂 equipo",
        "remote",
    ];
    let mut texts: Vec<String> =
        words.iter().map(|word| format!("{{\"skill\": \"{word}\", \"level\": 3.5}},")).collect();
    texts.push("{\"name\":\"a\",\"tags\":[\"b\",\"c\"],\"ok\":true,\"no\":false,\"none\":null}]}".to_owned());
    texts
        .push("{\"titulo\": \"\", \"años\": 12, \"items\": [{\"id\": 1}, {\"id\": 2}]}\"}\"]}}]]".to_owned());
    texts.iter().cycle().take(60).cloned().collect()
}

/// A byte-level tokenizer of some 500 tokens.
fn byte_level() -> Tokenizer {
    let model = BPE::builder().build().unwrap();
    let mut tokenizer = Tokenizer::new(model);
    tokenizer.with_pre_tokenizer(Some(ByteLevel::default().add_prefix_space(false)));
    tokenizer.with_decoder(Some(ByteLevel::default()));
    let trainer = BpeTrainer::builder().vocab_size(500).min_frequency(2).show_progress(false);
    let trainer = trainer.initial_alphabet(ByteLevel::alphabet().into_iter().collect()).build();
    tokenizer.train(&mut TrainerWrapper::from(trainer), corpus().into_iter()).unwrap();
    tokenizer.add_special_tokens([AddedToken::from(EOS, true)]).unwrap();
    tokenizer
}

/// A tokenizer like that of Llama 2: SentencePiece spaces, byte tokens, and a space added before
/// every text.
fn sentence_piece() -> Tokenizer {
    let mut vocabulary: Vec<String> = ["<unk>", EOS].map(str::to_owned).to_vec();
    vocabulary.extend((0..=255).map(|byte| format!("<0x{byte:02X}>")));
    vocabulary.extend((b'!'..=b'~').map(|byte| char::from(byte).to_string()));
    let more = [
        "▁", "ñ", "á", "🙂", "▁a", "na", "me", "name", "\":", "\"}", "\"]", "}}", "]}", "\"\"", "tr", "ue",
        "true", "▁\"", "00",
    ];
    vocabulary.extend(more.map(str::to_owned));
    let ids: serde_json::Map<String, Value> =
        vocabulary.into_iter().enumerate().map(|(id, token)| (token, json!(id))).collect();
    let merges = [
        "▁ a", "n a", "m e", "na me", "\" :", "\" }", "\" ]", "} }", "] }", "\" \"", "t r", "u e", "tr ue",
        "▁ \"", "0 0",
    ];
    let json = json!({
        "version": "1.0", "truncation": null, "padding": null,
        "added_tokens": [{"id": 1, "content": EOS, "special": true, "single_word": false, "lstrip": false,
            "rstrip": false, "normalized": false}],
        "normalizer": {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "▁"},
            {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]},
        "pre_tokenizer": null, "post_processor": null,
        "decoder": {"type": "Sequence", "decoders": [
            {"type": "Replace", "pattern": {"String": "▁"}, "content": " "}, {"type": "ByteFallback"},
            {"type": "Fuse"}, {"type": "Strip", "content": " ", "start": 1, "stop": 0}]},
        "model": {"type": "BPE", "vocab": ids, "merges": merges, "unk_token": "<unk>", "byte_fallback": true, "fuse_unk": true}
    });
    Tokenizer::from_bytes(json.to_string()).unwrap()
}

struct Rig {
    tokenizer: Arc<Tokenizer>,
    compiler: GrammarCompiler,
    logits: usize,
    eos: u32,
}

fn rig(tokenizer: Tokenizer) -> Rig {
    let tokenizer = Arc::new(tokenizer);
    let logits = tokenizer.get_vocab_size(true) + PADDING;
    let eos = tokenizer.token_to_id(EOS).unwrap();
    let compiler = GrammarCompiler::new(&tokenizer, logits, &[eos]).unwrap();
    Rig { tokenizer, compiler, logits, eos }
}

struct Generated {
    text: String,
    /// Whether the text ended by itself or is valid where the limit cut it.
    complete: bool,
    can_complete: bool,
    tokens: usize,
}

/// A text being generated.
struct Run<'r> {
    rig: &'r Rig,
    matcher: Matcher,
    sampler: Sampler,
    random: u64,
    ids: Vec<u32>,
    limit: usize,
    /// Whether masks are computed before a token is drawn.
    masked: bool,
}

impl Run<'_> {
    fn remaining(&self) -> usize {
        self.limit - self.ids.len()
    }

    /// Samples a token; returns whether the text is complete.
    fn sample(&mut self) -> bool {
        let left = self.remaining();
        let logits: Vec<f32> = (0..self.rig.logits).map(|_| random_logit(&mut self.random)).collect();
        if self.masked {
            self.matcher.mask(left).unwrap();
        }
        let (sampled, complete) = self.matcher.sample(&mut self.sampler, &logits, left).unwrap();
        assert!(self.rig.tokenizer.id_to_token(sampled.id).is_some(), "padding was allowed");
        self.taken(sampled.id);
        complete
    }

    fn force(&mut self, ids: &[u32]) -> bool {
        let mut complete = false;
        for id in &ids[..ids.len().min(self.remaining())] {
            let progress = self.matcher.accept(*id, self.remaining()).unwrap();
            assert_ne!(progress, Progress::Rejected);
            self.taken(*id);
            complete = progress == Progress::Complete;
        }
        complete
    }

    fn taken(&mut self, id: u32) {
        self.sampler.push(id);
        if id != self.rig.eos {
            self.ids.push(id);
        }
    }
}

impl Rig {
    /// Generates from random logits; `forced` appends forced tokens without sampling, as the engine
    /// may.
    fn generate(&self, constraint: &Constraint, seed: u64, limit: usize, forced: bool) -> Generated {
        self.run(constraint, seed, limit, [forced, false])
    }

    fn run(
        &self,
        constraint: &Constraint,
        seed: u64,
        limit: usize,
        [forced, masked]: [bool; 2],
    ) -> Generated {
        let matcher = self.compiler.compile(constraint).unwrap();
        let sampler = Sampler::new(&SamplingParams { seed, ..SamplingParams::default() }, &[]);
        let random = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
        let mut run = Run { rig: self, matcher, sampler, random, ids: Vec::new(), limit, masked };
        let mut complete = false;
        while run.remaining() > 0 && !complete {
            let must = if forced { run.matcher.forced() } else { Vec::new() };
            complete = if must.is_empty() { run.sample() } else { run.force(&must) };
        }
        complete |= run.matcher.is_accepting();
        let text = self.tokenizer.decode(&run.ids, true).unwrap();
        Generated { text, complete, can_complete: run.matcher.can_complete(), tokens: run.ids.len() }
    }
}

/// Roughly normal, with a spread at which some tokens are much likelier than others.
fn random_logit(state: &mut u64) -> f32 {
    let mut sum = 0.0;
    for _ in 0..4 {
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        sum += (*state >> 40) as f32 / (1 << 24) as f32;
    }
    (sum - 2.0) * 5.0
}

fn runs() -> u64 {
    std::env::var("OBSERVATORY_CONSTRAINT_RUNS").ok().and_then(|runs| runs.parse().ok()).unwrap_or(300)
}

fn schemas() -> Vec<Value> {
    let skill = json!({
        "type": "object", "additionalProperties": false, "required": ["name", "level"],
        "properties": {"name": {"type": "string"}, "level": {"type": "integer", "minimum": 1, "maximum": 5},
            "tags": {"type": "array", "items": {"type": "string"}, "maxItems": 2}}
    });
    vec![
        json!({"type": "object", "additionalProperties": false, "required": ["job", "años"], "properties": {
            "job": {"type": "object", "required": ["title"], "additionalProperties": false, "properties": {
                "title": {"type": "string"}, "company": {"type": ["string", "null"]}}},
            "años": {"type": ["integer", "null"]}, "remote": {"type": "boolean"}}}),
        json!({"type": "object", "required": ["skills"], "additionalProperties": false,
            "properties": {"skills": {"type": "array", "items": {"$ref": "#/$defs/skill"}, "minItems": 1, "maxItems": 3}},
            "$defs": {"skill": skill}}),
        json!({"type": "array", "minItems": 1, "items": {"enum": ["técnica", "blanda", "🙂", 3, null, {"a": [1]}]}}),
        json!({"type": "object", "required": ["p", "n", "k"], "additionalProperties": false, "properties": {
            "p": {"type": "number", "minimum": 0, "maximum": 1}, "n": {"type": "integer", "minimum": -20, "maximum": 1500},
            "k": {"const": 2.5}, "m": {"type": "integer", "multipleOf": 5, "minimum": 0}}}),
        json!({"type": "object", "required": ["s", "p", "ñ"], "additionalProperties": false, "properties": {
            "s": {"type": "string", "minLength": 3, "maxLength": 12}, "p": {"type": "string", "pattern": "^[A-Z]{2}-[0-9]+$"},
            "ñ": {"type": "string", "enum": ["sí\n", "no\"", "日本"]}, "d": {"type": "string", "format": "date"}}}),
        json!({"oneOf": [
            {"type": "object", "required": ["kind", "x"], "additionalProperties": false,
                "properties": {"kind": {"const": "a"}, "x": {"type": "array", "items": {"type": "number"}}}},
            {"type": "object", "required": ["kind", "y"], "additionalProperties": {"type": "integer"},
                "properties": {"kind": {"const": "b"}, "y": {"type": "object", "additionalProperties": {"type": ["string", "boolean", "null"]}}}},
            {"type": "string", "maxLength": 5}]}),
    ]
}

#[test]
fn json_is_valid_however_few_tokens_are_left() {
    let schemas = schemas();
    let rigs = [rig(byte_level()), rig(sentence_piece())];
    let (mut complete, mut short) = (0, 0);
    for seed in 0..runs() {
        let schema = &schemas[seed as usize % schemas.len()];
        let rig = &rigs[seed as usize / schemas.len() % 2];
        let limit = 8 + (seed as usize * 7) % 150;
        let constraint = Constraint::JsonSchema(schema.to_string());
        let got = rig.generate(&constraint, seed, limit, seed % 3 == 0);
        assert!(got.tokens <= limit);
        if !got.can_complete {
            short += 1;
            continue;
        }
        assert!(got.complete, "{seed}: {schema} cut to {}", got.text);
        let value: Value =
            serde_json::from_str(&got.text).unwrap_or_else(|e| panic!("{seed}: {e}: {}", got.text));
        let validator = jsonschema::validator_for(schema).unwrap();
        assert!(validator.is_valid(&value), "{seed}: {schema} does not allow {}", got.text);
        complete += 1;
    }
    assert!(complete > 5 * short, "{complete} were complete, {short} had too few tokens");
}

#[test]
fn a_mask_made_before_changes_no_text() {
    let schemas = schemas();
    let rigs = [rig(byte_level()), rig(sentence_piece())];
    for seed in 0..40 {
        let constraint = Constraint::JsonSchema(schemas[seed as usize % schemas.len()].to_string());
        let texts = [false, true]
            .map(|masked| rigs[seed as usize / 6 % 2].run(&constraint, seed, 60, [false, masked]).text);
        assert_eq!(texts[0], texts[1], "{seed}");
    }
}

#[test]
fn a_token_is_allowed_where_the_mask_has_it() {
    let (schemas, rigs) = (schemas(), [rig(byte_level()), rig(sentence_piece())]);
    let mut checked = 0;
    for seed in 0..24 {
        let rig = &rigs[seed as usize / 6 % 2];
        let constraint = Constraint::JsonSchema(schemas[seed as usize % schemas.len()].to_string());
        let mut matcher = rig.compiler.compile(&constraint).unwrap();
        let mut sampler = Sampler::new(&SamplingParams { seed, ..SamplingParams::default() }, &[]);
        let mut random = seed + 1;
        for left in (1..50).rev() {
            let every: Vec<bool> =
                (0..rig.logits as u32).map(|id| matcher.allows(id, left).unwrap()).collect();
            let mask = matcher.mask(left).unwrap();
            let masked: Vec<bool> = (0..rig.logits).map(|id| mask[id / 32] >> (id % 32) & 1 == 1).collect();
            assert_eq!(every, masked, "{seed} {left}");
            checked += every.len();
            let logits: Vec<f32> = (0..rig.logits).map(|_| random_logit(&mut random)).collect();
            if matcher.sample(&mut sampler, &logits, left).unwrap().1 {
                break;
            }
        }
    }
    assert!(checked > 100_000);
}

/// Digits may go on up to the limit, and required fields follow them.
#[test]
fn what_is_drawn_out_is_closed_in_time() {
    let rig = rig(byte_level());
    let inner = json!({"type": "object", "additionalProperties": false, "required": ["b"],
        "properties": {"b": {"type": "array", "items": {"type": "string"}, "minItems": 1}}});
    let record = json!({"type": "object", "additionalProperties": false, "required": ["n", "why", "a"],
        "properties": {"n": {"type": "string", "pattern": "^[0-9]+$"}, "why": {"type": "string"}, "a": inner}});
    let schema = json!({"type": "array", "items": record, "minItems": 1});
    let mut matcher = rig.compiler.compile(&Constraint::JsonSchema(schema.to_string())).unwrap();
    let mut left = 700;
    for text in ["[{\"n\": \"", "1111111111"] {
        for id in rig.tokenizer.encode_fast(text, false).unwrap().get_ids() {
            assert_eq!(matcher.accept(*id, left).unwrap(), Progress::Accepted);
            left -= 1;
        }
    }
    matcher.mask(80).unwrap();
    assert!(matcher.can_complete());
}

#[test]
fn texts_match_the_expression_or_are_one_of_the_choices() {
    let rigs = [rig(byte_level()), rig(sentence_piece())];
    let regexes = [
        r"[a-z]{2,10}@[a-z]+\.(com|co)",
        r"(\d{1,3}(,\d{3})*|ningún[ao]?) (años|días)",
        r"[^\n]{0,40}!",
        r"(ab?)+/c",
    ];
    let choices = ["a", "ab", "abc.d*", "{\"x\": 1}", "señor", "🙂🙂", "a\nb", "<|end|>"].map(str::to_owned);
    for seed in 0..runs() {
        let rig = &rigs[seed as usize % 2];
        let limit = 40 + seed as usize % 60;
        let regex = regexes[seed as usize % regexes.len()];
        let got = rig.generate(&Constraint::Regex(regex.to_owned()), seed, limit, seed % 3 == 0);
        let whole = ::regex::Regex::new(&format!("^(?:{regex})$")).unwrap();
        assert!(got.complete && got.can_complete, "{seed}: {regex}: {:?} of {} tokens", got.text, got.tokens);
        assert!(whole.is_match(&got.text), "{seed}: {regex}: {:?}", got.text);
        let got = rig.generate(&Constraint::Choices(choices.to_vec()), seed, limit, seed % 3 == 0);
        assert!(got.complete && choices.contains(&got.text), "{seed}: {:?}", got.text);
    }
}

#[test]
fn grammars_are_followed() {
    let rig = rig(byte_level());
    let grammar = "start: NAME (\", \" NAME)*\nNAME: /[A-Z][a-z]{1,5}/";
    let names = ::regex::Regex::new("^[A-Z][a-z]{1,5}(, [A-Z][a-z]{1,5})*$").unwrap();
    for seed in 0..20 {
        let got = rig.generate(&Constraint::Lark(grammar.to_owned()), seed, 30, false);
        assert!(got.complete && names.is_match(&got.text), "{seed}: {:?}", got.text);
    }
}

#[test]
fn forced_tokens_are_those_of_the_tokenizer() {
    fn check(rig: &Rig, constraint: &Constraint, expected: &[&str]) {
        let ids = rig.compiler.compile(constraint).unwrap().forced();
        let tokens: Vec<String> = ids.iter().map(|id| rig.tokenizer.id_to_token(*id).unwrap()).collect();
        assert_eq!(tokens, expected);
    }
    let choice = Constraint::Choices(vec!["name true a<|end|>\u{1}".to_owned()]);
    let end = ["<", "|", "e", "n", "d", "|", ">", "<0x01>"];
    let before = ["name", "▁", "true", "▁a"];
    check(&rig(sentence_piece()), &choice, &[&before[..], &end[..]].concat());
    let both = Constraint::Choices(vec!["namea".to_owned(), "nameb".to_owned()]);
    check(&rig(sentence_piece()), &both, &["name"]);
    let schema = json!({"type": "object", "required": ["name"], "properties": {"name": {"type": "integer"}}, "additionalProperties": false});
    check(
        &rig(sentence_piece()),
        &Constraint::JsonSchema(schema.to_string()),
        &["{", "\"", "name", "\":", "▁"],
    );
}

#[test]
fn what_cannot_be_used_is_said_in_one_line() {
    fn check(constraint: Constraint, expected: &str) {
        let message = rig(sentence_piece()).compiler.compile(&constraint).unwrap_err().to_string();
        assert!(message.starts_with(expected), "{message:?}");
        assert!(!message.contains('\n') && message.chars().count() <= MAX_MESSAGE + 60, "{message:?}");
    }
    let schema = |text: &str| Constraint::JsonSchema(text.to_owned());
    check(schema("{"), "invalid JSON schema: EOF while parsing");
    check(schema("[]"), "invalid JSON schema: expected an object or true");
    check(schema(r#"{"type": "text"}"#), "invalid JSON schema: ");
    check(schema(r#"{"not": {"type": "string"}}"#), "invalid JSON schema: ");
    check(
        schema(r#"{"type": "string", "minLength": 3, "maxLength": 2}"#),
        "invalid JSON schema: Unsatisfiable schema: ",
    );
    check(schema(r##"{"$ref": "#/$defs/a"}"##), "invalid JSON schema: ");
    check(schema(r#"{"$ref": "http://localhost/a"}"#), "invalid JSON schema: ");
    check(schema(r#"{"oneOf": [{"type": "integer"}, {"type": "number"}]}"#), "invalid JSON schema: oneOf");
    check(Constraint::Regex("(a".to_owned()), "invalid regular expression: ");
    check(Constraint::Regex("a(?=b)".to_owned()), "invalid regular expression: ");
    check(Constraint::Lark("start: nothing".to_owned()), "invalid grammar: ");
    check(Constraint::Choices(Vec::new()), "invalid choices: expected at least one");
    check(Constraint::Choices(vec![String::new()]), "invalid choices: one of them is empty");
    let long = Constraint::Regex("a".repeat(MAX_BYTES + 1));
    check(long, "invalid regular expression: 65537 bytes; expected at most 65536");
}

#[test]
fn a_limit_below_the_shortest_text_has_no_completion() {
    let rig = rig(byte_level());
    let any = json!({"type": "integer"});
    let schema = json!({"type": "object", "required": ["a long name", "another long name"], "additionalProperties": false,
        "properties": {"a long name": any, "another long name": any}});
    let mut matcher = rig.compiler.compile(&Constraint::JsonSchema(schema.to_string())).unwrap();
    matcher.mask(3).unwrap();
    assert!(!matcher.can_complete());
    let mut matcher = rig.compiler.compile(&Constraint::JsonSchema(schema.to_string())).unwrap();
    matcher.mask(100).unwrap();
    assert!(matcher.can_complete());
}

#[test]
fn vocabularies_that_cannot_be_constrained_are_refused() {
    fn check(tokenizer: Tokenizer, logits: usize, eos: &[u32], expected: &str) {
        let error = GrammarCompiler::new(&Arc::new(tokenizer), logits, eos).unwrap_err().to_string();
        assert_eq!(error, expected);
    }
    let mut plain = sentence_piece();
    plain.with_decoder(None::<ByteLevel>);
    check(
        plain,
        1_000,
        &[1],
        "constraints need a byte-level or SentencePiece vocabulary; the tokenizer's decoder is neither",
    );
    let last = sentence_piece().get_vocab(true).into_values().max().unwrap();
    check(sentence_piece(), 100, &[1], &format!("token {last} has no logit: the model gives 100"));
    check(sentence_piece(), 1_000, &[], "the model has no end-of-sequence token");
    check(sentence_piece(), 1_000, &[1_000], "end-of-sequence token 1000 has no logit: the model gives 1000");
}

#[test]
fn messages_are_cut_to_one_line() {
    fn check(message: &str, expected: &str) {
        assert_eq!(one_line(message), expected);
    }
    check("a\n  b\n<non-verbose/>", "a b");
    check("panic: x\n<backtrace>\n0: y", "panic: x");
    check(&"ñ".repeat(300), &"ñ".repeat(300));
    check(&"ñ".repeat(301), &format!("{}…", "ñ".repeat(299)));
}

#[test]
fn can_be_shared_between_threads() {
    fn check<T: Send + Sync>() {}
    fn moves<T: Send>() {}
    check::<GrammarCompiler>();
    moves::<Matcher>();
}
