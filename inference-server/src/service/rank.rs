//! Ranking: the relevance of documents to a query, by cross-encoders.
//!
//! The query is tokenized once and encoded with each document as a pair.

use std::cmp::Ordering;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use super::call::CallContext;
use super::{ModelRef, Service, Timing};
use crate::error::Error;
use crate::models::{RowOutput, Task};
use crate::registry::loaded::LoadedModel;
use crate::scheduler::batcher::Priority;
use crate::scheduler::queue::WorkSource;
use crate::text::tokenizer::{Encoded, Truncation};

/// Settings of a ranking request.
#[derive(Debug, Clone)]
pub(crate) struct RankSettings {
    /// The model.
    pub model: ModelRef,
    /// Handling of a pair over the model's limit: only the document is cut.
    pub truncation: Truncation,
    /// Class of the request in the queue.
    pub priority: Priority,
    /// Answer logits instead of their logistic function.
    pub raw_scores: bool,
    /// Documents to answer at most, best first; 0 for all.
    pub top_n: usize,
    /// Answer in the order of the request.
    pub keep_order: bool,
}

/// A ranked document.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct RankedDocument {
    /// Its place in the request.
    pub index: usize,
    /// Its score and how it was read, or why it has none.
    pub result: Result<Scored, Error>,
}

/// The score of a document.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Scored {
    /// Higher is more relevant.
    pub score: f32,
    /// Tokens of the pair, special tokens included.
    pub tokens: u32,
    /// True if the document was cut.
    pub truncated: bool,
}

/// The answer to a request.
pub(crate) struct Ranking {
    /// The model that ranked.
    pub model: Arc<LoadedModel>,
    /// The best documents and every failed one.
    pub documents: Vec<RankedDocument>,
    /// Tokens read, all documents counted.
    pub prompt_tokens: u32,
    /// Times of the request's phases.
    pub timing: Timing,
}

impl Service {
    /// Ranks documents. An invalid document fails individually.
    ///
    /// # Errors
    /// If the whole request is refused.
    pub(crate) async fn rank(
        &self,
        context: &CallContext,
        settings: RankSettings,
        query: String,
        documents: Vec<String>,
    ) -> Result<Ranking, Error> {
        let call = self.admit(context)?;
        self.check_count("documents", documents.len())?;
        let model = self.resolve(context, &settings.model, Some(Task::Ranking))?;
        self.check_size("query", &query)?;
        if query.trim().is_empty() {
            return Err(Error::EmptyInput { field: "query".to_owned() });
        }

        // Before tokenizing, as for embeddings; `reserve` of the service would count the query once
        // only.
        let permit = self.0.admission.reserve(estimate(&model, &query, &documents))?;
        let started = Instant::now();
        // Empty until a thread needs it: tokenizing the query here would block the async runtime.
        let (reader, first, truncation) = (Arc::clone(&model), OnceLock::new(), settings.truncation);
        let read = move |field: &str, text: &str| {
            // Tokenized once, by whichever thread comes first.
            let first = first.get_or_init(|| reader.tokenizer.encode_first_of_pair("query", &query));
            reader.tokenizer.encode_pair(field, first.as_ref().map_err(Clone::clone)?, text, truncation)
        };
        let documents = documents.into_iter().enumerate().collect();
        let (_, mut pairs) =
            self.read_each(&call, documents, |index| format!("documents[{index}]"), read).await?;
        let tokenize = started.elapsed();
        let read: Vec<Result<Scored, Error>> = pairs.iter().map(unscored).collect();
        let rows = pairs.iter_mut().flatten().map(|pair| std::mem::take(&mut pair.ids)).collect();
        let done = self.compute(&call, &WorkSource::new(&model, settings.priority), rows, permit).await?;

        self.count_refused_items(&pairs);
        let prompt_tokens = read.iter().flatten().map(|document| document.tokens).sum();
        let documents = scored(read, done.outputs, settings.raw_scores);
        Ok(Ranking {
            model,
            documents: arranged(documents, settings.keep_order, settings.top_n),
            prompt_tokens,
            timing: Timing { queued: done.queued, tokenize, compute: done.compute },
        })
    }
}

