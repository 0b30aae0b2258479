//! Errors as gRPC statuses with google.rpc details.
//!
//! Every status of the services is made here: each has a reason that programs can match, names the
//! field at fault where there is one, and says when to try again where that can help.

use std::{collections::HashMap, time::Duration};

use tonic::{Code, Status, metadata::MetadataMap};
use tonic_types::{ErrorDetails, StatusExt};
use uuid::Uuid;

use crate::{
    inference::InferenceError,
    stage::StageError,
    store::{SqlError, taxonomies::ResolveError},
};

/// Domain of every `ErrorInfo`.
const DOMAIN: &str = "pipeline.observatory";

fn with_reason(code: Code, reason: &str, message: impl Into<String>) -> Status {
    Status::with_error_details(code, message, ErrorDetails::with_error_info(reason, DOMAIN, HashMap::new()))
}

/// A request field that is not acceptable.
pub(super) fn invalid(field: &str, message: impl Into<String>) -> Status {
    let message = message.into();
    let mut details = ErrorDetails::with_error_info("INVALID_FIELD", DOMAIN, HashMap::new());
    details.add_bad_request_violation(field, &message);
    Status::with_error_details(Code::InvalidArgument, format!("{field}: {message}"), details)
}

/// Files of a request that cannot be read; the message names them.
pub(super) fn unreadable(message: impl Into<String>) -> Status {
    with_reason(Code::InvalidArgument, "UNREADABLE", message)
}

/// Something that does not exist.
pub(super) fn not_found(what: &str, key: &str) -> Status {
    let mut details = ErrorDetails::with_error_info("NOT_FOUND", DOMAIN, HashMap::new());
    details.set_resource_info(what, key, "", "");
    Status::with_error_details(Code::NotFound, format!("no {what} `{key}`"), details)
}

/// A reference to a taxonomy, in a request's `field`, that stands for none.
pub(super) fn taxonomy(field: &str, problem: ResolveError) -> Status {
    let message = problem.to_string();
    match problem {
        ResolveError::Malformed { .. } | ResolveError::Ambiguous { .. } => invalid(field, message),
        ResolveError::Unknown { wanted, .. } => {
            let mut details = ErrorDetails::with_error_info("NOT_FOUND", DOMAIN, HashMap::new());
            details.set_resource_info("taxonomy", wanted, "", message.as_str());
            Status::with_error_details(Code::NotFound, message, details)
        }
        ResolveError::Sql(problem) => sql(problem),
    }
}

/// Something that is missing before the request can be served.
pub(super) fn precondition(message: impl Into<String>) -> Status {
    with_reason(Code::FailedPrecondition, "PRECONDITION", message)
}

/// A process that is asked to stop; another one answers.
pub(super) fn stopping() -> Status {
    with_reason(Code::Unavailable, "STOPPING", "this process is stopping; ask again")
}

/// A caller that nobody knows.
pub(super) fn unauthenticated(message: impl Into<String>) -> Status {
    with_reason(Code::Unauthenticated, "UNAUTHENTICATED", message)
}

/// A caller that may not.
pub(super) fn forbidden(message: impl Into<String>) -> Status {
    with_reason(Code::PermissionDenied, "SCOPE_NEEDED", message)
}

/// No room, or no more for this caller; there may be some after `again`.
pub(super) fn busy(reason: &str, message: impl Into<String>, again: Duration) -> Status {
    let mut details = ErrorDetails::with_error_info(reason, DOMAIN, HashMap::new());
    details.set_retry_info(Some(again));
    // Retries of gRPC libraries read the delay from the metadata (gRFC A6), other callers from the
    // details.
    let mut metadata = MetadataMap::new();
    metadata.insert("grpc-retry-pushback-ms", (again.as_millis() as u64).into());
    Status::with_error_details_and_metadata(Code::ResourceExhausted, message, details, metadata)
}

