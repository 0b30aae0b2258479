//! Skills of advertisements that are not stored.
//!
//! One stream is read with one extractor, whatever becomes active meanwhile; an item that cannot be
//! read gets an error of its own and the stream goes on. Nothing is written to the store.

use std::{pin::Pin, sync::Arc, time::Duration};

use futures::{Stream, StreamExt};
use observatory_proto::pipeline::v1::{
    ExtractRequest, ExtractResponse, extractor_service_server::ExtractorService,
};
use serde_json::Value;
use tonic::{Request, Response, Status, Streaming};

use super::{Services, error};
use crate::{
    domain::{run::facts::Tagger, skill::Mention},
    enhancer::rules,
    extractor::{
        Extractor, NerEntity,
        oneshot::{self, Identified},
        tagger::Taggers,
    },
    reading,
};

type Answers = Pin<Box<dyn Stream<Item = Result<ExtractResponse, Status>> + Send>>;

#[tonic::async_trait]
impl ExtractorService for Services {
    type ExtractStream = Answers;

    async fn extract(
        &self,
        request: Request<Streaming<ExtractRequest>>,
    ) -> Result<Response<Self::ExtractStream>, Status> {
        // Without patience: a caller waits. A model that is still loading is left out of this
        // answer.
        let choice = self.taggers.choose(Duration::ZERO).await.map_err(error::stage)?;
        let reader = Arc::new(Reader {
            extractor: self.extractor.current().await.map_err(error::stage)?,
            taggers: self.taggers.clone(),
            chosen: choice.taggers,
        });
        // One after the other, so that answers keep the order of the documents and one caller takes
        // one turn of `reading`.
        let answers = request.into_inner().then(move |item| {
            let reader = Arc::clone(&reader);
            async move { Ok(reader.answer(item?).await) }
        });
        Ok(Response::new(Box::pin(answers)))
    }
}

/// Reads documents with one extractor, whatever becomes active meanwhile.
struct Reader {
    extractor: Arc<Extractor>,
    taggers: Taggers,
    chosen: Vec<Tagger>,
}

impl Reader {
    async fn answer(self: Arc<Self>, request: ExtractRequest) -> ExtractResponse {
        match self.answered(request).await {
            Ok(result_json) => ExtractResponse { result_json, error: String::new() },
            Err(error) => ExtractResponse { result_json: String::new(), error },
        }
    }

    async fn answered(self: Arc<Self>, request: ExtractRequest) -> Result<String, String> {
        let ExtractRequest { document_json, spans, .. } = request;
        // Parsed apart too: a document may be as long as a message.
        let parsed = reading::apart(move || oneshot::parse_document(&document_json)).await;
        let document = parsed
            .map_err(|problem| problem.to_string())?
            .map_err(|problem| crate::telemetry::chain(&problem))?;
        // Between the two turns, since a question to the server would hold a thread that could
        // compute.
        let entities = self.taggers.tag(&self.chosen, &[&document.document]).await;
        let entities = entities.map_err(|problem| problem.to_string())?.concat();
        let read = reading::apart(move || self.read(&document, &entities, spans).to_string()).await;
        read.map_err(|problem| problem.to_string())
    }

    fn read(&self, given: &Identified, entities: &[NerEntity], spans: bool) -> Value {
        let extraction = self.extractor.extract_with(&given.document, entities);
        if spans {
            return oneshot::spans_answer(&given.id, &extraction);
        }
        let (taxonomy, lexicon) = (self.extractor.taxonomy(), self.extractor.lexicon());
        let named: Vec<Mention> = extraction.named().cloned().collect();
        let mut skills = rules::enhance(&named, taxonomy, lexicon);
        rules::drop_refused(&mut skills, &given.document, lexicon);
        oneshot::answer(&given.id, &extraction, &skills, &oneshot::personal_data(&given.document))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{extractor::Patterns, inference::InferenceClient, lexicon::Lexicon};

    #[test]
    fn one_shot_answers_have_the_contract_s_shape() {
        let line = r#"{"id": 7, "title": "Backend", "description": "Requisitos: Django y proactividad. Escribir a a@b.example", "country": "CO"}"#;
        let read = oneshot::parse_document(line).unwrap();
        let lexicon = Arc::new(Lexicon::built_in().unwrap());
        let patterns = Arc::new(Patterns::built_in().unwrap());
        let extractor = Arc::new(Extractor::new(lexicon, patterns, None).unwrap());
        let taggers = Taggers::new(InferenceClient::new(&Default::default()).unwrap(), None);
        let reader = Reader { extractor, taggers, chosen: Vec::new() };
        let answer = reader.read(&read, &[], false);
        assert_eq!(answer["id"], 7);
        assert_eq!(answer["language"], "es");
        assert_eq!(answer["entities_removed"]["email"], 1);
        assert!(answer["occupation"].is_null());
        let skills = answer["skills"].as_array().unwrap();
        let labels: Vec<&str> = skills.iter().map(|skill| skill["label"].as_str().unwrap()).collect();
        assert_eq!(labels, ["Django", "Proactividad", "Python"]);
        let (django, python) = (&skills[0], &skills[2]);
        let (start, end) =
            (django["start"].as_u64().unwrap() as usize, django["end"].as_u64().unwrap() as usize);
        assert_eq!(&read.document.description[start..end], django["surface"].as_str().unwrap());
        assert_eq!(
            (django["method"][0].as_str(), django["section"].as_str()),
            (Some("lexicon"), Some("requirements"))
        );
        assert_eq!((python["explicit"].as_bool(), python["start"].is_null()), (Some(false), true));
        assert_eq!(python["reason"], "Django is built on Python");
        let spans = reader.read(&read, &[], true);
        assert_eq!(spans["spans"][0]["label"], "knowledge");
        assert_eq!(spans["spans"][1]["label"], "skill");
    }
}