/// About how many tokens the pairs have: the query is read with each document.
fn estimate(model: &LoadedModel, query: &str, documents: &[String]) -> u64 {
    let query = model.tokenizer.estimate(query.len());
    let mut sum = 0;
    for document in documents {
        let tokens = query + model.tokenizer.estimate(document.len());
        sum += tokens.min(model.info.max_input_tokens) as u64;
    }
    sum
}

fn unscored(pair: &Result<Encoded, Error>) -> Result<Scored, Error> {
    let pair = pair.as_ref().map_err(Clone::clone)?;
    Ok(Scored { score: 0.0, tokens: pair.ids.len() as u32, truncated: pair.truncated })
}

/// The documents in the order of the request; `outputs` has the logit of each one that could be
/// read.
fn scored(read: Vec<Result<Scored, Error>>, outputs: Vec<RowOutput>, raw: bool) -> Vec<RankedDocument> {
    let mut outputs = outputs.into_iter();
    let mut documents = Vec::with_capacity(read.len());
    for (index, document) in read.into_iter().enumerate() {
        let result = document.and_then(|document| {
            match outputs.next().and_then(|output| output.values.first().copied()) {
                Some(logit) if logit.is_finite() => {
                    Ok(Scored { score: if raw { logit } else { sigmoid(logit) }, ..document })
                }
                _ => Err(Error::Backend),
            }
        });
        documents.push(RankedDocument { index, result });
    }
    documents
}

impl RankedDocument {
    /// The score, 0 for a document that failed.
    fn score(&self) -> f32 {
        self.result.as_ref().map_or(0.0, |scored| scored.score)
    }
}

fn sigmoid(logit: f32) -> f32 {
    (1.0 / (1.0 + (-f64::from(logit)).exp())) as f32
}

/// The best `top` (0 for all) documents and every failed one: best first and failed ones last, or
/// in their order. Documents of equal score stay in their order.
fn arranged(documents: Vec<RankedDocument>, keep_order: bool, top: usize) -> Vec<RankedDocument> {
    let (mut good, failed): (Vec<_>, Vec<_>) =
        documents.into_iter().partition(|document| document.result.is_ok());
    // A stable sort, as the order of equal documents is promised.
    good.sort_by(|a, b| b.score().partial_cmp(&a.score()).unwrap_or(Ordering::Equal));
    if top > 0 {
        good.truncate(top);
    }
    good.extend(failed);
    if keep_order {
        good.sort_by_key(|document| document.index);
    }
    good
}

#[cfg(test)]
mod tests {
    use super::*;

    const READ: Scored = Scored { score: 0.0, tokens: 1, truncated: false };

    #[test]
    fn documents_are_arranged() {
        fn check(scores: &[Option<f32>], keep_order: bool, top: usize, expected: &[usize]) {
            let empty = || Error::EmptyInput { field: "documents[0]".to_owned() };
            let read = scores.iter().map(|score| score.map(|_| READ).ok_or_else(empty)).collect();
            let outputs = scores.iter().flatten().map(|score| vec![*score].into()).collect();
            let documents = arranged(scored(read, outputs, true), keep_order, top);
            let order: Vec<usize> = documents.iter().map(|document| document.index).collect();
            assert_eq!(order, expected, "{scores:?} {keep_order} {top}");
        }
        let scores = [Some(0.5), None, Some(2.0), Some(-1.0), Some(0.5)];
        check(&scores, false, 0, &[2, 0, 4, 3, 1]);
        check(&scores, false, 2, &[2, 0, 1]);
        check(&scores, true, 0, &[0, 1, 2, 3, 4]);
        check(&scores, true, 2, &[0, 1, 2]);
        check(&[None], false, 1, &[0]);
        check(&[Some(f32::NAN), Some(1.0)], false, 0, &[1, 0]);
    }

    #[test]
    fn scores_are_probabilities_unless_raw() {
        let one = |logit: f32, raw| {
            let documents = scored(vec![Ok(READ)], vec![vec![logit].into()], raw);
            documents[0].result.as_ref().unwrap().score
        };
        assert_eq!((one(0.0, false), one(3.5, true)), (0.5, 3.5));
        assert_eq!((one(200.0, false), one(-200.0, false)), (1.0, 0.0));
    }
}
