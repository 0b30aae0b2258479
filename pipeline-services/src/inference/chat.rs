//! Answers of language models.
//!
//! Hides the generation service behind one question and one answer. Decoding is greedy, so the same
//! prompt gets the same answer; a prompt at fault is an error of its own.

use std::time::Duration;

use observatory_proto::inference::v1::{
    Chat, ChatMessage, Constraint, FinishReason, GenerateBatchRequest, GeneratedText, GenerationLimits,
    GenerationSettings, ItemError, ModelRef, Priority, Prompt, Sampling, constraint::Kind as ConstraintKind,
    generation_service_client::GenerationServiceClient, prompt::Kind as PromptKind,
};
use tonic::{Code, Request, Status};
use tonic_types::{ErrorDetails, StatusExt};

use super::{InferenceClient, InferenceError};

/// A question to a language model.
#[derive(Debug, Clone)]
pub struct ChatRequest {
    /// Name in the model store.
    pub model: String,
    /// Role and content of each message.
    pub messages: Vec<(String, String)>,
    /// JSON Schema of the answer.
    pub schema: String,
    /// Tokens of the answer at most.
    pub max_tokens: u32,
    /// Longest wait.
    pub timeout: Duration,
}

/// Its answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chatted {
    /// The text.
    pub text: String,
    /// True if it was not cut off.
    pub complete: bool,
}

impl InferenceClient {
    /// The likeliest answer of a model, which keeps to the schema.
    ///
    /// # Errors
    /// If the server is away or refuses, or the prompt is at fault.
    pub async fn chat(&self, asked: ChatRequest) -> Result<Chatted, InferenceError> {
        let timeout = asked.timeout;
        let mut request = Request::new(message(asked));
        request.set_timeout(timeout);
        // The usual limit of a request would cut off answers that take minutes.
        let mut client = GenerationServiceClient::new(self.patient_connection()?);
        let answer = client.generate_batch(request).await?.into_inner();
        read(answer.texts)
    }
}

fn message(asked: ChatRequest) -> GenerateBatchRequest {
    let messages = asked.messages.into_iter().map(|(role, content)| ChatMessage { role, content });
    let chat = Chat { messages: messages.collect(), ..Chat::default() };
    let settings = GenerationSettings {
        model: Some(ModelRef { name: asked.model, revision: String::new() }),
        // Nobody waits for one posting; calls that a person waits for go first.
        priority: Priority::Bulk.into(),
        // The same posting gets the same answer.
        sampling: Some(Sampling { temperature: Some(0.0), ..Sampling::default() }),
        limits: Some(GenerationLimits { max_new_tokens: asked.max_tokens, ..GenerationLimits::default() }),
        constraint: Some(Constraint { kind: Some(ConstraintKind::JsonSchema(asked.schema)) }),
        ..GenerationSettings::default()
    };
    let prompts = vec![Prompt { kind: Some(PromptKind::Chat(chat)) }];
    GenerateBatchRequest { settings: Some(settings), prompts }
}

fn read(texts: Vec<GeneratedText>) -> Result<Chatted, InferenceError> {
    let [text] = <[GeneratedText; 1]>::try_from(texts)
        .map_err(|texts| InferenceError::BadAnswer(format!("{} texts to one prompt", texts.len())))?;
    let complete = text.reason() != FinishReason::Length;
    match text.status.and_then(|status| status.error) {
        Some(error) => Err(refused(&error)),
        None => Ok(Chatted { text: text.text, complete }),
    }
}

/// Reasons of the inference server that lie in one prompt alone: the model has no room for it.
const TOO_LONG: [&str; 3] = ["INPUT_TOO_LONG", "INPUT_TOO_LARGE", "KV_EXHAUSTED"];

/// The error that an item's error stands for: nothing comes of a prompt without room; others are
/// those of the server or the model.
fn refused(error: &ItemError) -> InferenceError {
    let said = format!("{}: {}", error.reason, error.message);
    if TOO_LONG.contains(&error.reason.as_str()) {
        return InferenceError::BadAnswer(said);
    }
    let wait = Duration::from_millis(error.retry_after_ms.into());
    let details = ErrorDetails::with_retry_info((!wait.is_zero()).then_some(wait));
    Status::with_error_details(Code::from(error.code), said, details).into()
}

#[cfg(test)]
mod tests {
    use observatory_proto::inference::v1::ItemStatus;

    use super::*;
    use crate::stage::StageError;

    #[test]
    fn answers_are_read() {
        let text = |reason: FinishReason, error: Option<ItemError>| GeneratedText {
            text: "{}".to_owned(),
            reason: reason.into(),
            status: Some(ItemStatus { ok: error.is_none(), error, ..ItemStatus::default() }),
            ..GeneratedText::default()
        };
        let whole = read(vec![text(FinishReason::Stop, None)]).unwrap();
        assert_eq!(whole, Chatted { text: "{}".to_owned(), complete: true });
        assert!(!read(vec![text(FinishReason::Length, None)]).unwrap().complete);
        let long = ItemError { reason: "INPUT_TOO_LONG".to_owned(), ..ItemError::default() };
        let error = read(vec![text(FinishReason::Unspecified, Some(long))]).unwrap_err();
        assert!(error.to_string().contains("INPUT_TOO_LONG"), "{error}");
        assert!(matches!(error, InferenceError::BadAnswer(_)));
        assert!(read(Vec::new()).is_err());
        let stage = |code: Code, reason: &str, retry_after_ms| {
            let reason = reason.to_owned();
            let error = ItemError { code: code.into(), reason, retry_after_ms, ..ItemError::default() };
            StageError::from(read(vec![text(FinishReason::Unspecified, Some(error))]).unwrap_err())
        };
        let busy = ItemError {
            code: Code::ResourceExhausted.into(),
            reason: "OVERLOADED".to_owned(),
            retry_after_ms: 20,
            ..ItemError::default()
        };
        assert_eq!(refused(&busy).busy_for(), Some(Duration::from_millis(20)));
        let template = stage(Code::InvalidArgument, "BAD_CHAT", 0);
        assert!(matches!(&template, StageError::Fail(reason) if reason.contains("BAD_CHAT")), "{template:?}");
        let busy = stage(Code::ResourceExhausted, "OVERLOADED", 1_500);
        assert!(
            matches!(busy, StageError::Unavailable { after: Some(wait), .. } if wait.as_millis() == 1_500),
            "{busy:?}"
        );
    }
}
