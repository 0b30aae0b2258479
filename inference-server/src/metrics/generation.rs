//! Metrics of the language models, by model.
//!
//! Engines count for themselves, on threads that must not wait for a lock; their figures are taken
//! over before a scrape.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::{OfModel, signed};

/// Counters of an engine since it started, and its present state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct GenerationFigures {
    /// Sequences that are prefilled or decoded.
    pub running: u64,
    /// Sequences that wait to be admitted.
    pub waiting: u64,
    /// KV blocks there is memory for.
    pub kv_blocks: u64,
    /// KV blocks that sequences hold.
    pub kv_blocks_used: u64,
    /// Forward passes.
    pub steps: u64,
    /// Prompt tokens computed.
    pub prompt_tokens: u64,
    /// Prompt tokens taken from the prefix cache.
    pub cached_prompt_tokens: u64,
    /// Tokens generated.
    pub generated_tokens: u64,
    /// Sequences that gave up their KV blocks and were prefilled again.
    pub preemptions: u64,
}

/// One family for each figure.
#[derive(Debug, Default)]
pub(super) struct GenerationMetrics {
    running: Family<OfModel, Gauge>,
    waiting: Family<OfModel, Gauge>,
    blocks: Family<OfModel, Gauge>,
    blocks_used: Family<OfModel, Gauge>,
    steps: Family<OfModel, Counter>,
    prompt_tokens: Family<OfModel, Counter>,
    cached_tokens: Family<OfModel, Counter>,
    generated_tokens: Family<OfModel, Counter>,
    preemptions: Family<OfModel, Counter>,
}

impl GenerationMetrics {
    /// The old names stay for one release.
    pub(super) fn register(&self, r: &mut Registry) {
        r.register("sequences_running", "Sequences being prefilled or decoded", self.running.clone());
        r.register("sequences_waiting", "Sequences that wait to be admitted", self.waiting.clone());
        r.register("kv_blocks", "KV blocks there is memory for", self.blocks.clone());
        r.register("kv_blocks_used", "KV blocks held by sequences", self.blocks_used.clone());
        r.register("engine_steps", "Forward passes of language models", self.steps.clone());
        r.register("prompt_tokens", "Prompt tokens computed", self.prompt_tokens.clone());
        r.register(
            "cached_prompt_tokens",
            "Prompt tokens taken from the prefix cache",
            self.cached_tokens.clone(),
        );
        r.register("generated_tokens", "Tokens generated", self.generated_tokens.clone());
        r.register(
            "preemptions",
            "Sequences that gave up their KV blocks and were prefilled again",
            self.preemptions.clone(),
        );
        r.register("texts_running", "Deprecated: sequences_running", self.running.clone());
        r.register("texts_waiting", "Deprecated: sequences_waiting", self.waiting.clone());
        r.register("text_steps", "Deprecated: engine_steps", self.steps.clone());
        r.register("written_tokens", "Deprecated: generated_tokens", self.generated_tokens.clone());
    }

    pub(super) fn set(&self, model: &str, now: &GenerationFigures) {
        let label = OfModel { model: model.to_owned() };
        gauge(&self.running, &label, now.running);
        gauge(&self.waiting, &label, now.waiting);
        gauge(&self.blocks, &label, now.kv_blocks);
        gauge(&self.blocks_used, &label, now.kv_blocks_used);
        counter(&self.steps, &label, now.steps);
        counter(&self.prompt_tokens, &label, now.prompt_tokens);
        counter(&self.cached_tokens, &label, now.cached_prompt_tokens);
        counter(&self.generated_tokens, &label, now.generated_tokens);
        counter(&self.preemptions, &label, now.preemptions);
    }
}

fn gauge(family: &Family<OfModel, Gauge>, label: &OfModel, value: u64) {
    family.get_or_create(label).set(signed(value));
}

/// A model that is loaded again counts from zero; what it counted before stays.
fn counter(family: &Family<OfModel, Counter>, label: &OfModel, value: u64) {
    let counter = family.get_or_create(label);
    // Prometheus takes a counter that falls for a restart and would count everything twice.
    counter.inc_by(value.saturating_sub(counter.get()));
}
