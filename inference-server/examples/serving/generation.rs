//! How fast a language model reads and writes, alone and for many callers at once.

use std::time::{Duration, Instant};

use observatory_inference::shutdown::Stop;
use observatory_proto::inference::v1 as pb;
use pb::constraint::Kind as Kept;
use pb::generation_service_client::GenerationServiceClient;
use pb::prompt::Kind;
use tonic::transport::Channel;

use crate::served::{self, median};
use crate::store::Random;
use crate::writer::{self, END, MODEL, Recipe};

/// Texts at a time, and as many one after the other.
const CALLERS: usize = 16;
/// Tokens of a prompt that is only read, and of a text that is only written.
const READ: usize = 512;
const WRITTEN: u32 = 48;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// How the weights are stored.
    #[arg(long, value_enum, default_value = "q8_0")]
    recipe: Recipe,
    /// Measurements of each kind.
    #[arg(long, default_value_t = 2)]
    rounds: usize,
    /// Only write the model's file, for another program to read.
    #[arg(long)]
    write: Option<std::path::PathBuf>,
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
    regex: Option<&'static str>,
}

impl Bench {
    /// A prompt that no other begins like; letters only.
    fn request(&mut self, asked: Asked) -> pb::GenerateBatchRequest {
        let ids = (0..asked.read).map(|_| self.random.next() as u32 % 250).collect();
        let kind = Kind::Tokens(pb::TokenSequence { ids });
        let limits =
            pb::GenerationLimits { max_new_tokens: asked.write, ignore_end: true, ..Default::default() };
        let constraint =
            asked.regex.map(|regex| pb::Constraint { kind: Some(Kept::Regex(regex.to_owned())) });
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
        let text = self.generate(Asked { read: READ, write: 1, regex: None }).await;
        READ as f64 / seconds(text.timing.unwrap().first_token_ns)
    }

    /// Tokens written in a second behind the first.
    async fn writing(&mut self) -> f64 {
        let text = self.generate(Asked { read: 16, write: WRITTEN, regex: None }).await;
        let timing = text.timing.unwrap();
        f64::from(WRITTEN - 1) / seconds(timing.total_ns - timing.first_token_ns)
    }

    /// Ragged calls: 4 to 49 tokens to read, 16 to 46 to write.
    fn ragged(regex: Option<&'static str>) -> [Asked; CALLERS] {
        std::array::from_fn(|index| Asked {
            read: 4 + 3 * (index * 7 % CALLERS),
            write: 16 + 2 * (index * 5 % CALLERS) as u32,
            regex,
        })
    }

    /// Tokens written in a second, one call after the other.
    async fn serial(&mut self) -> f64 {
        let started = Instant::now();
        for asked in Self::ragged(None) {
            self.generate(asked).await;
        }
        written(started)
    }

    /// The same calls at once.
    async fn together(&mut self, regex: Option<&'static str>) -> f64 {
        let requests = Self::ragged(regex).map(|asked| self.request(asked));
        let started = Instant::now();
        let calls = requests.map(|request| {
            let mut client = self.client.clone();
            async move { client.generate_batch(request).await.unwrap() }
        });
        for (answer, asked) in futures::future::join_all(calls).await.iter().zip(Self::ragged(regex)) {
            assert_eq!(answer.get_ref().texts[0].token_ids.len(), asked.write as usize);
        }
        written(started)
    }
}

fn written(started: Instant) -> f64 {
    let tokens: u32 = Bench::ragged(None).iter().map(|asked| asked.write).sum();
    f64::from(tokens) / started.elapsed().as_secs_f64()
}

fn seconds(nanoseconds: u64) -> f64 {
    Duration::from_nanos(nanoseconds).as_secs_f64()
}

pub(crate) fn run(args: &Args) {
    if let Some(path) = &args.write {
        writer::write(args.recipe, path);
        return;
    }
    let store = writer::store(args.recipe);
    let size = std::fs::metadata(store.path().join(MODEL).join("random.gguf")).unwrap().len();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let stop = Stop::default();
    runtime.block_on(async {
        let (server, channel) = served::start(store.path(), &stop).await;
        let mut bench = Bench { client: GenerationServiceClient::new(channel), random: Random(5) };
        let first = Asked { read: 4, write: 1, regex: None };
        while let Err(status) = {
            let request = bench.request(first);
            bench.client.generate_batch(request).await
        } {
            assert!(status.code() != tonic::Code::FailedPrecondition, "{status}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        measure(args, &mut bench, size).await;
        stop.drain.cancel();
        server.await.unwrap();
    });
}

async fn measure(args: &Args, bench: &mut Bench, size: u64) {
    // Any text of letters and spaces: what is measured is the mask, not what it forbids.
    let regex = Some("[a-z ]{1,4000}");
    let mut figures: [Vec<f64>; 5] = Default::default();
    for round in 0..=args.rounds {
        let together = bench.together(None).await;
        let measured = [
            bench.reading().await,
            bench.writing().await,
            bench.serial().await,
            together,
            bench.together(regex).await,
        ];
        // The first round warms up.
        if round > 0 {
            figures.iter_mut().zip(measured).for_each(|(all, one)| all.push(one));
        }
    }
    let [reading, writing, serial, together, kept] = figures.map(median);
    let threads = rayon::current_num_threads();
    println!(
        "| Qwen2.5-0.5B shape, random weights, {:?}, {} MB, {threads} threads, through gRPC | tokens/s |",
        args.recipe,
        size / 1_000_000
    );
    println!("|---|---|");
    println!("| reading a prompt of {READ} | {reading:.1} |");
    println!("| writing one text, after the first token | {writing:.1} |");
    println!("| {CALLERS} ragged calls one after the other | {serial:.1} |");
    println!("| the same at once ({:.1} times as fast; bar 6, goal 10) | {together:.1} |", together / serial);
    println!(
        "| the same kept to a regular expression ({:+.1} % time; bar 5, goal 2) | {kept:.1} |",
        (together / kept - 1.0) * 100.0
    );
}
