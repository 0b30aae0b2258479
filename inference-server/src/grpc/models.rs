//! `ModelsService`.
//!
//! The served models, in pages; loading and unloading need the admin scope.

use std::pin::Pin;

use observatory_proto::inference::v1 as pb;
use pb::models_service_server::ModelsService;
use tokio::sync::mpsc;
use tokio_stream::{Stream, wrappers::ReceiverStream};
use tonic::{Request, Response, Status};

use super::{Api, context_of};
use crate::error::Error;
use crate::generation::Generator;
use crate::generation::kv_blocks::BLOCK_TOKENS;
use crate::models::Task;
use crate::registry::loaded::LoadedModel;
use crate::registry::{ModelEntry, ModelState};
use crate::service::call::CallContext;
use crate::service::manage::Load;

/// Models of a page if the caller does not say, and at most; as in the pipeline's lists.
const DEFAULT_PAGE: usize = 50;
const LARGEST_PAGE: usize = 500;

type LoadReply = Result<pb::LoadModelResponse, Status>;

#[tonic::async_trait]
impl ModelsService for Api {
    async fn list_models(
        &self,
        request: Request<pb::ListModelsRequest>,
    ) -> Result<Response<pb::ListModelsResponse>, Status> {
        context_of(&request);
        let entries = self.service.registry().entries();
        let listed = page(&entries, &request.into_inner()).map(|(page, next)| pb::ListModelsResponse {
            models: page.iter().map(message).collect(),
            next_page_token: next,
        });
        self.respond(listed)
    }

    async fn get_model(
        &self,
        request: Request<pb::GetModelRequest>,
    ) -> Result<Response<pb::GetModelResponse>, Status> {
        context_of(&request);
        let entry = self.service.registry().entry(&request.into_inner().name);
        self.respond(entry.map(|entry| pb::GetModelResponse { model: Some(message(&entry)) }))
    }

    type LoadModelStream = Pin<Box<dyn Stream<Item = LoadReply> + Send>>;

