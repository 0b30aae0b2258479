//! `EmbeddingService`.
//!
//! Vectors of a unary answer lie one behind the other in one `bytes` field, in the encoding asked
//! for; the row of a text that failed is zeros.

use observatory_proto::inference::v1 as pb;
use pb::embed_stream_request;
use pb::embedding_service_server::EmbeddingService;
use tonic::{Request, Response, Status, Streaming};

use super::encoding::VectorEncoding;
use super::settings::{apply_options, model, priority, truncation};
use super::stream::{Exchange, Replies, item_field, no_settings};
use super::{Api, context_of, failed_item, read_item, text_field, timing};
use crate::error::Error;
use crate::models::Extras;
use crate::service::Service;
use crate::service::call::{Call, CallContext};
use crate::service::embed::{EmbedPlan, EmbedSettings, Embedding, Prompt};
use crate::service::token_outputs::{SparseWeights, TokenVectors};

#[tonic::async_trait]
impl EmbeddingService for Api {
    async fn embed(&self, request: Request<pb::EmbedRequest>) -> Result<Response<pb::EmbedResponse>, Status> {
        let context = context_of(&request);
        self.respond(embed(&self.service, &context, request.into_inner()).await)
    }

    type EmbedStreamStream = Replies<pb::EmbedStreamResponse>;

    async fn embed_stream(
        &self,
        request: Request<Streaming<pb::EmbedStreamRequest>>,
    ) -> Result<Response<Self::EmbedStreamStream>, Status> {
        let context = context_of(&request);
        self.open::<EmbedStream>(&context, request.into_inner()).await
    }
}

async fn embed(
    service: &Service,
    context: &CallContext,
    request: pb::EmbedRequest,
) -> Result<pb::EmbedResponse, Error> {
    let (settings, encoding) = settings(context, request.settings.unwrap_or_default())?;
    let (plan, embeddings) = service.embed(context, settings, request.texts, text_field).await?;
    let answer = packed(&plan, encoding, embeddings.items);
    Ok(pb::EmbedResponse {
        usage: Some(pb::Usage { prompt_tokens: answer.items.iter().map(|item| item.tokens).sum() }),
        timing: Some(timing(embeddings.timing)),
        model_name: plan.model.info.name.clone(),
        model_revision: plan.model.info.revision.clone(),
        ..answer
    })
}

/// Decodes settings and records their options.
fn settings(
    context: &CallContext,
    settings: pb::EmbedSettings,
) -> Result<(EmbedSettings, VectorEncoding), Error> {
    apply_options(context, settings.options.as_ref(), "settings.options")?;
    let encoding = VectorEncoding::decode(settings.encoding)?;
    let settings = EmbedSettings {
        truncation: truncation(settings.truncation)?,
        priority: priority(settings.priority)?,
        prompt: prompt(settings.prompt, settings.prompt_name)?,
        model: model(settings.model),
        normalize: settings.normalize,
        dimensions: settings.dimensions,
        token_outputs: Extras { sparse: settings.sparse, multi_vector: settings.multi_vector },
    };
    Ok((settings, encoding))
}

fn prompt(text: Option<String>, name: String) -> Result<Prompt, Error> {
    match text {
        Some(_) if !name.is_empty() => Err(Error::InvalidValue {
            field: "settings.prompt".to_owned(),
            value: "given together with settings.prompt_name".to_owned(),
            allowed: "one of them".to_owned(),
        }),
        Some(text) => Ok(Prompt::Text(text)),
        None if name.is_empty() => Ok(Prompt::Default),
        None => Ok(Prompt::Named(name)),
    }
}

/// An open stream: what its first message asks for.
struct EmbedStream {
    plan: EmbedPlan,
    encoding: VectorEncoding,
}

impl Exchange for EmbedStream {
    type Message = pb::EmbedStreamRequest;
    type Result = pb::EmbedResult;
    type Reply = pb::EmbedStreamResponse;

    fn begin(service: &Service, context: &CallContext, first: Self::Message) -> Result<Self, Error> {
        let Some(embed_stream_request::Message::Settings(first)) = first.message else {
            return Err(no_settings());
        };
        let (settings, encoding) = settings(context, first)?;
        Ok(Self { plan: service.embed_plan(context, settings)?, encoding })
    }

