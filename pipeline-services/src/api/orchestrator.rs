//! Runs and the state of the stack.
//!
//! States of the domain become those of the contract, and a run's own summary goes out as JSON.

use std::{pin::Pin, time::Duration};

use chrono::{DateTime, Utc};
use futures::Stream;
use observatory_proto::pipeline::v1::{
    CancelRunRequest, CancelRunResponse, GetRunRequest, GetRunResponse, GetStatusRequest, GetStatusResponse,
    ListRunsRequest, ListRunsResponse, RetryRunRequest, RetryRunResponse, Run as RunMessage,
    RunOptions as OptionsMessage, RunState as StateMessage, ServiceStatus, StageProgress as ProgressMessage,
    StartRunRequest, StartRunResponse, WatchRunRequest, WatchRunResponse,
    orchestrator_service_server::OrchestratorService,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};
use uuid::Uuid;

use super::{Services, error, filters, non_empty, page_size};
use crate::{
    domain::run::RunState,
    orchestrator::{Orchestrator, StartError},
    store::{
        self, Connection, Page, PgConnection, SqlResult, postings,
        runs::{self, Run, RunOptions, StageProgress},
        skills,
    },
};

/// Tries of a cancellation that meets workers. Not tuned: each try loses to one worker at most.
const CANCEL_TRIES: u32 = 10;

/// Pause between two looks at a watched run. Not tuned: short to the eye, rare to the database.
const WATCH: Duration = Duration::from_millis(300);

impl Services {
    fn orchestrator(&self) -> Result<&Orchestrator, Status> {
        self.orchestrator.as_ref().ok_or_else(|| error::precondition("this process does not drive runs"))
    }

    /// The id that `text` stands for: a whole id or the beginning of exactly one.
    pub(super) async fn run_id(&self, connection: &mut PgConnection, text: &str) -> Result<Uuid, Status> {
        if let Ok(id) = text.parse() {
            return Ok(id);
        }
        let is_prefix = text.len() >= 4 && text.chars().all(|c| c.is_ascii_hexdigit() || c == '-');
        if !is_prefix {
            let problem = format!("`{text}` is not a run id nor the first 4 or more characters of one");
            return Err(error::invalid("run_id", problem));
        }
        // PostgreSQL writes ids in lower case.
        match runs::by_prefix(connection, &text.to_lowercase()).await.map_err(error::sql)?.as_slice() {
            [] => Err(error::not_found("run", text)),
            [id] => Ok(*id),
            _ => Err(error::invalid("run_id", format!("`{text}` begins more than one run id"))),
        }
    }

    async fn find_run(&self, text: &str) -> Result<Run, Status> {
        let mut connection = self.pool.acquire().await.map_err(error::sql)?;
        let run_id = self.run_id(&mut connection, text).await?;
        let run = runs::get(&mut connection, run_id).await.map_err(error::sql)?;
        run.ok_or_else(|| error::not_found("run", text))
    }
}

fn options_from(message: OptionsMessage) -> Result<RunOptions, Status> {
    let stages: Result<Vec<_>, _> = message.stages.iter().map(|name| name.parse()).collect();
    Ok(RunOptions {
        portals: message.portals,
        countries: message.countries.iter().map(|code| filters::country_code(code)).collect(),
        since_seconds: message.since_seconds,
        limit: message.limit,
        stages: stages.map_err(|unknown: crate::domain::run::UnknownStage| {
            error::invalid("stages", unknown.to_string())
        })?,
    })
}

fn unknown_version(problem: store::StoreError) -> Status {
    error::precondition(crate::telemetry::chain(&problem))
}

/// A time as a message.
pub(super) fn timestamp(time: DateTime<Utc>) -> prost_types::Timestamp {
    prost_types::Timestamp { seconds: time.timestamp(), nanos: time.timestamp_subsec_nanos().cast_signed() }
}

fn state_message(state: RunState) -> StateMessage {
    match state {
        RunState::Running => StateMessage::Running,
        RunState::Succeeded => StateMessage::Succeeded,
        RunState::Partial => StateMessage::Partial,
        RunState::Failed => StateMessage::Failed,
        RunState::Cancelled => StateMessage::Cancelled,
    }
}

fn state_of(message: StateMessage) -> Option<RunState> {
    match message {
        StateMessage::Unspecified => None,
        StateMessage::Running => Some(RunState::Running),
        StateMessage::Succeeded => Some(RunState::Succeeded),
        StateMessage::Partial => Some(RunState::Partial),
        StateMessage::Failed => Some(RunState::Failed),
        StateMessage::Cancelled => Some(RunState::Cancelled),
    }
}

