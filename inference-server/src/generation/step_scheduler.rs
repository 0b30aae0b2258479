//! The scheduler of an engine: admission to the KV cache, decodes, prefills, preemption.
//!
//! It owns the sequences and the block pool, and decides which tokens go into a step: first the
//! decode tokens of every running sequence (the one sampled last and the forced ones behind it),
//! then as much prefill as the step budget has room for (chunked prefill; Agrawal et al. 2024,
//! arXiv:2403.02310). Interactive sequences go before bulk ones, but bulk has every fourth turn. A
//! prompt waits while another one is prefilling the same prefix. If KV blocks run out, the sequence
//! admitted last gives up its blocks and is prefilled again later; it goes on as if nothing had
//! happened.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::kv_blocks::{BLOCK_TOKENS, BlockPool};
use super::sequence::Sequence;

/// Every fourth admission goes to a bulk prompt if one is waiting, and in every fourth step bulk
/// prompts are prefilled first. A choice: bulk keeps moving, and interactive prompts lose at most a
/// quarter.
const BULK_TURN: u64 = 4;

/// Limits of an engine.
#[derive(Debug, Clone, Copy)]
pub struct EngineLimits {
    /// Step budget: maximum number of tokens of one step.
    pub step_tokens: usize,
    /// Maximum number of running sequences; never more than the step budget.
    pub max_running_sequences: usize,
    /// Number of KV blocks.
    pub blocks: usize,
}

/// Counters and gauges of an engine, read by the metrics endpoint.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    /// Gauge: running sequences.
    pub running: AtomicU64,
    /// Gauge: sequences waiting for admission, preempted ones included.
    pub waiting: AtomicU64,
    /// Gauge: KV blocks used by sequences; those in the prefix cache alone are not counted.
    pub blocks_used: AtomicU64,
    /// Forward passes.
    pub steps: AtomicU64,
    /// Tokens prefilled: of prompts, and of sequences recomputed after a preemption.
    pub prompt_tokens: AtomicU64,
    /// Tokens found in the prefix cache instead of being prefilled.
    pub cached_tokens: AtomicU64,
    /// Tokens generated, forced ones included.
    pub generated_tokens: AtomicU64,
    /// Sequences that gave up their KV blocks.
    pub preemptions: AtomicU64,
}

/// Part of a sequence in a step.
pub(super) struct StepShare {
    pub(super) id: u64,
    /// Number of its next uncomputed tokens.
    pub(super) tokens: usize,
}

/// A step under construction.
struct StepPlan {
    shares: Vec<StepShare>,
    /// Step budget that is left, in tokens.
    budget: usize,
}

impl StepPlan {
    fn push(&mut self, id: u64, tokens: usize) {
        self.shares.push(StepShare { id, tokens });
        self.budget -= tokens;
    }

    /// Takes a sequence out again; returns the number of its tokens, if it was in.
    fn remove(&mut self, id: u64) -> Option<usize> {
        let place = self.shares.iter().position(|share| share.id == id)?;
        let StepShare { tokens, .. } = self.shares.remove(place);
        self.budget += tokens;
        Some(tokens)
    }
}

/// Running and waiting sequences of an engine, and the KV blocks they share.
pub(super) struct StepScheduler {
    limits: EngineLimits,
    pub(super) pool: BlockPool,
    /// Interactive and bulk sequences that wait for admission.
    waiting: [VecDeque<Sequence>; 2],
    /// Admitted sequences, in the order of their admission.
    pub(super) running: Vec<Sequence>,
    counters: Arc<Counters>,
    /// Number of admissions so far.
    admitted: u64,
    /// Number of forward passes so far.
    pub(super) steps: u64,
}

impl StepScheduler {
    /// Creates a scheduler without sequences.
    pub(super) fn new(limits: EngineLimits, counters: Arc<Counters>) -> Self {
        Self {
            limits,
            pool: BlockPool::new(limits.blocks),
            waiting: Default::default(),
            running: Vec::new(),
            counters,
            admitted: 0,
            steps: 0,
        }
    }

    /// Returns true if there are no sequences.
    pub(super) fn is_idle(&self) -> bool {
        self.running.is_empty() && self.waiting.iter().all(VecDeque::is_empty)
    }

    /// All sequences, running ones first.
    pub(super) fn sequences_mut(&mut self) -> impl Iterator<Item = &mut Sequence> {
        self.running.iter_mut().chain(self.waiting.iter_mut().flatten())
    }

