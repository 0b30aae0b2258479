//! Errors of the service in the form of OpenAI's API.
//!
//! Status codes follow `google.rpc`'s table from canonical codes to HTTP; fields are named as the
//! caller knows them.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::fields::Fault;
use crate::error::{Code, Error};

/// Why a request was refused.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Refusal {
    pub(super) error: Error,
    /// Path of the field at fault, as the service names it.
    pub(super) field: Option<String>,
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self { field: error.field().map(str::to_owned), error }
    }
}

impl Refusal {
    /// The same refusal where the caller's name of a field is another one.
    pub(super) fn with_field(self, service: &str, caller: &str) -> Self {
        Self { field: self.field.map(|field| field.replace(service, caller)), ..self }
    }

    /// Status and body.
    pub(super) fn body(&self) -> (StatusCode, Value) {
        let param = self.field.as_deref().map(param);
        let code = match self.error.reason() {
            "UNKNOWN_MODEL" => "model_not_found".to_owned(),
            // OpenAI's codes where its clients know one, so that their own retries work.
            "OVERLOADED" | "QUOTA_EXCEEDED" => "rate_limit_exceeded".to_owned(),
            "UNAUTHENTICATED" => "invalid_api_key".to_owned(),
            reason => reason.to_lowercase(),
        };
        let status = http_status(self.error.code());
        (status, error_body(status, &self.error.to_string(), param.as_deref(), &code))
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let (status, body) = self.body();
        let mut response = respond(status, &body);
        if let Some(delay) = self.error.retry_after().filter(|delay| delay.as_millis() > 0) {
            let millis = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
            let headers = response.headers_mut();
            // Whole seconds by RFC 9110, rounded up: a retry that comes early is refused again.
            headers.insert(header::RETRY_AFTER, HeaderValue::from(millis.div_ceil(1_000)));
            // What OpenAI's own clients look at first.
            headers.insert("retry-after-ms", HeaderValue::from(millis));
        }
        response
    }
}

impl IntoResponse for Fault {
    fn into_response(self) -> Response {
        failure(StatusCode::BAD_REQUEST, &self.message, self.param.as_deref(), self.code)
    }
}

/// The HTTP status for a canonical code, as in google.rpc's `code.proto`.
pub(super) fn http_status(code: Code) -> StatusCode {
    match code {
        Code::InvalidArgument | Code::FailedPrecondition | Code::OutOfRange => StatusCode::BAD_REQUEST,
        Code::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
        Code::NotFound => StatusCode::NOT_FOUND,
        Code::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
        Code::Unauthenticated => StatusCode::UNAUTHORIZED,
        Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Code::PermissionDenied => StatusCode::FORBIDDEN,
        Code::Cancelled | Code::Internal => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// The canonical gRPC code for an HTTP status, as in google.rpc's `code.proto`; where several have
/// one status, the one that the server gives most.
pub(super) fn grpc_code(status: StatusCode) -> &'static str {
    match status {
        StatusCode::UNAUTHORIZED => "UNAUTHENTICATED",
        StatusCode::NOT_FOUND => "NOT_FOUND",
        StatusCode::METHOD_NOT_ALLOWED => "UNIMPLEMENTED",
        StatusCode::PAYLOAD_TOO_LARGE | StatusCode::TOO_MANY_REQUESTS => "RESOURCE_EXHAUSTED",
        StatusCode::SERVICE_UNAVAILABLE => "UNAVAILABLE",
        StatusCode::GATEWAY_TIMEOUT | StatusCode::REQUEST_TIMEOUT => "DEADLINE_EXCEEDED",
        status if status.is_success() => "OK",
        status if status.is_client_error() => "INVALID_ARGUMENT",
        _ => "INTERNAL",
    }
}

/// A field of the contract by its name in OpenAI's API.
fn param(field: &str) -> String {
    let mut name = field.to_owned();
    for group in ["settings.", "sampling.", "limits.", "prompt.chat."] {
        name = name.strip_prefix(group).map_or(name.clone(), str::to_owned);
    }
    let renamed =
        [("texts", "input"), ("max_new_tokens", "max_tokens"), ("constraint.json_schema", "response_format")];
    renamed.into_iter().fold(name, |name, (ours, theirs)| name.replace(ours, theirs))
}

/// A response that the service never saw.
pub(super) fn failure(status: StatusCode, message: &str, param: Option<&str>, code: &str) -> Response {
    respond(status, &error_body(status, message, param, code))
}

fn error_body(status: StatusCode, message: &str, param: Option<&str>, code: &str) -> Value {
    let kind = match status {
        StatusCode::TOO_MANY_REQUESTS => "rate_limit_error",
        StatusCode::FORBIDDEN => "permission_error",
        StatusCode::UNAUTHORIZED => "authentication_error",
        status if status.is_server_error() => "server_error",
        _ => "invalid_request_error",
    };
    json!({"error": {"message": message, "type": kind, "param": param, "code": code}})
}

/// A JSON response.
pub(super) fn respond(status: StatusCode, body: &Value) -> Response {
    (status, [(header::CONTENT_TYPE, "application/json")], body.to_string()).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_have_openais_names() {
        let check = |field: &str, expected: &str| assert_eq!(param(field), expected);
        check("texts[1]", "input[1]");
        check("settings.dimensions", "dimensions");
        check("settings.sampling.top_p", "top_p");
        check("settings.limits.max_new_tokens", "max_tokens");
        check("settings.constraint.json_schema", "response_format");
        check("prompt.chat.messages[0].content", "messages[0].content");
    }

    #[test]
    fn codes_become_statuses_and_back() {
        let check = |code: Code, status: u16, name: &str| {
            assert_eq!(http_status(code).as_u16(), status);
            assert_eq!(grpc_code(http_status(code)), name);
        };
        check(Code::InvalidArgument, 400, "INVALID_ARGUMENT");
        check(Code::DeadlineExceeded, 504, "DEADLINE_EXCEEDED");
        check(Code::NotFound, 404, "NOT_FOUND");
        check(Code::ResourceExhausted, 429, "RESOURCE_EXHAUSTED");
        check(Code::Internal, 500, "INTERNAL");
        check(Code::Unavailable, 503, "UNAVAILABLE");
        check(Code::Unauthenticated, 401, "UNAUTHENTICATED");
        for code in [Code::FailedPrecondition, Code::OutOfRange] {
            assert_eq!(http_status(code), StatusCode::BAD_REQUEST);
        }
        assert_eq!(grpc_code(StatusCode::OK), "OK");
    }
}
