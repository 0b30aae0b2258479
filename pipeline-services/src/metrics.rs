//! Prometheus metrics of a process over HTTP.

use std::{collections::BTreeMap, fmt::Write, sync::Arc};

use axum::{Router, http::header::CONTENT_TYPE, routing::get};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::{api::StageEntry, domain::run::StageName};

/// Serves `/metrics` until `stop`.
pub async fn serve(
    listener: TcpListener,
    stages: Arc<BTreeMap<StageName, StageEntry>>,
    stop: CancellationToken,
) {
    let page = move || {
        let text = render(&stages);
        async move { ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text) }
    };
    let router = Router::new().route("/metrics", get(page));
    let served = axum::serve(listener, router).with_graceful_shutdown(async move { stop.cancelled().await });
    if let Err(error) = served.await {
        tracing::warn!(error.text = %error, "metrics are not served any more");
    }
}

/// Counters of every stage in the text format of Prometheus, one metric after the other.
fn render(stages: &BTreeMap<StageName, StageEntry>) -> String {
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