    /// Enqueues a sequence for admission.
    pub(super) fn enqueue(&mut self, sequence: Sequence) {
        self.waiting[class(&sequence)].push_back(sequence);
    }

    /// Drops the sequences that have ended, and releases their KV blocks.
    pub(super) fn remove_finished(&mut self) {
        let pool = &mut self.pool;
        self.running.retain_mut(|sequence| {
            if sequence.is_finished() {
                pool.release(&mut sequence.blocks);
            }
            !sequence.is_finished()
        });
        self.waiting.iter_mut().for_each(|waiting| waiting.retain(|sequence| !sequence.is_finished()));
    }

    /// Brings the gauges up to date.
    pub(super) fn publish_gauges(&self) {
        set(&self.counters.running, self.running.len());
        set(&self.counters.waiting, self.waiting.iter().map(VecDeque::len).sum());
        set(&self.counters.blocks_used, self.pool.capacity() - self.pool.available());
        self.counters.steps.store(self.steps, Ordering::Relaxed);
    }

    /// Admits waiting sequences as long as there are KV blocks for all tokens of the next one and
    /// at least one more, so that none is preempted before it has generated anything.
    pub(super) fn admit(&mut self) {
        // Each running sequence takes a token of the step budget when it decodes.
        while self.running.len() < self.limits.max_running_sequences.min(self.limits.step_tokens) {
            let bulk_turn = self.admitted % BULK_TURN == BULK_TURN - 1;
            let order = if bulk_turn { [1, 0] } else { [0, 1] };
            let Some(class) = order.into_iter().find(|class| !self.waiting[*class].is_empty()) else {
                return;
            };
            let Some(mut sequence) = self.waiting[class].pop_front() else { return };
            reuse_prefix(&mut self.pool, &self.counters, &mut sequence);
            // One more than the tokens fill: the first generated token needs a place too.
            let needed = sequence.tokens.len() / BLOCK_TOKENS + 1 - sequence.blocks.len();
            // Alone, a sequence is always admitted: `submit` has checked that it fits.
            if needed > self.pool.available() && !self.running.is_empty() {
                // The prefix is looked up, and counted, again when the sequence is admitted.
                self.counters.cached_tokens.fetch_sub(sequence.computed as u64, Ordering::Relaxed);
                self.pool.release(&mut sequence.blocks);
                sequence.computed = 0;
                // It keeps its place: smaller prompts must not overtake it for ever.
                self.waiting[class].push_front(sequence);
                return;
            }
            self.admitted += 1;
            self.running.push(sequence);
        }
    }

    /// Plans the next step and reserves its KV blocks. Empty if there is nothing to compute, or if
    /// all running sequences wait for their sampled tokens.
    pub(super) fn schedule(&mut self) -> Vec<StepShare> {
        loop {
            let mut plan = StepPlan { shares: Vec::new(), budget: self.limits.step_tokens };
            // Decodes first, as in Sarathi: a sequence that streams must not stall behind a prompt.
            self.schedule_decodes(&mut plan);
            self.schedule_prefills(&mut plan);
            if !plan.shares.is_empty() || self.running.iter().all(|sequence| sequence.awaits_tokens) {
                return plan.shares;
            }
            // Half-prefilled prompts hold all blocks between them and none can go on: the last one
            // admitted gives up its own.
            self.preempt(self.running.len() - 1);
        }
    }

    /// Schedules the running sequences that decode, preempting others if KV blocks run out.
    fn schedule_decodes(&mut self, plan: &mut StepPlan) {
        let decoding = self.running.iter().filter(|sequence| sequence.is_decoding());
        let ids: Vec<u64> = decoding.map(|sequence| sequence.id).collect();
        // Budget for forced tokens. Every sequence gets its first token before any gets a second:
        // otherwise a constrained sequence could stall the streams of the others.
        let mut spare = plan.budget.saturating_sub(ids.len());
        for id in ids {
            if plan.budget == 0 {
                return;
            }
            // The sequence may itself become the victim: then it is no longer found.
            while let Some(index) = self.running.iter().position(|sequence| sequence.id == id) {
                let wanted = self.running[index].uncomputed().min(1 + spare).min(plan.budget);
                let tokens = self.reserve_blocks(index, wanted);
                if tokens > 0 {
                    plan.push(id, tokens);
                    spare -= tokens - 1;
                    break;
                }
                // The last admitted has lost least, and recomputing is cheaper than swapping blocks
                // to the host, as vLLM found.
                let victim = self.preemption_victim();
                let victim_id = self.running[victim].id;
                self.preempt(victim);
                // A victim that is in the plan already gives its budget back.
                if let Some(tokens) = plan.remove(victim_id) {
                    spare += tokens - 1;
                }
            }
        }
    }

