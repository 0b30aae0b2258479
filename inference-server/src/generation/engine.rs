//! Steps of a language model over the texts it is asked for: continuous batching over blocks of
//! keys and values.
//!
//! A step takes first the newest tokens of every text that is being written (one that was chosen,
//! and those behind it that its constraint leaves no choice about), then as much of the prompts as
//! its budget of tokens has room for (Agrawal et al. 2024, arXiv:2403.02310). Interactive prompts
//! go first, but every fourth time a bulk one does. A prompt waits while another is computing the
//! same beginning. Where blocks run out, the text that was let in last gives its blocks back and is
//! computed again later; it goes on as if nothing had been.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use rayon::prelude::*;

use super::blocks::Blocks;
use super::choosing::{self, Choice, Choosers, Wanted};
use super::sequence::{Request, Sequence};
use crate::device::arbiter::DeviceArbiter;
use crate::error::Error;
use crate::kernels::matrix::Matrix;
use crate::kernels::paged::BLOCK;
use crate::models::ComputeError;
use crate::models::decoder::{LanguageModel, StepPiece};
use crate::scheduler::admission::Admission;

/// Of so many prompts let in one after the other one is a bulk one, if any waits.
const BULK_TURN: u64 = 4;

/// What an engine takes on.
#[derive(Debug, Clone, Copy)]
pub struct EngineLimits {
    /// Tokens of one step at most.
    pub step_tokens: usize,
    /// Texts that are written at the same time at most; no more than tokens of a step.
    pub texts: usize,
    /// Blocks of keys and values.
    pub blocks: usize,
}

/// What an engine did and holds, for whoever asks.
#[derive(Debug, Default)]
pub struct Counters {
    /// Texts being written.
    pub running: AtomicU64,
    /// Texts that wait.
    pub waiting: AtomicU64,
    /// Blocks in use.
    pub blocks_used: AtomicU64,
    /// Forward passes.
    pub steps: AtomicU64,
    /// Tokens of prompts, and of texts computed again, that went through the model.
    pub prompt_tokens: AtomicU64,
    /// Tokens of prompts found computed.
    pub cached_tokens: AtomicU64,
    /// Tokens written.
    pub written_tokens: AtomicU64,
    /// Texts that gave their blocks back to others.
    pub preemptions: AtomicU64,
}

/// Texts of one step.
struct Share {
    id: u64,
    tokens: usize,
}

/// A language model and the texts it is at.
pub(crate) struct Engine {
    model: Box<dyn LanguageModel>,
    limits: EngineLimits,
    blocks: Blocks,
    /// Interactive ones, and bulk ones.
    waiting: [VecDeque<Sequence>; 2],
    /// In the order they were let in.
    running: Vec<Sequence>,
    arbiter: Arc<DeviceArbiter>,
    admission: Arc<Admission>,
    counters: Arc<Counters>,
    choosers: Choosers,
    next_id: u64,
    let_in: u64,
    steps: u64,
}

impl Engine {
    /// An engine without texts.
    ///
    /// # Errors
    /// If the system gives no threads for constraints.
    pub(crate) fn new(
        model: Box<dyn LanguageModel>,
        limits: EngineLimits,
        arbiter: Arc<DeviceArbiter>,
        admission: Arc<Admission>,
        counters: Arc<Counters>,
    ) -> anyhow::Result<Self> {
        Ok(Self {
            choosers: Choosers::start()?,
            model,
            limits,
            blocks: Blocks::new(limits.blocks),
            waiting: Default::default(),
            running: Vec::new(),
            arbiter,
            admission,
            counters,
            next_id: 0,
            let_in: 0,
            steps: 0,
        })
    }

    /// Takes a text on. Its prompt and longest continuation must fit into the blocks there are.
    pub(crate) fn submit(&mut self, request: Request) {
        let mut sequence = Sequence::new(self.next_id, request, self.model.prefill_kv_differs());
        self.next_id += 1;
        let longest = sequence.tokens.len() + sequence.request.max_new_tokens;
        if longest.div_ceil(BLOCK) > self.blocks.capacity() {
            return sequence
                .fail(Error::KvExhausted { tokens: longest, room: self.blocks.capacity() * BLOCK });
        }
        self.waiting[usize::from(!sequence.is_urgent())].push_back(sequence);
    }

