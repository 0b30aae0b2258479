//! Portals on which something was seen.
//!
//! They become known with their first sighting or import; nothing here writes them.

use sqlx::PgConnection;

/// Their names.
///
/// # Errors
/// If the statement fails.
pub(crate) async fn names(connection: &mut PgConnection) -> sqlx::Result<Vec<String>> {
    sqlx::query_scalar!("select name from portal order by name").fetch_all(connection).await
}
