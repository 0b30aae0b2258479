//! `TokenClassificationService`.
//!
//! Labels of tokens, joined to entities as transformers' pipeline joins them.

use observatory_proto::inference::v1 as pb;
use pb::classify_stream_request;
use pb::token_classification_service_server::TokenClassificationService;
use tonic::{Request, Response, Status, Streaming};

use super::settings::{apply_options, model, priority, unknown_number};
use super::stream::{Exchange, Replies, item_field, no_settings};
use super::{Api, context_of, failed_item, read_item, text_field, timing};
use crate::error::Error;
use crate::service::Service;
use crate::service::call::{Call, CallContext};
use crate::service::classify::{ClassifiedText, ClassifyPlan, ClassifySettings, LabelledSpan, LabelledToken};
use crate::text::entities::Aggregation;
use crate::text::offsets::OffsetUnit;

#[tonic::async_trait]
impl TokenClassificationService for Api {
    async fn classify(
        &self,
        request: Request<pb::ClassifyRequest>,
    ) -> Result<Response<pb::ClassifyResponse>, Status> {
        let context = context_of(&request);
        self.respond(classify(&self.service, &context, request.into_inner()).await)
    }

    type ClassifyStreamStream = Replies<pb::ClassifyStreamResponse>;

    async fn classify_stream(
        &self,
        request: Request<Streaming<pb::ClassifyStreamRequest>>,
    ) -> Result<Response<Self::ClassifyStreamStream>, Status> {
        let context = context_of(&request);
        self.open::<ClassifyPlan>(&context, request.into_inner()).await
    }
}

async fn classify(
    service: &Service,
    context: &CallContext,
    request: pb::ClassifyRequest,
) -> Result<pb::ClassifyResponse, Error> {
    let settings = settings(context, request.settings.unwrap_or_default())?;
    let (plan, classified) = service.classify(context, settings, request.texts, text_field).await?;
    Ok(pb::ClassifyResponse {
        texts: classified.items.into_iter().map(message).collect(),
        usage: Some(pb::Usage { prompt_tokens: classified.prompt_tokens }),
        timing: Some(timing(classified.timing)),
        model_name: plan.model.info.name.clone(),
        model_revision: plan.model.info.revision.clone(),
    })
}

/// Decodes settings and records their options.
fn settings(context: &CallContext, settings: pb::ClassifySettings) -> Result<ClassifySettings, Error> {
    apply_options(context, settings.options.as_ref(), "settings.options")?;
    Ok(ClassifySettings {
        aggregation: aggregation(settings.aggregation)?,
        priority: priority(settings.priority)?,
        offset_unit: offset_unit(settings.offset_unit)?,
        model: model(settings.model),
        min_score: settings.min_score,
        labels: settings.labels,
        overlap_tokens: settings.overlap_tokens.map(|tokens| tokens as usize),
        return_tokens: settings.return_tokens,
    })
}

fn aggregation(value: i32) -> Result<Aggregation, Error> {
    use pb::Aggregation as Wire;
    match Wire::try_from(value) {
        // proto3 sends an unset field as Unspecified; the contract documents the default.
        Ok(Wire::Unspecified | Wire::Simple) => Ok(Aggregation::Simple),
        Ok(Wire::None) => Ok(Aggregation::None),
        Ok(Wire::First) => Ok(Aggregation::First),
        Ok(Wire::Average) => Ok(Aggregation::Average),
        Ok(Wire::Max) => Ok(Aggregation::Max),
        Err(_) => Err(unknown_number("settings.aggregation", value, "0 to 5 (see Aggregation)")),
    }
}

fn offset_unit(value: i32) -> Result<OffsetUnit, Error> {
    use pb::OffsetUnit as Wire;
    match Wire::try_from(value) {
        // Python's unit, as transformers' offsets are; most callers are Python programs.
        Ok(Wire::Unspecified | Wire::CodePoint) => Ok(OffsetUnit::CodePoint),
        Ok(Wire::Byte) => Ok(OffsetUnit::Byte),
        Ok(Wire::Utf16) => Ok(OffsetUnit::Utf16),
        Err(_) => Err(unknown_number("settings.offset_unit", value, "0 to 3 (see OffsetUnit)")),
    }
}

impl Exchange for ClassifyPlan {
    type Message = pb::ClassifyStreamRequest;
    type Result = pb::ClassifyResult;
    type Reply = pb::ClassifyStreamResponse;

    fn begin(service: &Service, context: &CallContext, first: Self::Message) -> Result<Self, Error> {
        match first.message {
            Some(classify_stream_request::Message::Settings(first)) => {
                service.classify_plan(context, settings(context, first)?)
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

    async fn results(
        &self,
        service: &Service,
        call: &Call,
        texts: Vec<String>,
    ) -> Result<Vec<Self::Result>, Error> {
        let classified = service.classify_texts(call, self, texts, item_field).await?;
        let items = classified.items.into_iter();
        Ok(items.map(|text| pb::ClassifyResult { id: 0, text: Some(message(text)) }).collect())
    }

    fn refusal(&self, error: &Error) -> Self::Result {
        pb::ClassifyResult { id: 0, text: Some(refused(error)) }
    }

    fn numbered(result: Self::Result, id: u64) -> Self::Result {
        pb::ClassifyResult { id, ..result }
    }

    fn reply(&self, results: Vec<Self::Result>) -> Self::Reply {
        pb::ClassifyStreamResponse {
            results,
            model_name: self.model.info.name.clone(),
            model_revision: self.model.info.revision.clone(),
        }
    }
}

fn refused(error: &Error) -> pb::ClassifiedText {
    pb::ClassifiedText { status: Some(failed_item(error)), ..Default::default() }
}

fn message(text: Result<ClassifiedText, Error>) -> pb::ClassifiedText {
    let text = match text {
        Ok(text) => text,
        Err(error) => return refused(&error),
    };
    pb::ClassifiedText {
        // Never truncated: a long text is read in windows.
        status: Some(read_item(text.token_count, false)),
        entities: text.entities.into_iter().map(entity).collect(),
        windows: text.windows,
        tokens: text.tokens.into_iter().map(token).collect(),
    }
}

fn entity(span: LabelledSpan) -> pb::Entity {
    let LabelledSpan { label, score, start, end, text } = span;
    pb::Entity { label, score, start, end, text }
}

fn token(token: LabelledToken) -> pb::ClassifiedToken {
    let LabelledToken { label, score, start, end, subword } = token;
    pb::ClassifiedToken { label, score, start, end, subword }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_unit_names_its_field() {
        assert_eq!(offset_unit(4).unwrap_err().field(), Some("settings.offset_unit"));
        assert_eq!(offset_unit(0), Ok(OffsetUnit::CodePoint));
    }
}
