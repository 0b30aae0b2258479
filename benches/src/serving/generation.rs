//! How fast a language model reads and writes, alone and for many callers at once.
//!
//! Each round measures llama.cpp too, if it is given, so that other load hits both sides.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use observatory_inference::Stop;
use observatory_proto::inference::v1 as pb;
use pb::generation_service_client::GenerationServiceClient;
use pb::prompt::Kind;
use serde_json::json;
use tonic::transport::Channel;

use crate::llama::Llama;
use crate::served::{self, median};
use crate::store::Random;
use crate::writer::{self, END, MODEL, Recipe};

/// Texts at a time, and as many one after the other.
const CALLERS: usize = 16;
/// Tokens of a prompt that is only read, and of a text that is only written.
const READ: usize = 512;
const WRITTEN: u32 = 48;
/// Tokens of the prompt before a text that is only written, and texts written at the same pace.
const BEFORE: usize = 16;
const EQUAL: usize = 8;
/// Times that a round compares calls under a constraint with calls without.
const TURNS: usize = 3;

/// Flags of the generation bench.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// How the weights are stored.
    #[arg(long, value_enum, default_value = "q8_0")]
    recipe: Recipe,
    /// Measurements of each kind.
    #[arg(long, default_value_t = 2)]
    rounds: usize,
    /// A Python that has llama-cpp-python, to read the same file with as many threads.
    #[arg(long)]
    llama: Option<PathBuf>,
    /// Only write the model's file, for another program to read.
    #[arg(long)]
    write: Option<PathBuf>,
}

/// Tokens of an enhanced advertisement: the instructions that all share, its own text, and the
/// answer.
const INSTRUCTIONS: usize = 512;
const ADVERTISEMENT: usize = 350;
const ANSWER: u32 = 250;
/// What may stand in a JSON string. What is measured is the mask, not what it forbids.
const STRING: &str = r#"[^"\\\x00-\x1F\x7F]{1,4000}"#;
/// Letters and spaces, for which every token of the vocabulary has to be looked at.
const LETTERS: &str = "[a-z ]{1,4000}";
/// Skills of an answer to the enhancer, whose records have some 45 tokens in the words of the
/// random file.
const SKILLS: usize = 5;

/// The enhancer's answer, with labels of two or three tokens as usual ones have, since a model with
/// random weights knows no end of them.
fn schema() -> String {
    let record = json!({
        "type": "object", "additionalProperties": false,
        "required": ["mention", "label", "same_as", "kind", "confidence"],
        "properties": {
            "mention": {"type": "integer", "minimum": 0, "maximum": 20},
            "label": {"type": "string", "minLength": 8, "maxLength": 20},
            "same_as": {"type": ["integer", "null"], "minimum": 0, "maximum": 20},
            "kind": {"enum": ["hard", "soft"]},
            "confidence": {"type": "number", "minimum": 0, "maximum": 1, "multipleOf": 0.01},
        },
    });
    json!({
        "type": "object", "additionalProperties": false, "required": ["skills", "implicit"],
        "properties": {
            "skills": {"type": "array", "items": record, "minItems": SKILLS, "maxItems": SKILLS},
            "implicit": {"type": "array", "items": {"type": "null"}, "maxItems": 0},
        },
    })
    .to_string()
}

/// What texts are kept to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kept {
    Nothing,
    String,
    Letters,
    Records,
}

impl Kept {
    fn constraint(self) -> Option<pb::Constraint> {
        let kind = match self {
            Self::Nothing => return None,
            Self::String => pb::constraint::Kind::Regex(STRING.to_owned()),
            Self::Letters => pb::constraint::Kind::Regex(LETTERS.to_owned()),
            Self::Records => pb::constraint::Kind::JsonSchema(schema()),
        };
        Some(pb::Constraint { kind: Some(kind) })
    }
}

struct Bench {
    client: GenerationServiceClient<Channel>,
    random: Random,
}

/// What is asked for: tokens to read, tokens to write, and what the text has to keep to.
#[derive(Clone, Copy)]
struct Asked {
    read: usize,
    write: u32,
    kept: Kept,
}