/// A failed statement: UNAVAILABLE with a delay when another try may succeed.
pub(super) fn sql(error: SqlError) -> Status {
    let text = crate::telemetry::chain(&error);
    tracing::warn!(error.message = text, "database statement failed");
    // First: a full disk is transient to the worker, but a caller cannot wait until it is mended.
    if let Some(refused) = crate::store::refused_write(&error) {
        let advice = "`observatory doctor` says how it stands";
        return with_reason(Code::FailedPrecondition, "DATABASE_FULL", format!("{refused}; {advice}"));
    }
    if crate::store::is_transient(&error) {
        let mut details = ErrorDetails::with_error_info("DATABASE_AWAY", DOMAIN, HashMap::new());
        details.set_retry_info(Some(Duration::from_secs(2)));
        let message = match crate::store::is_conflict(&error) {
            true => "others were at work on the same rows",
            false => "the database is not reachable",
        };
        Status::with_error_details(Code::Unavailable, message, details)
    } else {
        // The text of the error stays in the log: it may quote rows.
        with_reason(Code::Internal, "DATABASE", "a database statement failed; see the server's log")
    }
}

/// The same refusal, with what had been done before it.
pub(super) fn after(status: &Status, done: &str) -> Status {
    let message = format!("{}; {done}", status.message());
    // The details go along, since a program reads the delay and the reason from them.
    Status::with_details(status.code(), message, status.details().to_vec().into())
}

/// A stage that refused.
pub(super) fn stage(error: StageError) -> Status {
    match error {
        StageError::Unavailable { reason, .. } => with_reason(Code::Unavailable, "STAGE_WAITS", reason),
        StageError::Retry(reason) => with_reason(Code::Unavailable, "STAGE_RETRY", reason),
        StageError::Fail(reason) => precondition(reason),
    }
}

/// An inference server that refused.
pub(super) fn inference(error: &InferenceError) -> Status {
    let code = match error {
        InferenceError::Refused(status) => status.code(),
        InferenceError::Loading(_) => Code::Unavailable,
        InferenceError::NoModel | InferenceError::NotConfigured => Code::FailedPrecondition,
        // No other request of the caller could mend these.
        InferenceError::Credentials(_) | InferenceError::BadAnswer(_) => Code::Internal,
    };
    with_reason(code, "INFERENCE", error.to_string())
}

/// An id in a request.
pub(super) fn id(field: &str, text: &str) -> Result<Uuid, Status> {
    text.parse().map_err(|_| invalid(field, format!("`{text}` is not an id such as {}", Uuid::nil())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_carry_code_and_details() {
        let check = |status: Status, code, reason| {
            assert_eq!(status.code(), code);
            assert_eq!(status.get_details_error_info().expect("error info").reason, reason);
        };
        check(invalid("page_size", "x"), Code::InvalidArgument, "INVALID_FIELD");
        check(not_found("run", "x"), Code::NotFound, "NOT_FOUND");
        let unknown = ResolveError::Unknown { wanted: "x".into(), stored: Vec::new() };
        check(taxonomy("taxonomy", unknown), Code::NotFound, "NOT_FOUND");
        let malformed = ResolveError::Malformed { wanted: "x@".into() };
        check(taxonomy("taxonomy", malformed), Code::InvalidArgument, "INVALID_FIELD");
        check(precondition("x"), Code::FailedPrecondition, "PRECONDITION");
        check(sql(SqlError::PoolTimedOut), Code::Unavailable, "DATABASE_AWAY");
        check(sql(SqlError::RowNotFound), Code::Internal, "DATABASE");
        check(stage(StageError::Fail("x".into())), Code::FailedPrecondition, "PRECONDITION");
        check(inference(&InferenceError::NoModel), Code::FailedPrecondition, "INFERENCE");
        let status = invalid("page_size", "600 is outside 0 to 500");
        let violations = status.get_details_bad_request().expect("bad request").field_violations;
        assert_eq!(violations[0].field, "page_size");
    }
}
