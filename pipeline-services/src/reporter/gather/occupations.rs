//! Occupations of the postings in scope.
//!
//! The first ones come with titles that they were read from, as the first skills come with
//! sentences; every posting in scope is in one of the counts.

use std::collections::HashMap;

use super::{QUOTES, size};
use crate::{
    reporter::document::{CharSpan, OccupationRow, OccupationSection, Quote},
    store::{
        PgConnection, SqlResult,
        occupations::{self, Titled},
        runs::Scope,
    },
};

/// Occupations whose titles are shown: as many as the chart has.
const SHOWN_OCCUPATIONS: usize = 15;

/// The occupations of the postings in scope.
///
/// # Errors
/// If a statement fails.
pub(super) async fn section(connection: &mut PgConnection, scope: &Scope) -> SqlResult<OccupationSection> {
    let rows = occupations::figures(connection, scope).await?;
    let shown = &rows[..rows.len().min(SHOWN_OCCUPATIONS)];
    let mut titles: HashMap<i64, Vec<Quote>> = HashMap::new();
    for titled in occupations::titles(connection, scope, shown, QUOTES).await? {
        titles.entry(titled.place).or_default().push(quote(titled));
    }
    let rows = rows.into_iter().zip(1..).map(|(row, place)| OccupationRow {
        label: row.label,
        uri: row.uri,
        isco: row.isco,
        cuoc: row.cuoc,
        job_count: size(row.job_count),
        titles: titles.remove(&place).unwrap_or_default(),
    });
    let rows = rows.collect();
    Ok(OccupationSection { rows, without: size(occupations::without(connection, scope).await?) })
}

/// The whole title: it is what the occupation was read from.
fn quote(titled: Titled) -> Quote {
    Quote {
        job_id: titled.job_id.to_string(),
        portal: titled.portal,
        country: titled.country,
        url: Some(titled.url),
        published: titled.posted_date,
        field: "title".to_owned(),
        span: Some(CharSpan { start: 0, end: titled.title.chars().count() as u64 }),
        before: String::new(),
        surface: titled.title,
        after: String::new(),
        method: vec!["rule".to_owned()],
        confidence: titled.score,
    }
}
