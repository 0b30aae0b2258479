//! Schedules, prefix cache, preemption and priorities, on a model whose logits are a hash of the
//! tokens that it finds in its KV blocks.

use std::collections::HashMap;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use tokenizers::Tokenizer;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio_util::sync::CancellationToken;

use super::super::detokenizer::Detokenizer;
use super::super::sampler::{Sampler, SamplingParams};
use super::super::sequence::{Event, FinishReason};
use super::super::stop_strings::StopStrings;
use super::*;
use crate::scheduler::admission::{Budget, Limits};
use crate::scheduler::batcher::Priority;

const WORDS: u32 = 24;
/// Token that the model panics on.
const PANIC: u32 = 99;

/// Stores the tokens themselves in place of keys and values, and gives logits that depend on every
/// token of the sequence as the blocks hold it.
#[derive(Default)]
struct TokenStore {
    blocks: HashMap<u32, [u32; BLOCK_TOKENS]>,
    logits: Matrix,
    /// Number of tokens computed.
    tokens: Arc<AtomicU64>,
}

fn mix(state: u64, value: u64) -> u64 {
    let mixed = (state ^ value).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    mixed ^ (mixed >> 29)
}

fn row(tokens: impl Iterator<Item = u32>, row: &mut [f32]) {
    let state = tokens.fold(7, |state, token| mix(state, u64::from(token)));
    for (id, logit) in row.iter_mut().enumerate() {
        *logit = (mix(state, id as u64) >> 40) as f32 / (1 << 22) as f32;
    }
}

impl LanguageModel for TokenStore {
    fn reserve(&mut self, _: usize) -> Result<(), ComputeError> {
        Ok(())
    }

    fn step(&mut self, pieces: &[StepPiece<'_>]) -> Result<&Matrix, ComputeError> {
        assert!(pieces.iter().all(|piece| !piece.tokens.contains(&PANIC)), "a fault of the model");
        self.logits.resize(pieces.iter().filter(|piece| piece.logits).count(), WORDS as usize);
        let mut next = 0;
        for piece in pieces {
            self.tokens.fetch_add(piece.tokens.len() as u64, Ordering::Relaxed);
            for (place, token) in (piece.start..).zip(piece.tokens) {
                self.blocks.entry(piece.blocks[place / BLOCK_TOKENS]).or_default()[place % BLOCK_TOKENS] =
                    *token;
            }
            if piece.logits {
                let end = piece.start + piece.tokens.len();
                let stored = (0..end)
                    .map(|place| self.blocks[&piece.blocks[place / BLOCK_TOKENS]][place % BLOCK_TOKENS]);
                row(stored, self.logits.row_mut(next));
                next += 1;
            }
        }
        Ok(&self.logits)
    }

    fn block_bytes(&self) -> usize {
        1
    }

    fn weight_bytes(&self) -> u64 {
        0
    }
}

fn tokenizer() -> Arc<Tokenizer> {
    let words: HashMap<String, u32> = (0..WORDS).map(|id| (format!("w{id}"), id)).collect();
    let json = serde_json::json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "normalizer": null,
        "decoder": null, "pre_tokenizer": {"type": "WhitespaceSplit"}, "post_processor": null,
        "model": {"type": "WordLevel", "unk_token": "w0", "vocab": words}
    });
    Arc::new(Tokenizer::from_bytes(json.to_string()).unwrap())
}

/// A linear congruential generator.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: u64) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) % end) as usize
    }
}

#[derive(Debug, Clone)]
struct Job {
    prompt: Vec<u32>,
    sampling: SamplingParams,
    max_new_tokens: usize,
    priority: Priority,
}

impl Job {
    fn any(numbers: &mut Numbers) -> Self {
        // One of three common prefixes, then tokens of its own.
        let common = numbers.below(3) as u32;
        let mut prompt: Vec<u32> =
            (0..numbers.below(100) as u32).map(|at| (at * 7 + common) % WORDS).collect();
        prompt.extend((0..=numbers.below(40)).map(|_| numbers.below(u64::from(WORDS)) as u32));
        let sampling = SamplingParams {
            temperature: if numbers.below(2) == 0 { 0.0 } else { 1.0 },
            top_p: 0.9,
            repetition_penalty: 1.1,
            seed: numbers.below(1_000) as u64,
            ..SamplingParams::default()
        };
        let priority = if numbers.below(3) == 0 { Priority::Interactive } else { Priority::Bulk };
        Self { prompt, sampling, max_new_tokens: 1 + numbers.below(60), priority }
    }

