//! `TokenizationService`.
//!
//! Token ids and offsets of texts by a model's tokenizer, for callers who split texts or count what
//! they cost.

use observatory_proto::inference::v1 as pb;
use pb::tokenization_service_server::TokenizationService;
use tonic::{Request, Response, Status};

use super::settings::{apply_options, model};
use super::{Api, context_of};
use crate::error::Error;
use crate::service::Service;
use crate::service::call::CallContext;
use crate::service::tokenize::Tokens;

#[tonic::async_trait]
impl TokenizationService for Api {
    async fn tokenize(
        &self,
        request: Request<pb::TokenizeRequest>,
    ) -> Result<Response<pb::TokenizeResponse>, Status> {
        let context = context_of(&request);
        self.respond(tokenize(&self.service, &context, request.into_inner()).await)
    }

    async fn detokenize(
        &self,
        request: Request<pb::DetokenizeRequest>,
    ) -> Result<Response<pb::DetokenizeResponse>, Status> {
        let context = context_of(&request);
        self.respond(detokenize(&self.service, &context, request.into_inner()).await)
    }

    async fn count_tokens(
        &self,
        request: Request<pb::CountTokensRequest>,
    ) -> Result<Response<pb::CountTokensResponse>, Status> {
        let context = context_of(&request);
        self.respond(count_tokens(&self.service, &context, request.into_inner()).await)
    }
}

async fn tokenize(
    service: &Service,
    context: &CallContext,
    request: pb::TokenizeRequest,
) -> Result<pb::TokenizeResponse, Error> {
    apply_options(context, request.options.as_ref(), "options")?;
    let special_tokens = !request.without_special_tokens;
    let (model, texts) =
        service.tokenize(context, &model(request.model), request.texts, special_tokens).await?;
    Ok(pb::TokenizeResponse {
        texts: texts.into_iter().map(tokenized).collect(),
        model_name: model.info.name.clone(),
        model_revision: model.info.revision.clone(),
    })
}

async fn count_tokens(
    service: &Service,
    context: &CallContext,
    request: pb::CountTokensRequest,
) -> Result<pb::CountTokensResponse, Error> {
    apply_options(context, request.options.as_ref(), "options")?;
    let special_tokens = !request.without_special_tokens;
    let (model, counts) =
        service.count_tokens(context, &model(request.model), request.texts, special_tokens).await?;
    Ok(pb::CountTokensResponse {
        counts,
        max_input_tokens: model.info.max_input_tokens as u32,
        model_name: model.info.name.clone(),
        model_revision: model.info.revision.clone(),
    })
}

async fn detokenize(
    service: &Service,
    context: &CallContext,
    request: pb::DetokenizeRequest,
) -> Result<pb::DetokenizeResponse, Error> {
    apply_options(context, request.options.as_ref(), "options")?;
    let sequences = request.sequences.into_iter().map(|sequence| sequence.ids).collect();
    let (model, texts) =
        service.detokenize(context, &model(request.model), sequences, request.keep_special_tokens).await?;
    Ok(pb::DetokenizeResponse {
        texts,
        model_name: model.info.name.clone(),
        model_revision: model.info.revision.clone(),
    })
}

fn tokenized(text: Tokens) -> pb::TokenizedText {
    pb::TokenizedText { ids: text.ids, tokens: text.tokens, starts: text.starts, ends: text.ends }
}
