//! Text generation over gRPC: streams and batches, limits, constraints, cancellation.
//!
//! The model is a tiny one with random weights, so its words mean nothing.

use std::time::{Duration, Instant};

use observatory_proto::inference::v1 as pb;
use pb::generate_response::Event;
use pb::prompt::Kind;
use tonic::{Code, Status};
use tonic_types::StatusExt;

use crate::support::{Running, reference};

const MODEL: &str = "golden/qwen2";

async fn running(flags: &[&str]) -> Running {
    Running::with_fixtures(&[MODEL, "golden/tiny-e5"], flags).await
}

fn text(text: &str) -> pb::Prompt {
    pb::Prompt { kind: Some(Kind::Text(text.to_owned())) }
}

fn chat(content: &str) -> pb::Prompt {
    let message = pb::ChatMessage { role: "user".to_owned(), content: content.to_owned() };
    pb::Prompt { kind: Some(Kind::Chat(pb::Chat { messages: vec![message], ..Default::default() })) }
}

fn settings(max_new_tokens: u32) -> pb::GenerationSettings {
    pb::GenerationSettings {
        model: reference(MODEL),
        limits: Some(pb::GenerationLimits { max_new_tokens, ignore_end: true, ..Default::default() }),
        ..Default::default()
    }
}

fn sampled(seed: u64) -> Option<pb::Sampling> {
    Some(pb::Sampling { temperature: Some(1.0), seed: Some(seed), ..Default::default() })
}

/// Events of a stream, put together.
#[derive(Debug, Default)]
struct Generated {
    text: String,
    ids: Vec<u32>,
    logprobs: Vec<pb::TokenLogprobs>,
    started: pb::GenerationStarted,
    finished: pb::GenerationFinished,
}

async fn generate(
    running: &Running,
    settings: pb::GenerationSettings,
    prompt: pb::Prompt,
) -> Result<Generated, Status> {
    let request = pb::GenerateRequest { settings: Some(settings), prompt: Some(prompt) };
    let mut events = running.generation().generate(request).await?.into_inner();
    let mut generated = Generated::default();
    while let Some(message) = events.message().await? {
        match message.event.unwrap() {
            Event::Started(started) => {
                assert!(generated.ids.is_empty());
                generated.started = started;
            }
            Event::Delta(delta) => {
                generated.text += &delta.text;
                generated.ids.extend(delta.token_ids);
                generated.logprobs.extend(delta.logprobs);
            }
            Event::Finished(finished) => generated.finished = finished,
        }
    }
    assert!(generated.finished.usage.is_some(), "a stream ends with its figures");
    Ok(generated)
}

#[tokio::test]
async fn a_stream_and_a_batch_say_the_same() {
    let running = running(&[]).await;
    let prompts =
        ["Buscamos programador", "Se requiere inglés", "Buscamos programador de Python con experiencia"];
    let mut asked = settings(20);
    asked.sampling = sampled(7);
    let request = pb::GenerateBatchRequest {
        settings: Some(asked.clone()),
        prompts: prompts.iter().map(|prompt| text(prompt)).collect(),
    };
    let batch = running.generation().generate_batch(request).await.unwrap().into_inner();
    assert_eq!((batch.texts.len(), batch.model_name.as_str()), (3, MODEL));
    for (index, (prompt, of_batch)) in prompts.iter().zip(&batch.texts).enumerate() {
        asked.sampling = sampled(7 + index as u64);
        let alone = generate(&running, asked.clone(), text(prompt)).await.unwrap();
        assert_eq!((&alone.text, &alone.ids), (&of_batch.text, &of_batch.token_ids), "{prompt}");
        assert_eq!((alone.ids.len(), alone.started.seed), (20, 7 + index as u64));
        assert_eq!(alone.finished.reason(), pb::FinishReason::Length);
        let usage = alone.finished.usage.unwrap();
        assert_eq!(usage.completion_tokens, 20);
        assert_eq!(usage.prompt_tokens, alone.started.prompt_tokens);
        assert_eq!(of_batch.status.as_ref().unwrap().tokens, usage.prompt_tokens);
        let detokenized = pb::DetokenizeRequest {
            model: reference(MODEL),
            sequences: vec![pb::TokenSequence { ids: alone.ids.clone() }],
            ..Default::default()
        };
        let whole = running.tokenization().detokenize(detokenized).await.unwrap().into_inner();
        assert_eq!(whole.texts[0], alone.text);
    }
    let total: u32 = batch.texts.iter().map(|text| text.usage.unwrap().prompt_tokens).sum();
    assert_eq!(batch.usage.unwrap().prompt_tokens, total);
}

