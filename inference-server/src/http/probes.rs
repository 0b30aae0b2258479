//! Health over HTTP on the metrics port, without TLS and tokens: an orchestrator's own gRPC probes
//! speak no TLS.
//!
//! `GET /livez` is the name `""` of `grpc.health.v1`, `GET /readyz` the name `"ready"`; 200 where
//! it serves, else 503.

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;

use observatory_server::http;

use crate::health::Health;

/// The routes.
pub(crate) fn router(health: Health) -> Router {
    Router::new().route("/livez", get(live)).route("/readyz", get(ready)).with_state(health)
}

async fn live(State(health): State<Health>) -> (StatusCode, &'static str) {
    http::health(health.serves("").await)
}

async fn ready(State(health): State<Health>) -> (StatusCode, &'static str) {
    http::health(health.serves("ready").await)
}
