//! Everything a request can be refused for, with the code and the machine-readable reason that go
//! on the wire.
//!
//! [`Error::kind`] is the one table: a new variant gets its line there. `grpc/status.rs` and
//! `http/openai.rs` only translate codes.

use std::time::Duration;

use observatory_server::access::Unknown;

/// The canonical codes in use, with the numbers of google.rpc's `code.proto`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Code {
    Cancelled = 1,
    InvalidArgument = 3,
    DeadlineExceeded = 4,
    NotFound = 5,
    PermissionDenied = 7,
    ResourceExhausted = 8,
    FailedPrecondition = 9,
    OutOfRange = 11,
    Internal = 13,
    Unavailable = 14,
    Unauthenticated = 16,
}

/// Why a request, or one item of it, was not served.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Error {
    /// A text without content.
    #[error("{field} is empty: expected at least one character that is not white space")]
    EmptyInput {
        /// Path of the field.
        field: String,
    },
    /// A request without items.
    #[error("{field} has no items: expected 1 to {limit}")]
    EmptyBatch {
        /// Path of the field.
        field: String,
        /// Most items one request may carry.
        limit: usize,
    },
    /// More items than one request may carry.
    #[error("{field} has {count} items: expected 1 to {limit}")]
    BatchTooLarge {
        /// Path of the field.
        field: String,
        /// Items given.
        count: usize,
        /// Most items one request may carry.
        limit: usize,
    },
    /// More tokens than the model reads, and the caller asked for no truncation.
    #[error("{field} has {tokens} tokens; the model reads at most {limit}")]
    InputTooLong {
        /// Path of the field.
        field: String,
        /// Tokens of the text, special tokens included.
        tokens: usize,
        /// Most tokens the model reads, special tokens included.
        limit: usize,
    },
    /// A text too large even to be tokenised.
    #[error("{field} has {bytes} bytes: expected at most {limit}")]
    InputTooLarge {
        /// Path of the field.
        field: String,
        /// Bytes of the text.
        bytes: usize,
        /// Most bytes a text may have.
        limit: usize,
    },
    /// Bytes that are no message of the contract: not protobuf, text that is not UTF-8, or nothing.
    #[error("the message cannot be decoded: {cause}")]
    Malformed {
        /// Message of the decoder.
        cause: String,
    },
    /// A message larger than the server reads.
    #[error("the message is too large: expected at most {limit} bytes, decompressed")]
    MessageTooLarge {
        /// Most bytes of a message.
        limit: usize,
    },
    /// An answer larger than the server sends.
    #[error("the answer would have {bytes} bytes: expected at most {limit}; ask for less at a time")]
    AnswerTooLarge {
        /// Bytes of the answer.
        bytes: usize,
        /// Most bytes of a message.
        limit: usize,
    },
    /// A value outside the allowed ones.
    #[error("invalid {field} `{value}`: expected {allowed}")]
    InvalidValue {
        /// Path of the field.
        field: String,
        /// The given value.
        value: String,
        /// The allowed values, in words.
        allowed: String,
    },
    /// The model has no prompt of that name.
    #[error("invalid settings.prompt_name `{asked}`: model {model} has {known}")]
    UnknownPrompt {
        /// Name of the model.
        model: String,
        /// The prompt asked for.
        asked: String,
        /// Its prompts, or "none".
        known: String,
    },
    /// A constraint that cannot be compiled.
    #[error("{field} is not a valid constraint: {cause}")]
    BadConstraint {
        /// Path of the field.
        field: String,
        /// The reason.
        cause: String,
    },
    /// A chat that the model's template refuses.
    #[error("{field} cannot be rendered by the chat template of model {model}: {cause}")]
    BadChat {
        /// Path of the field.
        field: String,
        /// Name of the model.
        model: String,
        /// Message of the template.
        cause: String,
    },
    /// A sequence that would not fit into the KV cache even alone.
    #[error("prompt plus max_new_tokens is {tokens} tokens; the KV cache holds {room}")]
    KvExhausted {
        /// Tokens of both.
        tokens: usize,
        /// Tokens that the KV cache holds.
        room: usize,
    },
    /// No model of that name, or none at all for the task.
    #[error("no model {wanted}; the server has: {known}")]
    UnknownModel {
        /// The name asked for, or the task that no model serves.
        wanted: String,
        /// Names of the server's models, or "none".
        known: String,
    },
    /// The model exists and cannot do this.
    #[error("model {model} does not support {task}")]
    WrongTask {
        /// Name of the model.
        model: String,
        /// The task asked for.
        task: &'static str,
    },
    /// Another revision than the one asked for is loaded.
    #[error("model {model} is loaded at revision {loaded}, not {asked}")]
    RevisionMismatch {
        /// Name of the model.
        model: String,
        /// Revision asked for.
        asked: String,
        /// Revision loaded.
        loaded: String,
    },
    /// The model is still being loaded.
    #[error("model {model} is still loading")]
    ModelLoading {
        /// Name of the model.
        model: String,
    },
    /// The model was taken out of service.
    #[error("model {model} was unloaded")]
    ModelUnloaded {
        /// Name of the model.
        model: String,
    },
    /// The model could not be loaded.
    #[error("model {model} could not be loaded: {cause}")]
    ModelFailed {
        /// Name of the model.
        model: String,
        /// The missing part of its files.
        cause: String,
    },
    /// No client of the clients file.
    #[error("{}", Unknown { given: *given })]
    Unauthenticated {
        /// True if the caller presented credentials.
        given: bool,
    },
    /// The caller may not load and unload models.
    #[error("{client} may not load or unload models; that needs the admin scope")]
    PermissionDenied {
        /// Name of the client.
        client: String,
    },
    /// The client used up its quota of the last minute.
    #[error("{client} has used up its {limit} tokens a minute; retry in {} ms", retry_after.as_millis())]
    QuotaExceeded {
        /// Name of the client.
        client: String,
        /// Tokens it may have computed in a minute.
        limit: u32,
        /// When it may have more.
        retry_after: Duration,
    },
    /// The server is shutting down.
    #[error("the server is shutting down")]
    Draining,
    /// Admission refuses further work for now.
    #[error("server overloaded: {used} of {limit} {what}; retry in {} ms", retry_after.as_millis())]
    Overloaded {
        /// The counted unit: "requests" or "queued tokens".
        what: &'static str,
        /// Amount in use.
        used: u64,
        /// Greatest allowed amount.
        limit: u64,
        /// When there should be capacity, from the measured speed.
        retry_after: Duration,
    },
    /// The device had not begun within the time that the caller allows for waiting.
    #[error("the device did not begin within settings.options.max_queue_ms; retry in {} ms", retry_after.as_millis())]
    QueueTimeout {
        /// When there should be capacity, from the measured speed.
        retry_after: Duration,
    },
    /// The deadline passed before the device began.
    #[error("the deadline passed while the request waited")]
    ExpiredInQueue,
    /// The deadline passed while the device worked.
    #[error("the deadline passed while the request was computed")]
    ExpiredRunning,
    /// The caller went away.
    #[error("the caller cancelled the request")]
    Cancelled,
    /// The model or the device failed; the cause is in the server's log.
    #[error("the model failed on this input; see the server's log for the cause")]
    Backend,
}

