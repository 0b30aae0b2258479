//! `grpc.health.v1`: `""` for the process, `"ready"` for all models, `"ready.<model>"`, and each
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

fn is_ready(state: &ModelState) -> bool {
    matches!(state, ModelState::Ready(_))
}

/// Publishes the states of the models to the health service and the metrics.
#[derive(Debug, Clone)]
pub(crate) struct Health {
    reporter: HealthReporter,
    registry: Arc<Registry>,
    metrics: Arc<Metrics>,
    /// Held while statuses are written: a model that becomes ready during the drain must not undo
    /// it.
    stopped: Arc<Mutex<bool>>,
}

impl Health {
    /// A reporter over the registry, and the service that answers from it.
    pub(crate) fn new(registry: Arc<Registry>, metrics: Arc<Metrics>) -> (Self, Service) {
        let reporter = HealthReporter::new();
        let service = HealthServer::new(HealthService::from_health_reporter(reporter.clone()));
        (Self { reporter, registry, metrics, stopped: Arc::default() }, service)
    }

    /// Publishes the state of the models. "ready" needs all of them but those taken out of service:
    /// a failed one is for the operator to see.
    pub(crate) async fn publish(&self) {
        let stopped = self.stopped.lock().await;
        if *stopped {
            return;
        }
        let entries = self.registry.entries();
        let mut all_ready = true;
        for entry in &entries {
            let ready = is_ready(&entry.state);
            // An operator took it out; that must not take the whole pod out of service.
            all_ready &= ready || matches!(entry.state, ModelState::Unloaded);
            self.metrics.model_ready(&entry.name, ready);
            self.set(&format!("ready.{}", entry.name), ready).await;
        }
        self.set("ready", all_ready).await;
        for (name, task) in SERVICES {
            // By task and not by model: a client asks for a service before it knows a model's name.
            let serves =
                task.is_none() || entries.iter().any(|entry| entry.task == task && is_ready(&entry.state));
            self.set(name, serves).await;
        }
    }

    /// Says NOT_SERVING under every name, for good.
    pub(crate) async fn stop(&self) {
        let mut stopped = self.stopped.lock().await;
        // The lock is held to the end: a concurrent `publish` must not overwrite a name in between.
        *stopped = true;
        let models = self.registry.entries();
        let models = models.iter().map(|entry| format!("ready.{}", entry.name));
        let fixed = ["", "ready"].into_iter().chain(SERVICES.map(|(name, _)| name)).map(str::to_owned);
        for name in fixed.chain(models) {
            self.set(&name, false).await;
        }
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
        check(&health, "observatory.inference.v1.EmbeddingService", false).await;
        check(&health, "nobody", false).await;
        health.stop().await;
        health.publish().await;
        for name in ["", "ready", "observatory.inference.v1.ModelsService"] {
            check(&health, name, false).await;
        }
    }
}
