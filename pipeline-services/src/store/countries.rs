//! Countries and their partitions.
//!
//! A country is known by the migrations and accepted once it is enabled, which creates its
//! partition. Enabling twice does no harm.

use sqlx::PgConnection;

/// A country that postings may come from.
#[derive(Debug, Clone)]
pub(crate) struct Country {
    /// ISO 3166-1 alpha-2.
    pub code: String,
    /// Name in Spanish.
    pub name: String,
    /// IANA time zone.
    pub time_zone: String,
    /// ISO 4217.
    pub currency: String,
    /// True if postings of it are accepted.
    pub enabled: bool,
    /// Postings with a sighting there.
    pub postings: i64,
}

/// Every known country with its number of postings.
///
/// # Errors
/// If the statement fails.
pub(crate) async fn list(connection: &mut PgConnection) -> sqlx::Result<Vec<Country>> {
    // Distinct, since one posting may have several sightings in a country.
    sqlx::query_as!(
        Country,
        r#"select c.code, c.name, c.time_zone, c.currency, c.enabled,
               count(distinct s.job_id) as "postings!"
           from country c left join sighting s on s.country = c.code
           group by c.code order by c.code"#
    )
    .fetch_all(connection)
    .await
}

/// Codes of the countries whose postings are accepted.
///
/// # Errors
/// If the statement fails.
pub async fn enabled(connection: &mut PgConnection) -> sqlx::Result<Vec<String>> {
    sqlx::query_scalar!("select code from country where enabled order by code").fetch_all(connection).await
}

/// Creates the partition of a country and accepts its postings; does nothing when that was done.
///
/// # Errors
/// A foreign-key violation when the country is unknown.
pub async fn enable(connection: &mut PgConnection, code: &str) -> sqlx::Result<()> {
    sqlx::query!("select enable_country($1)", code).fetch_one(connection).await?;
    Ok(())
}
