//! The only client of the inference server.
//!
//! It hides gRPC, credentials, time limits and prompts' names. A vector that it returns is
//! finite and of unit length.

mod chat;

use std::{fmt, time::Duration};

pub(crate) use chat::{ChatRequest, Chatted};
use observatory_client::{BalancedConnection as Connection, Credentials, Flags};
use observatory_proto::inference::v1::{
    Aggregation, ClassifiedText, ClassifyRequest, ClassifySettings, EmbedRequest, EmbedSettings,
    ListModelsRequest, Model, ModelRef, ModelState, ModelTask, Truncation,
    embedding_service_client::EmbeddingServiceClient, models_service_client::ModelsServiceClient,
    token_classification_service_client::TokenClassificationServiceClient,
};
use tonic::{Code, Status};
use tonic_types::StatusExt;

use crate::stage::{Dependency, StageError};

/// Longest a single request may take. Not tuned: a full batch of long texts on a slow processor.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(120);

/// Largest answer. Not tuned: four times the vectors of a thousand texts in 4,096 dimensions.
const ANSWER_LIMIT: usize = 64 << 20;

/// Reason for which the inference server gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum InferenceError {
    /// No address was configured.
    #[error("no inference server is configured; set OBSERVATORY_INFERENCE")]
    NotConfigured,
    /// The address, a certificate, a key or a token cannot be used.
    #[error("inference server")]
    Credentials(#[from] observatory_client::Error),
    /// The server is away or refused.
    #[error("inference server: {}", said(.0))]
    Refused(#[from] Box<Status>),
    /// The server has no model for the task.
    #[error(
        "the inference server serves no embedding model; `observatory models load NAME` serves one of its store, \
         `observatory models pull NAME` gets one"
    )]
    NoModel,
    /// The model is not ready yet.
    #[error("the inference server is loading {0}")]
    Loading(String),
    /// The answer does not fit the request.
    #[error("inference server answered {0}")]
    BadAnswer(String),
}

impl InferenceError {
    /// Time after which a server that has too much to do wants to be asked again, if it says so.
    pub fn busy_for(&self) -> Option<Duration> {
        match self {
            Self::Refused(status) if status.code() == Code::ResourceExhausted => {
                status.get_details_retry_info().and_then(|info| info.retry_delay)
            }
            _ => None,
        }
    }
}

/// Message of a refusal; where the server ended the connection, what it wants.
fn said(status: &Status) -> String {
    let wanted = observatory_client::wanted(status).map(|wanted| wanted.advice(Flags::INFERENCE));
    wanted.unwrap_or_else(|| status.message().to_owned())
}

impl From<Status> for InferenceError {
    fn from(status: Status) -> Self {
        Self::Refused(Box::new(status))
    }
}

/// Cause of a broken connection, where a status is no word of the server's but what became of the
/// connection to it.
fn broken(status: &Status) -> Option<String> {
    let mut cause = std::error::Error::source(status)?;
    // The outer errors say only that the transport failed.
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    Some(cause.to_string())
}

impl From<InferenceError> for StageError {
    fn from(error: InferenceError) -> Self {
        if let InferenceError::Refused(status) = &error
            && let Some(cause) = broken(status)
        {
            let wanted = observatory_client::wanted(status).map(|wanted| wanted.advice(Flags::INFERENCE));
            let reason = format!("inference server: cannot be reached: {}", wanted.unwrap_or(cause));
            return Self::Unavailable { dependency: Dependency::Inference, reason, after: None };
        }
        let reason = crate::telemetry::chain(&error);
        match &error {
            InferenceError::Refused(status) => match status.code() {
                // A deadline that passed is a busy server's too: it answers late.
                Code::Unavailable | Code::ResourceExhausted | Code::DeadlineExceeded | Code::Cancelled => {
                    let after = status.get_details_retry_info().and_then(|info| info.retry_delay);
                    Self::Unavailable { dependency: Dependency::Inference, reason, after }
                }
                // Faults of the server, which may pass; the other codes blame the request, which
                // stays the same.
                Code::Internal | Code::Unknown | Code::Aborted => Self::Retry(reason),
                _ => Self::Fail(reason),
            },
            InferenceError::Loading(_) => {
                Self::Unavailable { dependency: Dependency::Inference, reason, after: None }
            }
            InferenceError::BadAnswer(_) => Self::Retry(reason),
            _ => Self::Fail(reason),
        }
    }
}