    /// Reference output, computed sequentially.
    fn reference(&self) -> Vec<u32> {
        let mut sampler = Sampler::new(&self.sampling, &self.prompt);
        let mut tokens = self.prompt.clone();
        let mut logits = vec![0.0; WORDS as usize];
        for _ in 0..self.max_new_tokens {
            row(tokens.iter().copied(), &mut logits);
            let id = sampler.sample(&logits, None).unwrap().id;
            sampler.push(id);
            tokens.push(id);
            if tokens.last() == Some(&0) {
                break;
            }
        }
        tokens.split_off(self.prompt.len())
    }
}

struct Bench {
    engine: Engine,
    tokenizer: Arc<Tokenizer>,
    admission: Arc<Admission>,
    computed: Arc<AtomicU64>,
}

type Events = UnboundedReceiver<Result<Event, Error>>;

impl Bench {
    fn new(limits: EngineLimits) -> Self {
        let admission =
            Admission::new(Limits { requests: 1, budget: Budget::Wait(Duration::from_secs(3_600)) });
        let model = TokenStore::default();
        let computed = Arc::clone(&model.tokens);
        let (arbiter, counters) = (Arc::default(), Arc::default());
        let engine = Engine::new(Box::new(model), limits, arbiter, Arc::clone(&admission), counters).unwrap();
        Self { engine, tokenizer: tokenizer(), admission, computed }
    }

    fn submit(&mut self, job: &Job, cancel: &CancellationToken, deadline: Option<Instant>) -> Events {
        let (events, receiver) = unbounded_channel();
        self.engine.submit(Request {
            prompt: job.prompt.clone(),
            sampler: Sampler::new(&job.sampling, &job.prompt),
            detokenizer: Detokenizer::new(Arc::clone(&self.tokenizer), true),
            stop_strings: StopStrings::new(Vec::new()),
            matcher: None,
            append_forced: true,
            eos_ids: vec![0],
            stop_token_ids: Vec::new(),
            max_new_tokens: job.max_new_tokens,
            priority: job.priority,
            cancel: cancel.clone(),
            deadline,
            begin_by: None,
            permit: self.admission.reserve(1).unwrap(),
            events,
        });
        receiver
    }

    fn run(&mut self) {
        let mut steps = 0;
        while !self.engine.is_idle() {
            self.engine.step();
            steps += 1;
            assert!(steps < 100_000, "the engine makes no progress");
        }
    }
}

fn generated(events: &mut Events) -> Result<(Vec<u32>, FinishReason), Error> {
    let mut ids = Vec::new();
    loop {
        match events.try_recv().expect("an end")? {
            Event::Started { .. } => assert!(ids.is_empty()),
            Event::Token { sampled, .. } => ids.push(sampled.id),
            Event::Finished { reason, .. } => return Ok((ids, reason)),
        }
    }
}

/// Number of schedules to try: OBSERVATORY_SCHEDULES, 10,000 by default.
fn schedules() -> u64 {
    std::env::var("OBSERVATORY_SCHEDULES").ok().and_then(|count| count.parse().ok()).unwrap_or(10_000)
}

#[test]
fn texts_do_not_depend_on_the_schedule() {
    for schedule in 0..schedules() {
        let numbers = &mut Numbers(schedule);
        let step_tokens = 1 + numbers.below(60);
        let limits = EngineLimits {
            step_tokens,
            max_running_sequences: 1 + numbers.below(8),
            // A sequence has at most 200 tokens, which are seven blocks.
            blocks: 7 + numbers.below(12),
        };
        let mut bench = Bench::new(limits);
        let mut jobs = Vec::new();
        for _ in 0..=numbers.below(12) {
            let (job, cancel) = (Job::any(numbers), CancellationToken::new());
            let events = bench.submit(&job, &cancel, None);
            jobs.push((job, cancel, events));
            for _ in 0..numbers.below(20) {
                bench.engine.step();
            }
            if numbers.below(6) == 0 {
                let gone = numbers.below(jobs.len() as u64);
                jobs[gone].1.cancel();
            }
        }
        bench.run();
        assert_eq!(bench.engine.free_blocks(), limits.blocks, "schedule {schedule}");
        for (job, cancel, mut events) in jobs {
            match generated(&mut events) {
                Ok((ids, _)) => assert_eq!(ids, job.reference(), "schedule {schedule} {limits:?}"),
                Err(error) => assert!(cancel.is_cancelled() && error == Error::Cancelled, "{error}"),
            }
        }
    }
}