    /// Whether there is nothing to do.
    pub(crate) fn is_idle(&self) -> bool {
        self.running.is_empty() && self.waiting.iter().all(VecDeque::is_empty)
    }

    /// Blocks that no text uses.
    #[cfg(test)]
    pub(crate) fn free_blocks(&self) -> usize {
        self.blocks.available()
    }

    /// One forward pass, if there is anything to compute.
    pub(crate) fn step(&mut self) {
        let chosen = self.choosers.chosen(false);
        self.take(chosen);
        self.sweep();
        self.let_in();
        let shares = self.plan();
        if !shares.is_empty() {
            self.compute(&shares);
        } else if self.running.iter().any(|sequence| sequence.choosing) {
            let chosen = self.choosers.chosen(true);
            self.take(chosen);
        }
        self.drop_ended();
        self.count();
    }

    /// Gives texts what was chosen for them; those that ended meanwhile have no use for it.
    fn take(&mut self, choices: Vec<Choice>) {
        for (id, chosen) in choices {
            let mut texts = self.running.iter_mut().chain(self.waiting.iter_mut().flatten());
            let Some(sequence) = texts.find(|sequence| sequence.id == id) else { continue };
            match chosen {
                Ok(chosen) => {
                    let tokens = sequence.take(chosen);
                    self.counters.written_tokens.fetch_add(tokens as u64, Ordering::Relaxed);
                }
                Err(error) => match choosing::fault(&error) {
                    Some(cause) => sequence.fail_constraint(cause),
                    None => not_chosen(sequence, &error),
                },
            }
        }
    }

    /// Ends every text that is being written.
    pub(crate) fn fail_running(&mut self) {
        self.running.iter_mut().for_each(|sequence| sequence.fail(Error::Backend));
        self.drop_ended();
    }

    /// Ends texts that are of no use any more.
    fn sweep(&mut self) {
        let now = Instant::now();
        let admission = &self.admission;
        for sequence in self.running.iter_mut().chain(self.waiting.iter_mut().flatten()) {
            if let Some(error) = sequence.abandoned(now, || admission.drain_estimate()) {
                sequence.fail(error);
            }
        }
        self.waiting.iter_mut().for_each(|waiting| waiting.retain(|sequence| !sequence.has_ended()));
        self.drop_ended();
    }

    fn drop_ended(&mut self) {
        let blocks = &mut self.blocks;
        self.running.retain_mut(|sequence| {
            if sequence.has_ended() {
                blocks.release(&mut sequence.blocks);
            }
            !sequence.has_ended()
        });
    }

    /// Lets waiting texts in as long as there is room for all their tokens and one more block.
    fn let_in(&mut self) {
        while self.running.len() < self.limits.texts.min(self.limits.step_tokens) {
            let bulk_turn = self.let_in % BULK_TURN == BULK_TURN - 1;
            let order = if bulk_turn { [1, 0] } else { [0, 1] };
            let Some(class) = order.into_iter().find(|class| !self.waiting[*class].is_empty()) else {
                return;
            };
            let Some(mut sequence) = self.waiting[class].pop_front() else { return };
            self.adopt(&mut sequence);
            let wanted = sequence.tokens.len() / BLOCK + 1 - sequence.blocks.len();
            if wanted > self.blocks.available() && !self.running.is_empty() {
                // It is looked for again, and counted again, when it is let in.
                self.counters.cached_tokens.fetch_sub(sequence.computed as u64, Ordering::Relaxed);
                self.blocks.release(&mut sequence.blocks);
                sequence.computed = 0;
                self.waiting[class].push_front(sequence);
                return;
            }
            self.let_in += 1;
            self.running.push(sequence);
        }
    }

    /// Finds blocks that hold what comes next in the text, but leaves its last token to be
    /// computed.
    fn adopt(&mut self, sequence: &mut Sequence) {
        adopt(&mut self.blocks, &self.counters, sequence);
    }

