//! Who answers the enhancer: an OpenAI-compatible endpoint, or a language model of the inference
//! server.

use std::time::{Duration, Instant};

use serde_json::Value;

use super::endpoint::{Endpoint, GenerateError};
use super::prompt;
use crate::domain::enhancement::Answerer;
use crate::inference::{ChatRequest, Chatted, InferenceClient, InferenceError};

/// A model of the inference server.
#[derive(Debug, Clone)]
pub(super) struct Served {
    /// Connection to the server.
    pub(super) client: InferenceClient,
    /// The model's name in the store.
    pub(super) model: String,
    /// Tokens of one answer at most.
    pub(super) max_tokens: u32,
    /// Longest wait for one answer.
    pub(super) timeout: Duration,
}

/// The server that is asked.
#[derive(Debug, Clone)]
pub(super) enum Generator {
    /// By HTTP.
    Endpoint(Endpoint),
    /// By gRPC; the answer keeps to the schema.
    Served(Served),
}

impl Generator {
    /// Its place among those that may answer.
    pub(super) const fn answerer(&self) -> Answerer {
        match self {
            Self::Endpoint(_) => Answerer::Endpoint,
            Self::Served(_) => Answerer::ServedModel,
        }
    }

    /// The model's name.
    pub(super) fn model(&self) -> &str {
        match self {
            Self::Endpoint(endpoint) => endpoint.model(),
            Self::Served(served) => &served.model,
        }
    }

    /// The text that the model answers to messages about this number of mentions, in the form of
    /// chat completions.
    ///
    /// # Errors
    /// See [`GenerateError`].
    pub(super) async fn generate(&self, messages: Value, mentions: usize) -> Result<String, GenerateError> {
        match self {
            // Without bounds, which strict structured output does not allow everywhere; our own
            // server obeys them.
            Self::Endpoint(endpoint) => endpoint.generate(messages, prompt::schema()).await,
            Self::Served(served) => served.generate(&messages, &prompt::bounded_schema(mentions)).await,
        }
    }
}

impl Served {
    async fn generate(&self, messages: &Value, schema: &Value) -> Result<String, GenerateError> {
        let request = ChatRequest {
            model: self.model.clone(),
            messages: pairs(messages),
            schema: schema.to_string(),
            max_tokens: self.max_tokens,
            timeout: self.timeout,
        };
        match self.patiently(request).await {
            Ok(Chatted { text, complete: true }) => Ok(text),
            Ok(_) => Err(GenerateError::Unusable("an answer cut off at max_tokens".to_owned())),
            // A prompt for which the model has no room: the rules answer for that posting.
            Err(InferenceError::BadAnswer(problem)) => Err(GenerateError::Unusable(problem)),
            Err(error) => Err(GenerateError::Refused(error.into())),
        }
    }

    /// Asks again where the server says when, for as long as an answer may take: that others are
    /// before it is no fault of a posting.
    async fn patiently(&self, request: ChatRequest) -> Result<Chatted, InferenceError> {
        let asked = Instant::now();
        loop {
            // What is left, so that the last question cannot outlast the limit of an answer.
            let left = self.timeout.saturating_sub(asked.elapsed());
            match self.client.chat(ChatRequest { timeout: left, ..request.clone() }).await {
                Err(error) => match error.busy_for() {
                    Some(wait) if asked.elapsed().saturating_add(wait) < self.timeout => {
                        tokio::time::sleep(wait).await;
                    }
                    _ => return Err(error),
                },
                answer => return answer,
            }
        }
    }
}

/// Role and content of each message.
fn pairs(messages: &Value) -> Vec<(String, String)> {
    let messages = messages.as_array().map(Vec::as_slice).unwrap_or_default();
    messages.iter().map(|message| (text(message, "role"), text(message, "content"))).collect()
}

fn text(message: &Value, key: &str) -> String {
    message[key].as_str().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn messages_are_taken_apart() {
        let messages = json!([{"role": "system", "content": "a"}, {"role": "user", "content": "b"}]);
        let expected =
            [("system", "a"), ("user", "b")].map(|(role, text)| (role.to_owned(), text.to_owned()));
        assert_eq!(pairs(&messages), expected);
    }

    #[tokio::test]
    async fn a_server_that_is_not_configured_is_said_so() {
        let client = InferenceClient::new(&Default::default()).unwrap();
        let served =
            Served { client, model: "a/b".to_owned(), max_tokens: 9, timeout: Duration::from_secs(1) };
        let answer = Generator::Served(served).generate(json!([]), 0).await;
        let Err(GenerateError::Refused(error)) = answer else { panic!("{answer:?}") };
        assert!(format!("{error:?}").contains("no inference server is configured"), "{error:?}");
    }
}