#[tokio::test]
async fn texts_end_where_they_are_told_to() {
    let running = running(&[]).await;
    let long = generate(&running, settings(40), text("Empresa de software")).await.unwrap();
    let stop: String = long.text.chars().skip(10).take(3).collect();
    let mut asked = settings(40);
    asked.limits.as_mut().unwrap().stop = vec![stop.clone()];
    let stopped = generate(&running, asked, text("Empresa de software")).await.unwrap();
    assert_eq!(stopped.text, long.text[..long.text.find(&stop).unwrap()]);
    assert_eq!(stopped.finished.reason(), pb::FinishReason::StopSequence);
    let mut asked = settings(40);
    asked.limits.as_mut().unwrap().stop_token_ids = vec![long.ids[5]];
    let first = long.ids.iter().position(|id| *id == long.ids[5]).unwrap();
    let stopped = generate(&running, asked, text("Empresa de software")).await.unwrap();
    assert_eq!(stopped.ids, long.ids[..=first]);
    // A bias makes the end-of-sequence token the likeliest one.
    let mut asked = settings(40);
    asked.limits.as_mut().unwrap().ignore_end = false;
    let eos = eos();
    asked.sampling = Some(pb::Sampling { logit_bias: [(eos, 100.0)].into(), ..Default::default() });
    let ended = generate(&running, asked, text("Empresa de software")).await.unwrap();
    assert_eq!((ended.text.as_str(), ended.ids), ("", vec![eos]));
    assert_eq!(ended.finished.reason(), pb::FinishReason::Stop);
}

/// End-of-sequence token of the fixture.
fn eos() -> u32 {
    let path = crate::support::goldens().join("models").join(MODEL).join("generation_config.json");
    let config: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let ids = &config["eos_token_id"];
    ids.as_u64().or_else(|| ids[0].as_u64()).unwrap() as u32
}

#[tokio::test]
async fn logprobs_are_those_of_the_model() {
    let running = running(&[]).await;
    let mut asked = settings(6);
    asked.logprobs = Some(3);
    let generated = generate(&running, asked, text("Buscamos")).await.unwrap();
    assert_eq!(generated.logprobs.len(), generated.ids.len());
    for (id, logprobs) in generated.ids.iter().zip(&generated.logprobs) {
        let values: Vec<f32> = logprobs.likeliest.iter().map(|token| token.logprob).collect();
        assert!(values.is_sorted_by(|a, b| a >= b) && values.len() == 3 && values[0] < 0.0, "{values:?}");
        assert_eq!((logprobs.likeliest[0].token_id, logprobs.likeliest[0].logprob), (*id, logprobs.logprob));
    }
    let generated = generate(&running, settings(2), text("Buscamos")).await.unwrap();
    assert!(generated.logprobs.is_empty());
}

#[tokio::test]
async fn constraints_are_kept() {
    let running = running(&[]).await;
    let schema = r#"{"type": "object", "properties": {"skills": {"type": "array", "items": {"enum": ["SQL", "Python"]},
        "maxItems": 3}, "remote": {"type": "boolean"}}, "required": ["skills", "remote"], "additionalProperties": false}"#;
    let constrained = |kind, seed| {
        let mut asked = settings(120);
        asked.limits.as_mut().unwrap().ignore_end = false;
        asked.constraint = Some(pb::Constraint { kind: Some(kind) });
        asked.sampling = sampled(seed);
        asked
    };
    for seed in 0..10 {
        let asked = constrained(pb::constraint::Kind::JsonSchema(schema.to_owned()), seed);
        let generated = generate(&running, asked, chat("hola")).await.unwrap();
        assert_eq!(generated.finished.reason(), pb::FinishReason::Stop, "{}", generated.text);
        let value: serde_json::Value = serde_json::from_str(&generated.text).expect(&generated.text);
        assert!(value["remote"].is_boolean() && value["skills"].is_array(), "{}", generated.text);
        let asked = constrained(pb::constraint::Kind::Regex("[0-9]{3}-[ab]+c".to_owned()), seed);
        let generated = generate(&running, asked, chat("hola")).await.unwrap();
        let (digits, rest) = generated.text.split_once('-').unwrap();
        assert!(digits.len() == 3 && digits.bytes().all(|byte| byte.is_ascii_digit()), "{}", generated.text);
        assert!(
            generated.finished.reason() == pb::FinishReason::Length || rest.ends_with('c'),
            "{}",
            generated.text
        );
        let choices = pb::Choices { texts: vec!["remoto".to_owned(), "presencial".to_owned()] };
        let asked = constrained(pb::constraint::Kind::Choices(choices), seed);
        let generated = generate(&running, asked, chat("hola")).await.unwrap();
        assert!(["remoto", "presencial"].contains(&generated.text.as_str()), "{}", generated.text);
    }
}

