//! Enums and small messages that several RPCs have in common, decoded.
//!
//! A number that the contract does not know is refused by name: guessing would answer something
//! else than was asked.

use std::time::Duration;

use observatory_proto::inference::v1 as pb;

use crate::error::Error;
use crate::scheduler::batcher::Priority;
use crate::service::ModelRef;
use crate::service::call::{CallContext, CallOptions};
use crate::text::tokenizer::Truncation;

/// Checks and records the options of a call, which stand in `field`.
///
/// # Errors
/// Names the option at fault.
pub(super) fn apply_options(
    context: &CallContext,
    options: Option<&pb::CallOptions>,
    field: &str,
) -> Result<(), Error> {
    let Some(options) = options else { return Ok(()) };
    let max_queue = Duration::from_millis(options.max_queue_ms.into());
    context.apply_options(CallOptions { request_id: options.request_id.clone(), max_queue }, field)
}

pub(super) fn model(model: Option<pb::ModelRef>) -> ModelRef {
    model.map_or_else(ModelRef::default, |model| ModelRef { name: model.name, revision: model.revision })
}

pub(super) fn truncation(value: i32) -> Result<Truncation, Error> {
    use pb::Truncation as Wire;
    match Wire::try_from(value) {
        Ok(Wire::Unspecified | Wire::Right) => Ok(Truncation::Right),
        Ok(Wire::Left) => Ok(Truncation::Left),
        Ok(Wire::Reject) => Ok(Truncation::Reject),
        Err(_) => Err(unknown_number("settings.truncation", value, "0 to 3 (see Truncation)")),
    }
}

pub(super) fn priority(value: i32) -> Result<Priority, Error> {
    match pb::Priority::try_from(value) {
        Ok(pb::Priority::Interactive) => Ok(Priority::Interactive),
        Ok(pb::Priority::Unspecified | pb::Priority::Bulk) => Ok(Priority::Bulk),
        Err(_) => Err(unknown_number("settings.priority", value, "0 to 2 (see Priority)")),
    }
}

pub(super) fn unknown_number(field: &str, value: i32, allowed: &str) -> Error {
    Error::InvalidValue { field: field.to_owned(), value: value.to_string(), allowed: allowed.to_owned() }
}
