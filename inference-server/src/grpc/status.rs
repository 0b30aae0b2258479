//! Errors on the wire of gRPC: a status with `google.rpc` details, or the error of one item.
//!
//! Codes and reasons are those of [`Error`]; what is added here is where details stand.

use std::collections::HashMap;

use observatory_proto::inference::v1::ItemError;
use tonic::metadata::MetadataMap;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use crate::error::Error;

/// `google.rpc.ErrorInfo.domain` of every error of this server.
pub(crate) const DOMAIN: &str = "inference.observatory";

fn code(error: &Error) -> Code {
    Code::from_i32(error.code() as i32)
}

/// A whole request's refusal. Where waiting helps, the time stands in `RetryInfo` and in
/// `grpc-retry-pushback-ms`.
pub(crate) fn to_status(error: &Error) -> Status {
    let info: HashMap<String, String> =
        error.metadata().into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
    let mut details = ErrorDetails::new();
    // google.rpc's error model (AIP-193): programs branch on reason and domain, never on the
    // message.
    details.set_error_info(error.reason(), DOMAIN, info);
    let mut metadata = MetadataMap::new();
    if let Some(delay) = error.retry_after() {
        details.set_retry_info(Some(delay));
        // gRPC's own retry policies read this header and no details (gRFC A6).
        metadata.insert("grpc-retry-pushback-ms", (delay.as_millis() as u64).into());
    }
    if let Some(field) = error.field() {
        details.add_bad_request_violation(field, error.to_string());
    }
    match error {
        Error::UnknownModel { wanted, .. } => {
            details.set_resource_info("model", wanted, "", error.to_string());
        }
        Error::WrongTask { model, .. } => {
            details.add_precondition_failure_violation("TASK", model, error.to_string());
        }
        Error::Overloaded { what, .. } => {
            details.add_quota_failure_violation(*what, error.to_string());
        }
        Error::QuotaExceeded { client, .. } => {
            details.add_quota_failure_violation(client, error.to_string());
        }
        _ => {}
    }
    Status::with_error_details_and_metadata(code(error), error.to_string(), details, metadata)
}

/// Translates a status of tonic's codec about a message that it could not read and that may have
/// at most `limit` bytes.
pub(super) fn undecodable(status: &Status, limit: usize) -> Error {
    match status.code() {
        Code::OutOfRange | Code::ResourceExhausted => Error::MessageTooLarge { limit },
        Code::Internal | Code::InvalidArgument => Error::Malformed { cause: status.message().to_owned() },
        // The connection broke off before the message was complete.
        _ => Error::Cancelled,
    }
}

/// One item's refusal inside an answer.
pub(crate) fn to_item(error: &Error) -> ItemError {
    ItemError {
        code: code(error) as i32,
        reason: error.reason().to_owned(),
        message: error.to_string(),
        metadata: error.metadata().into_iter().map(|(key, value)| (key.to_owned(), value)).collect(),
        retry_after_ms: error.retry_after().map_or(0, |delay| delay.as_millis() as u32),
    }
}

#[cfg(test)]
mod tests;
