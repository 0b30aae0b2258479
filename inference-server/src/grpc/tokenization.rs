//! `TokenizationService`.

use std::sync::Arc;
use std::time::Instant;

use observatory_proto::inference::v1 as pb;
use pb::tokenization_service_server::TokenizationService;
use tonic::{Request, Response, Status};

use super::{Api, deadline, with_revision};
use crate::error::Error;

#[tonic::async_trait]
impl TokenizationService for Api {
    async fn tokenize(
        &self,
        request: Request<pb::TokenizeRequest>,
    ) -> Result<Response<pb::TokenizeResponse>, Status> {
        let deadline = deadline(&request);
        let answer = self.tokenize_batch(request.into_inner(), deadline).await;
        answer
            .map(|answer| {
                let revision = answer.model_revision.clone();
                with_revision(answer, &revision)
            })
            .map_err(|error| self.refuse(error))
    }
}

impl Api {
    async fn tokenize_batch(
        &self,
        request: pb::TokenizeRequest,
        deadline: Option<Instant>,
    ) -> Result<pb::TokenizeResponse, Error> {
        let call = self.enter(deadline)?;
        self.check_count("texts", request.texts.len())?;
        let model = self.resolve(request.model, None)?;
        let (reader, special) = (Arc::clone(&model), !request.without_special_tokens);
        let read =
            move |_: &str, text: &str| reader.tokenizer.tokens(text, special).map(|tokens| message(&tokens));
        let (_, texts) = self.each(&call, request.texts, read).await?;
        let texts = texts.into_iter().collect::<Result<Vec<_>, _>>()?;
        let info = &model.info;
        Ok(pb::TokenizeResponse {
            texts,
            model_name: info.name.clone(),
            model_revision: info.revision.clone(),
        })
    }
}

fn message(encoding: &tokenizers::Encoding) -> pb::TokenizedText {
    pb::TokenizedText {
        ids: encoding.get_ids().to_vec(),
        tokens: encoding.get_tokens().to_vec(),
        starts: encoding.get_offsets().iter().map(|span| span.0 as u32).collect(),
        ends: encoding.get_offsets().iter().map(|span| span.1 as u32).collect(),
    }
}