fn progress_message(progress: &StageProgress) -> ProgressMessage {
    ProgressMessage {
        stage: progress.stage.to_string(),
        state: progress.state.to_string(),
        ready: progress.ready.unsigned_abs(),
        running: progress.running.unsigned_abs(),
        done: progress.done.unsigned_abs(),
        failed: progress.failed.unsigned_abs(),
        up_to_date: progress.up_to_date.unsigned_abs(),
        started_at: progress.started_at.map(timestamp),
        finished_at: progress.finished_at.map(timestamp),
    }
}

pub(super) fn run_message(run: &Run) -> RunMessage {
    RunMessage {
        run_id: run.run_id.to_string(),
        state: state_message(run.state).into(),
        options: Some(OptionsMessage {
            portals: run.options.portals.clone(),
            countries: run.options.countries.clone(),
            since_seconds: run.options.since_seconds,
            limit: run.options.limit,
            stages: run.options.stages.iter().map(ToString::to_string).collect(),
        }),
        created_at: Some(timestamp(run.created_at)),
        finished_at: run.finished_at.map(timestamp),
        stages: run.stages.iter().map(progress_message).collect(),
        problems: run.problems.iter().map(ToString::to_string).collect(),
        summary_json: run.describe().to_string(),
    }
}

type RunStream = Pin<Box<dyn Stream<Item = Result<WatchRunResponse, Status>> + Send>>;

#[tonic::async_trait]
impl OrchestratorService for Services {
    type WatchRunStream = RunStream;

    async fn start_run(
        &self,
        request: Request<StartRunRequest>,
    ) -> Result<Response<StartRunResponse>, Status> {
        let mut options = options_from(request.into_inner().options.unwrap_or_default())?;
        let mut connection = self.pool.acquire().await.map_err(error::sql)?;
        options.portals = self.known_portals(&mut connection, &options.portals).await?;
        // `start` takes a connection of its own; with a small pool, holding two could wait for
        // ever.
        drop(connection);
        let run_id = self.orchestrator()?.start(options).await.map_err(|problem| match problem {
            StartError::Invalid(text) => error::invalid("options", text),
            StartError::Store(failed) => error::sql(failed),
        })?;
        let run = self.find_run(&run_id.to_string()).await?;
        Ok(Response::new(StartRunResponse { run: Some(run_message(&run)) }))
    }

    async fn get_run(&self, request: Request<GetRunRequest>) -> Result<Response<GetRunResponse>, Status> {
        let run = self.find_run(&request.into_inner().run_id).await?;
        Ok(Response::new(GetRunResponse { run: Some(run_message(&run)) }))
    }

    async fn list_runs(
        &self,
        request: Request<ListRunsRequest>,
    ) -> Result<Response<ListRunsResponse>, Status> {
        let asked = request.into_inner();
        let state = StateMessage::try_from(asked.state)
            .map_err(|_| error::invalid("state", format!("{} is not a run state", asked.state)))?;
        let after = non_empty(&asked.page_token).map(|token| error::id("page_token", token)).transpose()?;
        let size = page_size(asked.page_size)?;
        let mut connection = self.pool.acquire().await.map_err(error::sql)?;
        // One more than a page holds says whether there is another page.
        let ids = runs::list(&mut connection, state_of(state), Page { after, size: size + 1 })
            .await
            .map_err(error::sql)?;
        let more = ids.len() as i64 > size;
        let mut found = Vec::new();
        for id in ids.into_iter().take(usize::try_from(size).unwrap_or(0)) {
            found.extend(runs::get(&mut connection, id).await.map_err(error::sql)?);
        }
        let next = found.last().filter(|_| more).map(|run| run.run_id.to_string());
        Ok(Response::new(ListRunsResponse {
            runs: found.iter().map(run_message).collect(),
            next_page_token: next.unwrap_or_default(),
        }))
    }

    async fn watch_run(
        &self,
        request: Request<WatchRunRequest>,
    ) -> Result<Response<Self::WatchRunStream>, Status> {
        // Resolved once: a prefix that is unique now may begin a second id later.
        let run_id = self.find_run(&request.into_inner().run_id).await?.run_id.to_string();
        let services = self.clone();
        // Short: a state that waits long to be read is no longer the present one.
        let (sender, receiver) = mpsc::channel(4);
        tokio::spawn(async move { services.watch(&run_id, sender).await });
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }

    async fn cancel_run(
        &self,
        request: Request<CancelRunRequest>,
    ) -> Result<Response<CancelRunResponse>, Status> {
        let run = self.find_run(&request.into_inner().run_id).await?;
        if run.state != RunState::Running {
            return Err(error::precondition(format!("run {} is over: {}", run.run_id, run.state)));
        }
        self.cancel(run.run_id).await.map_err(error::sql)?;
        let run = self.find_run(&run.run_id.to_string()).await?;
        Ok(Response::new(CancelRunResponse { run: Some(run_message(&run)) }))
    }

    async fn retry_run(
        &self,
        request: Request<RetryRunRequest>,
    ) -> Result<Response<RetryRunResponse>, Status> {
        let asked = request.into_inner();
        let run = self.find_run(&asked.run_id).await?;
        if run.state == RunState::Running {
            return Err(error::precondition(format!("run {} is not over yet", run.run_id)));
        }
        let mut connection = self.pool.acquire().await.map_err(error::sql)?;
        let mut transaction = connection.begin().await.map_err(error::sql)?;
        let tasks =
            runs::reopen(&mut transaction, run.run_id, asked.failed_only).await.map_err(error::sql)?;
        transaction.commit().await.map_err(error::sql)?;
        // Given back first: `find_run` takes one of its own.
        drop(connection);
        let run = self.find_run(&run.run_id.to_string()).await?;
        Ok(Response::new(RetryRunResponse { run: Some(run_message(&run)), tasks_retried: tasks }))
    }

    async fn get_status(
        &self,
        _request: Request<GetStatusRequest>,
    ) -> Result<Response<GetStatusResponse>, Status> {
        let mut connection = self.pool.acquire().await.map_err(error::sql)?;
        let schema_version = store::schema_version(&mut connection).await.map_err(unknown_version)?;
        let pgvector_version = store::pgvector_version(&mut connection).await.map_err(unknown_version)?;
        let postings = postings::count(&mut connection).await.map_err(error::sql)?;
        let skills = skills::count(&mut connection).await.map_err(error::sql)?;
        let active_runs = runs::count_active(&mut connection).await.map_err(error::sql)?;
        // Given back first: stages check themselves with connections of their own.
        drop(connection);
        Ok(Response::new(GetStatusResponse {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            database: "reachable".to_owned(),
            schema_version,
            pgvector_version,
            services: self.service_states().await,
            postings: postings.unsigned_abs(),
            skills: skills.unsigned_abs(),
            active_runs: active_runs.unsigned_abs(),
        }))
    }
}

impl Services {
    /// Cancels a run; workers that end tasks of it at the same moment may win the rows a few times.
    async fn cancel(&self, run_id: Uuid) -> SqlResult<()> {
        let mut connection = self.pool.acquire().await?;
        for tries_left in (0..CANCEL_TRIES).rev() {
            let mut transaction = connection.begin().await?;
            match runs::cancel(&mut transaction, run_id).await {
                Ok(()) => return transaction.commit().await,
                Err(problem) if tries_left > 0 && store::is_conflict(&problem) => {
                    // A transaction that lost a conflict takes no further statement.
                    transaction.rollback().await?;
                }
                Err(problem) => return Err(problem),
            }
        }
        Ok(())
    }

    async fn watch(&self, run_id: &str, sender: mpsc::Sender<Result<WatchRunResponse, Status>>) {
        let mut last = None;
        loop {
            let answer = match self.find_run(run_id).await {
                // A database that restarts must not end a watch.
                Err(status) if status.code() == tonic::Code::Unavailable => None,
                Err(status) => Some(Err(status)),
                Ok(run) => Some(Ok(run_message(&run))),
            };
            match answer {
                Some(Ok(run)) if last.as_ref() != Some(&run) => {
                    let over = run.state() != StateMessage::Running;
                    last = Some(run.clone());
                    if sender.send(Ok(WatchRunResponse { run: Some(run) })).await.is_err() || over {
                        return;
                    }
                }
                Some(Err(status)) => {
                    let _ = sender.send(Err(status)).await;
                    return;
                }
                _ => {}
            }
            tokio::select! {
                () = tokio::time::sleep(WATCH) => {}
                // Without it a caller who has left would be noticed only when the run changes.
                () = sender.closed() => return,
                () = self.closed.cancelled() => {
                    let _ = sender.send(Err(error::stopping())).await;
                    return;
                }
            }
        }
    }

    async fn service_states(&self) -> Vec<ServiceStatus> {
        let mut states = Vec::new();
        for entry in self.stages.values() {
            let checked = entry.stage.validate_input().await;
            states.push(ServiceStatus {
                name: entry.stage.name().service().to_owned(),
                serving: checked.is_ok(),
                detail: checked.err().map(|problem| problem.to_string()).unwrap_or_default(),
            });
        }
        states
    }
}