impl Error {
    /// Code and reason of each variant.
    fn kind(&self) -> (Code, &'static str) {
        match self {
            Self::EmptyInput { .. } | Self::EmptyBatch { .. } => (Code::InvalidArgument, "EMPTY_INPUT"),
            Self::BatchTooLarge { .. } => (Code::InvalidArgument, "BATCH_TOO_LARGE"),
            Self::InputTooLong { .. } => (Code::InvalidArgument, "INPUT_TOO_LONG"),
            Self::InputTooLarge { .. } => (Code::InvalidArgument, "INPUT_TOO_LARGE"),
            Self::Malformed { .. } => (Code::InvalidArgument, "MALFORMED_MESSAGE"),
            // What tonic's codec says of its own accord.
            Self::MessageTooLarge { .. } => (Code::OutOfRange, "MESSAGE_TOO_LARGE"),
            Self::AnswerTooLarge { .. } => (Code::OutOfRange, "ANSWER_TOO_LARGE"),
            Self::InvalidValue { .. } => (Code::InvalidArgument, "INVALID_VALUE"),
            Self::UnknownPrompt { .. } => (Code::InvalidArgument, "UNKNOWN_PROMPT"),
            Self::BadConstraint { .. } => (Code::InvalidArgument, "BAD_CONSTRAINT"),
            Self::BadChat { .. } => (Code::InvalidArgument, "BAD_CHAT"),
            Self::KvExhausted { .. } => (Code::ResourceExhausted, "KV_EXHAUSTED"),
            Self::UnknownModel { .. } => (Code::NotFound, "UNKNOWN_MODEL"),
            Self::WrongTask { .. } => (Code::FailedPrecondition, "WRONG_TASK"),
            Self::RevisionMismatch { .. } => (Code::FailedPrecondition, "REVISION_MISMATCH"),
            Self::ModelLoading { .. } => (Code::Unavailable, "MODEL_LOADING"),
            Self::ModelFailed { .. } => (Code::FailedPrecondition, "MODEL_FAILED"),
            Self::ModelUnloaded { .. } => (Code::FailedPrecondition, "MODEL_UNLOADED"),
            Self::Unauthenticated { .. } => (Code::Unauthenticated, "UNAUTHENTICATED"),
            Self::PermissionDenied { .. } => (Code::PermissionDenied, "ADMIN_SCOPE_NEEDED"),
            Self::QuotaExceeded { .. } => (Code::ResourceExhausted, "QUOTA_EXCEEDED"),
            Self::Draining => (Code::Unavailable, "DRAINING"),
            Self::Overloaded { .. } => (Code::ResourceExhausted, "OVERLOADED"),
            Self::QueueTimeout { .. } => (Code::ResourceExhausted, "QUEUE_TIMEOUT"),
            Self::ExpiredInQueue => (Code::DeadlineExceeded, "EXPIRED_IN_QUEUE"),
            Self::ExpiredRunning => (Code::DeadlineExceeded, "EXPIRED_RUNNING"),
            Self::Cancelled => (Code::Cancelled, "CANCELLED"),
            Self::Backend => (Code::Internal, "BACKEND"),
        }
    }

