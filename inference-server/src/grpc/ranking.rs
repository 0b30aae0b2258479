//! `RankingService`.

use std::cmp::Ordering;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use observatory_proto::inference::v1 as pb;
use pb::ranking_service_server::RankingService;
use tonic::{Request, Response, Status};

use super::{Api, Caller, failed_item, nanos, priority, truncation};
use crate::error::Error;
use crate::models::{RowOutput, Task};
use crate::registry::loaded::LoadedModel;
use crate::scheduler::queue::Lane;
use crate::text::tokenizer::Encoded;

#[tonic::async_trait]
impl RankingService for Api {
    async fn rank(&self, request: Request<pb::RankRequest>) -> Result<Response<pb::RankResponse>, Status> {
        let caller = Caller::of(&request);
        self.answer(self.rank_batch(&caller, request.into_inner()).await)
    }
}

impl Api {
    pub(super) async fn rank_batch(
        &self,
        caller: &Caller,
        mut request: pb::RankRequest,
    ) -> Result<pb::RankResponse, Error> {
        let settings = request.settings.take().unwrap_or_default();
        caller.heed(settings.options.as_ref(), "settings.options")?;
        let call = self.enter(caller)?;
        self.check_count("documents", request.documents.len())?;
        let (truncation, priority) = (truncation(settings.truncation)?, priority(settings.priority)?);
        let model = self.resolve(caller, settings.model, Some(Task::Ranking))?;
        self.check_size("query", &request.query)?;

        if request.query.trim().is_empty() {
            return Err(Error::EmptyInput { field: "query".to_owned() });
        }

        let permit = self.0.admission.reserve(estimate(&model, &request))?;
        let started = Instant::now();
        let (reader, query, first) = (Arc::clone(&model), request.query, OnceLock::new());
        let read = move |field: &str, text: &str| {
            // Read once, by whichever thread comes first.
            let first = first.get_or_init(|| reader.tokenizer.encode_first_of_pair("query", &query));
            reader.tokenizer.encode_pair(field, first.as_ref().map_err(Clone::clone)?, text, truncation)
        };
        let documents = request.documents.into_iter().enumerate().collect();
        let (_, mut pairs) =
            self.each_at(&call, documents, |index| format!("documents[{index}]"), read).await?;
        let tokenize = started.elapsed();
        let items: Vec<pb::ItemStatus> = pairs.iter().map(pair_status).collect();
        let rows = pairs.iter_mut().flatten().map(|pair| std::mem::take(&mut pair.ids)).collect();
        let done = self.compute(&call, &Lane::new(&model, priority), rows, permit).await?;

        self.refused_items(&pairs);
        let usage = pb::Usage { prompt_tokens: items.iter().map(|item| item.tokens).sum() };
        let documents = scored(items, done.outputs, settings.raw_scores);
        Ok(pb::RankResponse {
            documents: arranged(documents, settings.keep_order, settings.top_n as usize),
            usage: Some(usage),
            timing: Some(pb::Timing {
                queue_ns: nanos(done.queued),
                tokenize_ns: nanos(tokenize),
                compute_ns: nanos(done.compute),
            }),
            model_name: model.info.name.clone(),
            model_revision: model.info.revision.clone(),
        })
    }
}

/// About how many tokens the pairs have: the query is read with each document.
fn estimate(model: &LoadedModel, request: &pb::RankRequest) -> u64 {
    let query = model.tokenizer.estimate(request.query.len());
    let pair = |document: &String| {
        let tokens = query + model.tokenizer.estimate(document.len());
        tokens.min(model.info.max_input_tokens) as u64
    };
    request.documents.iter().map(pair).sum()
}

fn pair_status(pair: &Result<Encoded, Error>) -> pb::ItemStatus {
    match pair {
        Ok(pair) => {
            pb::ItemStatus { ok: true, error: None, tokens: pair.ids.len() as u32, truncated: pair.truncated }
        }
        Err(error) => failed_item(error),
    }
}

/// The documents in the order of the request; `outputs` has the logit of each one that could be
/// read.
fn scored(items: Vec<pb::ItemStatus>, outputs: Vec<RowOutput>, raw: bool) -> Vec<pb::RankedDocument> {
    let mut outputs = outputs.into_iter();
    let document = |(index, item): (usize, pb::ItemStatus)| {
        let mut document = pb::RankedDocument { index: index as u32, score: 0.0, status: Some(item) };
        if document.status.as_ref().is_some_and(|status| status.ok) {
            match outputs.next().and_then(|output| output.values.first().copied()) {
                Some(logit) if logit.is_finite() => document.score = if raw { logit } else { sigmoid(logit) },
                _ => document.status = Some(failed_item(&Error::Backend)),
            }
        }
        document
    };
    items.into_iter().enumerate().map(document).collect()
}

fn sigmoid(logit: f32) -> f32 {
    (1.0 / (1.0 + (-f64::from(logit)).exp())) as f32
}

/// The best `top` (0 for all) documents and every failed one: best first and failed ones last, or
/// in their order. Documents of equal score stay in their order.
fn arranged(documents: Vec<pb::RankedDocument>, keep_order: bool, top: usize) -> Vec<pb::RankedDocument> {
    let is_ok = |document: &pb::RankedDocument| document.status.as_ref().is_some_and(|status| status.ok);
    let (mut good, failed): (Vec<_>, Vec<_>) = documents.into_iter().partition(is_ok);
    good.sort_by(|a, b| b.score.partial_cmp(&a.score).unwrap_or(Ordering::Equal));
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

    #[test]
    fn documents_are_arranged() {
        fn check(scores: &[Option<f32>], keep_order: bool, top: usize, expected: &[u32]) {
            let status = |ok| pb::ItemStatus { ok, ..Default::default() };
            let items = scores.iter().map(|score| status(score.is_some())).collect();
            let outputs = scores.iter().flatten().map(|score| vec![*score].into()).collect();
            let documents = arranged(scored(items, outputs, true), keep_order, top);
            let order: Vec<u32> = documents.iter().map(|document| document.index).collect();
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
            let items = vec![pb::ItemStatus { ok: true, ..Default::default() }];
            scored(items, vec![vec![logit].into()], raw)[0].score
        };
        assert_eq!((one(0.0, false), one(3.5, true)), (0.5, 3.5));
        assert_eq!((one(200.0, false), one(-200.0, false)), (1.0, 0.0));
    }
}