    /// The tokens of the next step, each text's room for them taken.
    fn plan(&mut self) -> Vec<Share> {
        loop {
            let mut shares = Vec::new();
            let mut left = self.limits.step_tokens;
            self.plan_writing(&mut shares, &mut left);
            self.plan_prompts(&mut shares, &mut left);
            if !shares.is_empty() || self.running.iter().all(|sequence| sequence.choosing) {
                return shares;
            }
            // Prompts hold each other's blocks: the last one lets go.
            self.preempt(self.running.len() - 1);
        }
    }

    fn plan_writing(&mut self, shares: &mut Vec<Share>, left: &mut usize) {
        let ids: Vec<u64> =
            self.running.iter().filter(|sequence| sequence.decodes()).map(|sequence| sequence.id).collect();
        // One token for each comes before further ones of any.
        let mut spare = left.saturating_sub(ids.len());
        for id in ids {
            if *left == 0 {
                return;
            }
            while let Some(index) = self.running.iter().position(|sequence| sequence.id == id) {
                let tokens = self.room(index, self.running[index].left().min(1 + spare).min(*left));
                if tokens > 0 {
                    shares.push(Share { id, tokens });
                    *left -= tokens;
                    spare -= tokens - 1;
                    break;
                }
                let victim = self.victim();
                let victim_id = self.running[victim].id;
                self.preempt(victim);
                if let Some(place) = shares.iter().position(|share| share.id == victim_id) {
                    let Share { tokens, .. } = shares.remove(place);
                    *left += tokens;
                    spare += tokens - 1;
                }
            }
        }
    }

    /// Who gives way: the bulk text let in last, or else the interactive one.
    fn victim(&self) -> usize {
        let bulk = self.running.iter().rposition(|sequence| !sequence.is_urgent());
        bulk.unwrap_or(self.running.len() - 1)
    }

    fn preempt(&mut self, index: usize) {
        let mut sequence = self.running.remove(index);
        self.blocks.release(&mut sequence.blocks);
        sequence.computed = 0;
        self.counters.preemptions.fetch_add(1, Ordering::Relaxed);
        self.waiting[usize::from(!sequence.is_urgent())].push_front(sequence);
    }

    fn plan_prompts(&mut self, shares: &mut Vec<Share>, left: &mut usize) {
        let mut order: Vec<usize> =
            (0..self.running.len()).filter(|index| self.running[*index].reads()).collect();
        let bulk_first = self.steps % BULK_TURN == BULK_TURN - 1;
        order.sort_by_key(|index| self.running[*index].is_urgent() == bulk_first);
        let mut pending = HashSet::new();
        for index in order {
            if *left == 0 {
                return;
            }
            adopt(&mut self.blocks, &self.counters, &mut self.running[index]);
            let sequence = &mut self.running[index];
            let at_block = sequence.computed.is_multiple_of(BLOCK);
            if let Some(next) = sequence.name(sequence.computed / BLOCK)
                && !pending.insert(next)
                && at_block
            {
                continue;
            }
            let tokens = self.room(index, self.running[index].left().min(*left));
            if tokens > 0 {
                shares.push(Share { id: self.running[index].id, tokens });
                *left -= tokens;
            }
        }
    }

    /// Takes blocks for the next tokens of a text; for how many of them there is room.
    fn room(&mut self, index: usize, tokens: usize) -> usize {
        let sequence = &mut self.running[index];
        while sequence.blocks.len() * BLOCK < sequence.computed + tokens {
            match self.blocks.take() {
                Some(block) => sequence.blocks.push(block),
                None => break,
            }
        }
        tokens.min(sequence.blocks.len() * BLOCK - sequence.computed)
    }

