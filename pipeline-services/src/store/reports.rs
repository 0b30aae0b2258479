//! Reports and their files.
//!
//! A run has one report, and a new one replaces it with its files. The files themselves are the
//! reporter's; here are their names, sizes and checksums.

use sqlx::PgConnection;
use uuid::Uuid;

/// A file of a report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Artefact {
    /// File name inside the report's directory.
    pub name: String,
    /// `pdf`, `png`, `csv`, `html` or `json`.
    pub format: String,
    /// Size.
    pub bytes: i64,
    /// SHA-256, hexadecimal.
    pub sha256: String,
}

/// A report with its files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Report {
    /// Key.
    pub report_id: Uuid,
    /// Run it is about.
    pub run_id: Uuid,
    /// Directory that holds the files.
    pub directory: String,
    /// Files by name.
    pub artefacts: Vec<Artefact>,
}

/// Records the report of a run in place of an earlier one.
///
/// # Errors
/// If a statement fails.
pub(crate) async fn replace(
    connection: &mut PgConnection,
    run_id: Uuid,
    directory: &str,
    artefacts: &[Artefact],
) -> sqlx::Result<Uuid> {
    // The rows of its files go by the foreign key.
    sqlx::query!("delete from report where run_id = $1", run_id).execute(&mut *connection).await?;
    let report_id = sqlx::query_scalar!(
        "insert into report (run_id, directory) values ($1, $2) returning report_id",
        run_id,
        directory
    )
    .fetch_one(&mut *connection)
    .await?;
    for artefact in artefacts {
        sqlx::query!(
            "insert into artefact (report_id, name, format, bytes, sha256) values ($1, $2, $3, $4, $5)",
            report_id,
            artefact.name,
            artefact.format,
            artefact.bytes,
            artefact.sha256
        )
        .execute(&mut *connection)
        .await?;
    }
    Ok(report_id)
}

/// Reports, newest first; `after` is the id of the last one of the previous page.
///
/// # Errors
/// If a statement fails.
pub(crate) async fn list(
    connection: &mut PgConnection,
    run_id: Option<Uuid>,
    after: Option<Uuid>,
    limit: i64,
) -> sqlx::Result<Vec<Report>> {
    // By time and id: reports of one moment would be left out or listed twice by their time alone.
    let rows = sqlx::query!(
        "select report_id, run_id, directory from report
         where ($1::uuid is null or run_id = $1)
           and ($2::uuid is null or (created_at, report_id) < (
               select created_at, report_id from report where report_id = $2))
         order by created_at desc, report_id desc limit $3",
        run_id,
        after,
        limit
    )
    .fetch_all(&mut *connection)
    .await?;
    let mut reports = Vec::with_capacity(rows.len());
    for row in rows {
        let artefacts = artefacts(connection, row.report_id).await?;
        reports.push(Report {
            report_id: row.report_id,
            run_id: row.run_id,
            directory: row.directory,
            artefacts,
        });
    }
    Ok(reports)
}

/// One report.
///
/// # Errors
/// If a statement fails.
pub(crate) async fn get(connection: &mut PgConnection, report_id: Uuid) -> sqlx::Result<Option<Report>> {
    let row = sqlx::query!("select run_id, directory from report where report_id = $1", report_id)
        .fetch_optional(&mut *connection)
        .await?;
    let Some(row) = row else { return Ok(None) };
    let artefacts = artefacts(connection, report_id).await?;
    Ok(Some(Report { report_id, run_id: row.run_id, directory: row.directory, artefacts }))
}

async fn artefacts(connection: &mut PgConnection, report_id: Uuid) -> sqlx::Result<Vec<Artefact>> {
    sqlx::query_as!(
        Artefact,
        r#"select name, format, bytes, sha256::text as "sha256!" from artefact
           where report_id = $1 order by name"#,
        report_id
    )
    .fetch_all(connection)
    .await
}
