//! Answers of language models.

use std::time::Duration;

use observatory_proto::inference::v1::{
    Chat, ChatMessage, Constraint, FinishReason, GenerateBatchRequest, GeneratedText, GenerationLimits,
    GenerationSettings, ModelRef, Priority, Prompt, Sampling, constraint::Kind as ConstraintKind,
    generation_service_client::GenerationServiceClient, prompt::Kind as PromptKind,
};
use tonic::Request;

use super::{InferenceClient, InferenceError};

/// What a language model is asked.
#[derive(Clone, Debug)]
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

/// What it answers.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Chatted {
    /// The text.
    pub text: String,
    /// Whether it was not cut off.
    pub complete: bool,
}

impl InferenceClient {
    /// The likeliest answer of a model, which keeps to the schema.
    ///
    /// # Errors
    /// When the server is away or refuses, or the prompt is at fault.
    pub async fn chat(&self, asked: ChatRequest) -> Result<Chatted, InferenceError> {
        let timeout = asked.timeout;
        let mut request = Request::new(message(asked));
        request.set_timeout(timeout);
        let mut client = GenerationServiceClient::new(self.patient_connection()?);
        let answer = client.generate_batch(request).await?.into_inner();
        read(answer.texts)
    }
}

fn message(asked: ChatRequest) -> GenerateBatchRequest {
    let say = |(role, content)| ChatMessage { role, content };
    let chat = Chat { messages: asked.messages.into_iter().map(say).collect(), ..Chat::default() };
    let settings = GenerationSettings {
        model: Some(ModelRef { name: asked.model, revision: String::new() }),
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
        Some(error) => Err(InferenceError::BadAnswer(format!("{}: {}", error.reason, error.message))),
        None => Ok(Chatted { text: text.text, complete }),
    }
}

#[cfg(test)]
mod tests {
    use observatory_proto::inference::v1::{ItemError, ItemStatus};

    use super::*;

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
        assert!(read(Vec::new()).is_err());
    }
}