/// A model that makes embeddings, as its server describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EmbeddingModelInfo {
    /// Name in the model store.
    pub name: String,
    /// Digest of its files.
    pub revision: String,
    /// Length of a vector.
    pub dimensions: u32,
    /// Name of the prompt for stored texts; empty if the model has none.
    pub passage_prompt: String,
    /// Name of the prompt for search texts; empty if the model has none.
    pub query_prompt: String,
    /// Languages the model was trained on (BCP 47); empty if its card does not say.
    pub languages: Vec<String>,
}

/// A model that labels tokens, as its server describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClassifierInfo {
    /// Name in the model store.
    pub name: String,
    /// Digest of its files; empty while it is loading.
    pub revision: String,
    /// Classes, as the model has them ("B-Skill").
    pub labels: Vec<String>,
    /// True as long as it does not answer.
    pub loading: bool,
}

/// Words that a model gave a label.
#[derive(Debug, Clone, PartialEq)]
pub struct LabelledSpan {
    /// Label without "B-" and "I-".
    pub label: String,
    /// 0..1.
    pub score: f32,
    /// First code point of the text.
    pub start: u32,
    /// One past the last code point.
    pub end: u32,
}

/// How to reach the inference server.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Options {
    /// Inference server, as http://HOST:PORT or https://HOST:PORT
    #[arg(long = "inference", env = "OBSERVATORY_INFERENCE", value_name = "INFERENCE", global = true)]
    pub address: Option<String>,
    /// What is shown to it, and whom to trust
    #[command(flatten)]
    pub credentials: Credentials,
}

impl Options {
    /// Options of a server that wants neither token nor TLS.
    #[cfg(test)]
    pub fn plain(address: &str) -> Self {
        Self { address: Some(address.to_owned()), ..Self::default() }
    }
}

/// Connection to the inference server, or to all of them under its name; cheap to clone, connects
/// when it is first used.
#[derive(Clone)]
pub struct InferenceClient {
    connection: Option<Connection>,
    /// The same for answers that take longer than usual: their callers say how long.
    patient: Option<Connection>,
}

impl fmt::Debug for InferenceClient {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("InferenceClient").field("configured", &self.is_configured()).finish()
    }
}

impl InferenceClient {
    /// A client of the server of `options`, or one that refuses every call where they name none.
    ///
    /// # Errors
    /// If the address is not a URL, or a certificate, key or token cannot be used; no connection
    /// was tried.
    pub fn new(options: &Options) -> Result<Self, InferenceError> {
        let Some(address) = &options.address else { return Ok(Self { connection: None, patient: None }) };
        let connection = Some(connect(options, address, Some(REQUEST_TIMEOUT))?);
        let patient = Some(connect(options, address, None)?);
        Ok(Self { connection, patient })
    }

    /// Returns whether an address was given.
    pub fn is_configured(&self) -> bool {
        self.connection.is_some()
    }

    fn connection(&self) -> Result<Connection, InferenceError> {
        self.connection.clone().ok_or(InferenceError::NotConfigured)
    }

    fn patient_connection(&self) -> Result<Connection, InferenceError> {
        self.patient.clone().ok_or(InferenceError::NotConfigured)
    }

    /// Every model the server knows, whatever its state.
    ///
    /// # Errors
    /// If the server does not answer.
    pub async fn models(&self) -> Result<Vec<Model>, InferenceError> {
        let mut client = ModelsServiceClient::new(self.connection()?);
        let mut models = Vec::new();
        let mut page_token = String::new();
        loop {
            let page =
                client.list_models(ListModelsRequest { page_size: 500, page_token }).await?.into_inner();
            models.extend(page.models);
            page_token = page.next_page_token;
            if page_token.is_empty() {
                return Ok(models);
            }
        }
    }

    /// The model named `wanted`, or the server's default for embeddings.
    ///
    /// # Errors
    /// If the server does not answer, has no such model or is still loading it.
    pub async fn embedding_model(&self, wanted: Option<&str>) -> Result<EmbeddingModelInfo, InferenceError> {
        choose_embedding(self.models().await?, wanted)
    }

    /// Every token classifier that answers or is going to.
    ///
    /// # Errors
    /// If the server does not answer.
    pub async fn classifiers(&self) -> Result<Vec<ClassifierInfo>, InferenceError> {
        let models = self.models().await?.into_iter();
        let models = models.filter(|model| is_able(model, ModelTask::TokenClassification));
        Ok(models
            .map(|model| ClassifierInfo {
                loading: model.state() != ModelState::Ready,
                name: model.name,
                revision: model.revision,
                labels: model.labels,
            })
            .collect())
    }

