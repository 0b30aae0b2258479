//! Metrics for Prometheus: names start with `observatory_inference_` and end in their unit, labels
//! are closed sets.
//!
//! Counters are incremented where things happen. Gauges of other rooms are set by a collector just
//! before a scrape, so this room knows none of them.

pub(crate) mod generation;

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

use generation::GenerationMetrics;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Call {
    method: &'static str,
    code: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Method {
    method: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfModel {
    model: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfClient {
    client: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reason {
    reason: &'static str,
}

type Histograms<L> = Family<L, Histogram, fn() -> Histogram>;

fn seconds() -> Histogram {
    // From half a millisecond to one minute, by factors of two; not tuned.
    Histogram::new(exponential_buckets(0.000_5, 2.0, 18))
}

/// All counters of the process.
pub struct Metrics {
    registry: Registry,
    requests: Family<Call, Counter>,
    duration: Histograms<Method>,
    refused: Family<Reason, Counter>,
    dropped: Family<Reason, Counter>,
    rejection: Histogram,
    queue_wait: Histogram,
    compute: Histograms<OfModel>,
    tokens: Family<OfModel, Counter>,
    rows: Family<OfModel, Counter>,
    batch_tokens: Histogram,
    batch_rows: Histogram,
    cache_hits: Counter,
    cache_misses: Counter,
    ready: Family<OfModel, Gauge>,
    client_calls: Family<OfClient, Counter>,
    client_tokens: Family<OfClient, Counter>,
    in_flight: Gauge,
    queued_tokens: Gauge,
    token_limit: Gauge,
    tokens_per_second: Gauge,
    generation: GenerationMetrics,
    collector: OnceLock<Collector>,
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

/// Sets the gauges that are read and not counted.
type Collector = Box<dyn Fn(&Metrics) + Send + Sync>;

/// Snapshot of the admission controller.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct AdmissionGauges {
    /// Requests in flight.
    pub requests: u64,
    /// Tokens that wait for the device or are on it.
    pub queued_tokens: u64,
    /// Tokens that may wait now.
    pub token_limit: u64,
    /// Measured speed of the device, in tokens per second.
    pub tokens_per_second: f64,
}

impl Metrics {
    /// Registers everything.
    pub fn new() -> Arc<Self> {
        let mut metrics = Self {
            registry: Registry::with_prefix("observatory_inference"),
            requests: Family::default(),
            duration: Family::new_with_constructor(seconds),
            refused: Family::default(),
            dropped: Family::default(),
            // Finer and from 20 µs on: a refusal is promised to be immediate.
            rejection: Histogram::new(exponential_buckets(0.000_02, 1.5, 22)),
            queue_wait: seconds(),
            compute: Family::new_with_constructor(seconds),
            tokens: Family::default(),
            rows: Family::default(),
            batch_tokens: Histogram::new(exponential_buckets(4.0, 2.0, 16)),
            batch_rows: Histogram::new(exponential_buckets(1.0, 2.0, 12)),
            cache_hits: Counter::default(),
            cache_misses: Counter::default(),
            ready: Family::default(),
            client_calls: Family::default(),
            client_tokens: Family::default(),
            in_flight: Gauge::default(),
            queued_tokens: Gauge::default(),
            token_limit: Gauge::default(),
            tokens_per_second: Gauge::default(),
            generation: GenerationMetrics::default(),
            collector: OnceLock::new(),
        };
        metrics.generation.register(&mut metrics.registry);
        metrics.register();
        Arc::new(metrics)
    }

    fn register(&mut self) {
        let r = &mut self.registry;
        r.register("requests", "Finished calls by method and gRPC code", self.requests.clone());
        r.register_with_unit("request_duration", "Time of a call", Unit::Seconds, self.duration.clone());
        r.register("refused", "Requests and items refused, by reason", self.refused.clone());
        r.register(
            "dropped",
            "Admitted work dropped before it was computed, by reason",
            self.dropped.clone(),
        );
        r.register_with_unit(
            "rejection",
            "From a decoded request to its refusal for lack of capacity",
            Unit::Seconds,
            self.rejection.clone(),
        );
        r.register_with_unit(
            "queue_wait",
            "From admission to the first step",
            Unit::Seconds,
            self.queue_wait.clone(),
        );
        r.register_with_unit("compute", "Time of one forward pass", Unit::Seconds, self.compute.clone());
        r.register("tokens", "Tokens computed", self.tokens.clone());
        r.register("rows", "Texts computed", self.rows.clone());
        r.register("batch_tokens", "Tokens of one forward pass", self.batch_tokens.clone());
        r.register("batch_rows", "Rows of one forward pass", self.batch_rows.clone());
        r.register("embedding_cache_hits", "Texts found in the embedding cache", self.cache_hits.clone());
        r.register("embedding_cache_misses", "Texts not found there", self.cache_misses.clone());
        // The old names stay for one release.
        r.register("vector_cache_hits", "Deprecated: embedding_cache_hits", self.cache_hits.clone());
        r.register("vector_cache_misses", "Deprecated: embedding_cache_misses", self.cache_misses.clone());
        r.register("model_ready", "1 if the model is ready", self.ready.clone());
        r.register("client_calls", "Calls admitted, by client", self.client_calls.clone());
        r.register("client_tokens", "Tokens admitted, by client", self.client_tokens.clone());
        r.register("requests_in_flight", "Requests in flight", self.in_flight.clone());
        r.register("queued_tokens", "Tokens waiting for the device or on it", self.queued_tokens.clone());
        r.register("token_limit", "Tokens that may wait now", self.token_limit.clone());
        r.register("tokens_per_second", "Measured speed of the device", self.tokens_per_second.clone());
    }

    /// A call begins; it is counted when the guard is dropped. Where that comes before an answer,
    /// the call counts as cancelled, or as late if its caller's `deadline` has passed.
    pub fn began(self: &Arc<Self>, method: &'static str, deadline: Option<Instant>) -> Ongoing {
        Ongoing { metrics: Arc::clone(self), method, started: Instant::now(), deadline, code: None }
    }

    fn finished(&self, method: &'static str, code: &'static str, duration: Duration) {
        self.requests.get_or_create(&Call { method, code }).inc();
        self.duration.get_or_create(&Method { method }).observe(duration.as_secs_f64());
    }

    /// A request or an item was refused.
    pub fn refused(&self, reason: &'static str) {
        self.refused.get_or_create(&Reason { reason }).inc();
    }

    /// A refusal for lack of capacity went out, this long after its request was decoded.
    pub fn rejected(&self, after: Duration) {
        self.rejection.observe(after.as_secs_f64());
    }

    /// Admitted work was dropped before a step.
    pub fn dropped(&self, reason: &'static str) {
        self.dropped.get_or_create(&Reason { reason }).inc();
    }

    /// Work waited this long for its first step.
    pub fn queued(&self, waited: Duration) {
        self.queue_wait.observe(waited.as_secs_f64());
    }

    /// A forward pass ended.
    pub fn computed(&self, model: &str, rows: usize, tokens: usize, elapsed: Duration) {
        let label = OfModel { model: model.to_owned() };
        self.compute.get_or_create(&label).observe(elapsed.as_secs_f64());
        self.rows.get_or_create(&label).inc_by(rows as u64);
        self.tokens.get_or_create(&label).inc_by(tokens as u64);
        self.batch_tokens.observe(tokens as f64);
        self.batch_rows.observe(rows as f64);
    }

    /// Texts were looked up in the embedding cache.
    pub fn cached(&self, hits: usize, misses: usize) {
        self.cache_hits.inc_by(hits as u64);
        self.cache_misses.inc_by(misses as u64);
    }

    /// A client was admitted.
    pub fn called(&self, client: &str) {
        self.client_calls.get_or_create(&OfClient { client: client.to_owned() }).inc();
    }

    /// Tokens of a client were admitted.
    pub fn used(&self, client: &str, tokens: u64) {
        self.client_tokens.get_or_create(&OfClient { client: client.to_owned() }).inc_by(tokens);
    }

    /// Records that a model became ready or ceased to be.
    pub fn model_ready(&self, model: &str, ready: bool) {
        self.ready.get_or_create(&OfModel { model: model.to_owned() }).set(i64::from(ready));
    }

    /// Runs `collect` before every scrape; the first one stays.
    pub(crate) fn collect_with(&self, collect: impl Fn(&Self) + Send + Sync + 'static) {
        // There is one composition root.
        let _ = self.collector.set(Box::new(collect));
    }

    /// Sets the gauges of admission.
    pub(crate) fn set_admission(&self, now: AdmissionGauges) {
        self.in_flight.set(signed(now.requests));
        self.queued_tokens.set(signed(now.queued_tokens));
        self.token_limit.set(signed(now.token_limit));
        self.tokens_per_second.set(now.tokens_per_second as i64);
    }

    /// Sets the figures of a language model.
    pub(crate) fn set_generation(&self, model: &str, now: &generation::GenerationFigures) {
        self.generation.set(model, now);
    }

    /// The OpenMetrics text.
    ///
    /// # Errors
    /// If a value cannot be formatted.
    pub fn encode(&self) -> Result<String> {
        // At each scrape and not on a timer, so that gauges are never older than the answer.
        if let Some(collect) = self.collector.get() {
            collect(self);
        }
        let mut out = String::new();
        text::encode(&mut out, &self.registry).context("metrics cannot be encoded")?;
        Ok(out)
    }

    /// `GET /metrics`.
    pub fn router(self: Arc<Self>) -> Router {
        Router::new().route("/metrics", get(serve)).with_state(self)
    }
}

fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// A call that is counted when it ends; dropped without an answer, the caller went away.
#[derive(Debug)]
pub struct Ongoing {
    metrics: Arc<Metrics>,
    method: &'static str,
    started: Instant,
    deadline: Option<Instant>,
    code: Option<&'static str>,
}

impl Ongoing {
    /// The call was answered with this gRPC code.
    pub fn answered(&mut self, code: &'static str) {
        self.code = Some(code);
    }
}

impl Drop for Ongoing {
    fn drop(&mut self) {
        let duration = self.started.elapsed();
        // A caller who goes away at its deadline says only that it has gone.
        let is_late = self.deadline.is_some_and(|deadline| Instant::now() >= deadline);
        let code = self.code.unwrap_or(if is_late { "DEADLINE_EXCEEDED" } else { "CANCELLED" });
        self.metrics.finished(self.method, code, duration);
        tracing::debug!(
            rpc.method = self.method,
            rpc.code = code,
            duration_ms = duration.as_millis() as u64,
            "call finished"
        );
    }
}

async fn serve(State(metrics): State<Arc<Metrics>>) -> impl IntoResponse {
    let content = [(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")];
    match metrics.encode() {
        Ok(text) => (StatusCode::OK, content, text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error:#}")).into_response(),
    }
}
