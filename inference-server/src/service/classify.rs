//! Token classification: the entities that a model finds in texts.
//!
//! A text longer than the model reads is classified in overlapping windows, whose logits are
//! averaged; aggregation of tokens to entities is transformers' (`text::entities`).

use std::sync::Arc;
use std::time::Instant;

use super::call::{Call, CallContext};
use super::read::FieldPath;
use super::{ModelRef, Service, Timing};
use crate::error::Error;
use crate::models::Task;
use crate::registry::loaded::LoadedModel;
use crate::scheduler::batcher::Priority;
use crate::scheduler::queue::WorkSource;
use crate::text::entities::{Aggregation, OUTSIDE, best, entities, entity_label, softmax};
use crate::text::offsets::{OffsetMap, OffsetUnit};
use crate::text::tokenizer::Windowed;

/// Settings of a classification request.
#[derive(Debug, Clone)]
pub(crate) struct ClassifySettings {
    /// The model.
    pub model: ModelRef,
    /// Rule that joins tokens to entities.
    pub aggregation: Aggregation,
    /// Entities below this score are left out.
    pub min_score: f32,
    /// Labels to answer, without `B-` and `I-`; empty for all.
    pub labels: Vec<String>,
    /// Tokens that neighbouring windows share; `None` for the default.
    pub overlap_tokens: Option<usize>,
    /// Unit of the offsets.
    pub offset_unit: OffsetUnit,
    /// True to return every token with its best label.
    pub return_tokens: bool,
    /// Class of the request in the queue.
    pub priority: Priority,
}

/// Checked settings.
pub(crate) struct ClassifyPlan {
    /// The model.
    pub model: Arc<LoadedModel>,
    source: WorkSource<LoadedModel>,
    aggregation: Aggregation,
    min_score: f32,
    labels: Vec<String>,
    overlap: usize,
    offset_unit: OffsetUnit,
    return_tokens: bool,
}

/// A stretch of a text with a label; offsets are in the unit asked for.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct LabelledSpan {
    /// The label as aggregation leaves it.
    pub label: String,
    /// Probability of the label.
    pub score: f32,
    /// Half-open span.
    pub start: u32,
    /// Its end.
    pub end: u32,
    /// The text of the span.
    pub text: String,
}

/// A token with its best label; offsets are in the unit asked for.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct LabelledToken {
    /// The best label.
    pub label: String,
    /// Its probability.
    pub score: f32,
    /// Half-open span.
    pub start: u32,
    /// Its end.
    pub end: u32,
    /// True if it continues a word.
    pub subword: bool,
}

/// The answer for one text.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ClassifiedText {
    /// Tokens of the text, special tokens excluded.
    pub token_count: u32,
    /// Windows it was read in.
    pub windows: u32,
    /// Its entities, in order.
    pub entities: Vec<LabelledSpan>,
    /// Every token, if asked for.
    pub tokens: Vec<LabelledToken>,
}

/// The answer for some texts, in their order. An invalid text fails individually.
pub(crate) struct Classified {
    /// One for each text.
    pub items: Vec<Result<ClassifiedText, Error>>,
    /// Tokens computed, overlaps and special tokens included.
    pub prompt_tokens: u32,
    /// Times of the request's phases.
    pub timing: Timing,
}

impl Service {
    /// Classifies the tokens of a request's texts; `field` gives their paths.
    ///
    /// # Errors
    /// If the whole request is refused.
    pub(crate) async fn classify(
        &self,
        context: &CallContext,
        settings: ClassifySettings,
        texts: Vec<String>,
        field: FieldPath,
    ) -> Result<(ClassifyPlan, Classified), Error> {
        // First of all: a refusal for lack of room must cost nothing, not even the checks below.
        let call = self.admit(context)?;
        self.check_count("texts", texts.len())?;
        let plan = self.classify_plan(context, settings)?;
        let classified = self.classify_texts(&call, &plan, texts, field).await?;
        Ok((plan, classified))
    }

    /// Checks the settings of a request or a stream.
    ///
    /// # Errors
    /// Names the field at fault.
    pub(crate) fn classify_plan(
        &self,
        context: &CallContext,
        settings: ClassifySettings,
    ) -> Result<ClassifyPlan, Error> {
        check_min_score(settings.min_score)?;
        let model = self.resolve(context, &settings.model, Some(Task::TokenClassification))?;
        check_labels(&settings.labels, &model.info.labels)?;
        Ok(ClassifyPlan {
            source: WorkSource::new(&model, settings.priority),
            aggregation: settings.aggregation,
            min_score: settings.min_score,
            labels: settings.labels,
            overlap: model.tokenizer.overlap(settings.overlap_tokens)?,
            offset_unit: settings.offset_unit,
            return_tokens: settings.return_tokens,
            model,
        })
    }