/// A record with fixed keys, order and punctuation: most of its tokens are forced.
const RECORD: &str = r#"{"type": "object", "properties": {"occupation": {"enum": ["contador", "programadora"]},
    "experience_years": {"type": "integer", "minimum": 1, "maximum": 9}, "languages": {"const": ["español"]}},
    "required": ["occupation", "experience_years", "languages"], "additionalProperties": false}"#;

#[tokio::test]
async fn forced_tokens_take_no_forward_pass() {
    let running = running(&[]).await;
    let asked = |seed, logprobs| {
        let mut asked = settings(200);
        asked.limits.as_mut().unwrap().ignore_end = false;
        let kind = pb::constraint::Kind::JsonSchema(RECORD.to_owned());
        asked.constraint = Some(pb::Constraint { kind: Some(kind) });
        asked.sampling = sampled(seed);
        asked.logprobs = logprobs;
        asked
    };
    let mut alone = Vec::new();
    for seed in 0..4 {
        let before = steps(&running).await;
        let generated = generate(&running, asked(seed, None), chat("hola")).await.unwrap();
        let taken = steps(&running).await - before;
        let value: serde_json::Value = serde_json::from_str(&generated.text).expect(&generated.text);
        assert_eq!(value["languages"][0], "español");
        assert_eq!(generated.finished.usage.unwrap().completion_tokens as usize, generated.ids.len());
        assert!(taken * 3 < generated.ids.len() as u64, "{taken} steps for {} tokens", generated.ids.len());
        alone.push(generated.text);
        // With log probabilities every token takes a forward pass, and gets the model's own.
        let before = steps(&running).await;
        let generated = generate(&running, asked(seed, Some(0)), chat("hola")).await.unwrap();
        assert_eq!(generated.logprobs.len(), generated.ids.len());
        // A step is counted after its tokens have been sent.
        assert!(steps(&running).await - before + 1 >= generated.ids.len() as u64);
        assert!(serde_json::from_str::<serde_json::Value>(&generated.text).is_ok(), "{}", generated.text);
    }
    let settings: Vec<_> = (0..4).map(|seed| asked(seed, None)).collect();
    let together = settings.into_iter().map(|settings| generate(&running, settings, chat("hola")));
    let together = futures::future::join_all(together).await;
    let together: Vec<String> = together.into_iter().map(|generated| generated.unwrap().text).collect();
    assert_eq!(together, alone);
}

/// Number of forward passes so far.
async fn steps(running: &Running) -> u64 {
    let metrics = running.scrape().await;
    let line = metrics.lines().find(|line| line.starts_with("observatory_inference_text_steps_total"));
    line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).expect("steps")
}

