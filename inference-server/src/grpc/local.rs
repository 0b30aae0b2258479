//! Calls from inside the process: what another door than gRPC asks, by the same admission and the
//! same queue.

use std::sync::Arc;

use axum::http::Request;
use observatory_proto::inference::v1 as pb;

use super::call::{Call, Caller};
use super::generation::Writing;
use super::{Api, status};
use crate::error::Error;
use crate::generation::sequence::Event;
use crate::metrics::Ongoing;
use crate::models::Task;
use crate::registry::ModelState;
use crate::registry::loaded::LoadedModel;
use crate::service::access::{Access, Client};

/// Why a call was refused, in the words of the contract.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Refusal {
    /// Canonical gRPC code, reason, message and when to come again.
    pub error: Box<pb::ItemError>,
    /// Path of the field at fault, where one is.
    pub field: Option<String>,
}

impl From<&Error> for Refusal {
    fn from(error: &Error) -> Self {
        Self { error: Box::new(status::to_item(error)), field: error.field().map(str::to_owned) }
    }
}

/// A text on its way. Dropping it takes it off the engine.
pub(crate) struct LocalText {
    api: Api,
    call: Call,
    writing: Writing,
}

impl LocalText {
    /// Its next event; after an end or a refusal there is none.
    ///
    /// # Errors
    /// Why it broke off.
    pub(crate) async fn next(&mut self) -> Result<Event, Refusal> {
        let event = tokio::select! {
            event = self.writing.next() => event,
            () = self.call.expired() => Err(Error::ExpiredRunning),
            () = self.api.0.cut_off.cancelled() => Err(Error::Draining),
        };
        event.map_err(|error| self.api.noted(&error))
    }

    /// Tokens of its prompt.
    pub(crate) fn prompt_tokens(&self) -> usize {
        self.writing.prompt_tokens()
    }

    /// Who writes it.
    pub(crate) fn model_name(&self) -> &str {
        &self.writing.model().info.name
    }

    /// What the tokens of its model are as text.
    pub(crate) fn names(&self) -> TokenNames {
        TokenNames(Arc::clone(self.writing.model()))
    }
}

/// Tokens as text, each alone.
pub(crate) struct TokenNames(Arc<LoadedModel>);

impl TokenNames {
    /// One token.
    pub(crate) fn text(&self, id: u32) -> String {
        self.0.generator().map_or_else(|_| String::new(), |generator| generator.token_text(id))
    }

    /// What a token adds to a text; nothing where it is no text.
    pub(crate) fn bytes(&self, id: u32) -> Option<Vec<u8>> {
        self.0.generator().ok()?.token_bytes(id)
    }
}

impl Api {
    /// As `EmbeddingService.Embed`, but the first item that fails fails the whole.
    ///
    /// # Errors
    /// Whatever a request or an item is refused for.
    pub(crate) async fn embed_all(
        &self,
        client: Arc<Client>,
        request: pb::EmbedRequest,
    ) -> Result<pb::EmbedResponse, Refusal> {
        let caller = Caller::default();
        self.0.metrics.called(&client.name);
        caller.identified(client);
        let answer = self.embed_batch(&caller, request).await.map_err(|error| self.noted(&error))?;
        let failed =
            answer.items.iter().enumerate().find_map(|(index, item)| Some((index, item.error.as_ref()?)));
        match failed {
            Some((index, error)) => {
                Err(Refusal { error: Box::new(error.clone()), field: Some(super::text_field(index)) })
            }
            None => Ok(answer),
        }
    }

    /// As `RankingService.Rank`, but the first document that fails fails the whole.
    ///
    /// # Errors
    /// Whatever a request or a document is refused for.
    pub(crate) async fn rank_all(
        &self,
        client: Arc<Client>,
        request: pb::RankRequest,
    ) -> Result<pb::RankResponse, Refusal> {
        let caller = Caller::default();
        self.0.metrics.called(&client.name);
        caller.identified(client);
        let answer = self.rank_batch(&caller, request).await.map_err(|error| self.noted(&error))?;
        let failed = answer
            .documents
            .iter()
            .find_map(|document| Some((document.index, document.status.as_ref()?.error.as_ref()?)));
        match failed {
            Some((index, error)) => {
                Err(Refusal { error: Box::new(error.clone()), field: Some(format!("documents[{index}]")) })
            }
            None => Ok(answer),
        }
    }

    /// What a model is for; nothing where there is none of this name that answers.
    pub(crate) fn task_of(&self, model: &str) -> Option<Task> {
        self.0.registry.resolve(model, "", None).ok().map(|model| model.info.task)
    }

    /// The first of these prompts that a model has.
    pub(crate) fn prompt_of(&self, model: &str, names: &[&str]) -> Option<String> {
        let model = self.0.registry.resolve(model, "", None).ok()?;
        names.iter().find(|name| model.info.prompts.contains_key(**name)).map(|name| (*name).to_owned())
    }

    /// As `GenerationService.Generate`.
    ///
    /// # Errors
    /// Whatever a request is refused for.
    pub(crate) async fn write_text(
        &self,
        client: Arc<Client>,
        request: pb::GenerateRequest,
    ) -> Result<LocalText, Refusal> {
        let caller = Caller::default();
        self.0.metrics.called(&client.name);
        caller.identified(client);
        let begun = self.begin_text(&caller, request).await.map_err(|error| self.noted(&error))?;
        Ok(LocalText { api: self.clone(), call: begun.0, writing: begun.1 })
    }

    /// The text of token ids of a model's own tokenizer; `field` names them in messages.
    ///
    /// # Errors
    /// If the model is not there or does not have an id.
    pub(crate) fn text_of(&self, model: &str, field: &str, ids: &[u32]) -> Result<String, Refusal> {
        let model = pb::ModelRef { name: model.to_owned(), revision: String::new() };
        let text = self
            .resolve(&Caller::default(), Some(model), Some(Task::Embedding))
            .and_then(|model| model.tokenizer.decode(field, ids, false));
        text.map_err(|error| self.noted(&error))
    }

    /// Names of the models that embed, rank or write text and are ready.
    pub(crate) fn open_models(&self) -> Vec<String> {
        let ready = |task: Option<Task>, state: &ModelState| {
            let served = matches!(task, Some(Task::Embedding | Task::Generation | Task::Ranking));
            served && matches!(state, ModelState::Ready(_))
        };
        let entries = self.0.registry.entries().into_iter();
        entries.filter(|entry| ready(entry.task, &entry.state)).map(|entry| entry.name).collect()
    }

    /// The client who makes a request.
    ///
    /// # Errors
    /// If `access` does not know it.
    pub(crate) fn identify<B>(&self, access: &Access, request: &Request<B>) -> Result<Arc<Client>, Refusal> {
        access.caller(request).map_err(|unknown| self.noted(&unknown.into()))
    }

    /// Counts a call of this method, which begins now, among those over gRPC.
    pub(crate) fn began(&self, method: &'static str) -> Ongoing {
        self.0.metrics.began(method)
    }

    /// Bytes of one request.
    pub(crate) fn request_bytes(&self) -> usize {
        self.0.limits.request_bytes
    }

    /// The refusal, counted.
    fn noted(&self, error: &Error) -> Refusal {
        self.0.metrics.refused(error.reason());
        Refusal::from(error)
    }
}