    /// Labelled words of `texts`, in order; an item that failed carries its reason. A word takes
    /// the label of its first token, as the callers of the published skill taggers do.
    ///
    /// # Errors
    /// If the whole request failed.
    pub async fn classify(
        &self,
        name: &str,
        revision: &str,
        texts: Vec<String>,
    ) -> Result<Vec<Result<Vec<LabelledSpan>, String>>, InferenceError> {
        let count = texts.len();
        let settings = ClassifySettings {
            model: Some(ModelRef { name: name.to_owned(), revision: revision.to_owned() }),
            aggregation: Aggregation::First.into(),
            ..ClassifySettings::default()
        };
        let request = ClassifyRequest { settings: Some(settings), texts };
        let answer = TokenClassificationServiceClient::new(self.connection()?)
            .max_decoding_message_size(ANSWER_LIMIT)
            .classify(request)
            .await?
            .into_inner();
        // Spans are assigned by place: an answer of another length would mark the wrong texts.
        if answer.texts.len() != count {
            return Err(InferenceError::BadAnswer(format!("{} of {count} texts", answer.texts.len())));
        }
        Ok(answer.texts.into_iter().map(read_spans).collect())
    }

    /// L2-normalised vectors of `texts` in order; an item that failed carries its reason.
    ///
    /// # Errors
    /// If the whole request failed.
    pub async fn embed(
        &self,
        model: &EmbeddingModelInfo,
        prompt_name: &str,
        texts: Vec<String>,
    ) -> Result<Vec<Result<Vec<f32>, String>>, InferenceError> {
        let count = texts.len();
        let settings = EmbedSettings {
            // With the revision: vectors of another one must not be stored under this one.
            model: Some(ModelRef { name: model.name.clone(), revision: model.revision.clone() }),
            prompt_name: prompt_name.to_owned(),
            normalize: Some(true),
            // A long query loses its end instead of failing.
            truncation: Truncation::Right.into(),
            ..EmbedSettings::default()
        };
        let request = EmbedRequest { settings: Some(settings), texts };
        let answer = EmbeddingServiceClient::new(self.connection()?)
            .max_decoding_message_size(ANSWER_LIMIT)
            .embed(request)
            .await?
            .into_inner();
        let width = answer.dimensions as usize;
        if answer.dimensions != model.dimensions || answer.vectors.len() != width * 4 * count {
            return Err(InferenceError::BadAnswer(format!(
                "{} bytes of {width} dimensions for {count} texts",
                answer.vectors.len()
            )));
        }
        let rows = answer.vectors.chunks_exact(width * 4).map(read_row);
        Ok(rows.zip(&answer.items).map(|(row, item)| check_row(row, item.error.as_ref())).collect())
    }
}

/// A connection that is made with the first call: the server may start after us. Keep-alives notice
/// a server that is gone while an answer without a time limit is awaited.
fn connect(
    options: &Options,
    address: &str,
    timeout: Option<Duration>,
) -> Result<Connection, InferenceError> {
    let server = options.credentials.server(address)?.tuned(|endpoint| {
        let endpoint = endpoint
            // Short: a server that is away shows at once, and the worker does the waiting.
            .connect_timeout(Duration::from_secs(2))
            .http2_keep_alive_interval(Duration::from_secs(10))
            .keep_alive_timeout(Duration::from_secs(3));
        match timeout {
            Some(timeout) => endpoint.timeout(timeout),
            None => endpoint,
        }
    });
    Ok(server.connect_balanced())
}

/// Returns whether a model answers questions of this kind, or will once it is loaded.
fn is_able(model: &Model, wanted: ModelTask) -> bool {
    matches!(model.state(), ModelState::Ready | ModelState::Loading)
        && model.tasks().any(|task| task == wanted)
}

/// The name of a prompt as requests have it: empty where the model has none of this name.
fn prompt_name(model: &Model, name: &str) -> String {
    if model.prompts.contains_key(name) { name.to_owned() } else { String::new() }
}

