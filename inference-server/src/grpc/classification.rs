//! `TokenClassificationService`.

use std::sync::Arc;
use std::time::Instant;

use observatory_proto::inference::v1 as pb;
use pb::token_classification_service_server::TokenClassificationService;
use tonic::{Request, Response, Status};

use super::{Api, deadline, failed_item, invalid_enum, nanos, priority, with_revision};
use crate::entities::{Aggregation, Entity, entities, softmax};
use crate::error::Error;
use crate::model::Task;
use crate::queue::Lane;
use crate::tokenizer::Windowed;

#[tonic::async_trait]
impl TokenClassificationService for Api {
    async fn classify(
        &self,
        request: Request<pb::ClassifyRequest>,
    ) -> Result<Response<pb::ClassifyResponse>, Status> {
        let deadline = deadline(&request);
        let answer = self.classify_batch(request.into_inner(), deadline).await;
        answer
            .map(|answer| {
                let revision = answer.model_revision.clone();
                with_revision(answer, &revision)
            })
            .map_err(|error| self.refuse(error))
    }
}

impl Api {
    async fn classify_batch(
        &self,
        request: pb::ClassifyRequest,
        deadline: Option<Instant>,
    ) -> Result<pb::ClassifyResponse, Error> {
        let call = self.enter(deadline)?;
        self.check_count("texts", request.texts.len())?;
        let settings = request.settings.unwrap_or_default();
        let (aggregation, priority) = (aggregation(settings.aggregation)?, priority(settings.priority)?);
        let min_score = min_score(settings.min_score)?;
        let model = self.resolve(settings.model, Some(Task::TokenClassification))?;

        let permit = self.reserve(&model, "", request.texts.iter().map(String::as_str))?;
        let started = Instant::now();
        let (reader, overlap) = (Arc::clone(&model), settings.overlap_tokens.map(|tokens| tokens as usize));
        let read = move |field: &str, text: &str| reader.tokenizer.windows(field, text, overlap);
        let (texts, mut read) = self.each(&call, request.texts, read).await?;
        let tokenize = started.elapsed();
        // A setting at fault is a fault of the request, though it shows at its first text.
        if let Some(Err(error @ Error::InvalidValue { .. })) = read.first() {
            return Err(error.clone());
        }
        let rows: Vec<Vec<u32>> = read
            .iter_mut()
            .flatten()
            .flat_map(|text| text.windows.iter_mut().map(|window| std::mem::take(&mut window.ids)))
            .collect();
        let usage = pb::Usage { prompt_tokens: rows.iter().map(|row| row.len() as u32).sum() };
        let done = self.compute(&call, &Lane::new(&model, priority), rows, permit).await?;

        let mut outputs = done.outputs.into_iter().map(|output| output.values);
        let labels = &model.info.labels;
        let classified = read.iter().zip(&texts).map(|(windowed, text)| {
            let windowed = windowed.as_ref().map_err(Clone::clone)?;
            let scores = scores(windowed, outputs.by_ref(), labels.len()).ok_or(Error::Backend)?;
            let mut found = entities(&windowed.spans, &scores, labels, aggregation);
            found.retain(|entity| entity.score >= min_score);
            Ok(message(text, windowed, &found))
        });
        let classified: Vec<Result<pb::ClassifiedText, Error>> = classified.collect();
        self.refused_items(&classified);
        let refused =
            |error: Error| pb::ClassifiedText { status: Some(failed_item(&error)), ..Default::default() };
        Ok(pb::ClassifyResponse {
            texts: classified.into_iter().map(|text| text.unwrap_or_else(refused)).collect(),
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

fn aggregation(value: i32) -> Result<Aggregation, Error> {
    use pb::Aggregation as Wire;
    match Wire::try_from(value) {
        Ok(Wire::Unspecified | Wire::Simple) => Ok(Aggregation::Simple),
        Ok(Wire::None) => Ok(Aggregation::None),
        Ok(Wire::First) => Ok(Aggregation::First),
        Ok(Wire::Average) => Ok(Aggregation::Average),
        Ok(Wire::Max) => Ok(Aggregation::Max),
        Err(_) => Err(invalid_enum("settings.aggregation", value, "0 to 5 (see Aggregation)")),
    }
}

fn min_score(value: f32) -> Result<f32, Error> {
    if (0.0..=1.0).contains(&value) {
        return Ok(value);
    }
    Err(Error::InvalidValue {
        field: "settings.min_score".to_owned(),
        value: value.to_string(),
        allowed: "0 to 1".to_owned(),
    })
}

/// Probabilities per token of the text: logits averaged over the windows that read it, then softmax.
///
/// Takes one output per window; `None` where a logit is not finite.
fn scores(
    text: &Windowed,
    outputs: &mut impl Iterator<Item = Vec<f32>>,
    labels: usize,
) -> Option<Vec<Vec<f32>>> {
    let mut sums = vec![vec![0.0_f32; labels]; text.spans.len()];
    let mut counts = vec![0.0_f32; text.spans.len()];
    for (window, output) in text.windows.iter().zip(outputs) {
        let tokens = output.chunks_exact(labels).skip(window.lead).take(window.tokens);
        for (token, logits) in (window.first..).zip(tokens) {
            counts[token] += 1.0;
            sums[token].iter_mut().zip(logits).for_each(|(sum, logit)| *sum += logit);
        }
    }
    for (row, count) in sums.iter_mut().zip(counts) {
        row.iter_mut().for_each(|sum| *sum /= count);
        if !row.iter().all(|logit| logit.is_finite()) {
            return None;
        }
        softmax(row);
    }
    Some(sums)
}

fn message(text: &str, windowed: &Windowed, found: &[Entity]) -> pb::ClassifiedText {
    let tokens = windowed.spans.len() as u32;
    let entity = |entity: &Entity| pb::Entity {
        label: entity.label.clone(),
        score: entity.score,
        start: entity.start as u32,
        end: entity.end as u32,
        text: text.chars().skip(entity.start).take(entity.end - entity.start).collect(),
    };
    pb::ClassifiedText {
        status: Some(pb::ItemStatus { ok: true, error: None, tokens, truncated: false }),
        entities: found.iter().map(entity).collect(),
        windows: windowed.windows.len() as u32,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entities::TokenSpan;
    use crate::tokenizer::Window;

    #[test]
    fn overlapping_windows_are_averaged() {
        let window = |first, tokens| Window { ids: Vec::new(), lead: 1, first, tokens };
        let span = TokenSpan { start: 0, end: 0, subword: false };
        let text = Windowed { spans: vec![span; 3], windows: vec![window(0, 2), window(1, 2)] };
        let special = [9.0, 9.0];
        let first = [special, [1.0, 1.0], [5.0, 0.0], special].concat();
        let second = [special, [-5.0, 0.0], [2.0, 2.0], special].concat();
        let scores = scores(&text, &mut vec![first, second].into_iter(), 2).unwrap();
        assert_eq!(scores, [[0.5, 0.5], [0.5, 0.5], [0.5, 0.5]]);
        let broken = vec![vec![f32::NAN; 8], vec![0.0; 8]];
        assert!(super::scores(&text, &mut broken.into_iter(), 2).is_none());
    }

    #[test]
    fn scores_are_probabilities() {
        for (value, good) in
            [(0.0, true), (0.5, true), (1.0, true), (-0.1, false), (1.1, false), (f32::NAN, false)]
        {
            assert_eq!(min_score(value).is_ok(), good, "{value}");
        }
    }
}
