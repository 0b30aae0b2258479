//! The engine of a language model: continuous batching over a paged KV cache.
//!
//! An engine makes steps, each one forward pass over tokens of many sequences. The
//! [`StepScheduler`] decides what goes into a step; here the step is computed, its tokens are
//! sampled, and sequences that nobody waits for are aborted.
//!
//! What a sequence generates does not depend on the schedule: the tests check this over thousands
//! of random ones against a sequential reference.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use rayon::prelude::*;

use super::constrained_sampling::{self, ConstrainedSampler, SampleRequest, SampleResult, SamplerPool};
use super::kv_blocks::BLOCK_TOKENS;
use super::sequence::{Request, Sequence};
use super::step_scheduler::{StepScheduler, StepShare};
use crate::device::arbiter::DeviceArbiter;
use crate::error::Error;
use crate::kernels::matrix::Matrix;
use crate::models::ComputeError;
use crate::models::decoder::{LanguageModel, StepPiece};
use crate::scheduler::admission::Admission;

pub(crate) use super::step_scheduler::Counters;
pub use super::step_scheduler::EngineLimits;

/// A language model and the sequences it generates.
pub(crate) struct Engine {
    model: Box<dyn LanguageModel>,
    scheduler: StepScheduler,
    arbiter: Arc<DeviceArbiter>,
    admission: Arc<Admission>,
    counters: Arc<Counters>,
    samplers: SamplerPool,
    next_id: u64,
}

impl Engine {
    /// Creates an engine without sequences.
    ///
    /// # Errors
    /// If the threads of constraints cannot be spawned.
    pub(crate) fn new(
        model: Box<dyn LanguageModel>,
        limits: EngineLimits,
        arbiter: Arc<DeviceArbiter>,
        admission: Arc<Admission>,
        counters: Arc<Counters>,
    ) -> anyhow::Result<Self> {
        Ok(Self {
            samplers: SamplerPool::start()?,
            model,
            scheduler: StepScheduler::new(limits, Arc::clone(&counters)),
            arbiter,
            admission,
            counters,
            next_id: 0,
        })
    }

    /// Enqueues a request. It fails at once if its prompt and longest continuation do not fit into
    /// the KV cache, since even alone it could not be generated.
    pub(crate) fn submit(&mut self, request: Request) {
        let mut sequence = Sequence::new(self.next_id, request, self.model.prefill_kv_differs());
        self.next_id += 1;
        let longest = sequence.tokens.len() + sequence.request.max_new_tokens;
        let blocks = self.scheduler.pool.capacity();
        if longest.div_ceil(BLOCK_TOKENS) > blocks {
            return sequence.fail(Error::KvExhausted { tokens: longest, room: blocks * BLOCK_TOKENS });
        }
        self.scheduler.enqueue(sequence);
    }

    /// Returns true if there are no sequences.
    pub(crate) fn is_idle(&self) -> bool {
        self.scheduler.is_idle()
    }

    /// Number of KV blocks that no sequence uses.
    #[cfg(test)]
    pub(crate) fn free_blocks(&self) -> usize {
        self.scheduler.pool.available()
    }

    /// Makes one forward pass, if there is anything to compute.
    pub(crate) fn step(&mut self) {
        // First, so that sequences whose tokens have come meanwhile take part in this step.
        let results = self.samplers.take_results(false);
        self.append_sampled(results);
        // Before admission, so that the blocks of those who left are there for those who wait.
        self.abort_abandoned();
        self.scheduler.admit();
        let shares = self.scheduler.schedule();
        if !shares.is_empty() {
            self.compute(&shares);
        } else if self.scheduler.running.iter().any(|sequence| sequence.awaits_tokens) {
            // Everything waits for slow constraints: do not spin.
            let results = self.samplers.take_results(true);
            self.append_sampled(results);
        }
        self.scheduler.remove_finished();
        self.scheduler.publish_gauges();
    }

    /// Ends every running sequence after a panic of the model.
    pub(crate) fn fail_running(&mut self) {
        self.scheduler.running.iter_mut().for_each(|sequence| sequence.fail(Error::Backend));
        self.scheduler.remove_finished();
    }

    /// Appends the tokens sampled under constraints. Sequences that have ended meanwhile are gone
    /// and ignored; preempted ones are found among the waiting.
    fn append_sampled(&mut self, results: Vec<SampleResult>) {
        for (id, result) in results {
            let Some(sequence) = self.scheduler.sequences_mut().find(|sequence| sequence.id == id) else {
                continue;
            };
            match result {
                Ok(sampled) => {
                    let tokens = sequence.append_sampled(sampled);
                    self.counters.generated_tokens.fetch_add(tokens as u64, Ordering::Relaxed);
                }
                Err(error) => match constrained_sampling::constraint_error(&error) {
                    Some(cause) => sequence.fail_constraint(cause),
                    None => fail_sampling(sequence, &error),
                },
            }
        }
    }

    /// Ends sequences whose caller left or whose deadline passed, before a step is spent on them.
    fn abort_abandoned(&mut self) {
        let now = Instant::now();
        let admission = &self.admission;
        for sequence in self.scheduler.sequences_mut() {
            if let Some(error) = sequence.abort_reason(now, || admission.drain_estimate()) {
                sequence.fail(error);
            }
        }
        self.scheduler.remove_finished();
    }