impl Bench {
    /// A prompt that no other begins like; letters only.
    fn request(&mut self, asked: Asked) -> pb::GenerateBatchRequest {
        let ids = self.letters(asked.read);
        Self::request_of(ids, asked)
    }

    fn letters(&mut self, count: usize) -> Vec<u32> {
        (0..count).map(|_| self.random.next() as u32 % 250).collect()
    }

    fn request_of(ids: Vec<u32>, asked: Asked) -> pb::GenerateBatchRequest {
        let kind = Kind::Tokens(pb::TokenSequence { ids });
        let limits =
            pb::GenerationLimits { max_new_tokens: asked.write, ignore_end: true, ..Default::default() };
        let constraint = asked.kept.constraint();
        // What a text is kept to could end at any token.
        let logit_bias = [(END, -100.0)].into();
        let sampling =
            pb::Sampling { temperature: Some(1.0), seed: Some(1), logit_bias, ..Default::default() };
        let settings = pb::GenerationSettings {
            model: Some(pb::ModelRef { name: MODEL.to_owned(), revision: String::new() }),
            sampling: Some(sampling),
            limits: Some(limits),
            constraint,
            ..Default::default()
        };
        pb::GenerateBatchRequest { settings: Some(settings), prompts: vec![pb::Prompt { kind: Some(kind) }] }
    }

    /// The text and its times.
    async fn generate(&mut self, asked: Asked) -> pb::GeneratedText {
        let request = self.request(asked);
        let mut answer = self.client.generate_batch(request).await.unwrap().into_inner();
        let text = answer.texts.remove(0);
        assert_eq!(text.token_ids.len(), asked.write as usize, "{:?}", text.status);
        text
    }

    /// Tokens read in a second.
    async fn reading(&mut self) -> f64 {
        let text = self.generate(Asked { read: READ, write: 1, kept: Kept::Nothing }).await;
        READ as f64 / seconds(text.timing.unwrap().first_token_ns)
    }

    /// Tokens written in a second behind the first.
    async fn writing(&mut self) -> f64 {
        let text = self.generate(Asked { read: BEFORE, write: WRITTEN, kept: Kept::Nothing }).await;
        f64::from(WRITTEN - 1) / behind_the_first(&text)
    }

    /// The same of several texts that are asked for at once.
    async fn equal(&mut self) -> f64 {
        let requests =
            [(); EQUAL].map(|()| self.request(Asked { read: BEFORE, write: WRITTEN, kept: Kept::Nothing }));
        let calls = requests.map(|request| {
            let mut client = self.client.clone();
            async move { client.generate_batch(request).await.unwrap().into_inner().texts.remove(0) }
        });
        let texts = futures::future::join_all(calls).await;
        let longest = texts.iter().map(behind_the_first).fold(0.0, f64::max);
        EQUAL as f64 * f64::from(WRITTEN - 1) / longest
    }

    /// Advertisements enhanced in an hour, as many at once as there are callers, and tokens of an
    /// answer.
    async fn advertisements(&mut self, kept: Kept) -> (f64, f64) {
        let asked = Asked { read: 0, write: if kept == Kept::Records { 2 * ANSWER } else { ANSWER }, kept };
        let instructions = self.letters(INSTRUCTIONS);
        let requests = [(); CALLERS].map(|()| {
            let ids = [instructions.clone(), self.letters(ADVERTISEMENT)].concat();
            Self::request_of(ids, asked)
        });
        let started = Instant::now();
        let calls = requests.map(|request| {
            let mut client = self.client.clone();
            async move { client.generate_batch(request).await.unwrap().into_inner() }
        });
        let answers = futures::future::join_all(calls).await;
        let took = started.elapsed().as_secs_f64();
        let usage = |count: fn(&pb::GenerationUsage) -> u32| -> u32 {
            answers.iter().map(|answer| count(answer.usage.as_ref().unwrap())).sum()
        };
        if kept == Kept::Records {
            let is_whole = |answer: &pb::GenerateBatchResponse| {
                serde_json::from_str::<serde_json::Value>(&answer.texts[0].text).is_ok()
            };
            assert!(answers.iter().all(is_whole), "{}", answers[0].texts[0].text);
        }
        let (cached, read_once) =
            (usage(|usage| usage.cached_prompt_tokens), (CALLERS - 1) * (INSTRUCTIONS - 32));
        assert!(cached as usize >= read_once, "{cached} tokens of instructions were found computed");
        let written = f64::from(usage(|usage| usage.completion_tokens)) / CALLERS as f64;
        (CALLERS as f64 * 3_600.0 / took, written)
    }

