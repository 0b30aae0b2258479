//! `EmbeddingService`.

use std::sync::Arc;
use std::time::Instant;

use observatory_proto::inference::v1 as pb;
use pb::embedding_service_server::EmbeddingService;
use tonic::{Request, Response, Status};

use super::encoding::Form;
use super::extras::{self, More};
use super::vectors::Reading;
use super::{
    Api, deadline, failed_item, item_status, nanos, priority, text_field, truncation, with_revision,
};
use crate::error::Error;
use crate::model::{ModelInfo, Task};
use crate::queue::Lane;
use crate::vectors::Embedded;

/// Bytes of a caller's own prompt: it is read before every text.
const LONGEST_PROMPT: usize = 4_096;

#[tonic::async_trait]
impl EmbeddingService for Api {
    async fn embed(&self, request: Request<pb::EmbedRequest>) -> Result<Response<pb::EmbedResponse>, Status> {
        let deadline = deadline(&request);
        let answer = self.embed_batch(request.into_inner(), deadline).await;
        answer
            .map(|answer| {
                let revision = answer.model_revision.clone();
                with_revision(answer, &revision)
            })
            .map_err(|error| self.refuse(error))
    }
}

/// What the settings of a request or a stream ask for, checked.
pub(super) struct Asked {
    pub(super) lane: Lane,
    pub(super) reading: Reading,
    pub(super) form: Form,
}

impl Api {
    /// Checks the settings; `field` names the texts in messages.
    pub(super) fn embedding_asked(
        &self,
        settings: pb::EmbedSettings,
        field: fn(usize) -> String,
    ) -> Result<Asked, Error> {
        let (truncation, priority) = (truncation(settings.truncation)?, priority(settings.priority)?);
        let model = self.resolve(settings.model.clone(), Some(Task::Embedding))?;
        let prompt = prompt(&model.info, &settings)?;
        let form = Form::asked(&settings, &model.info)?;
        let lane = Lane::new(&model, priority).with_extras(extras::asked(&settings, &model.info)?);
        Ok(Asked { lane, reading: Reading { prompt, truncation, field }, form })
    }

    async fn embed_batch(
        &self,
        request: pb::EmbedRequest,
        deadline: Option<Instant>,
    ) -> Result<pb::EmbedResponse, Error> {
        let call = self.enter(deadline)?;
        self.check_count("texts", request.texts.len())?;
        let asked = self.embedding_asked(request.settings.unwrap_or_default(), text_field)?;
        let read = self.vectors(&call, &asked.lane, asked.reading.clone(), request.texts).await?;
        self.refused_items(&read.items);
        let answer = packed(&asked, &read.items);
        let info = &asked.lane.model().info;
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

/// The vectors and extras of an answer in the form asked for. A vector that is not one of finite numbers fails by
/// itself.
fn packed(asked: &Asked, read: &[Result<Arc<Embedded>, Error>]) -> pb::EmbedResponse {
    let (form, width) = (asked.form, asked.form.row_bytes());
    let mut items: Vec<pb::ItemStatus> = read.iter().map(item_status).collect();
    let mut vectors = vec![0_u8; width * items.len()];
    let mut scales = vec![0.0; if form.has_scales() { items.len() } else { 0 }];
    let mut more = More::new(&asked.lane, items.len());
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

/// The text to put before every input: the caller's own, or the model's by that name; without a name the model's
/// default, where it has one.
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
