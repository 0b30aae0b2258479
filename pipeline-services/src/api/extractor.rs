//! Skills of advertisements that are not stored.

use std::{pin::Pin, sync::Arc};

use futures::{Stream, StreamExt};
use observatory_proto::pipeline::v1::{
    ExtractRequest, ExtractResponse, extractor_service_server::ExtractorService,
};
use serde_json::Value;
use tonic::{Request, Response, Status, Streaming};

use super::{Services, error};
use crate::{
    enhancer::rules,
    extractor::{
        Extractor,
        oneshot::{self, Identified},
    },
};

type Answers = Pin<Box<dyn Stream<Item = Result<ExtractResponse, Status>> + Send>>;

#[tonic::async_trait]
impl ExtractorService for Services {
    type ExtractStream = Answers;

    async fn extract(
        &self,
        request: Request<Streaming<ExtractRequest>>,
    ) -> Result<Response<Self::ExtractStream>, Status> {
        let reader = Reader { extractor: self.extractor.current().await.map_err(error::stage)? };
        let answers = request.into_inner().map(move |item| item.map(|item| reader.answer(&item)));
        Ok(Response::new(Box::pin(answers)))
    }
}

/// Reads documents with one extractor, whatever becomes active meanwhile.
struct Reader {
    extractor: Arc<Extractor>,
}

impl Reader {
    fn answer(&self, request: &ExtractRequest) -> ExtractResponse {
        match oneshot::parse_document(&request.document_json) {
            Ok(document) => ExtractResponse {
                result_json: self.read(&document, request.spans).to_string(),
                error: String::new(),
            },
            Err(problem) => {
                ExtractResponse { result_json: String::new(), error: crate::stage::chain(&problem) }
            }
        }
    }

    fn read(&self, given: &Identified, spans: bool) -> Value {
        let extraction = self.extractor.extract(&given.document);
        if spans {
            return oneshot::spans_answer(&given.id, &extraction);
        }
        let (taxonomy, lexicon) = (self.extractor.taxonomy(), self.extractor.lexicon());
        let skills = rules::enhance(&extraction.mentions, taxonomy, lexicon);
        oneshot::answer(&given.id, &extraction, &skills, &oneshot::personal_data(&given.document))
    }
}
