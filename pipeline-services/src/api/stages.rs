//! The module interface over gRPC.
//!
//! It works on the stages of this process alone; a batch that a caller starts goes on when the
//! caller leaves.

use std::sync::Arc;

use observatory_proto::pipeline::v1::{
    CleanupRequest, CleanupResponse, GetMetricsRequest, GetMetricsResponse, ProcessRequest, ProcessResponse,
    ValidateInputRequest, ValidateInputResponse, stage_service_server::StageService,
};
use tonic::{Request, Response, Status};

use super::{Counters, Services, Stage, StageName, Worker, error};
use crate::worker::ModuleConfig;

/// A stage of this process with its configuration and counters.
#[derive(Clone)]
pub(crate) struct StageEntry {
    /// Stage.
    pub stage: Arc<dyn Stage>,
    /// Its module block.
    pub config: ModuleConfig,
    /// Counters of its workers.
    pub counters: Arc<Counters>,
}

impl Services {
    fn stage(&self, name: &str) -> Result<&StageEntry, Status> {
        let stage: StageName = name.parse().map_err(|unknown: crate::domain::run::UnknownStage| {
            error::invalid("stage", unknown.to_string())
        })?;
        self.stages.get(&stage).ok_or_else(|| {
            let here: Vec<&str> = self.stages.keys().map(|stage| stage.name()).collect();
            let problem = format!("`{name}` does not run in this process; here are {}", here.join(", "));
            error::invalid("stage", problem)
        })
    }
}

#[tonic::async_trait]
impl StageService for Services {
    async fn process(&self, request: Request<ProcessRequest>) -> Result<Response<ProcessResponse>, Status> {
        let asked = request.into_inner();
        let entry = self.stage(&asked.stage)?;
        let mut config = entry.config.clone();
        // The bound that the configuration has, since a call must not pass it.
        if asked.batch_size > 10_000 {
            return Err(error::invalid("batch_size", format!("{} is above 10000", asked.batch_size)));
        }
        if asked.batch_size > 0 {
            config.batch_size = asked.batch_size;
        }
        let worker = Worker::new(Arc::clone(&entry.stage), config, self.pool.clone());
        // A task of its own: a caller who leaves must not strand what was claimed.
        let work = tokio::spawn(async move { worker.work_once_alive().await });
        let report = work.await.map_err(|_| Status::internal("the worker panicked"))?.map_err(error::sql)?;
        Ok(Response::new(ProcessResponse {
            succeeded: report.succeeded,
            failed: report.failed,
            // A task that waits comes back as a retried one does; the contract has no third count.
            retried: report.retried + report.waiting,
        }))
    }

    async fn validate_input(
        &self,
        request: Request<ValidateInputRequest>,
    ) -> Result<Response<ValidateInputResponse>, Status> {
        let checked = self.stage(&request.into_inner().stage)?.stage.validate_input().await;
        // Problems are the answer here and no failure of the call.
        let problems: Vec<String> = checked.err().map(|problem| problem.to_string()).into_iter().collect();
        Ok(Response::new(ValidateInputResponse { valid: problems.is_empty(), problems }))
    }

    async fn get_metrics(
        &self,
        request: Request<GetMetricsRequest>,
    ) -> Result<Response<GetMetricsResponse>, Status> {
        let entry = self.stage(&request.into_inner().stage)?;
        let values = entry.stage.metrics().into_iter().chain(entry.counters.values()).collect();
        Ok(Response::new(GetMetricsResponse { values }))
    }

    async fn cleanup(&self, request: Request<CleanupRequest>) -> Result<Response<CleanupResponse>, Status> {
        self.stage(&request.into_inner().stage)?.stage.cleanup().await.map_err(error::stage)?;
        Ok(Response::new(CleanupResponse {}))
    }
}
