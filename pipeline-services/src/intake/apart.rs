//! Parsing and preparing of advertisements on threads where it holds up nothing else.
//!
//! Cleaning a long text takes too much time for a thread that serves calls. A panic while reading
//! becomes a refusal of that line, so that one text cannot end an import.

use std::sync::Arc;

use chrono::Utc;

use super::{Prepared, Refusal, parse, prepare};
use crate::reading;

/// Reads and prepares a line of an import.
///
/// # Errors
/// As [`parse`] and [`prepare`]; also when reading it panics.
pub(crate) async fn line(json: String, countries: &Arc<[String]>) -> Result<Prepared, Refusal> {
    let countries = Arc::clone(countries);
    let read =
        reading::apart(move || parse(&json).and_then(|posting| prepare(posting, &countries, Utc::now())))
            .await;
    read.unwrap_or_else(|panicked| super::refuse("line", panicked.to_string()))
}
