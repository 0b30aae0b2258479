//! Every error as a gRPC status: code, reason, metadata, retry hint and field at fault.
//!
//! Clients decide by these, so a change here is a change of the contract.

use std::time::Duration;

use super::*;

/// Code, reason, sorted metadata keys, whether a retry hint is given, field at fault.
fn check(error: &Error, expected: (Code, &str, &[&str], bool, Option<&str>)) {
    let status = to_status(error);
    let details = status.get_error_details();
    let info = details.error_info().unwrap();
    let mut keys: Vec<&str> = info.metadata.keys().map(String::as_str).collect();
    keys.sort_unstable();
    let pushback = status.metadata().get("grpc-retry-pushback-ms").is_some();
    assert_eq!(details.retry_info().is_some(), pushback, "{error}");
    let field = details.bad_request().map(|bad| bad.field_violations[0].field.as_str());
    assert_eq!((status.code(), info.reason.as_str(), keys.as_slice(), pushback, field), expected, "{error}");
    assert_eq!(info.domain, DOMAIN);
    let item = to_item(error);
    assert_eq!((item.code, item.reason.as_str()), (expected.0 as i32, expected.1));
    assert_eq!((item.metadata.len(), item.retry_after_ms > 0), (keys.len(), pushback));
}

#[test]
fn input_faults() {
    let field = || "texts[2]".to_owned();
    let invalid = Code::InvalidArgument;
    check(&Error::EmptyInput { field: field() }, (invalid, "EMPTY_INPUT", &[], false, Some("texts[2]")));
    check(
        &Error::EmptyBatch { field: "texts".to_owned(), limit: 9 },
        (invalid, "EMPTY_INPUT", &["limit"], false, Some("texts")),
    );
    check(
        &Error::BatchTooLarge { field: "texts".to_owned(), count: 10, limit: 9 },
        (invalid, "BATCH_TOO_LARGE", &["count", "limit"], false, Some("texts")),
    );
    check(
        &Error::InputTooLong { field: field(), tokens: 600, limit: 512 },
        (invalid, "INPUT_TOO_LONG", &["limit", "tokens"], false, Some("texts[2]")),
    );
    check(
        &Error::InputTooLarge { field: field(), bytes: 600, limit: 512 },
        (invalid, "INPUT_TOO_LARGE", &["bytes", "limit"], false, Some("texts[2]")),
    );
    check(
        &Error::InvalidValue { field: field(), value: "7".to_owned(), allowed: "0".to_owned() },
        (invalid, "INVALID_VALUE", &["value"], false, Some("texts[2]")),
    );
    let cause = || "x".to_owned();
    check(
        &Error::BadConstraint { field: field(), cause: cause() },
        (invalid, "BAD_CONSTRAINT", &[], false, Some("texts[2]")),
    );
    check(
        &Error::BadChat { field: field(), model: "a/b".to_owned(), cause: cause() },
        (invalid, "BAD_CHAT", &["model"], false, Some("texts[2]")),
    );
    check(
        &Error::KvExhausted { tokens: 9, room: 8 },
        (Code::ResourceExhausted, "KV_EXHAUSTED", &["limit", "tokens"], false, None),
    );
    check(
        &Error::UnknownPrompt { model: "a/b".to_owned(), asked: "q".to_owned(), known: "none".to_owned() },
        (invalid, "UNKNOWN_PROMPT", &["model", "prompt"], false, Some("settings.prompt_name")),
    );
}

#[test]
fn unreadable_messages() {
    let limit = 9;
    let invalid = Code::InvalidArgument;
    let read = |code| undecodable(&Status::new(code, "bad"), limit);
    check(&read(Code::Internal), (invalid, "MALFORMED_MESSAGE", &[], false, None));
    for code in [Code::OutOfRange, Code::ResourceExhausted] {
        check(&read(code), (Code::OutOfRange, "MESSAGE_TOO_LARGE", &["limit"], false, None));
    }
    assert_eq!(read(Code::Cancelled), Error::Cancelled);
}

#[test]
fn model_faults() {
    let model = || "a/b".to_owned();
    check(
        &Error::UnknownModel { wanted: model(), known: "none".to_owned() },
        (Code::NotFound, "UNKNOWN_MODEL", &["model"], false, None),
    );
    check(
        &Error::WrongTask { model: model(), task: "embedding" },
        (Code::FailedPrecondition, "WRONG_TASK", &["model", "task"], false, None),
    );
    check(
        &Error::RevisionMismatch { model: model(), asked: "1".to_owned(), loaded: "2".to_owned() },
        (Code::FailedPrecondition, "REVISION_MISMATCH", &["asked", "loaded", "model"], false, None),
    );
    check(
        &Error::ModelFailed { model: model(), cause: "x".to_owned() },
        (Code::FailedPrecondition, "MODEL_FAILED", &["model"], false, None),
    );
    check(
        &Error::ModelUnloaded { model: model() },
        (Code::FailedPrecondition, "MODEL_UNLOADED", &["model"], false, None),
    );
    check(
        &Error::ModelLoading { model: model() },
        (Code::Unavailable, "MODEL_LOADING", &["model"], true, None),
    );
}

#[test]
fn callers() {
    let (client, retry_after) = (|| "lab".to_owned(), Duration::from_secs(3));
    check(
        &Error::Unauthenticated { given: true },
        (Code::Unauthenticated, "UNAUTHENTICATED", &[], false, None),
    );
    check(
        &Error::PermissionDenied { client: client() },
        (Code::PermissionDenied, "ADMIN_SCOPE_NEEDED", &["client"], false, None),
    );
    check(
        &Error::QuotaExceeded { client: client(), limit: 9, retry_after },
        (Code::ResourceExhausted, "QUOTA_EXCEEDED", &["client", "limit"], true, None),
    );
}

#[test]
fn server_states() {
    let retry_after = Duration::from_millis(250);
    let overloaded = Error::Overloaded { what: "queued tokens", used: 5, limit: 4, retry_after };
    check(&overloaded, (Code::ResourceExhausted, "OVERLOADED", &["limit", "used"], true, None));
    let status = to_status(&overloaded);
    assert_eq!(status.metadata().get("grpc-retry-pushback-ms").unwrap(), "250");
    assert_eq!(status.get_error_details().retry_info().unwrap().retry_delay, Some(retry_after));
    assert!(status.get_error_details().quota_failure().is_some());
    let late = Error::QueueTimeout { retry_after };
    check(&late, (Code::ResourceExhausted, "QUEUE_TIMEOUT", &[], true, None));
    let large = Error::AnswerTooLarge { bytes: 5, limit: 4 };
    check(&large, (Code::OutOfRange, "ANSWER_TOO_LARGE", &["bytes", "limit"], false, None));
    check(&Error::Draining, (Code::Unavailable, "DRAINING", &[], true, None));
    check(&Error::ExpiredInQueue, (Code::DeadlineExceeded, "EXPIRED_IN_QUEUE", &[], false, None));
    check(&Error::ExpiredRunning, (Code::DeadlineExceeded, "EXPIRED_RUNNING", &[], false, None));
    check(&Error::Cancelled, (Code::Cancelled, "CANCELLED", &[], false, None));
    check(&Error::Backend, (Code::Internal, "BACKEND", &[], false, None));
}
