//! `EmbeddingService`.

use std::sync::Arc;

use observatory_proto::inference::v1 as pb;
use pb::embed_stream_request;
use pb::embedding_service_server::EmbeddingService;
use tonic::{Request, Response, Status, Streaming};

use super::encoding::Form;
use super::extras::{self, More};
use super::stream::{Exchange, Replies, item_field, no_settings};
use super::vectors::Reading;
use super::{Api, Call, Caller, failed_item, item_status, nanos, priority, text_field, truncation};
use crate::error::Error;
use crate::models::{ModelInfo, Task};
use crate::registry::loaded::LoadedModel;
use crate::scheduler::queue::WorkSource;
use crate::service::embedding_cache::Embedded;

/// Bytes of a caller's own prompt: it is read before every text.
const LONGEST_PROMPT: usize = 4_096;

#[tonic::async_trait]
impl EmbeddingService for Api {
    async fn embed(&self, request: Request<pb::EmbedRequest>) -> Result<Response<pb::EmbedResponse>, Status> {
        let caller = Caller::of(&request);
        self.answer(self.embed_batch(&caller, request.into_inner()).await)
    }

    type EmbedStreamStream = Replies<pb::EmbedStreamResponse>;

    async fn embed_stream(
        &self,
        request: Request<Streaming<pb::EmbedStreamRequest>>,
    ) -> Result<Response<Self::EmbedStreamStream>, Status> {
        let caller = Caller::of(&request);
        self.open::<Asked>(&caller, request.into_inner()).await
    }
}

impl Exchange for Asked {
    type Message = pb::EmbedStreamRequest;
    type Result = pb::EmbedResult;
    type Reply = pb::EmbedStreamResponse;

    fn begin(api: &Api, caller: &Caller, first: Self::Message) -> Result<Self, Error> {
        match first.message {
            Some(embed_stream_request::Message::Settings(settings)) => {
                caller.heed(settings.options.as_ref(), "settings.options")?;
                api.embedding_asked(caller, settings, item_field)
            }
            _ => Err(no_settings()),
        }
    }

    fn item(message: Self::Message) -> Option<pb::TextItem> {
        match message.message {
            Some(embed_stream_request::Message::Item(item)) => Some(item),
            _ => None,
        }
    }

    async fn results(&self, api: &Api, call: &Call, texts: Vec<String>) -> Result<Vec<Self::Result>, Error> {
        let read = api.vectors(call, &self.source, self.reading.clone(), texts).await?;
        api.refused_items(&read.items);
        Ok(read.items.into_iter().map(|text| self.result(text)).collect())
    }

    fn refusal(&self, error: &Error) -> Self::Result {
        pb::EmbedResult { status: Some(failed_item(error)), ..Default::default() }
    }

    fn numbered(result: Self::Result, id: u64) -> Self::Result {
        pb::EmbedResult { id, ..result }
    }

    fn reply(&self, results: Vec<Self::Result>) -> Self::Reply {
        let info = &self.source.model().info;
        pb::EmbedStreamResponse {
            results,
            dimensions: self.form.dimensions as u32,
            model_name: info.name.clone(),
            model_revision: info.revision.clone(),
        }
    }
}

impl Asked {
    fn result(&self, text: Result<Arc<Embedded>, Error>) -> pb::EmbedResult {
        let answer = packed(self, &[text]);
        let status = answer.items.into_iter().next();
        let is_ok = status.as_ref().is_some_and(|status| status.ok);
        pb::EmbedResult {
            id: 0,
            status,
            vector: if is_ok { answer.vectors } else { Vec::new() },
            scale: answer.scales.into_iter().next().unwrap_or_default(),
            sparse: answer.sparse.into_iter().next(),
            multi_vector: answer.multi_vectors.into_iter().next(),
        }
    }
}

/// What the settings of a request or a stream ask for, checked.
struct Asked {
    source: WorkSource<LoadedModel>,
    reading: Reading,
    form: Form,
}