    /// The canonical code.
    pub(crate) fn code(&self) -> Code {
        self.kind().0
    }

    /// The stable reason of `google.rpc.ErrorInfo`.
    pub fn reason(&self) -> &'static str {
        self.kind().1
    }

    /// The field of the request that is at fault, where one is.
    pub fn field(&self) -> Option<&str> {
        match self {
            Self::EmptyInput { field }
            | Self::EmptyBatch { field, .. }
            | Self::BatchTooLarge { field, .. }
            | Self::InputTooLong { field, .. }
            | Self::InputTooLarge { field, .. }
            | Self::BadConstraint { field, .. }
            | Self::BadChat { field, .. }
            | Self::InvalidValue { field, .. } => Some(field),
            Self::UnknownPrompt { .. } => Some("settings.prompt_name"),
            _ => None,
        }
    }

    /// The figures behind the message, for programs.
    pub fn metadata(&self) -> Vec<(&'static str, String)> {
        match self {
            Self::EmptyBatch { limit, .. } | Self::MessageTooLarge { limit } => {
                vec![("limit", limit.to_string())]
            }
            Self::BatchTooLarge { count, limit, .. } => {
                vec![("count", count.to_string()), ("limit", limit.to_string())]
            }
            Self::InputTooLong { tokens, limit, .. } => {
                vec![("tokens", tokens.to_string()), ("limit", limit.to_string())]
            }
            Self::InputTooLarge { bytes, limit, .. } | Self::AnswerTooLarge { bytes, limit } => {
                vec![("bytes", bytes.to_string()), ("limit", limit.to_string())]
            }
            Self::InvalidValue { value, .. } => vec![("value", value.clone())],
            Self::UnknownPrompt { model, asked, .. } => {
                vec![("model", model.clone()), ("prompt", asked.clone())]
            }
            Self::KvExhausted { tokens, room } => {
                vec![("tokens", tokens.to_string()), ("limit", room.to_string())]
            }
            Self::UnknownModel { wanted, .. } => vec![("model", wanted.clone())],
            Self::WrongTask { model, task } => vec![("model", model.clone()), ("task", (*task).to_owned())],
            Self::RevisionMismatch { model, asked, loaded } => {
                vec![("model", model.clone()), ("asked", asked.clone()), ("loaded", loaded.clone())]
            }
            Self::ModelLoading { model }
            | Self::ModelUnloaded { model }
            | Self::BadChat { model, .. }
            | Self::ModelFailed { model, .. } => {
                vec![("model", model.clone())]
            }
            Self::PermissionDenied { client } => vec![("client", client.clone())],
            Self::QuotaExceeded { client, limit, .. } => {
                vec![("client", client.clone()), ("limit", limit.to_string())]
            }
            Self::Overloaded { used, limit, .. } => {
                vec![("used", used.to_string()), ("limit", limit.to_string())]
            }
            _ => Vec::new(),
        }
    }

    /// Wait after which the same request may succeed; `None` if waiting does not help.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Overloaded { retry_after, .. }
            | Self::QuotaExceeded { retry_after, .. }
            | Self::QueueTimeout { retry_after } => Some(*retry_after),
            // Neither has a measured time; a second is short for a load and long for a busy loop.
            Self::ModelLoading { .. } | Self::Draining => Some(Duration::from_secs(1)),
            _ => None,
        }
    }
}