    fn compute(&mut self, shares: &[Share]) {
        let turn = self.arbiter.exclusive();
        let started = Instant::now();
        let mut pieces = Vec::new();
        let mut masks = Vec::new();
        // Pieces in the order of the running texts, so that texts and rows can be walked together.
        for sequence in &mut self.running {
            let Some(share) = shares.iter().find(|share| share.id == sequence.id) else { continue };
            let forced = sequence.begin();
            self.counters.written_tokens.fetch_add(forced as u64, Ordering::Relaxed);
            let end = sequence.computed + share.tokens;
            let logits = end == sequence.tokens.len();
            pieces.push(StepPiece {
                tokens: &sequence.tokens[sequence.computed..end],
                start: sequence.computed,
                blocks: &sequence.blocks,
                prompt: sequence.request.prompt.len(),
                logits,
            });
            if logits {
                masks.extend(sequence.mask());
            }
        }
        let touched = self.blocks.touched();
        let model = &mut self.model;
        let done = Arc::new(AtomicBool::new(false));
        if model.runs_off_cpu() && !masks.is_empty() {
            self.choosers.prepare(masks, &done);
        }
        let computed = match model.reserve(touched) {
            Ok(()) => model.step(&pieces),
            Err(error) => Err(error),
        };
        done.store(true, Ordering::Relaxed);
        drop(turn);
        let tokens: usize = shares.iter().map(|share| share.tokens).sum();
        self.admission.observe(tokens, started.elapsed());
        self.steps += 1;
        match computed {
            Ok(logits) => {
                let wanted = hand_out(&mut self.running, &mut self.blocks, &self.counters, shares, logits);
                if !wanted.is_empty() {
                    let chosen = self.choosers.choose(wanted);
                    self.take(chosen);
                }
            }
            Err(error) => fail(&mut self.running, shares, &error),
        }
    }

    fn count(&self) {
        let set = |counter: &AtomicU64, value: usize| counter.store(value as u64, Ordering::Relaxed);
        set(&self.counters.running, self.running.len());
        set(&self.counters.waiting, self.waiting.iter().map(VecDeque::len).sum());
        set(&self.counters.blocks_used, self.blocks.capacity() - self.blocks.available());
        self.counters.steps.store(self.steps, Ordering::Relaxed);
    }
}

fn adopt(blocks: &mut Blocks, counters: &Counters, sequence: &mut Sequence) {
    while sequence.computed == sequence.blocks.len() * BLOCK && sequence.left() > BLOCK {
        let found = sequence.name(sequence.blocks.len()).and_then(|name| blocks.share(name));
        let Some(block) = found else { return };
        sequence.blocks.push(block);
        sequence.computed += BLOCK;
        counters.cached_tokens.fetch_add(BLOCK as u64, Ordering::Relaxed);
    }
}

/// Gives every text of the step what was computed for it; the texts choose their tokens on the
/// threads of the pool, but those with a constraint, which are handed back.
fn hand_out(
    running: &mut [Sequence],
    blocks: &mut Blocks,
    counters: &Counters,
    shares: &[Share],
    logits: &Matrix,
) -> Vec<Wanted> {
    // There is a row for each text whose last token was computed.
    let mut rows = 0..;
    let mut choices: Vec<(usize, &mut Sequence)> = Vec::new();
    let mut wanted = Vec::new();
    for sequence in running {
        let Some(share) = shares.iter().find(|share| share.id == sequence.id) else { continue };
        let before = sequence.computed / BLOCK;
        if !sequence.decodes() {
            counters.prompt_tokens.fetch_add(share.tokens as u64, Ordering::Relaxed);
        }
        sequence.computed += share.tokens;
        for index in before..sequence.computed / BLOCK {
            if let Some(name) = sequence.name(index) {
                blocks.publish(sequence.blocks[index], name);
            }
        }
        if sequence.left() == 0
            && let Some(row) = rows.next()
            && !sequence.has_ended()
        {
            if sequence.is_constrained() {
                wanted.extend(sequence.wanted(logits.row(row)));
            } else {
                choices.push((row, sequence));
            }
        }
    }
    let choose = |(row, sequence): (usize, &mut Sequence)| match sequence.choose(logits.row(row)) {
        Ok(tokens) => {
            counters.written_tokens.fetch_add(tokens as u64, Ordering::Relaxed);
        }
        Err(error) => not_chosen(sequence, &error),
    };
    if choices.len() > 1 {
        choices.into_par_iter().with_max_len(1).for_each(choose);
    } else {
        choices.into_iter().for_each(choose);
    }
    wanted
}

