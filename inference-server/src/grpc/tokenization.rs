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
        self.check_count(request.texts.len())?;
        for (index, text) in request.texts.iter().enumerate() {
            self.check_size(&format!("texts[{index}]"), text)?;
        }
        let model = self.resolve(request.model, None)?;
        let (worker, cancel) = (Arc::clone(&model), call.cancel.clone());
        let special = !request.without_special_tokens;
        let tokenize = move || {
            let one = |text: &String| {
                if cancel.is_cancelled() {
                    return Err(Error::Cancelled);
                }
                worker.tokenizer.tokens(text, special).map(|encoding| message(&encoding))
            };
            request.texts.iter().map(one).collect::<Result<Vec<_>, _>>()
        };
        let texts = tokio::task::spawn_blocking(tokenize).await.map_err(|error| {
            tracing::error!(error.message = %error, "tokenizer panicked");
            Error::Backend
        })??;
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