#[test]
fn a_panic_ends_the_texts_of_its_step_only() {
    let mut bench = Bench::new(EngineLimits { step_tokens: 64, max_running_sequences: 8, blocks: 8 });
    let job = |first: u32| Job {
        prompt: vec![first, 2, 3],
        sampling: SamplingParams { temperature: 0.0, ..SamplingParams::default() },
        max_new_tokens: 2,
        priority: Priority::Bulk,
    };
    let cancel = CancellationToken::new();
    let mut faulty = bench.submit(&job(PANIC), &cancel, None);
    let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| bench.engine.step()));
    assert!(caught.is_err());
    bench.engine.fail_running();
    assert_eq!(generated(&mut faulty), Err(Error::Backend));
    assert_eq!(bench.engine.free_blocks(), 8);
    let mut fine = bench.submit(&job(1), &cancel, None);
    bench.run();
    assert_eq!(generated(&mut fine).unwrap().0, job(1).reference());
}

#[test]
fn a_common_beginning_is_computed_once() {
    let limits = EngineLimits { step_tokens: 128, max_running_sequences: 64, blocks: 1_000 };
    let mut bench = Bench::new(limits);
    let job = |own: u32| Job {
        prompt: (0..2_048).map(|at| at * at % WORDS).chain([own % WORDS, own / WORDS]).collect(),
        sampling: SamplingParams { temperature: 0.0, ..SamplingParams::default() },
        max_new_tokens: 1,
        priority: Priority::Bulk,
    };
    let jobs: Vec<Job> = (0..64).map(job).collect();
    let cancel = CancellationToken::new();
    let events: Vec<Events> = jobs.iter().map(|job| bench.submit(job, &cancel, None)).collect();
    bench.run();
    for (job, mut events) in jobs.iter().zip(events) {
        assert_eq!(generated(&mut events).unwrap().0, job.reference());
    }
    let computed = bench.computed.load(Ordering::Relaxed);
    assert_eq!(computed, 2_048 + 64 * 2, "tokens computed of {}", 64 * 2_050);
}

#[test]
fn interactive_texts_go_first_and_bulk_ones_are_not_left() {
    let mut bench = Bench::new(EngineLimits { step_tokens: 16, max_running_sequences: 1, blocks: 100 });
    let job = |priority| Job {
        prompt: vec![1; 4],
        sampling: SamplingParams { temperature: 0.0, ..SamplingParams::default() },
        max_new_tokens: 1,
        priority,
    };
    let cancel = CancellationToken::new();
    let mut events: Vec<(usize, Events)> = Vec::new();
    for index in 0..8 {
        let priority = if index < 4 { Priority::Bulk } else { Priority::Interactive };
        events.push((index, bench.submit(&job(priority), &cancel, None)));
    }
    let mut order = Vec::new();
    while !bench.engine.is_idle() {
        bench.engine.step();
        events.retain_mut(|(index, events)| {
            let started = events.try_recv().is_ok();
            if started {
                order.push(*index);
            }
            !started
        });
    }
    assert_eq!(order, [4, 5, 6, 0, 7, 1, 2, 3]);
}

#[test]
fn abandoned_sequences_are_dropped_before_the_next_step() {
    let mut bench = Bench::new(EngineLimits { step_tokens: 64, max_running_sequences: 1, blocks: 8 });
    let job = Job {
        prompt: vec![1; 40],
        sampling: SamplingParams {
            temperature: 0.0,
            logit_bias: vec![(0, -100.0)],
            ..SamplingParams::default()
        },
        max_new_tokens: 100,
        priority: Priority::Bulk,
    };
    let cancel = CancellationToken::new();
    let mut running = bench.submit(&job, &cancel, None);
    bench.engine.step();
    let mut late = bench.submit(&job, &CancellationToken::new(), Some(Instant::now()));
    drop(bench.submit(&job, &CancellationToken::new(), None));
    bench.engine.step();
    assert_eq!(generated(&mut late), Err(Error::ExpiredInQueue));
    assert!(bench.engine.free_blocks() < 8);
    cancel.cancel();
    bench.engine.step();
    assert_eq!(bench.engine.free_blocks(), 8);
    assert_eq!(generated(&mut running), Err(Error::Cancelled));
    assert!(bench.engine.is_idle());
    let mut large = bench.submit(&Job { max_new_tokens: 300, ..job }, &CancellationToken::new(), None);
    assert_eq!(generated(&mut large), Err(Error::KvExhausted { tokens: 340, room: 256 }));
}
