//! `EmbeddingService`.

use std::time::Instant;

use observatory_proto::inference::v1 as pb;
use pb::embedding_service_server::EmbeddingService;
use tonic::{Request, Response, Status};

use super::extras::{self, More};
use super::vectors::Reading;
use super::{
    Api, deadline, failed_item, item_status, nanos, priority, text_field, truncation, with_revision,
};
use crate::error::Error;
use crate::model::{ModelInfo, Task};
use crate::queue::Lane;

#[tonic::async_trait]
impl EmbeddingService for Api {
    async fn embed(&self, request: Request<pb::EmbedRequest>) -> Result<Response<pb::EmbedResponse>, Status> {
        let deadline = deadline(&request);
        let answer = self.embed_batch(request.into_inner(), deadline).await;
        answer.map(|answer| with_revision(answer.0, &answer.1)).map_err(|error| self.refuse(error))
    }
}

impl Api {
    /// The answer and the revision of the model that gave it.
    async fn embed_batch(
        &self,
        request: pb::EmbedRequest,
        deadline: Option<Instant>,
    ) -> Result<(pb::EmbedResponse, String), Error> {
        let call = self.enter(deadline)?;
        self.check_count("texts", request.texts.len())?;
        let settings = request.settings.unwrap_or_default();
        let (truncation, priority) = (truncation(settings.truncation)?, priority(settings.priority)?);
        let model = self.resolve(settings.model.clone(), Some(Task::Embedding))?;
        let prompt = prompt(&model.info, &settings.prompt_name)?;
        let normalize = settings.normalize.unwrap_or(model.info.normalize);
        let lane = Lane::new(&model, priority).with_extras(extras::asked(&settings, &model.info)?);
        let reading = Reading { prompt, truncation, field: text_field };
        let read = self.vectors(&call, &lane, reading, request.texts).await?;

        let mut items: Vec<pb::ItemStatus> = read.items.iter().map(item_status).collect();
        let dimensions = model.info.dimensions;
        let mut vectors = vec![0_u8; dimensions * items.len() * size_of::<f32>()];
        let mut more = More::new(&lane, items.len());
        for (index, text) in read.items.iter().enumerate() {
            let Ok(text) = text else { continue };
            match finished(text.vector.clone(), normalize) {
                Some(vector) if more.take(index, text, normalize) => write_row(&mut vectors, index, &vector),
                _ => items[index] = failed_item(&Error::Backend),
            }
        }
        self.refused_items(&read.items);
        let usage = pb::Usage { prompt_tokens: items.iter().map(|item| item.tokens).sum() };
        let timing = pb::Timing {
            queue_ns: nanos(read.queued),
            tokenize_ns: nanos(read.tokenize),
            compute_ns: nanos(read.compute),
        };
        let info = &model.info;
        let response = pb::EmbedResponse {
            dimensions: dimensions as u32,
            vectors,
            items,
            usage: Some(usage),
            timing: Some(timing),
            model_name: info.name.clone(),
            model_revision: info.revision.clone(),
            sparse: more.sparse,
            multi_vectors: more.multi_vectors,
        };
        Ok((response, info.revision.clone()))
    }
}

/// The text to put before every input; an empty name takes the model's default prompt, where it has one.
fn prompt(info: &ModelInfo, name: &str) -> Result<String, Error> {
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

/// The vector as it is sent, or `None` where it is not a vector of finite numbers.
///
/// The floor on the norm is the one of torch's `normalize`.
pub(super) fn finished(mut vector: Vec<f32>, normalize: bool) -> Option<Vec<f32>> {
    if normalize {
        let norm = vector.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt().max(1e-12);
        vector.iter_mut().for_each(|x| *x = (f64::from(*x) / norm) as f32);
    }
    vector.iter().all(|x| x.is_finite()).then_some(vector)
}

fn write_row(vectors: &mut [u8], index: usize, vector: &[f32]) {
    let row = size_of_val(vector);
    let places = vectors[index * row..][..row].chunks_exact_mut(size_of::<f32>());
    for (place, value) in places.zip(vector) {
        place.copy_from_slice(&value.to_le_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors_are_normalised_and_checked() {
        fn check(vector: &[f32], normalize: bool, expected: Option<&[f32]>) {
            assert_eq!(finished(vector.to_vec(), normalize).as_deref(), expected);
        }
        check(&[3.0, 4.0], true, Some(&[0.6, 0.8]));
        check(&[3.0, 4.0], false, Some(&[3.0, 4.0]));
        check(&[0.0, 0.0], true, Some(&[0.0, 0.0]));
        check(&[1e30, 0.0], true, Some(&[1.0, 0.0]));
        check(&[f32::NAN, 1.0], true, None);
        check(&[f32::INFINITY, 1.0], false, None);
    }
}