    /// Schedules prefill, a chunk of each prompt, in what is left of the step budget.
    fn schedule_prefills(&mut self, plan: &mut StepPlan) {
        let mut order: Vec<usize> =
            (0..self.running.len()).filter(|index| self.running[*index].is_prefilling()).collect();
        let bulk_first = self.steps % BULK_TURN == BULK_TURN - 1;
        // Stable, so that within a class the order of admission holds.
        order.sort_by_key(|index| self.running[*index].is_interactive() == bulk_first);
        let mut pending = HashSet::new();
        for index in order {
            if plan.budget == 0 {
                return;
            }
            // Another prompt may have computed the next blocks since the last step.
            reuse_prefix(&mut self.pool, &self.counters, &mut self.running[index]);
            let sequence = &mut self.running[index];
            let at_block_start = sequence.computed.is_multiple_of(BLOCK_TOKENS);
            // If a prompt before this one in the plan computes the same block, wait for it and
            // reuse the block. Within a block it is too late to share.
            if let Some(hash) = sequence.block_hash(sequence.computed / BLOCK_TOKENS)
                && !pending.insert(hash)
                && at_block_start
            {
                continue;
            }
            let wanted = self.running[index].uncomputed().min(plan.budget);
            let tokens = self.reserve_blocks(index, wanted);
            // Without blocks a prompt waits: prefill never preempts a sequence that is decoding.
            if tokens > 0 {
                plan.push(self.running[index].id, tokens);
            }
        }
    }

    /// Preemption victim: the bulk sequence admitted last, else the interactive one admitted last.
    fn preemption_victim(&self) -> usize {
        // Bulk before interactive, as nobody watches it.
        let bulk = self.running.iter().rposition(|sequence| !sequence.is_interactive());
        bulk.unwrap_or(self.running.len() - 1)
    }

    /// Takes the KV blocks of a running sequence away and puts it first among the waiting of its
    /// class.
    fn preempt(&mut self, index: usize) {
        let mut sequence = self.running.remove(index);
        self.pool.release(&mut sequence.blocks);
        sequence.preempt();
        self.counters.preemptions.fetch_add(1, Ordering::Relaxed);
        // In front: it was admitted before all who wait.
        self.waiting[class(&sequence)].push_front(sequence);
    }

    /// Extends the block table of a sequence for its next tokens; returns for how many of them
    /// there is room.
    fn reserve_blocks(&mut self, index: usize, tokens: usize) -> usize {
        let sequence = &mut self.running[index];
        while sequence.blocks.len() * BLOCK_TOKENS < sequence.computed + tokens {
            match self.pool.allocate() {
                Some(block) => sequence.blocks.push(block),
                None => break,
            }
        }
        tokens.min(sequence.blocks.len() * BLOCK_TOKENS - sequence.computed)
    }
}

fn set(gauge: &AtomicU64, value: usize) {
    // Relaxed, as everywhere with these counters: a scrape orders nothing by them.
    gauge.store(value as u64, Ordering::Relaxed);
}

/// Index of a sequence's class in [`StepScheduler::waiting`].
fn class(sequence: &Sequence) -> usize {
    usize::from(!sequence.is_interactive())
}

/// Acquires the blocks of the sequence's next tokens that are in the prefix cache. At least its
/// last token is left to be computed, since its logits are needed.
fn reuse_prefix(pool: &mut BlockPool, counters: &Counters, sequence: &mut Sequence) {
    while sequence.computed == sequence.blocks.len() * BLOCK_TOKENS && sequence.uncomputed() > BLOCK_TOKENS {
        let hash = sequence.block_hash(sequence.blocks.len());
        let Some(block) = hash.and_then(|hash| pool.acquire_cached(hash)) else { return };
        sequence.blocks.push(block);
        sequence.computed += BLOCK_TOKENS;
        counters.cached_tokens.fetch_add(BLOCK_TOKENS as u64, Ordering::Relaxed);
    }
}