    /// Ragged calls: 4 to 49 tokens to read, 16 to 46 to write.
    fn ragged(kept: Kept) -> [Asked; CALLERS] {
        std::array::from_fn(|index| Asked {
            read: 4 + 3 * (index * 7 % CALLERS),
            write: 16 + 2 * (index * 5 % CALLERS) as u32,
            kept,
        })
    }

    /// Tokens written in a second, one call after the other.
    async fn serial(&mut self) -> f64 {
        let started = Instant::now();
        for asked in Self::ragged(Kept::Nothing) {
            self.generate(asked).await;
        }
        written(started)
    }

    /// The same calls at once.
    async fn together(&mut self, kept: Kept) -> f64 {
        let requests = Self::ragged(kept).map(|asked| self.request(asked));
        let started = Instant::now();
        let calls = requests.map(|request| {
            let mut client = self.client.clone();
            async move { client.generate_batch(request).await.unwrap() }
        });
        for (answer, asked) in futures::future::join_all(calls).await.iter().zip(Self::ragged(kept)) {
            assert_eq!(answer.get_ref().texts[0].token_ids.len(), asked.write as usize);
        }
        written(started)
    }

    /// Tokens written in a second by the calls at once, and of how much longer they take under a
    /// constraint, each time compared with the same calls without one.
    async fn constrained(&mut self, round: usize, added: &mut Figures<2>) -> f64 {
        let all = [Kept::Nothing, Kept::String, Kept::Letters];
        let mut paces = Vec::new();
        for turn in 0..TURNS {
            // Each comes first, second and last in turn.
            let mut pace = [0.0; 3];
            for which in (turn..turn + all.len()).map(|which| which % all.len()) {
                pace[which] = self.together(all[which]).await;
            }
            added.add(round, [pace[0] / pace[1], pace[0] / pace[2]]);
            paces.push(pace[0]);
        }
        median(paces)
    }
}

fn written(started: Instant) -> f64 {
    let tokens: u32 = Bench::ragged(Kept::Nothing).iter().map(|asked| asked.write).sum();
    f64::from(tokens) / started.elapsed().as_secs_f64()
}

/// Seconds from a text's first token to its last.
fn behind_the_first(text: &pb::GeneratedText) -> f64 {
    let timing = text.timing.unwrap();
    seconds(timing.total_ns - timing.first_token_ns)
}

fn seconds(nanoseconds: u64) -> f64 {
    Duration::from_nanos(nanoseconds).as_secs_f64()
}