    fn item(message: Self::Message) -> Option<pb::TextItem> {
        match message.message {
            Some(embed_stream_request::Message::Item(item)) => Some(item),
            _ => None,
        }
    }

    async fn results(
        &self,
        service: &Service,
        call: &Call,
        texts: Vec<String>,
    ) -> Result<Vec<Self::Result>, Error> {
        let embeddings = service.embed_texts(call, &self.plan, texts, item_field).await?;
        Ok(embeddings.items.into_iter().map(|item| self.result(item)).collect())
    }

    fn refusal(&self, error: &Error) -> Self::Result {
        pb::EmbedResult { status: Some(failed_item(error)), ..Default::default() }
    }

    fn numbered(result: Self::Result, id: u64) -> Self::Result {
        pb::EmbedResult { id, ..result }
    }

    fn reply(&self, results: Vec<Self::Result>) -> Self::Reply {
        pb::EmbedStreamResponse {
            results,
            dimensions: self.plan.dimensions as u32,
            model_name: self.plan.model.info.name.clone(),
            model_revision: self.plan.model.info.revision.clone(),
        }
    }
}

impl EmbedStream {
    fn result(&self, item: Result<Embedding, Error>) -> pb::EmbedResult {
        // The same path as a unary answer, so that a text has the same bytes in both.
        let answer = packed(&self.plan, self.encoding, vec![item]);
        let status = answer.items.into_iter().next();
        let is_ok = status.as_ref().is_some_and(|status| status.ok);
        pb::EmbedResult {
            id: 0,
            status,
            // `packed` leaves zeros for a failed item, which nobody should take for a vector.
            vector: if is_ok { answer.vectors } else { Vec::new() },
            scale: answer.scales.into_iter().next().unwrap_or_default(),
            sparse: answer.sparse.into_iter().next(),
            multi_vector: answer.multi_vectors.into_iter().next(),
        }
    }
}

/// Vectors and token outputs of an answer, encoded.
fn packed(
    plan: &EmbedPlan,
    encoding: VectorEncoding,
    items: Vec<Result<Embedding, Error>>,
) -> pb::EmbedResponse {
    let (count, width) = (items.len(), encoding.row_bytes(plan.dimensions));
    let asked = plan.token_outputs;
    let mut answer = pb::EmbedResponse {
        dimensions: plan.dimensions as u32,
        // A failed item keeps a row of zeros, so that row i always belongs to text i.
        vectors: vec![0_u8; width * count],
        scales: vec![0.0; if encoding.has_scales() { count } else { 0 }],
        sparse: vec![pb::SparseVector::default(); if asked.sparse { count } else { 0 }],
        multi_vectors: vec![pb::MultiVector::default(); if asked.multi_vector { count } else { 0 }],
        ..Default::default()
    };
    for (index, item) in items.into_iter().enumerate() {
        let embedding = match item {
            Ok(embedding) => embedding,
            Err(error) => {
                answer.items.push(failed_item(&error));
                continue;
            }
        };
        let scale = encoding.write(&embedding.vector, &mut answer.vectors[index * width..][..width]);
        if let Some(place) = answer.scales.get_mut(index) {
            *place = scale;
        }
        if let Some(weights) = embedding.sparse {
            answer.sparse[index] = sparse_vector(weights);
        }
        if let Some(vectors) = embedding.token_vectors {
            answer.multi_vectors[index] = multi_vector(&vectors);
        }
        answer.items.push(read_item(embedding.tokens, embedding.truncated));
    }
    answer
}

fn sparse_vector(sparse: SparseWeights) -> pb::SparseVector {
    pb::SparseVector { token_ids: sparse.token_ids, weights: sparse.weights }
}

fn multi_vector(vectors: &TokenVectors) -> pb::MultiVector {
    pb::MultiVector {
        dimensions: vectors.dimensions as u32,
        vectors: vectors.values.iter().flat_map(|value| value.to_le_bytes()).collect(),
    }
}
