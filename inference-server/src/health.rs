//! `grpc.health.v1`: `""` for the process, `"started"` once every configured model is loaded or has
//! failed, `"ready"` while the models that were asked for answer, `"ready.<model>"`, and each
//! service by its full name.

use std::sync::Arc;

use tokio::sync::Mutex;
use tonic::Request;
use tonic_health::ServingStatus;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_server::{Health as _, HealthServer};
use tonic_health::server::{HealthReporter, HealthService};

use crate::metrics::Metrics;
use crate::models::Task;
use crate::registry::{ModelState, Registry};

/// The service to be served.
pub(crate) type Service = HealthServer<HealthService>;

/// Full service names, each with the task that a ready model must have for it to serve; `None`
/// needs no model.
pub(crate) const SERVICES: [(&str, Option<Task>); 6] = [
    ("observatory.inference.v1.EmbeddingService", Some(Task::Embedding)),
    ("observatory.inference.v1.TokenClassificationService", Some(Task::TokenClassification)),
    ("observatory.inference.v1.GenerationService", Some(Task::Generation)),
    ("observatory.inference.v1.RankingService", Some(Task::Ranking)),
    ("observatory.inference.v1.TokenizationService", None),
    ("observatory.inference.v1.ModelsService", None),
];

/// Names that need no model of their own.
const FIXED: [&str; 3] = ["", "started", "ready"];

fn is_ready(state: &ModelState) -> bool {
    matches!(state, ModelState::Ready(_))
}

/// What a process has come to; it never goes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Phase {
    /// Models of the configuration are still being loaded.
    #[default]
    Starting,
    /// Each of them is ready or has failed.
    Started,
    /// Nothing is served under any name.
    Stopped,
}

/// Publishes the states of the models to the health service and the metrics.
#[derive(Debug, Clone)]
pub(crate) struct Health {
    reporter: HealthReporter,
    registry: Arc<Registry>,
    metrics: Arc<Metrics>,
    /// Held while statuses are written: a model that becomes ready during the drain must not undo
    /// it.
    phase: Arc<Mutex<Phase>>,
}

impl Health {
    /// A reporter over the registry, and the service that answers from it.
    pub(crate) fn new(registry: Arc<Registry>, metrics: Arc<Metrics>) -> (Self, Service) {
        let reporter = HealthReporter::new();
        let service = HealthServer::new(HealthService::from_health_reporter(reporter.clone()));
        (Self { reporter, registry, metrics, phase: Arc::default() }, service)
    }

    /// Publishes the state of the models. "ready" needs the models named on the command line, or
    /// one of those in the store where none are named: a damaged model that nobody asked for shows
    /// in the metric `model_ready` and takes no server out of service.
    pub(crate) async fn publish(&self) {
        let mut phase = self.phase.lock().await;
        if *phase == Phase::Stopped {
            return;
        }
        if self.registry.has_decided() {
            *phase = Phase::Started;
        }
        let entries = self.registry.entries();
        for entry in &entries {
            let ready = is_ready(&entry.state);
            self.metrics.model_ready(&entry.name, ready);
            self.set(&format!("ready.{}", entry.name), ready).await;
        }
        // For good, so that a model loaded later by a call does not look like another start.
        let started = *phase == Phase::Started;
        self.set("started", started).await;
        self.set("ready", started && self.registry.serves_what_was_asked()).await;
        for (name, task) in SERVICES {
            // By task and not by model: a client asks for a service before it knows a model's name.
            let serves =
                task.is_none() || entries.iter().any(|entry| entry.task == task && is_ready(&entry.state));
            self.set(name, serves).await;
        }
    }

    /// Says NOT_SERVING under every name, for good.
    pub(crate) async fn stop(&self) {
        let mut phase = self.phase.lock().await;
        // The lock is held to the end: a concurrent `publish` must not overwrite a name in between.
        *phase = Phase::Stopped;
        for name in self.names() {
            self.set(&name, false).await;
        }
    }

    /// Ends every watch, which would keep its connection open for ever; call it after
    /// [`Health::stop`]. No name is known any more.
    pub(crate) async fn end_watches(&self) {
        let mut reporter = self.reporter.clone();
        for name in self.names() {
            reporter.clear_service_status(&name).await;
        }
    }

    fn names(&self) -> Vec<String> {
        let fixed = FIXED.into_iter().chain(SERVICES.map(|(name, _)| name)).map(str::to_owned);
        let models = self.registry.entries().into_iter().map(|entry| format!("ready.{}", entry.name));
        fixed.chain(models).collect()
    }

    /// True if a name is SERVING.
    pub(crate) async fn serves(&self, name: &str) -> bool {
        // By way of the gRPC service itself, so that both transports always agree.
        let service = HealthService::from_health_reporter(self.reporter.clone());
        let asked = Request::new(HealthCheckRequest { service: name.to_owned() });
        let answer = service.check(asked).await;
        answer.is_ok_and(|answer| answer.get_ref().status == ServingStatus::Serving as i32)
    }

    async fn set(&self, name: &str, serving: bool) {
        let status = if serving { ServingStatus::Serving } else { ServingStatus::NotServing };
        self.reporter.set_service_status(name, status).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn check(health: &Health, name: &str, serves: bool) {
        assert_eq!(health.serves(name).await, serves, "{name}");
    }

    #[tokio::test]
    async fn stopping_is_for_good() {
        let metrics = Metrics::new();
        let (health, _service) = Health::new(Arc::new(Registry::ready(Vec::new())), metrics);
        health.publish().await;
        check(&health, "", true).await;
        check(&health, "ready", true).await;
        check(&health, "started", true).await;
        check(&health, "observatory.inference.v1.EmbeddingService", false).await;
        check(&health, "nobody", false).await;
        health.stop().await;
        health.publish().await;
        for name in ["", "started", "ready", "observatory.inference.v1.ModelsService"] {
            check(&health, name, false).await;
        }
    }
}