    /// Runs the scheduled step and samples the next tokens.
    fn compute(&mut self, shares: &[StepShare]) {
        // Held for the forward pass alone: sampling is done by the CPU, and encoders may have the
        // device meanwhile.
        let grant = self.arbiter.exclusive();
        let started = Instant::now();
        let high_water = self.scheduler.pool.high_water();
        let (pieces, masks) = pieces(&mut self.scheduler.running, &self.counters, shares);
        let model = &mut self.model;
        let done = Arc::new(AtomicBool::new(false));
        // On a CPU the masks would take the cores that the step needs.
        if model.runs_off_cpu() && !masks.is_empty() {
            self.samplers.precompute_masks(masks, &done);
        }
        let computed = match model.reserve(high_water) {
            Ok(()) => model.step(&pieces),
            Err(error) => Err(error),
        };
        // The step has ended: masks that are not computed yet would only delay sampling.
        done.store(true, Ordering::Relaxed);
        drop(grant);
        let tokens: usize = shares.iter().map(|share| share.tokens).sum();
        // Failed steps count as well, as they took the device's time.
        self.admission.observe(tokens, started.elapsed());
        self.scheduler.steps += 1;
        match computed {
            Ok(logits) => {
                let requests = distribute(&mut self.scheduler, &self.counters, shares, logits);
                if !requests.is_empty() {
                    let results = self.samplers.sample(requests);
                    self.append_sampled(results);
                }
            }
            Err(error) => fail_step(&mut self.scheduler.running, shares, &error),
        }
    }
}

/// Sampler and remaining tokens of a sequence whose next mask can be computed ahead.
type MaskJob = (Arc<Mutex<ConstrainedSampler>>, usize);

/// Starts the sequences of a step; returns their tokens, and the masks that its logits will need.
fn pieces<'a>(
    running: &'a mut [Sequence],
    counters: &Counters,
    shares: &[StepShare],
) -> (Vec<StepPiece<'a>>, Vec<MaskJob>) {
    let mut pieces = Vec::with_capacity(shares.len());
    let mut masks = Vec::new();
    // In the order of the running sequences: `distribute` walks them along with the logits.
    for sequence in running {
        let Some(share) = shares.iter().find(|share| share.id == sequence.id) else { continue };
        let forced = sequence.start();
        counters.generated_tokens.fetch_add(forced as u64, Ordering::Relaxed);
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
            masks.extend(sequence.mask_job());
        }
    }
    (pieces, masks)
}

/// Records what the step computed for each sequence, registers full blocks in the prefix cache and
/// samples the unconstrained sequences; returns the requests of the constrained ones.
fn distribute(
    scheduler: &mut StepScheduler,
    counters: &Counters,
    shares: &[StepShare],
    logits: &Matrix,
) -> Vec<SampleRequest> {
    let StepScheduler { running, pool, .. } = scheduler;
    // There is a row of logits for each sequence whose last token was computed.
    let mut rows = 0..;
    let mut unconstrained: Vec<(usize, &mut Sequence)> = Vec::new();
    let mut requests = Vec::new();
    for sequence in running {
        let Some(share) = shares.iter().find(|share| share.id == sequence.id) else { continue };
        // Asked before `computed` grows: afterwards nothing would be left to decode.
        if !sequence.is_decoding() {
            counters.prompt_tokens.fetch_add(share.tokens as u64, Ordering::Relaxed);
        }
        let full_before = sequence.computed / BLOCK_TOKENS;
        sequence.computed += share.tokens;
        for index in full_before..sequence.computed / BLOCK_TOKENS {
            // Full blocks only: the keys of a block that still grows would be read before they are
            // written.
            if let Some(hash) = sequence.block_hash(index) {
                pool.register(sequence.blocks[index], hash);
            }
        }
        // The row is taken before the state is looked at, so that rows and sequences stay aligned.
        if sequence.uncomputed() == 0
            && let Some(row) = rows.next()
            && !sequence.is_finished()
        {
            if sequence.is_constrained() {
                requests.extend(sequence.sample_request(logits.row(row)));
            } else {
                unconstrained.push((row, sequence));
            }
        }
    }
    sample_all(unconstrained, counters, logits);
    requests
}

/// Samples the next token of each sequence by its row of logits.
fn sample_all(sequences: Vec<(usize, &mut Sequence)>, counters: &Counters, logits: &Matrix) {
    if sequences.len() > 1 {
        // A row of 150,000 logits is worth a task of its own.
        let sequences = sequences.into_par_iter().with_max_len(1);
        sequences.for_each(|(row, sequence)| sample(sequence, counters, logits.row(row)));
    } else {
        for (row, sequence) in sequences {
            sample(sequence, counters, logits.row(row));
        }
    }
}

fn sample(sequence: &mut Sequence, counters: &Counters, logits: &[f32]) {
    match sequence.sample(logits) {
        Ok(tokens) => {
            counters.generated_tokens.fetch_add(tokens as u64, Ordering::Relaxed);
        }
        Err(error) => fail_sampling(sequence, &error),
    }
}

fn fail_sampling(sequence: &mut Sequence, error: &anyhow::Error) {
    tracing::error!(error.message = format!("{error:#}"), "cannot sample a token");
    sequence.fail(Error::Backend);
}

fn fail_step(running: &mut [Sequence], shares: &[StepShare], error: &ComputeError) {
    tracing::error!(error.message = %error, sequences = shares.len(), "forward pass failed");
    for sequence in running.iter_mut().filter(|sequence| shares.iter().any(|share| share.id == sequence.id)) {
        sequence.fail(Error::Backend);
    }
}

#[cfg(test)]
mod tests;
