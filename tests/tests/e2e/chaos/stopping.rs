//! A request to stop, as a rollout sends it.

use std::time::{Duration, Instant};

use observatory_proto::pipeline::v1::{
    GetRunRequest, WatchRunRequest, orchestrator_service_client::OrchestratorServiceClient,
};
use tonic::{Code, transport::Endpoint};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

use super::ground::{Ground, STAGES};
use crate::site::eventually;

#[tokio::test(flavor = "multi_thread")]
async fn a_process_serves_on_and_then_ends_whoever_watches() {
    let ground = Ground::bare().await;
    let trial = ground.trial().await;
    let flags = ["--lame-duck-seconds", "2", "--drain-seconds", "30"];
    let process = trial.start_with("orchestrator", &flags);
    // Nobody works on its stages, so it has no end.
    let run_id = trial.run(&STAGES).await.to_string();
    let mut client = OrchestratorServiceClient::connect(process.endpoint()).await.unwrap();
    let asked = WatchRunRequest { run_id: run_id.clone() };
    let mut run = client.watch_run(asked).await.unwrap().into_inner();
    run.message().await.unwrap().unwrap();
    let asked = HealthCheckRequest { service: "ready".to_owned() };
    let endpoint = Endpoint::from_shared(process.endpoint()).unwrap();
    let mut health = HealthClient::new(endpoint.connect().await.unwrap());
    let mut health = health.watch(asked).await.unwrap().into_inner();
    let mut status = async || health.message().await.unwrap().map(|answer| answer.status());
    // Not at once: the database is asked first.
    while status().await != Some(ServingStatus::Serving) {}

    let stopped = Instant::now();
    process.signal("-TERM");
    assert_eq!(status().await, Some(ServingStatus::NotServing));
    eventually("the end of its readiness", || (process.probe("/readyz") == 503).then_some(()));
    // Also to callers who come only now, because nobody has told them yet.
    let mut late = OrchestratorServiceClient::connect(process.endpoint()).await.unwrap();
    late.get_run(GetRunRequest { run_id }).await.unwrap();
    let refused = loop {
        match run.message().await {
            Ok(more) => assert!(more.is_some(), "the run is not over"),
            Err(status) => break status,
        }
    };
    assert_eq!(refused.code(), Code::Unavailable, "{refused}");
    assert_eq!(status().await, None);
    process.ended();
    let took = stopped.elapsed();
    assert!((Duration::from_secs(2)..Duration::from_secs(10)).contains(&took), "{took:?}");
}
