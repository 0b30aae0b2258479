//! `POST /v1/rerank`, in the form of Jina and Cohere: by cross-encoders, or by the cosine of an
//! encoder's vectors.

use std::cmp::Ordering;
use std::sync::Arc;

use axum::Extension;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use observatory_proto::inference::v1 as pb;
use serde_json::{Value, json};
use uuid::Uuid;

use super::fields::{Fault, Fields};
use super::{answer, faulty, refused};
use crate::grpc::Api;
use crate::grpc::local::Refusal;
use crate::models::Task;
use crate::service::access::Client;

const KNOWN: &str = "there are model, query, documents, top_n and return_documents";
/// Prompts of an encoder for what is looked for, and for where it is looked for.
const OF_QUERIES: [&str; 1] = ["query"];
const OF_DOCUMENTS: [&str; 3] = ["passage", "document", "passages"];

/// A checked request.
#[derive(Debug, PartialEq)]
struct Asked {
    model: String,
    query: String,
    documents: Vec<String>,
    top_n: usize,
    return_documents: bool,
}

impl Asked {
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
    State(api): State<Api>,
    Extension(client): Extension<Arc<Client>>,
    body: Bytes,
) -> Response {
    let asked = match Asked::read(&body) {
        Ok(asked) => asked,
        Err(fault) => return faulty(&fault),
    };
    let scored = match api.task_of(&asked.model) {
        Some(Task::Embedding) => by_vectors(&api, client, &asked).await,
        // Whatever is wrong with the model is said by who ranks.
        _ => by_ranker(&api, client, &asked).await,
    };
    match scored {
        Ok(scored) => answer(StatusCode::OK, &scored.json(&asked)),
        Err(refusal) => refused(&refusal),
    }
}

/// How near each document is, in their order.
struct Scored {
    scores: Vec<f32>,
    model: String,
    tokens: u32,
}

impl Scored {
    /// The best ones first; those of equal score stay in their order.
    fn json(&self, asked: &Asked) -> Value {
        let mut order: Vec<(usize, f32)> = self.scores.iter().copied().enumerate().collect();
        order.sort_by(|(_, a), (_, b)| b.partial_cmp(a).unwrap_or(Ordering::Equal));
        order.truncate(asked.top_n);
        let result = |(index, score): (usize, f32)| {
            let mut result = json!({"index": index, "relevance_score": score});
            if asked.return_documents {
                result["document"] = json!({"text": asked.documents[index]});
            }
            result
        };
        json!({
            "id": format!("rerank-{}", Uuid::new_v4().simple()),
            "object": "list",
            "model": self.model,
            "results": order.into_iter().map(result).collect::<Vec<Value>>(),
            "usage": {"prompt_tokens": self.tokens, "total_tokens": self.tokens},
        })
    }
}

async fn by_ranker(api: &Api, client: Arc<Client>, asked: &Asked) -> Result<Scored, Refusal> {
    let settings = pb::RankSettings {
        model: Some(pb::ModelRef { name: asked.model.clone(), revision: String::new() }),
        priority: pb::Priority::Interactive.into(),
        keep_order: true,
        ..Default::default()
    };
    let request = pb::RankRequest {
        settings: Some(settings),
        query: asked.query.clone(),
        documents: asked.documents.clone(),
    };
    let answer = api.rank_all(client, request).await?;
    Ok(Scored {
        scores: answer.documents.iter().map(|document| document.score).collect(),
        model: answer.model_name,
        tokens: answer.usage.map_or(0, |usage| usage.prompt_tokens),
    })
}

async fn by_vectors(api: &Api, client: Arc<Client>, asked: &Asked) -> Result<Scored, Refusal> {
    let embed = async |field: &str, texts: &[String], prompts: &[&str]| {
        let settings = pb::EmbedSettings {
            model: Some(pb::ModelRef { name: asked.model.clone(), revision: String::new() }),
            priority: pb::Priority::Interactive.into(),
            prompt_name: api.prompt_of(&asked.model, prompts).unwrap_or_default(),
            normalize: Some(true),
            ..Default::default()
        };
        let request = pb::EmbedRequest { settings: Some(settings), texts: texts.to_vec() };
        api.embed_all(Arc::clone(&client), request).await.map_err(|mut refusal| {
            refusal.field = refusal.field.map(|path| match field {
                "query" => "query".to_owned(),
                field => path.replace("texts", field),
            });
            refusal
        })
    };
    let documents = embed("documents", &asked.documents, &OF_DOCUMENTS).await?;
    let query = embed("query", std::slice::from_ref(&asked.query), &OF_QUERIES).await?;
    let tokens = [&documents, &query].map(|part| part.usage.as_ref().map_or(0, |usage| usage.prompt_tokens));
    let of_query = floats(&query.vectors);
    let width = documents.dimensions as usize * size_of::<f32>();
    let cosine = |row: &[u8]| -> f32 {
        let product: f64 =
            floats(row).iter().zip(&of_query).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
        product.clamp(-1.0, 1.0) as f32
    };
    Ok(Scored {
        scores: documents.vectors.chunks_exact(width.max(1)).map(cosine).collect(),
        model: documents.model_name,
        tokens: tokens.iter().sum(),
    })
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_read_in_both_forms() {
        let read = |value: Value| Asked::read(value.to_string().as_bytes());
        let asked = json!({
            "model": "m", "query": "q", "documents": ["a", {"text": "b"}], "top_n": null, "return_documents": null,
            "user": "u"
        });
        let expected = Asked {
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
        let asked = Asked {
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
