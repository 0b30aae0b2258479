//! Parsing and preparing of advertisements on threads where it holds up nothing else.

use std::sync::Arc;

use chrono::Utc;

use super::{Prepared, Refusal, parse, prepare};
use crate::{
    domain::posting::NewPosting,
    reading::{self, Panicked},
};

/// Reads and prepares a line of an import.
///
/// # Errors
/// As [`parse`] and [`prepare`]; also when reading it panics.
pub async fn line(json: String, countries: &Arc<[String]>) -> Result<Prepared, Refusal> {
    let countries = Arc::clone(countries);
    let read = move || parse(&json).and_then(|posting| prepare(posting, &countries, Utc::now()));
    settled(reading::apart(read).await)
}

/// Prepares an advertisement that a crawl found.
///
/// # Errors
/// As [`prepare`]; also when it panics.
pub async fn posting(raw: NewPosting, countries: &Arc<[String]>) -> Result<Prepared, Refusal> {
    let countries = Arc::clone(countries);
    settled(reading::apart(move || prepare(raw, &countries, Utc::now())).await)
}

fn settled(read: Result<Result<Prepared, Refusal>, Panicked>) -> Result<Prepared, Refusal> {
    read.unwrap_or_else(|panicked| super::refuse("line", panicked.to_string()))
}
