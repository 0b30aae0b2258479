//! `POST /v1/rerank`, in the form of Jina and Cohere: by cross-encoders, or by the cosine of an
//! encoder's vectors.

use std::cmp::Ordering;
use std::sync::Arc;

use axum::Extension;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use uuid::Uuid;

use super::fields::{Fault, Fields};
use super::refusal::{Refusal, respond};
use super::{context_of, counted, embed_all};
use crate::error::Error;
use crate::models::{Extras, Task};
use crate::scheduler::batcher::Priority;
use crate::service::access::Client;
use crate::service::embed::{EmbedSettings, Prompt};
use crate::service::rank::RankSettings;
use crate::service::{ModelRef, Service};
use crate::text::tokenizer::Truncation;

const KNOWN: &str = "there are model, query, documents, top_n and return_documents";
/// Names under which encoders publish their prompts for queries and for documents.
const OF_QUERIES: [&str; 1] = ["query"];
const OF_DOCUMENTS: [&str; 3] = ["passage", "document", "passages"];

/// A checked request.
#[derive(Debug, PartialEq)]
struct RerankRequest {
    model: String,
    query: String,
    documents: Vec<String>,
    top_n: usize,
    return_documents: bool,
}

impl RerankRequest {
    fn read(body: &[u8]) -> Result<Self, Fault> {
        let mut fields = Fields::read(body)?;
        let model = fields.needed("model", "the name of a model")?;
        let query: String = fields.needed("query", "a text")?;
        let documents: Vec<Value> = fields.needed("documents", "a list of texts or of {\"text\": …}")?;
        let top_n: Option<usize> = fields.optional("top_n", "a whole number from 1 on")?;
        if top_n == Some(0) {
            return Err(Fault::invalid("top_n", &json!(0), "a whole number from 1 on"));
        }
        let return_documents = fields.flag("return_documents")?;
        fields.end(KNOWN)?;
        let texts = documents.into_iter().enumerate().map(|(index, value)| text(index, value));
        let documents = texts.collect::<Result<Vec<String>, Fault>>()?;
        Ok(Self { model, query, top_n: top_n.unwrap_or(documents.len()), documents, return_documents })
    }
}

/// The text of a document.
fn text(index: usize, value: Value) -> Result<String, Fault> {
    let path = format!("documents[{index}]");
    match value {
        Value::String(text) => Ok(text),
        Value::Object(_) => {
            let mut fields = Fields::of(&path, value)?;
            let text = fields.needed("text", "a text")?;
            fields.end("a document has a text")?;
            Ok(text)
        }
        other => Err(Fault::invalid(&path, &other, "a text or {\"text\": …}")),
    }
}

pub(super) async fn rerank(
    State(service): State<Service>,
    Extension(client): Extension<Arc<Client>>,
    body: Bytes,
) -> Response {
    let asked = match RerankRequest::read(&body) {
        Ok(asked) => asked,
        Err(fault) => return fault.into_response(),
    };
    let model = service.registry().resolve(&asked.model, "", None);
    let scored = match model.map(|model| model.info.task) {
        Ok(Task::Embedding) => by_vectors(&service, client, &asked).await,
        // Ranking says what is wrong with the model.
        _ => by_ranker(&service, client, &asked).await,
    };
    match scored {
        Ok(scored) => respond(StatusCode::OK, &scored.json(&asked)),
        Err(refusal) => refusal.into_response(),
    }
}

/// Scores of the documents, in their order.
struct Scored {
    scores: Vec<f32>,
    model: String,
    tokens: u32,
}

impl Scored {
    /// The best ones first; those of equal score stay in their order.
    fn json(&self, asked: &RerankRequest) -> Value {
        let mut order: Vec<(usize, f32)> = self.scores.iter().copied().enumerate().collect();
        order.sort_by(|(_, a), (_, b)| b.partial_cmp(a).unwrap_or(Ordering::Equal));
        order.truncate(asked.top_n);
        let mut results = Vec::with_capacity(order.len());
        for (index, score) in order {
            let mut result = json!({"index": index, "relevance_score": score});
            if asked.return_documents {
                result["document"] = json!({"text": asked.documents[index]});
            }
            results.push(result);
        }
        json!({
            "id": format!("rerank-{}", Uuid::new_v4().simple()),
            "object": "list",
            "model": self.model,
            "results": results,
            "usage": {"prompt_tokens": self.tokens, "total_tokens": self.tokens},
        })
    }
}