/// Runs the bench and prints its table.
pub(crate) fn run(args: &Args) {
    if let Some(path) = &args.write {
        writer::write(args.recipe, path);
        return;
    }
    let store = writer::store(args.recipe);
    let file = store.path().join(MODEL).join("random.gguf");
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let stop = Stop::default();
    runtime.block_on(async {
        let (server, channel) = served::start(store.path(), &stop).await;
        let mut bench = Bench { client: GenerationServiceClient::new(channel), random: Random(5) };
        let first = Asked { read: 4, write: 1, kept: Kept::Nothing };
        while let Err(status) = {
            let request = bench.request(first);
            bench.client.generate_batch(request).await
        } {
            assert!(status.code() != tonic::Code::FailedPrecondition, "{status}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        measure(args, &mut bench, &file).await;
        stop.drain.cancel();
        server.await.unwrap();
    });
}

/// Figures of all rounds; the first round warms up.
struct Figures<const N: usize>([Vec<f64>; N]);

impl<const N: usize> Figures<N> {
    fn add(&mut self, round: usize, measured: [f64; N]) {
        if round > 0 {
            self.0.iter_mut().zip(measured).for_each(|(all, one)| all.push(one));
        }
    }
}

/// How much longer calls under a constraint take.
fn kept(added: Figures<2>) {
    for (mut shares, what) in
        added.0.into_iter().zip(["what may stand in a JSON string", "small letters and spaces"])
    {
        shares.sort_by(f64::total_cmp);
        let [low, middle, high] = [1, 2, 3].map(|quarter| (shares[shares.len() * quarter / 4] - 1.0) * 100.0);
        println!(
            "| the same kept to {what} | | | {middle:+.1} % time, half of all between {low:+.1} and {high:+.1} (bar 5, goal 2) |"
        );
    }
}

async fn measure(args: &Args, bench: &mut Bench, file: &Path) {
    let threads = rayon::current_num_threads();
    let mut llama = args.llama.as_ref().map(|python| Llama::start(python, file, threads, EQUAL));
    let (mut figures, mut theirs) = (Figures([const { Vec::new() }; 5]), Figures([const { Vec::new() }; 3]));
    let mut added = Figures([const { Vec::new() }; 2]);
    for round in 0..=args.rounds {
        let reading = bench.reading().await;
        let read = llama.as_mut().map(|llama| llama.reading(READ));
        let writing = bench.writing().await;
        let written = llama.as_mut().map(|llama| llama.writing(BEFORE, WRITTEN));
        let equal = bench.equal().await;
        let together = llama.as_mut().map(|llama| llama.together(EQUAL, BEFORE, WRITTEN));
        if let (Some(read), Some(written), Some(together)) = (read, written, together) {
            theirs.add(round, [read, written, together]);
        }
        let serial = bench.serial().await;
        let pace = bench.constrained(round, &mut added).await;
        figures.add(round, [reading, writing, equal, serial, pace]);
    }
    let size = std::fs::metadata(file).unwrap().len() / 1_000_000;
    println!(
        "| Qwen2.5-0.5B shape, random weights, {:?}, {size} MB, {threads} threads, tokens/s | through gRPC | llama.cpp | ratio |",
        args.recipe
    );
    println!("|---|---|---|---|");
    let peer = |which: usize| llama.as_ref().map(|_| median(theirs.0[which].clone()));
    let [reading, writing, equal, serial, together] = figures.0.map(median);
    let compared = |what: String, ours: f64, theirs: Option<f64>, aim: &str| match theirs {
        Some(theirs) => println!("| {what} | {ours:.1} | {theirs:.1} | **{:.2}** ({aim}) |", ours / theirs),
        None => println!("| {what} | {ours:.1} | not compared | |"),
    };
    compared(format!("reading a prompt of {READ}"), reading, peer(0), "bar 0.9");
    compared("writing one text, after the first token".to_owned(), writing, peer(1), "bar 0.9, goal 1.1");
    compared(format!("writing {EQUAL} texts at once, after the first token"), equal, peer(2), "bar 1.2");
    println!("| {CALLERS} ragged calls one after the other | {serial:.1} | | |");
    println!(
        "| the same at once | {together:.1} | | {:.1} times serial (bar 6, goal 10) |",
        together / serial
    );
    kept(added);
    for (kept, words) in
        [(Kept::Records, "as records under the enhancer's schema"), (Kept::Letters, "as free text")]
    {
        let (hourly, tokens) = bench.advertisements(kept).await;
        println!(
            "| advertisements an hour, {CALLERS} at once: {INSTRUCTIONS} tokens of instructions read once, {ADVERTISEMENT} \
             of their own, {tokens:.0} written {words} | {hourly:.0} | | (design: 1,500) |"
        );
    }
    if let Some(llama) = &llama {
        println!("\nllama.cpp without sampling and transport: {}.", llama.settings);
    }
}
