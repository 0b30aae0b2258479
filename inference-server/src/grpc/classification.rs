//! `TokenClassificationService`.

use std::sync::Arc;
use std::time::Instant;

use observatory_proto::inference::v1 as pb;
use pb::classify_stream_request;
use pb::token_classification_service_server::TokenClassificationService;
use tonic::{Request, Response, Status, Streaming};

use super::offsets::{self, Places};
use super::stream::{Exchange, Replies, item_field, no_settings};
use super::{Api, Call, Caller, failed_item, invalid_enum, nanos, priority, text_field};
use crate::error::Error;
use crate::models::Task;
use crate::scheduler::queue::Lane;
use crate::text::entities::{Aggregation, Entity, OUTSIDE, TokenSpan, best, entities, entity_label, softmax};
use crate::text::tokenizer::Windowed;

#[tonic::async_trait]
impl TokenClassificationService for Api {
    async fn classify(
        &self,
        request: Request<pb::ClassifyRequest>,
    ) -> Result<Response<pb::ClassifyResponse>, Status> {
        let caller = Caller::of(&request);
        self.answer(self.classify_batch(&caller, request.into_inner()).await)
    }

    type ClassifyStreamStream = Replies<pb::ClassifyStreamResponse>;

    async fn classify_stream(
        &self,
        request: Request<Streaming<pb::ClassifyStreamRequest>>,
    ) -> Result<Response<Self::ClassifyStreamStream>, Status> {
        let caller = Caller::of(&request);
        self.open::<Asked>(&caller, request.into_inner()).await
    }
}

impl Exchange for Asked {
    type Message = pb::ClassifyStreamRequest;
    type Result = pb::ClassifyResult;
    type Reply = pb::ClassifyStreamResponse;

    fn begin(api: &Api, caller: &Caller, first: Self::Message) -> Result<Self, Error> {
        match first.message {
            Some(classify_stream_request::Message::Settings(settings)) => {
                caller.heed(settings.options.as_ref(), "settings.options")?;
                api.classification_asked(caller, settings)
            }
            _ => Err(no_settings()),
        }
    }

    fn item(message: Self::Message) -> Option<pb::TextItem> {
        match message.message {
            Some(classify_stream_request::Message::Item(item)) => Some(item),
            _ => None,
        }
    }

    async fn results(&self, api: &Api, call: &Call, texts: Vec<String>) -> Result<Vec<Self::Result>, Error> {
        let classified = api.classified(call, self, item_field, texts).await?;
        let result = |text: Result<pb::ClassifiedText, Error>| match text {
            Ok(text) => pb::ClassifyResult { id: 0, text: Some(text) },
            Err(error) => self.refusal(&error),
        };
        Ok(classified.items.into_iter().map(result).collect())
    }

    fn refusal(&self, error: &Error) -> Self::Result {
        pb::ClassifyResult { id: 0, text: Some(refused(error)) }
    }

    fn numbered(result: Self::Result, id: u64) -> Self::Result {
        pb::ClassifyResult { id, ..result }
    }

    fn reply(&self, results: Vec<Self::Result>) -> Self::Reply {
        let info = &self.lane.model().info;
        pb::ClassifyStreamResponse {
            results,
            model_name: info.name.clone(),
            model_revision: info.revision.clone(),
        }
    }
}

fn refused(error: &Error) -> pb::ClassifiedText {
    pb::ClassifiedText { status: Some(failed_item(error)), ..Default::default() }
}

/// What the settings of a request or a stream ask for, checked.
struct Asked {
    lane: Lane,
    aggregation: Aggregation,
    min_score: f32,
    /// Labels to answer, as joined entities carry them; none answers all.
    labels: Vec<String>,
    overlap: usize,
    unit: pb::OffsetUnit,
    return_tokens: bool,
}

/// The answer for some texts, in their order.
struct Classified {
    items: Vec<Result<pb::ClassifiedText, Error>>,
    usage: pb::Usage,
    timing: pb::Timing,
}

impl Api {
    /// Checks the settings.
    fn classification_asked(&self, caller: &Caller, settings: pb::ClassifySettings) -> Result<Asked, Error> {
        let (aggregation, priority) = (aggregation(settings.aggregation)?, priority(settings.priority)?);
        let (min_score, unit) = (min_score(settings.min_score)?, offsets::unit(settings.offset_unit)?);
        let model = self.resolve(caller, settings.model, Some(Task::TokenClassification))?;
        check_labels(&settings.labels, &model.info.labels)?;
        Ok(Asked {
            lane: Lane::new(&model, priority),
            aggregation,
            min_score,
            labels: settings.labels,
            overlap: model.tokenizer.overlap(settings.overlap_tokens.map(|tokens| tokens as usize))?,
            unit,
            return_tokens: settings.return_tokens,
        })
    }