#[tokio::test]
async fn faults_are_told_apart() {
    let running = running(&["--max-text-bytes", "3000"]).await;
    let check =
        async |change: fn(&mut pb::GenerationSettings), prompt: pb::Prompt, expected: (Code, &str, &str)| {
            let mut asked = settings(4);
            change(&mut asked);
            let status = generate(&running, asked, prompt).await.unwrap_err();
            let details = status.get_error_details();
            let field = details.bad_request().map_or("", |bad| bad.field_violations[0].field.as_str());
            let reason = details.error_info().unwrap().reason.clone();
            assert_eq!((status.code(), reason.as_str(), field), expected, "{status:?}");
        };
    let invalid = Code::InvalidArgument;
    check(|_| (), pb::Prompt::default(), (invalid, "EMPTY_INPUT", "prompt")).await;
    check(|_| (), text(""), (invalid, "EMPTY_INPUT", "prompt")).await;
    check(|_| (), text(&"a ".repeat(1_400)), (invalid, "INPUT_TOO_LONG", "prompt")).await;
    check(|_| (), text(&"a ".repeat(2_000)), (invalid, "INPUT_TOO_LARGE", "prompt.text")).await;
    let tokens = pb::Prompt { kind: Some(Kind::Tokens(pb::TokenSequence { ids: vec![1, 100_000] })) };
    check(|_| (), tokens, (invalid, "INVALID_VALUE", "prompt.tokens.ids[1]")).await;
    let mut unknown = chat("hola");
    if let Some(Kind::Chat(chat)) = &mut unknown.kind {
        chat.template_arguments.insert("no_such_argument".to_owned(), "true".to_owned());
    }
    check(|_| (), unknown, (invalid, "BAD_CHAT", "prompt.chat")).await;
    let ask = text("hola");
    check(
        |asked| asked.limits.as_mut().unwrap().max_new_tokens = 100_000,
        ask.clone(),
        (invalid, "INVALID_VALUE", "settings.limits.max_new_tokens"),
    )
    .await;
    check(
        |asked| asked.limits.as_mut().unwrap().stop = vec![String::new()],
        ask.clone(),
        (invalid, "INVALID_VALUE", "settings.limits.stop[0]"),
    )
    .await;
    check(
        |asked| asked.sampling = Some(pb::Sampling { top_p: Some(1.5), ..Default::default() }),
        ask.clone(),
        (invalid, "INVALID_VALUE", "settings.sampling.top_p"),
    )
    .await;
    check(|asked| asked.logprobs = Some(21), ask.clone(), (invalid, "INVALID_VALUE", "settings.logprobs"))
        .await;
    let schema = |asked: &mut pb::GenerationSettings| {
        let kind = pb::constraint::Kind::JsonSchema("{\"type\": 7}".to_owned());
        asked.constraint = Some(pb::Constraint { kind: Some(kind) });
    };
    check(schema, ask.clone(), (invalid, "BAD_CONSTRAINT", "settings.constraint.json_schema")).await;
    check(
        |asked| asked.model = reference("golden/tiny-e5"),
        ask.clone(),
        (Code::FailedPrecondition, "WRONG_TASK", ""),
    )
    .await;
    check(|asked| asked.model = reference("no/such"), ask.clone(), (Code::NotFound, "UNKNOWN_MODEL", ""))
        .await;
}

#[tokio::test]
async fn one_prompt_at_fault_does_not_touch_the_others() {
    let running = running(&[]).await;
    let mut embed = crate::support::request(&["a"]);
    embed.settings = Some(pb::EmbedSettings { model: reference(MODEL), ..Default::default() });
    let status = running.embedding().embed(embed).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition);
    let request = pb::GenerateBatchRequest {
        settings: Some(settings(2)),
        prompts: vec![text("hola"), text(&"a ".repeat(1_400))],
    };
    let batch = running.generation().generate_batch(request).await.unwrap().into_inner();
    let fine: Vec<bool> = batch.texts.iter().map(|text| text.status.as_ref().unwrap().ok).collect();
    assert_eq!(fine, [true, false]);
    assert_eq!(batch.texts[1].status.as_ref().unwrap().error.as_ref().unwrap().reason, "INPUT_TOO_LONG");
}

async fn blocks_used(running: &Running) -> u32 {
    let request = pb::GetModelRequest { name: MODEL.to_owned() };
    running.models().get_model(request).await.unwrap().into_inner().model.unwrap().kv_blocks_used
}