/// By a cross-encoder.
async fn by_ranker(service: &Service, client: Arc<Client>, asked: &RerankRequest) -> Result<Scored, Refusal> {
    let settings = RankSettings {
        model: ModelRef { name: asked.model.clone(), revision: String::new() },
        truncation: Truncation::Right,
        priority: Priority::Interactive,
        raw_scores: false,
        top_n: 0,
        keep_order: true,
    };
    let context = context_of(service, client);
    let ranking = service.rank(&context, settings, asked.query.clone(), asked.documents.clone()).await;
    let ranking = ranking.map_err(counted(service))?;
    let mut scores = Vec::with_capacity(ranking.documents.len());
    for document in ranking.documents {
        let field = Some(format!("documents[{}]", document.index));
        scores.push(document.result.map_err(|error| Refusal { error, field })?.score);
    }
    Ok(Scored { scores, model: ranking.model.info.name.clone(), tokens: ranking.prompt_tokens })
}

/// By the cosine of an encoder's vectors.
async fn by_vectors(
    service: &Service,
    client: Arc<Client>,
    asked: &RerankRequest,
) -> Result<Scored, Refusal> {
    let documents = asked.documents.clone();
    // Queries and documents have different prompts in models trained for retrieval (E5, BGE).
    let settings = embed_settings(service, &asked.model, &OF_DOCUMENTS);
    let documents =
        embed_all(service, Arc::clone(&client), settings, documents, |index| format!("documents[{index}]"))
            .await;
    let (plan, documents) = documents.map_err(|refusal| refusal.with_field("texts", "documents"))?;
    let settings = embed_settings(service, &asked.model, &OF_QUERIES);
    let query = vec![asked.query.clone()];
    let (_, query) = embed_all(service, client, settings, query, |_| "query".to_owned()).await?;
    let of_query = query.first().ok_or(Error::Backend)?;
    let tokens = documents.iter().chain([of_query]).map(|embedding| embedding.tokens).sum();
    Ok(Scored {
        scores: documents.iter().map(|document| cosine(&document.vector, &of_query.vector)).collect(),
        model: plan.model.info.name.clone(),
        tokens,
    })
}

fn embed_settings(service: &Service, model: &str, prompts: &[&str]) -> EmbedSettings {
    EmbedSettings {
        model: ModelRef { name: model.to_owned(), revision: String::new() },
        prompt: prompt_of(service, model, prompts),
        truncation: Truncation::Right,
        priority: Priority::Interactive,
        normalize: Some(true),
        dimensions: None,
        token_outputs: Extras::default(),
    }
}

/// The first of these prompts that the model has, or its default.
fn prompt_of(service: &Service, model: &str, names: &[&str]) -> Prompt {
    let Ok(model) = service.registry().resolve(model, "", None) else { return Prompt::Default };
    let name = names.iter().find(|name| model.info.prompts.contains_key(**name));
    name.map_or(Prompt::Default, |name| Prompt::Named((*name).to_owned()))
}

/// Of vectors with length 1.
fn cosine(a: &[f32], b: &[f32]) -> f32 {
    let product: f64 = a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
    // Rounding may leave equal vectors above 1, which callers check for.
    product.clamp(-1.0, 1.0) as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_read_in_both_forms() {
        let read = |value: Value| RerankRequest::read(value.to_string().as_bytes());
        let asked = json!({
            "model": "m", "query": "q", "documents": ["a", {"text": "b"}], "top_n": null, "return_documents": null,
            "user": "u"
        });
        let expected = RerankRequest {
            model: "m".to_owned(),
            query: "q".to_owned(),
            documents: vec!["a".to_owned(), "b".to_owned()],
            top_n: 2,
            return_documents: false,
        };
        assert_eq!(read(asked.clone()), Ok(expected));
        let fails = |key: &str, value: Value, param: &str| {
            let mut asked = asked.clone();
            asked[key] = value;
            assert_eq!(read(asked).unwrap_err().param.as_deref(), Some(param));
        };
        fails("query", Value::Null, "query");
        fails("top_n", json!(0), "top_n");
        fails("top_n", json!(-1), "top_n");
        fails("documents", json!("a"), "documents");
        fails("documents", json!(["a", 7]), "documents[1]");
        fails("documents", json!([{"texts": "a"}]), "documents[0].text");
        fails("documents", json!([{"text": "a", "image": "b"}]), "documents[0].image");
        fails("rank_fields", json!(["title"]), "rank_fields");
    }

    #[test]
    fn the_best_come_first() {
        let asked = RerankRequest {
            model: String::new(),
            query: String::new(),
            documents: ["a", "b", "c", "d"].map(str::to_owned).to_vec(),
            top_n: 3,
            return_documents: true,
        };
        let scored = Scored { scores: vec![0.5, 0.75, 0.5, 0.25], model: "m".to_owned(), tokens: 9 };
        let answer = scored.json(&asked);
        let expected = json!([
            {"index": 1, "relevance_score": 0.75, "document": {"text": "b"}},
            {"index": 0, "relevance_score": 0.5, "document": {"text": "a"}},
            {"index": 2, "relevance_score": 0.5, "document": {"text": "c"}},
        ]);
        assert_eq!(answer["results"], expected);
        assert_eq!(answer["usage"]["total_tokens"], 9);
    }
}