    async fn load_model(
        &self,
        request: Request<pb::LoadModelRequest>,
    ) -> Result<Response<Self::LoadModelStream>, Status> {
        let context = context_of(&request);
        let load = self.service.load(&context, request.into_inner().name);
        let load = load.map_err(|error| self.refuse(&error))?;
        // The model counts as loading from now on, and health must say so before the caller hears
        // it.
        self.health.publish().await;
        // One report in flight: older ones are worthless to a caller who reads slowly.
        let (sender, receiver) = mpsc::channel(1);
        let api = self.clone();
        tokio::spawn(async move {
            if let Err(error) = send_reports(load, &sender).await {
                // A caller who went away hears nothing; the model is loaded all the same.
                let _ = sender.send(Err(api.refuse(&error))).await;
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }

    async fn unload_model(
        &self,
        request: Request<pb::UnloadModelRequest>,
    ) -> Result<Response<pb::UnloadModelResponse>, Status> {
        let context = context_of(&request);
        let unloaded = self.unload(&context, &request.into_inner().name).await;
        self.respond(unloaded.map(|entry| pb::UnloadModelResponse { model: Some(message(&entry)) }))
    }
}

impl Api {
    async fn unload(&self, context: &CallContext, name: &str) -> Result<ModelEntry, Error> {
        self.service.unload(context, name, self.health.publish()).await
    }
}

/// Sends how far a load is, until the model is ready or the caller is gone.
async fn send_reports(mut load: Load, sender: &mpsc::Sender<LoadReply>) -> Result<(), Error> {
    while let Some(report) = load.next().await? {
        let reply = pb::LoadModelResponse {
            model: Some(message(&report.entry)),
            loaded_bytes: report.loaded_bytes,
            total_bytes: report.total_bytes,
        };
        if sender.send(Ok(reply)).await.is_err() {
            break;
        }
    }
    Ok(())
}

/// The entries of the page and the token of the next one. A token is the hexadecimal name of the
/// last model seen.
fn page<'a>(
    entries: &'a [ModelEntry],
    request: &pb::ListModelsRequest,
) -> Result<(&'a [ModelEntry], String), Error> {
    let size = match usize::try_from(request.page_size) {
        Ok(0) => DEFAULT_PAGE,
        Ok(size) => size.min(LARGEST_PAGE),
        Err(_) => return Err(invalid("page_size", &request.page_size.to_string(), "0 (50 a page) to 500")),
    };
    let start = if request.page_token.is_empty() {
        0
    } else {
        // By name and not by number: models that are loaded between two pages must not shift them.
        let place = entries.iter().position(|entry| hex::encode(&entry.name) == request.page_token);
        1 + place.ok_or_else(|| {
            invalid("page_token", &request.page_token, "next_page_token of an earlier answer")
        })?
    };
    let end = (start + size).min(entries.len());
    let next = if end < entries.len() { hex::encode(&entries[end - 1].name) } else { String::new() };
    Ok((&entries[start..end], next))
}

fn invalid(field: &str, value: &str, allowed: &str) -> Error {
    Error::InvalidValue { field: field.to_owned(), value: value.to_owned(), allowed: allowed.to_owned() }
}

fn message(entry: &ModelEntry) -> pb::Model {
    let (state, error) = match &entry.state {
        ModelState::Loading(_) => (pb::ModelState::Loading, String::new()),
        ModelState::Unloaded => (pb::ModelState::Unloaded, String::new()),
        ModelState::Ready(_) => (pb::ModelState::Ready, String::new()),
        ModelState::Failed(cause) => (pb::ModelState::Failed, cause.clone()),
    };
    // Only a model that is ready has figures; the others are listed with their names and states.
    let mut model = match &entry.state {
        ModelState::Ready(loaded) => described(loaded),
        _ => pb::Model::default(),
    };
    model.name = entry.name.clone();
    model.tasks = entry.task.map(|task| wire_task(task).into()).into_iter().collect();
    model.state = state.into();
    model.error = error;
    model.is_default = entry.is_default;
    model
}

fn wire_task(task: Task) -> pb::ModelTask {
    match task {
        Task::Embedding => pb::ModelTask::Embedding,
        Task::TokenClassification => pb::ModelTask::TokenClassification,
        Task::Ranking => pb::ModelTask::Ranking,
        Task::Generation => pb::ModelTask::Generation,
    }
}

fn described(model: &LoadedModel) -> pb::Model {
    let info = &model.info;
    let generator = model.generator().ok();
    let (kv_blocks, kv_blocks_used) = generator.map_or((0, 0), Generator::blocks);
    pb::Model {
        chat: generator.is_some_and(|generator| generator.profile().template.is_some()),
        kv_blocks: kv_blocks as u32,
        kv_blocks_used: kv_blocks_used as u32,
        kv_block_tokens: generator.map_or(0, |_| BLOCK_TOKENS as u32),
        revision: info.revision.clone(),
        architecture: info.architecture.to_owned(),
        max_input_tokens: info.max_input_tokens as u32,
        dimensions: info.dimensions as u32,
        pooling: info.pooling.map_or_else(String::new, |pooling| pooling.name().to_owned()),
        prompts: info.prompts.clone().into_iter().collect(),
        device: info.device.clone(),
        parameters: info.parameters,
        weight_bytes: info.weight_bytes,
        languages: info.languages.clone(),
        labels: info.labels.clone(),
        matryoshka_dimensions: info.matryoshka.iter().map(|length| *length as u32).collect(),
        sparse: info.sparse,
        multi_vector_dimensions: info.multi_vector_dimensions as u32,
        ..pb::Model::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_follow_each_other() {
        let entry = |name: &str| ModelEntry {
            name: name.to_owned(),
            task: None,
            state: ModelState::Unloaded,
            is_default: false,
        };
        let entries: Vec<ModelEntry> = ["a/1", "a/2", "a/3"].map(entry).into();
        let check = |page_size: i32, token: &str, expected: Result<(&[&str], bool), &str>| {
            let request = pb::ListModelsRequest { page_size, page_token: token.to_owned() };
            match (page(&entries, &request), expected) {
                (Ok((page, next)), Ok((names, more))) => {
                    assert_eq!(page.iter().map(|entry| entry.name.as_str()).collect::<Vec<_>>(), names);
                    assert_eq!(!next.is_empty(), more);
                }
                (Err(error), Err(field)) => assert_eq!(error.field(), Some(field)),
                (got, _) => panic!("{got:?}"),
            }
        };
        check(0, "", Ok((&["a/1", "a/2", "a/3"], false)));
        check(2, "", Ok((&["a/1", "a/2"], true)));
        check(2, &hex::encode("a/2"), Ok((&["a/3"], false)));
        check(3, "", Ok((&["a/1", "a/2", "a/3"], false)));
        check(9999, "", Ok((&["a/1", "a/2", "a/3"], false)));
        check(-1, "", Err("page_size"));
        check(0, "zz", Err("page_token"));
    }
}