/// Waits until no sequence uses a KV block.
async fn all_blocks_released(running: &Running) {
    let started = Instant::now();
    while blocks_used(running).await > 0 {
        assert!(started.elapsed() < Duration::from_secs(10), "blocks are not released");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_caller_who_goes_away_frees_the_blocks() {
    let running = running(&[]).await;
    let request = pb::GenerateRequest { settings: Some(settings(200)), prompt: Some(text("Buscamos")) };
    let mut events = running.generation().generate(request).await.unwrap().into_inner();
    while !matches!(events.message().await.unwrap().unwrap().event.unwrap(), Event::Delta(_)) {}
    drop(events);
    all_blocks_released(&running).await;
}

#[tokio::test]
async fn a_storm_leaves_nothing_behind() {
    let few = ["--max-running-sequences", "8", "--max-step-tokens", "24"];
    // All of them may wait: refusals are tested elsewhere.
    let queue = ["--max-queue-seconds", "3600", "--tokenizer-threads", "4"];
    let running = running(&[few, queue].concat()).await;
    let mut tasks = tokio::task::JoinSet::new();
    for index in 0..200u64 {
        let mut service = running.generation();
        tasks.spawn(async move {
            let mut asked = settings(1 + (index * 7 % 40) as u32);
            asked.sampling = sampled(index);
            let urgent = if index % 3 == 0 { pb::Priority::Interactive } else { pb::Priority::Bulk };
            asked.priority = urgent.into();
            let prompt = text(&"Buscamos analista de datos ".repeat(1 + (index % 4) as usize));
            let request = pb::GenerateRequest { settings: Some(asked), prompt: Some(prompt) };
            let mut request = tonic::Request::new(request);
            if index % 5 == 1 {
                request.set_timeout(Duration::from_millis(index % 50));
            }
            let mut events = match service.generate(request).await {
                Ok(events) => events.into_inner(),
                Err(status) => return Err(status.code()),
            };
            let patience = if index % 5 == 2 { 1 + index % 6 } else { u64::MAX };
            let mut messages = 0;
            loop {
                match events.message().await {
                    Ok(Some(_)) if messages == patience => return Ok(false),
                    Ok(Some(_)) => messages += 1,
                    Ok(None) => return Ok(true),
                    Err(status) => return Err(status.code()),
                }
            }
        });
    }
    let outcomes = tasks.join_all().await;
    let whole = outcomes.iter().filter(|outcome| **outcome == Ok(true)).count();
    assert!(whole >= 120, "{whole} of 200 texts were generated: {outcomes:?}");
    let expected = [Code::DeadlineExceeded, Code::Cancelled];
    assert!(outcomes.iter().filter_map(|outcome| outcome.err()).all(|code| expected.contains(&code)));
    all_blocks_released(&running).await;
    assert!(running.scrape().await.contains("observatory_inference_generated_tokens_total"));
}

fn hostile(kind: pb::constraint::Kind, seed: u64) -> pb::GenerationSettings {
    let constraint = Some(pb::Constraint { kind: Some(kind) });
    pb::GenerationSettings { constraint, sampling: sampled(seed), ..settings(200) }
}

/// A few bytes may ask for any amount of work: their author gets an error, and everybody else's
/// texts are generated meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn a_hostile_constraint_is_refused_and_holds_nobody_up() {
    use pb::constraint::Kind as Must;
    let running = std::sync::Arc::new(running(&[]).await);
    let refused = |error: &Status, field: &str| {
        let details = error.get_error_details();
        let named = details.bad_request().map(|bad| bad.field_violations[0].field.clone());
        assert_eq!((error.code(), named.as_deref()), (Code::InvalidArgument, Some(field)), "{error}");
        assert_eq!(details.error_info().unwrap().reason, "BAD_CONSTRAINT");
    };
    let long = "(a{1000}){1000}";
    let pattern = format!("{{\"type\": \"string\", \"pattern\": \"{long}\"}}");
    for (kind, field) in [
        (Must::Regex(long.to_owned()), "regex"),
        (Must::Regex(format!("({long}){{1000}}")), "regex"),
        (Must::JsonSchema(pattern), "json_schema"),
        (Must::Lark(format!("start: /{long}/")), "lark"),
        (Must::JsonSchema("{\"$ref\": \"#\"}".to_owned()), "json_schema"),
        (
            Must::JsonSchema(
                "{\"type\": \"object\", \"properties\": {\"a\": {\"$ref\": \"#\"}}, \"required\": [\"a\"]}"
                    .to_owned(),
            ),
            "json_schema",
        ),
    ] {
        let error = generate(&running, hostile(kind, 1), text("hola")).await.unwrap_err();
        refused(&error, &format!("settings.constraint.{field}"));
    }
    // These reach the expensive part during generation, each after another letter.
    let texts: Vec<_> = (0..6)
        .map(|seed| {
            let kind = Must::Regex("z|[a-y]((b{1000}){1000}){100}".to_owned());
            let running = std::sync::Arc::clone(&running);
            tokio::spawn(async move { generate(&running, hostile(kind, seed), text("hola")).await })
        })
        .collect();
    let mut written = 0;
    while texts.iter().any(|text| !text.is_finished()) {
        generate(&running, settings(1), text("adiós")).await.unwrap();
        written += 1;
    }
    // Each of them keeps a thread busy for half a second, in which the engine makes many steps.
    assert!(written > 20, "{written}");
    let mut failed = 0;
    for generated in texts {
        if let Err(error) = generated.await.unwrap() {
            refused(&error, "settings.constraint.regex");
            failed += 1;
        }
    }
    assert!(failed > 0, "no text reached the expensive part");
}