    /// Classifies texts.
    ///
    /// # Errors
    /// As [`Service::classify`].
    pub(crate) async fn classify_texts(
        &self,
        call: &Call,
        plan: &ClassifyPlan,
        texts: Vec<String>,
        field: FieldPath,
    ) -> Result<Classified, Error> {
        // Reserved by an estimate before tokenizing: an overloaded server spends no time on texts.
        let permit = self.reserve(&plan.model, "", texts.iter().map(String::as_str))?;
        let started = Instant::now();
        let (reader, overlap) = (Arc::clone(&plan.model), plan.overlap);
        let texts = texts.into_iter().enumerate().collect();
        let (texts, mut read) = self
            .read_each(call, texts, field, move |field, text| reader.tokenizer.windows(field, text, overlap))
            .await?;
        let tokenize = started.elapsed();
        // Ids move to the queue without a copy; the spans stay here for the entities.
        let windows = read.iter_mut().flatten().flat_map(|text| text.windows.iter_mut());
        let rows: Vec<Vec<u32>> = windows.map(|window| std::mem::take(&mut window.ids)).collect();
        let prompt_tokens = rows.iter().map(|row| row.len() as u32).sum();
        let done = self.compute(call, &plan.source, rows, permit).await?;

        // Rows came in the order of texts and windows, so each text takes as many outputs as it has
        // windows.
        let mut outputs = done.outputs.into_iter().map(|output| output.values);
        let mut items = Vec::with_capacity(read.len());
        for (windowed, (_, text)) in read.into_iter().zip(&texts) {
            items.push(windowed.and_then(|windowed| {
                let labels = plan.model.info.labels.len();
                let scores = scores(&windowed, outputs.by_ref(), labels).ok_or(Error::Backend)?;
                Ok(plan.classified(text, &windowed, &scores))
            }));
        }
        self.count_refused_items(&items);
        let timing = Timing { queued: done.queued, tokenize, compute: done.compute };
        Ok(Classified { items, prompt_tokens, timing })
    }
}

impl ClassifyPlan {
    fn classified(&self, text: &str, windowed: &Windowed, scores: &[Vec<f32>]) -> ClassifiedText {
        let labels = &self.model.info.labels;
        let offsets = OffsetMap::new(text, self.offset_unit);
        let mut spans = Vec::new();
        for entity in entities(&windowed.spans, scores, labels, self.aggregation) {
            let label = entity_label(&entity.label);
            let is_asked = self.labels.is_empty() || self.labels.iter().any(|asked| asked == label);
            if is_asked && entity.score >= self.min_score {
                spans.push(LabelledSpan {
                    score: entity.score,
                    start: offsets.of(entity.start),
                    end: offsets.of(entity.end),
                    text: offsets.text(entity.start, entity.end).to_owned(),
                    label: entity.label,
                });
            }
        }
        let mut tokens = Vec::new();
        if self.return_tokens {
            for (span, scores) in windowed.spans.iter().zip(scores) {
                let (label, score) = best(scores);
                let (start, end) = (offsets.of(span.start), offsets.of(span.end));
                let label = labels[label].clone();
                tokens.push(LabelledToken { label, score, start, end, subword: span.subword });
            }
        }
        ClassifiedText {
            token_count: windowed.spans.len() as u32,
            windows: windowed.windows.len() as u32,
            entities: spans,
            tokens,
        }
    }
}

fn check_min_score(value: f32) -> Result<(), Error> {
    if (0.0..=1.0).contains(&value) {
        return Ok(());
    }
    Err(Error::InvalidValue {
        field: "settings.min_score".to_owned(),
        value: value.to_string(),
        allowed: "0 to 1".to_owned(),
    })
}

/// Refuses a label that the model does not have.
fn check_labels(asked: &[String], model: &[String]) -> Result<(), Error> {
    let mut known: Vec<&str> =
        model.iter().filter(|label| *label != OUTSIDE).map(|label| entity_label(label)).collect();
    known.sort_unstable();
    known.dedup();
    match asked.iter().position(|label| !known.contains(&label.as_str())) {
        None => Ok(()),
        Some(place) => Err(Error::InvalidValue {
            field: format!("settings.labels[{place}]"),
            value: format!("{:?}", asked[place]),
            allowed: known.join(", "),
        }),
    }
}

/// Probabilities per token of the text: logits averaged over the windows that read it, then
/// softmax.
///
/// Takes one output per window; `None` where a logit is not finite.
fn scores(
    text: &Windowed,
    outputs: &mut impl Iterator<Item = Vec<f32>>,
    labels: usize,
) -> Option<Vec<Vec<f32>>> {
    // Logits are averaged and not probabilities: a window that is sure outweighs one that saw the
    // token at its edge.
    let mut sums = vec![vec![0.0_f32; labels]; text.spans.len()];
    let mut counts = vec![0.0_f32; text.spans.len()];
    for (window, output) in text.windows.iter().zip(outputs) {
        let tokens = output.chunks_exact(labels).skip(window.lead).take(window.tokens);
        for (token, logits) in (window.first..).zip(tokens) {
            // Every token is in at least one window, so no count stays zero.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::entities::TokenSpan;
    use crate::text::tokenizer::Window;

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
    fn labels_are_those_of_the_model() {
        let model = ["O", "B-Skill", "I-Skill", "PLAIN"].map(str::to_owned);
        let check = |asked: &[&str], expected: Option<&str>| {
            let asked: Vec<String> = asked.iter().map(|label| (*label).to_owned()).collect();
            let error = check_labels(&asked, &model).err().map(|error| error.to_string());
            assert_eq!(error.as_deref(), expected);
        };
        check(&[], None);
        check(&["Skill", "PLAIN"], None);
        check(&["Skill", "O"], Some("invalid settings.labels[1] `\"O\"`: expected PLAIN, Skill"));
        check(&["B-Skill"], Some("invalid settings.labels[0] `\"B-Skill\"`: expected PLAIN, Skill"));
    }

    #[test]
    fn scores_are_probabilities() {
        for (value, good) in
            [(0.0, true), (0.5, true), (1.0, true), (-0.1, false), (1.1, false), (f32::NAN, false)]
        {
            assert_eq!(check_min_score(value).is_ok(), good, "{value}");
        }
    }
}
