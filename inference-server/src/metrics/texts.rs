//! Figures of the language models, which count for themselves and are read when the metrics are.

use std::sync::atomic::{AtomicU64, Ordering};

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::OfModel;
use crate::generation::engine::Counters;
use crate::registry::{ModelState, Registry as Models};

/// By model.
#[derive(Debug, Default)]
pub(super) struct Texts {
    running: Family<OfModel, Gauge>,
    waiting: Family<OfModel, Gauge>,
    blocks: Family<OfModel, Gauge>,
    blocks_used: Family<OfModel, Gauge>,
    steps: Family<OfModel, Counter>,
    prompt_tokens: Family<OfModel, Counter>,
    cached_tokens: Family<OfModel, Counter>,
    written_tokens: Family<OfModel, Counter>,
    preemptions: Family<OfModel, Counter>,
}

impl Texts {
    pub(super) fn register(&self, r: &mut Registry) {
        r.register("texts_running", "Texts being written", self.running.clone());
        r.register("texts_waiting", "Texts that wait to be written", self.waiting.clone());
        r.register("kv_blocks", "Blocks of keys and values there is memory for", self.blocks.clone());
        r.register("kv_blocks_used", "Blocks that texts being written hold", self.blocks_used.clone());
        r.register("text_steps", "Forward passes of language models", self.steps.clone());
        r.register("prompt_tokens", "Tokens of prompts computed", self.prompt_tokens.clone());
        r.register(
            "cached_prompt_tokens",
            "Tokens of prompts that had been computed",
            self.cached_tokens.clone(),
        );
        r.register("written_tokens", "Tokens written", self.written_tokens.clone());
        r.register(
            "preemptions",
            "Texts that gave their blocks to others and were computed again",
            self.preemptions.clone(),
        );
    }

    /// Takes over how the models stand.
    pub(super) fn read(&self, models: &Models) {
        for entry in models.entries() {
            let ModelState::Ready(model) = &entry.state else { continue };
            let Ok(generator) = model.generator() else { continue };
            let label = OfModel { model: entry.name };
            let Counters {
                running,
                waiting,
                blocks_used,
                steps,
                prompt_tokens,
                cached_tokens,
                written_tokens,
                preemptions,
            } = generator.counters();
            gauge(&self.blocks, &label, generator.blocks().0 as u64);
            gauge(&self.running, &label, running.load(Ordering::Relaxed));
            gauge(&self.waiting, &label, waiting.load(Ordering::Relaxed));
            gauge(&self.blocks_used, &label, blocks_used.load(Ordering::Relaxed));
            counter(&self.steps, &label, steps);
            counter(&self.prompt_tokens, &label, prompt_tokens);
            counter(&self.cached_tokens, &label, cached_tokens);
            counter(&self.written_tokens, &label, written_tokens);
            counter(&self.preemptions, &label, preemptions);
        }
    }
}

fn gauge(family: &Family<OfModel, Gauge>, label: &OfModel, value: u64) {
    family.get_or_create(label).set(i64::try_from(value).unwrap_or(i64::MAX));
}

/// A model that is loaded again counts from zero; what it counted before stays.
fn counter(family: &Family<OfModel, Counter>, label: &OfModel, value: &AtomicU64) {
    let counter = family.get_or_create(label);
    counter.inc_by(value.load(Ordering::Relaxed).saturating_sub(counter.get()));
}