    async fn classify_batch(
        &self,
        caller: &Caller,
        request: pb::ClassifyRequest,
    ) -> Result<pb::ClassifyResponse, Error> {
        let settings = request.settings.unwrap_or_default();
        caller.heed(settings.options.as_ref(), "settings.options")?;
        let call = self.enter(caller)?;
        self.check_count("texts", request.texts.len())?;
        let asked = self.classification_asked(caller, settings)?;
        let classified = self.classified(&call, &asked, text_field, request.texts).await?;
        let info = &asked.lane.model().info;
        Ok(pb::ClassifyResponse {
            texts: classified
                .items
                .into_iter()
                .map(|text| text.unwrap_or_else(|error| refused(&error)))
                .collect(),
            usage: Some(classified.usage),
            timing: Some(classified.timing),
            model_name: info.name.clone(),
            model_revision: info.revision.clone(),
        })
    }

    /// The entities of the texts. A text at fault fails by itself; the whole fails where there is
    /// no room, the caller went away or was late, or the model failed.
    async fn classified(
        &self,
        call: &Call,
        asked: &Asked,
        field: fn(usize) -> String,
        texts: Vec<String>,
    ) -> Result<Classified, Error> {
        let model = asked.lane.model();
        let permit = self.reserve(model, "", texts.iter().map(String::as_str))?;
        let started = Instant::now();
        let (reader, overlap) = (Arc::clone(model), asked.overlap);
        let read = move |field: &str, text: &str| reader.tokenizer.windows(field, text, overlap);
        let (texts, mut read) =
            self.each_at(call, texts.into_iter().enumerate().collect(), field, read).await?;
        let tokenize = started.elapsed();
        let rows: Vec<Vec<u32>> = read
            .iter_mut()
            .flatten()
            .flat_map(|text| text.windows.iter_mut().map(|window| std::mem::take(&mut window.ids)))
            .collect();
        let usage = pb::Usage { prompt_tokens: rows.iter().map(|row| row.len() as u32).sum() };
        let done = self.compute(call, &asked.lane, rows, permit).await?;

        let mut outputs = done.outputs.into_iter().map(|output| output.values);
        let items = read.iter().zip(&texts).map(|(windowed, (_, text))| {
            let windowed = windowed.as_ref().map_err(Clone::clone)?;
            let labels = model.info.labels.len();
            let scores = scores(windowed, outputs.by_ref(), labels).ok_or(Error::Backend)?;
            Ok(asked.message(text, windowed, &scores))
        });
        let items: Vec<Result<pb::ClassifiedText, Error>> = items.collect();
        self.refused_items(&items);
        let timing = pb::Timing {
            queue_ns: nanos(done.queued),
            tokenize_ns: nanos(tokenize),
            compute_ns: nanos(done.compute),
        };
        Ok(Classified { items, usage, timing })
    }
}

impl Asked {
    fn message(&self, text: &str, windowed: &Windowed, scores: &[Vec<f32>]) -> pb::ClassifiedText {
        let labels = &self.lane.model().info.labels;
        let places = Places::new(text, self.unit);
        let mut found = entities(&windowed.spans, scores, labels, self.aggregation);
        found.retain(|entity| {
            let label = entity_label(&entity.label);
            entity.score >= self.min_score
                && (self.labels.is_empty() || self.labels.iter().any(|l| l == label))
        });
        let entity = |entity: Entity| pb::Entity {
            score: entity.score,
            start: places.of(entity.start),
            end: places.of(entity.end),
            text: places.text(entity.start, entity.end).to_owned(),
            label: entity.label,
        };
        let token = |(span, scores): (&TokenSpan, &Vec<f32>)| {
            let (label, score) = best(scores);
            pb::ClassifiedToken {
                label: labels[label].clone(),
                score,
                start: places.of(span.start),
                end: places.of(span.end),
                subword: span.subword,
            }
        };
        let tokens = windowed.spans.len() as u32;
        pb::ClassifiedText {
            status: Some(pb::ItemStatus { ok: true, error: None, tokens, truncated: false }),
            entities: found.into_iter().map(entity).collect(),
            windows: windowed.windows.len() as u32,
            tokens: if self.return_tokens {
                windowed.spans.iter().zip(scores).map(token).collect()
            } else {
                Vec::new()
            },
        }
    }
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

/// Probabilities per token of the text: logits averaged over the windows that read it, then
/// softmax.
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

#[cfg(test)]
mod tests {
    use super::*;
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
        check(&["Skill", "O"], Some("settings.labels[1] is \"O\"; allowed: PLAIN, Skill"));
        check(&["B-Skill"], Some("settings.labels[0] is \"B-Skill\"; allowed: PLAIN, Skill"));
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
