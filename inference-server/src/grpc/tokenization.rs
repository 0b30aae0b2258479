//! `TokenizationService`.

use std::sync::Arc;

use observatory_proto::inference::v1 as pb;
use pb::tokenization_service_server::TokenizationService;
use tonic::{Request, Response, Status};

use super::{Api, Caller};
use crate::error::Error;
use crate::registry::loaded::LoadedModel;

#[tonic::async_trait]
impl TokenizationService for Api {
    async fn tokenize(
        &self,
        request: Request<pb::TokenizeRequest>,
    ) -> Result<Response<pb::TokenizeResponse>, Status> {
        let caller = Caller::of(&request);
        self.answer(self.tokenize_batch(&caller, request.into_inner()).await)
    }

    async fn detokenize(
        &self,
        request: Request<pb::DetokenizeRequest>,
    ) -> Result<Response<pb::DetokenizeResponse>, Status> {
        let caller = Caller::of(&request);
        self.answer(self.detokenize_batch(&caller, request.into_inner()).await)
    }

    async fn count_tokens(
        &self,
        request: Request<pb::CountTokensRequest>,
    ) -> Result<Response<pb::CountTokensResponse>, Status> {
        let caller = Caller::of(&request);
        self.answer(self.count_batch(&caller, request.into_inner()).await)
    }
}

impl Api {
    async fn tokenize_batch(
        &self,
        caller: &Caller,
        request: pb::TokenizeRequest,
    ) -> Result<pb::TokenizeResponse, Error> {
        caller.heed(request.options.as_ref(), "options")?;
        let special = !request.without_special_tokens;
        let asked = (request.model, request.texts);
        let (model, texts) = self.tokenized(caller, asked, special, |tokens| message(&tokens)).await?;
        let info = &model.info;
        Ok(pb::TokenizeResponse {
            texts,
            model_name: info.name.clone(),
            model_revision: info.revision.clone(),
        })
    }

    async fn count_batch(
        &self,
        caller: &Caller,
        request: pb::CountTokensRequest,
    ) -> Result<pb::CountTokensResponse, Error> {
        caller.heed(request.options.as_ref(), "options")?;
        let special = !request.without_special_tokens;
        let asked = (request.model, request.texts);
        let (model, counts) = self.tokenized(caller, asked, special, |tokens| tokens.len() as u32).await?;
        let info = &model.info;
        Ok(pb::CountTokensResponse {
            counts,
            max_input_tokens: info.max_input_tokens as u32,
            model_name: info.name.clone(),
            model_revision: info.revision.clone(),
        })
    }

    /// The model, and what `one` makes of the tokens of each text.
    async fn tokenized<T: Send + 'static>(
        &self,
        caller: &Caller,
        (model, texts): (Option<pb::ModelRef>, Vec<String>),
        special: bool,
        one: impl Fn(tokenizers::Encoding) -> T + Send + Sync + 'static,
    ) -> Result<(Arc<LoadedModel>, Vec<T>), Error> {
        let call = self.enter(caller)?;
        self.check_count("texts", texts.len())?;
        let model = self.resolve(caller, model, None)?;
        let reader = Arc::clone(&model);
        let read = move |_: &str, text: &str| reader.tokenizer.tokens(text, special).map(&one);
        let (_, texts) = self.each(&call, texts, read).await?;
        Ok((model, texts.into_iter().collect::<Result<_, _>>()?))
    }

    async fn detokenize_batch(
        &self,
        caller: &Caller,
        request: pb::DetokenizeRequest,
    ) -> Result<pb::DetokenizeResponse, Error> {
        caller.heed(request.options.as_ref(), "options")?;
        let call = self.enter(caller)?;
        self.check_count("sequences", request.sequences.len())?;
        let model = self.resolve(caller, request.model, None)?;
        let (reader, keep) = (Arc::clone(&model), request.keep_special_tokens);
        let job = move || {
            let sequences = request.sequences.iter().enumerate();
            let text = |(index, sequence): (usize, &pb::TokenSequence)| {
                reader.tokenizer.decode(&format!("sequences[{index}].ids"), &sequence.ids, keep)
            };
            sequences.map(text).collect::<Result<Vec<String>, Error>>()
        };
        let texts = self.read(&call, vec![job])?.remove(0).await.map_err(|_| Error::Backend)??;
        let info = &model.info;
        Ok(pb::DetokenizeResponse {
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