fn not_chosen(sequence: &mut Sequence, error: &anyhow::Error) {
    tracing::error!(error.message = format!("{error:#}"), "no token can be chosen");
    sequence.fail(Error::Backend);
}

fn fail(running: &mut [Sequence], shares: &[Share], error: &ComputeError) {
    tracing::error!(error.message = %error, texts = shares.len(), "forward pass failed");
    for sequence in running.iter_mut().filter(|sequence| shares.iter().any(|share| share.id == sequence.id)) {
        sequence.fail(Error::Backend);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::time::Duration;

    use tokenizers::Tokenizer;
    use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
    use tokio_util::sync::CancellationToken;

    use super::super::pieces::Pieces;
    use super::super::sampler::{Sampler, Sampling};
    use super::super::sequence::{Event, Reason};
    use super::super::stop::Stops;
    use super::*;
    use crate::scheduler::admission::{Budget, Limits};
    use crate::scheduler::batcher::Priority;

    const WORDS: u32 = 24;
    /// A token that the model panics on.
    const PANIC: u32 = 99;

    /// Keeps the tokens themselves where keys and values would be, and gives logits that depend on
    /// every token of the text as the blocks hold it.
    #[derive(Default)]
    struct Reader {
        blocks: HashMap<u32, [u32; BLOCK]>,
        logits: Matrix,
        /// Tokens computed.
        tokens: Arc<AtomicU64>,
    }

    fn mix(state: u64, value: u64) -> u64 {
        let mixed = (state ^ value).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        mixed ^ (mixed >> 29)
    }

    fn row(text: impl Iterator<Item = u32>, row: &mut [f32]) {
        let state = text.fold(7, |state, token| mix(state, u64::from(token)));
        for (id, logit) in row.iter_mut().enumerate() {
            *logit = (mix(state, id as u64) >> 40) as f32 / (1 << 22) as f32;
        }
    }

    impl LanguageModel for Reader {
        fn reserve(&mut self, _: usize) -> Result<(), ComputeError> {
            Ok(())
        }

        fn step(&mut self, pieces: &[StepPiece<'_>]) -> Result<&Matrix, ComputeError> {
            assert!(pieces.iter().all(|piece| !piece.tokens.contains(&PANIC)), "a model's fault");
            self.logits.resize(pieces.iter().filter(|piece| piece.logits).count(), WORDS as usize);
            let mut next = 0;
            for piece in pieces {
                self.tokens.fetch_add(piece.tokens.len() as u64, Ordering::Relaxed);
                for (place, token) in (piece.start..).zip(piece.tokens) {
                    self.blocks.entry(piece.blocks[place / BLOCK]).or_default()[place % BLOCK] = *token;
                }
                if piece.logits {
                    let end = piece.start + piece.tokens.len();
                    let stored =
                        (0..end).map(|place| self.blocks[&piece.blocks[place / BLOCK]][place % BLOCK]);
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

    /// A small generator of numbers.
    struct Numbers(u64);

    impl Numbers {
        fn below(&mut self, end: u64) -> usize {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            ((self.0 >> 33) % end) as usize
        }
    }

    #[derive(Debug, Clone)]
    struct Text {
        prompt: Vec<u32>,
        sampling: Sampling,
        max_new_tokens: usize,
        priority: Priority,
    }

    impl Text {
        fn any(numbers: &mut Numbers) -> Self {
            // Beginnings of three common texts, and something of their own behind.
            let common = numbers.below(3) as u32;
            let mut prompt: Vec<u32> =
                (0..numbers.below(100) as u32).map(|at| (at * 7 + common) % WORDS).collect();
            prompt.extend((0..=numbers.below(40)).map(|_| numbers.below(u64::from(WORDS)) as u32));
            let sampling = Sampling {
                temperature: if numbers.below(2) == 0 { 0.0 } else { 1.0 },
                top_p: 0.9,
                repetition_penalty: 1.1,
                seed: numbers.below(1_000) as u64,
                ..Sampling::default()
            };
            let priority = if numbers.below(3) == 0 { Priority::Interactive } else { Priority::Bulk };
            Self { prompt, sampling, max_new_tokens: 1 + numbers.below(60), priority }
        }

        /// What has to come of it, worked out without an engine.
        fn alone(&self) -> Vec<u32> {
            let mut sampler = Sampler::new(&self.sampling, &self.prompt);
            let mut text = self.prompt.clone();
            let mut logits = vec![0.0; WORDS as usize];
            for _ in 0..self.max_new_tokens {
                row(text.iter().copied(), &mut logits);
                let id = sampler.sample(&logits, None).unwrap().id;
                sampler.push(id);
                text.push(id);
                if text.last() == Some(&0) {
                    break;
                }
            }
            text.split_off(self.prompt.len())
        }
    }

    struct Bench {
        engine: Engine,
        tokenizer: Arc<Tokenizer>,
        admission: Arc<Admission>,
        computed: Arc<AtomicU64>,
    }

    type Told = UnboundedReceiver<Result<Event, Error>>;

    impl Bench {
        fn new(limits: EngineLimits) -> Self {
            let admission =
                Admission::new(Limits { requests: 1, budget: Budget::Wait(Duration::from_secs(3_600)) });
            let model = Reader::default();
            let computed = Arc::clone(&model.tokens);
            let (turns, counters) = (Arc::default(), Arc::default());
            let engine =
                Engine::new(Box::new(model), limits, turns, Arc::clone(&admission), counters).unwrap();
            Self { engine, tokenizer: tokenizer(), admission, computed }
        }

        fn submit(&mut self, text: &Text, cancel: &CancellationToken, deadline: Option<Instant>) -> Told {
            let (events, told) = unbounded_channel();
            self.engine.submit(Request {
                prompt: text.prompt.clone(),
                sampler: Sampler::new(&text.sampling, &text.prompt),
                pieces: Pieces::new(Arc::clone(&self.tokenizer), true),
                stops: Stops::new(Vec::new()),
                matcher: None,
                takes_forced: true,
                end_ids: vec![0],
                stop_ids: Vec::new(),
                max_new_tokens: text.max_new_tokens,
                priority: text.priority,
                cancel: cancel.clone(),
                deadline,
                begin_by: None,
                permit: self.admission.reserve(1).unwrap(),
                events,
            });
            told
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

    fn written(told: &mut Told) -> Result<(Vec<u32>, Reason), Error> {
        let mut ids = Vec::new();
        loop {
            match told.try_recv().expect("an end")? {
                Event::Started { .. } => assert!(ids.is_empty()),
                Event::Token { sampled, .. } => ids.push(sampled.id),
                Event::Finished { reason, .. } => return Ok((ids, reason)),
            }
        }
    }

    /// How many schedules are tried: OBSERVATORY_SCHEDULES, 10,000 by default.
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
                texts: 1 + numbers.below(8),
                // A text has at most 200 tokens, which are seven blocks.
                blocks: 7 + numbers.below(12),
            };
            let mut bench = Bench::new(limits);
            let mut texts = Vec::new();
            for _ in 0..=numbers.below(12) {
                let (text, cancel) = (Text::any(numbers), CancellationToken::new());
                let told = bench.submit(&text, &cancel, None);
                texts.push((text, cancel, told));
                for _ in 0..numbers.below(20) {
                    bench.engine.step();
                }
                if numbers.below(6) == 0 {
                    let gone = numbers.below(texts.len() as u64);
                    texts[gone].1.cancel();
                }
            }
            bench.run();
            assert_eq!(bench.engine.free_blocks(), limits.blocks, "schedule {schedule}");
            for (text, cancel, mut told) in texts {
                match written(&mut told) {
                    Ok((ids, _)) => assert_eq!(ids, text.alone(), "schedule {schedule} {limits:?}"),
                    Err(error) => assert!(cancel.is_cancelled() && error == Error::Cancelled, "{error}"),
                }
            }
        }
    }

    #[test]
    fn a_panic_ends_the_texts_of_its_step_only() {
        let mut bench = Bench::new(EngineLimits { step_tokens: 64, texts: 8, blocks: 8 });
        let text = |first: u32| Text {
            prompt: vec![first, 2, 3],
            sampling: Sampling { temperature: 0.0, ..Sampling::default() },
            max_new_tokens: 2,
            priority: Priority::Bulk,
        };
        let cancel = CancellationToken::new();
        let mut faulty = bench.submit(&text(PANIC), &cancel, None);
        let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| bench.engine.step()));
        assert!(caught.is_err());
        bench.engine.fail_running();
        assert_eq!(written(&mut faulty), Err(Error::Backend));
        assert_eq!(bench.engine.free_blocks(), 8);
        let mut fine = bench.submit(&text(1), &cancel, None);
        bench.run();
        assert_eq!(written(&mut fine).unwrap().0, text(1).alone());
    }

    #[test]
    fn a_common_beginning_is_computed_once() {
        let limits = EngineLimits { step_tokens: 128, texts: 64, blocks: 1_000 };
        let mut bench = Bench::new(limits);
        let text = |own: u32| Text {
            prompt: (0..2_048).map(|at| at * at % WORDS).chain([own % WORDS, own / WORDS]).collect(),
            sampling: Sampling { temperature: 0.0, ..Sampling::default() },
            max_new_tokens: 1,
            priority: Priority::Bulk,
        };
        let texts: Vec<Text> = (0..64).map(text).collect();
        let cancel = CancellationToken::new();
        let told: Vec<Told> = texts.iter().map(|text| bench.submit(text, &cancel, None)).collect();
        bench.run();
        for (text, mut told) in texts.iter().zip(told) {
            assert_eq!(written(&mut told).unwrap().0, text.alone());
        }
        let computed = bench.computed.load(Ordering::Relaxed);
        assert_eq!(computed, 2_048 + 64 * 2, "tokens computed of {}", 64 * 2_050);
    }

    #[test]
    fn interactive_texts_go_first_and_bulk_ones_are_not_left() {
        let mut bench = Bench::new(EngineLimits { step_tokens: 16, texts: 1, blocks: 100 });
        let text = |priority| Text {
            prompt: vec![1; 4],
            sampling: Sampling { temperature: 0.0, ..Sampling::default() },
            max_new_tokens: 1,
            priority,
        };
        let cancel = CancellationToken::new();
        let mut told: Vec<(usize, Told)> = Vec::new();
        for index in 0..8 {
            let priority = if index < 4 { Priority::Bulk } else { Priority::Interactive };
            told.push((index, bench.submit(&text(priority), &cancel, None)));
        }
        let mut order = Vec::new();
        while !bench.engine.is_idle() {
            bench.engine.step();
            told.retain_mut(|(index, told)| {
                let begun = told.try_recv().is_ok();
                if begun {
                    order.push(*index);
                }
                !begun
            });
        }
        assert_eq!(order, [4, 5, 6, 0, 7, 1, 2, 3]);
    }

    #[test]
    fn what_is_of_no_use_is_dropped_before_the_next_step() {
        let mut bench = Bench::new(EngineLimits { step_tokens: 64, texts: 1, blocks: 8 });
        let text = Text {
            prompt: vec![1; 40],
            sampling: Sampling { temperature: 0.0, logit_bias: vec![(0, -100.0)], ..Sampling::default() },
            max_new_tokens: 100,
            priority: Priority::Bulk,
        };
        let cancel = CancellationToken::new();
        let mut running = bench.submit(&text, &cancel, None);
        bench.engine.step();
        let mut late = bench.submit(&text, &CancellationToken::new(), Some(Instant::now()));
        drop(bench.submit(&text, &CancellationToken::new(), None));
        bench.engine.step();
        assert_eq!(written(&mut late), Err(Error::ExpiredInQueue));
        assert!(bench.engine.free_blocks() < 8);
        cancel.cancel();
        bench.engine.step();
        assert_eq!(bench.engine.free_blocks(), 8);
        assert_eq!(written(&mut running), Err(Error::Cancelled));
        assert!(bench.engine.is_idle());
        let mut large = bench.submit(&Text { max_new_tokens: 300, ..text }, &CancellationToken::new(), None);
        assert_eq!(written(&mut large), Err(Error::KvExhausted { tokens: 340, room: 256 }));
    }
}