/// The model named `wanted` or the default one. Without a default that is ready, another takes its
/// place only when the default is not on its way: a server that has just started must not give a
/// run another model than before.
fn choose_embedding(models: Vec<Model>, wanted: Option<&str>) -> Result<EmbeddingModelInfo, InferenceError> {
    let mut able: Vec<Model> = models
        .into_iter()
        .filter(|model| is_able(model, ModelTask::Embedding) && wanted.is_none_or(|name| model.name == name))
        .collect();
    able.sort_by_key(|model| (!model.is_default, model.state() != ModelState::Ready));
    let model = able.into_iter().next().ok_or(InferenceError::NoModel)?;
    if model.state() == ModelState::Loading {
        return Err(InferenceError::Loading(model.name));
    }
    Ok(EmbeddingModelInfo {
        passage_prompt: prompt_name(&model, "passage"),
        query_prompt: prompt_name(&model, "query"),
        name: model.name.clone(),
        revision: model.revision.clone(),
        dimensions: model.dimensions,
        languages: model.languages.clone(),
    })
}

fn read_spans(text: ClassifiedText) -> Result<Vec<LabelledSpan>, String> {
    if let Some(error) = text.status.and_then(|status| status.error) {
        return Err(format!("{}: {}", error.reason, error.message));
    }
    Ok(text
        .entities
        .into_iter()
        .map(|entity| LabelledSpan {
            label: entity.label,
            score: entity.score,
            start: entity.start,
            end: entity.end,
        })
        .collect())
}

fn read_row(bytes: &[u8]) -> Vec<f32> {
    bytes.chunks_exact(4).map(|word| f32::from_le_bytes([word[0], word[1], word[2], word[3]])).collect()
}

/// A vector that is not finite or not of unit length is refused here, so that it is never stored.
fn check_row(
    row: Vec<f32>,
    error: Option<&observatory_proto::inference::v1::ItemError>,
) -> Result<Vec<f32>, String> {
    if let Some(error) = error {
        return Err(format!("{}: {}", error.reason, error.message));
    }
    let norm = row.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt();
    // NaN is not below the bound, so what is not finite fails here as well.
    if (norm - 1.0).abs() < 1e-3 { Ok(row) } else { Err(format!("vector has length {norm}, expected 1")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_checked_before_they_are_stored() {
        assert!(check_row(vec![0.6, 0.8], None).is_ok());
        assert!(check_row(vec![0.0, 0.0], None).is_err());
        assert!(check_row(vec![f32::NAN, 1.0], None).is_err());
        assert!(check_row(vec![2.0, 0.0], None).is_err());
    }

    #[test]
    fn refusals_wait_are_retried_or_fail() {
        let check = |code, expected| {
            let found = match StageError::from(InferenceError::from(Status::new(code, "x"))) {
                StageError::Unavailable { dependency: Dependency::Inference, .. } => "waits",
                StageError::Unavailable { .. } => "waits for something else",
                StageError::Retry(_) => "is retried",
                StageError::Fail(_) => "fails",
            };
            assert_eq!(found, expected, "{code:?}");
        };
        check(Code::Unavailable, "waits");
        check(Code::ResourceExhausted, "waits");
        check(Code::DeadlineExceeded, "waits");
        check(Code::Internal, "is retried");
        check(Code::InvalidArgument, "fails");
        check(Code::NotFound, "fails");
    }

    #[test]
    fn a_model_that_is_loading_is_waited_for() {
        let model = |name: &str, state: ModelState, is_default| Model {
            name: name.to_owned(),
            state: state.into(),
            is_default,
            tasks: vec![ModelTask::Embedding.into()],
            ..Model::default()
        };
        let (first, other) =
            (model("first", ModelState::Loading, true), model("other", ModelState::Ready, false));
        let loading = |models, wanted| {
            let error = choose_embedding(models, wanted).expect_err("not ready");
            assert!(matches!(&error, InferenceError::Loading(name) if name == "first"), "{error}");
            assert!(matches!(StageError::from(error), StageError::Unavailable { .. }));
        };
        loading(vec![other.clone(), first.clone()], None);
        loading(vec![other.clone(), first.clone()], Some("first"));
        let name = |models, wanted| choose_embedding(models, wanted).expect("a model").name;
        assert_eq!(name(vec![first, other.clone()], Some("other")), "other");
        let failed = model("first", ModelState::Failed, true);
        assert_eq!(name(vec![failed.clone(), other], None), "other");
        assert!(matches!(choose_embedding(vec![failed], None), Err(InferenceError::NoModel)));
    }

    #[tokio::test]
    async fn without_an_address_every_call_says_so() {
        let client = InferenceClient::new(&Options::default()).expect("client");
        assert!(matches!(client.models().await, Err(InferenceError::NotConfigured)));
        assert!(InferenceClient::new(&Options::plain("not a url")).is_err());
    }
}