impl Api {
    /// Checks the settings; `field` names the texts in messages.
    fn embedding_asked(
        &self,
        caller: &Caller,
        settings: pb::EmbedSettings,
        field: fn(usize) -> String,
    ) -> Result<Asked, Error> {
        let (truncation, priority) = (truncation(settings.truncation)?, priority(settings.priority)?);
        let model = self.resolve(caller, settings.model.clone(), Some(Task::Embedding))?;
        let prompt = prompt(&model.info, &settings)?;
        let form = Form::asked(&settings, &model.info)?;
        let source = WorkSource::new(&model, priority).with_extras(extras::asked(&settings, &model.info)?);
        Ok(Asked { source, reading: Reading { prompt, truncation, field }, form })
    }

    pub(super) async fn embed_batch(
        &self,
        caller: &Caller,
        request: pb::EmbedRequest,
    ) -> Result<pb::EmbedResponse, Error> {
        let settings = request.settings.unwrap_or_default();
        caller.heed(settings.options.as_ref(), "settings.options")?;
        let call = self.enter(caller)?;
        self.check_count("texts", request.texts.len())?;
        let asked = self.embedding_asked(caller, settings, text_field)?;
        let read = self.vectors(&call, &asked.source, asked.reading.clone(), request.texts).await?;
        self.refused_items(&read.items);
        let answer = packed(&asked, &read.items);
        let info = &asked.source.model().info;
        Ok(pb::EmbedResponse {
            usage: Some(pb::Usage { prompt_tokens: answer.items.iter().map(|item| item.tokens).sum() }),
            timing: Some(pb::Timing {
                queue_ns: nanos(read.queued),
                tokenize_ns: nanos(read.tokenize),
                compute_ns: nanos(read.compute),
            }),
            model_name: info.name.clone(),
            model_revision: info.revision.clone(),
            ..answer
        })
    }
}

/// The vectors and extras of an answer in the form asked for. A vector that is not one of finite
/// numbers fails by itself.
fn packed(asked: &Asked, read: &[Result<Arc<Embedded>, Error>]) -> pb::EmbedResponse {
    let (form, width) = (asked.form, asked.form.row_bytes());
    let mut items: Vec<pb::ItemStatus> = read.iter().map(item_status).collect();
    let mut vectors = vec![0_u8; width * items.len()];
    let mut scales = vec![0.0; if form.has_scales() { items.len() } else { 0 }];
    let mut more = More::new(&asked.source, items.len());
    for (index, text) in read.iter().enumerate() {
        let Ok(text) = text else { continue };
        let row = &mut vectors[index * width..][..width];
        match form.write(&text.vector, row) {
            Some(scale) if more.take(index, text, form.normalize) => {
                scales.get_mut(index).into_iter().for_each(|place| *place = scale);
            }
            _ => {
                row.fill(0);
                items[index] = failed_item(&Error::Backend);
            }
        }
    }
    let dimensions = form.dimensions as u32;
    let More { sparse, multi_vectors, .. } = more;
    pb::EmbedResponse { dimensions, vectors, items, scales, sparse, multi_vectors, ..Default::default() }
}

/// The text to put before every input: the caller's own, or the model's by that name; without a
/// name the model's default, where it has one.
fn prompt(info: &ModelInfo, settings: &pb::EmbedSettings) -> Result<String, Error> {
    let field = || "settings.prompt".to_owned();
    let name = settings.prompt_name.as_str();
    match &settings.prompt {
        Some(_) if !name.is_empty() => {
            return Err(Error::InvalidValue {
                field: field(),
                value: "given beside settings.prompt_name".to_owned(),
                allowed: "one of them".to_owned(),
            });
        }
        Some(prompt) if prompt.len() > LONGEST_PROMPT => {
            return Err(Error::InputTooLarge { field: field(), bytes: prompt.len(), limit: LONGEST_PROMPT });
        }
        Some(prompt) => return Ok(prompt.clone()),
        None => {}
    }
    let name = if name.is_empty() { info.default_prompt.as_deref().unwrap_or_default() } else { name };
    if name.is_empty() {
        return Ok(String::new());
    }
    info.prompts.get(name).cloned().ok_or_else(|| {
        let names: Vec<&str> = info.prompts.keys().map(String::as_str).collect();
        let known = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
        Error::UnknownPrompt { model: info.name.clone(), asked: name.to_owned(), known }
    })
}
