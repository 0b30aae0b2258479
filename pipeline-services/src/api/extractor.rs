//! Skills of advertisements that are not stored.

use std::pin::Pin;

use futures::{Stream, StreamExt};
use observatory_proto::pipeline::v1::{
    ExtractRequest, ExtractResponse, extractor_service_server::ExtractorService,
};
use tonic::{Request, Response, Status, Streaming};

use super::{Services, error};
use crate::extractor::{Extractor, oneshot};

type Answers = Pin<Box<dyn Stream<Item = Result<ExtractResponse, Status>> + Send>>;

#[tonic::async_trait]
impl ExtractorService for Services {
    type ExtractStream = Answers;

    async fn extract(
        &self,
        request: Request<Streaming<ExtractRequest>>,
    ) -> Result<Response<Self::ExtractStream>, Status> {
        let extractor = self.extractor.current().await.map_err(error::stage)?;
        let answers = request
            .into_inner()
            .map(move |item| item.map(|item| answer(&extractor, &item)));
        Ok(Response::new(Box::pin(answers)))
    }
}

fn answer(extractor: &Extractor, request: &ExtractRequest) -> ExtractResponse {
    match oneshot::answer_line(extractor, &request.document_json, request.spans) {
        Ok(result) => ExtractResponse { result_json: result.to_string(), error: String::new() },
        Err(problem) => ExtractResponse { result_json: String::new(), error: problem.to_string() },
    }
}
