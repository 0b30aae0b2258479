//! Health over HTTP beside the metrics, without TLS and tokens: an orchestrator's own gRPC probes speak no TLS.
//!
//! `GET /livez` is the name `""` of `grpc.health.v1`, `GET /readyz` the name `"ready"`; 200 where it serves, else 503.

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;

use crate::grpc::health::Health;

/// The routes.
pub fn router(health: Health) -> Router {
    Router::new().route("/livez", get(live)).route("/readyz", get(ready)).with_state(health)
}

async fn live(State(health): State<Health>) -> (StatusCode, &'static str) {
    answer(health.serves("").await)
}

async fn ready(State(health): State<Health>) -> (StatusCode, &'static str) {
    answer(health.serves("ready").await)
}

fn answer(serves: bool) -> (StatusCode, &'static str) {
    if serves { (StatusCode::OK, "serving\n") } else { (StatusCode::SERVICE_UNAVAILABLE, "not serving\n") }
}
