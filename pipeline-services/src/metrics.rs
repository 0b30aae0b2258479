//! Prometheus metrics of a process over HTTP, and its health with them: an orchestrator's own
//! gRPC probes speak no TLS.
//!
//! `GET /livez` is the name `""` of `grpc.health.v1`, `GET /readyz` the name `"ready"`; 200 where
//! it serves, else 503.

use std::{
    collections::BTreeMap,
    fmt::Write,
    sync::{Arc, atomic::Ordering},
};

use axum::{Router, http::header::CONTENT_TYPE, routing::get};
use observatory_server::{connections, http};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::{
    api::{Entrance, StageEntry},
    domain::run::StageName,
};

/// Serves `/metrics` of the stages, and whether the process is ready, until `stop`.
pub(crate) async fn serve(
    listener: TcpListener,
    entrance: Entrance,
    stages: Arc<BTreeMap<StageName, StageEntry>>,
    stop: CancellationToken,
) {
    let page = move || {
        let text = render(&stages);
        async move { ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text) }
    };
    let (port, ready) = (entrance.probes(), entrance.ready());
    let readiness = move || {
        let ready = ready.load(Ordering::Relaxed);
        async move { http::health(ready) }
    };
    let router = Router::new()
        .route("/metrics", get(page))
        .route("/livez", get(|| async { http::health(true) }))
        .route("/readyz", get(readiness));
    let head = port.patience.head;
    http::serve(connections::incoming(listener, port), router, head, stop).await;
}

/// Counters of every stage in the text format of Prometheus, one metric after the other.
fn render(stages: &BTreeMap<StageName, StageEntry>) -> String {
    // The format wants all samples of a metric together, under one line with its type.
    let mut metrics: BTreeMap<String, Vec<(&'static str, f64)>> = BTreeMap::new();
    for (name, entry) in stages {
        for (metric, value) in entry.stage.metrics().into_iter().chain(entry.counters.values()) {
            metrics.entry(format!("observatory_stage_{metric}")).or_default().push((name.name(), value));
        }
    }
    let mut text = String::new();
    for (metric, values) in metrics {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "# TYPE {metric} counter");
        for (stage, value) in values {
            let _ = writeln!(text, "{metric}{{stage=\"{stage}\"}} {value}");
        }
    }
    text
}
