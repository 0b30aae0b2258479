//! All SQL of the pipeline: free functions on a connection, one file per aggregate.
//!
//! Nothing outside of this module names sqlx or pgvector. Texts of rows that stand for a closed
//! list become types here, and an unknown one is an error that names its column.

pub(crate) mod analyses;
pub(crate) mod countries;
pub(crate) mod embeddings;
pub(crate) mod evidence;
pub(crate) mod exports;
pub(crate) mod figures;
pub(crate) mod label_vectors;
pub(crate) mod occupations;
pub(crate) mod portals;
pub(crate) mod postings;
pub(crate) mod reports;
pub(crate) mod runs;
pub(crate) mod scrubs;
pub(crate) mod skills;
pub(crate) mod tasks;
pub(crate) mod taxonomies;
pub(crate) mod verdicts;
pub(crate) mod visits;

use std::time::Duration;

use sqlx::{
    ConnectOptions, Postgres, Transaction,
    migrate::Migrator,
    postgres::{PgConnectOptions, PgPoolOptions},
};
pub(crate) use sqlx::{Connection, Error as SqlError, PgConnection};
pub use sqlx::{PgPool, Result as SqlResult, postgres::PgListener};

/// Migrations built into the binary.
pub(crate) static MIGRATOR: Migrator = sqlx::migrate!("../migrations");

/// Oldest major version of PostgreSQL: scripts/with-postgres runs the tests on 16 and on 18.
const OLDEST_SERVER: i32 = 16;

/// Oldest pgvector: 0.8 brought the iterative scans that the search by meaning needs.
const OLDEST_PGVECTOR: (u32, u32) = (0, 8);

/// Reason for which the store cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The URL is not a PostgreSQL URL.
    #[error("database url is not valid: expected postgres://USER:PASSWORD@HOST:PORT/DATABASE")]
    Url,
    /// PostgreSQL does not answer or refuses.
    #[error("database is not reachable")]
    Unreachable(#[source] sqlx::Error),
    /// A statement failed.
    #[error("database statement failed")]
    Statement(#[from] sqlx::Error),
    /// A migration failed; nothing of it remains.
    #[error("migration failed")]
    Migration(#[from] sqlx::migrate::MigrateError),
    /// The schema is older than this binary needs.
    #[error(
        "database schema is at version {found}, this binary needs {needed}; run `pipeline-services migrate`"
    )]
    SchemaTooOld {
        /// Version found, 0 for an empty database.
        found: i64,
        /// Version needed.
        needed: i64,
    },
    /// The server is older than any that is tested.
    #[error("the database server is PostgreSQL {0}; use PostgreSQL 16 to 18")]
    ServerTooOld(String),
    /// The extension cannot be installed.
    #[error(
        "the PostgreSQL {0} server has no pgvector; install pgvector 0.8 or newer on the database server (Debian, Ubuntu: \
         apt-get install postgresql-{1}-pgvector)"
    )]
    NoPgvector(String, i32),
    /// The extension is not installed, and the login may not do it.
    #[error(
        "pgvector is not installed in the database {0}, and {1} may not install it; let an administrator run `create extension \
         vector` in that database and migrate again"
    )]
    PgvectorNotAllowed(String, String),
    /// pgvector is older than is safe.
    #[error("pgvector {0} is too old; 0.8 or newer is needed")]
    PgvectorTooOld(String),
}

impl StoreError {
    /// Returns whether waiting can mend it: a server that starts, a schema under migration. A wrong
    /// password, an unknown database or a certificate that nobody trusts stay as they are.
    pub(crate) fn may_pass(&self) -> bool {
        match self {
            Self::SchemaTooOld { .. } => true,
            // By rustls, of a certificate or a handshake; sqlx hands them on as they are.
            Self::Unreachable(sqlx::Error::Io(error)) => error.kind() != std::io::ErrorKind::InvalidData,
            Self::Unreachable(error) | Self::Statement(error) => is_transient(error),
            _ => false,
        }
    }
}

/// Reads a text of a row as one of the values that its column may hold.
///
/// # Errors
/// If it is none of them; the error names the column.
fn text<T>(text: &str) -> sqlx::Result<T>
where
    T: std::str::FromStr,
    T::Err: std::error::Error + Send + Sync + 'static,
{
    text.parse().map_err(|error| sqlx::Error::Decode(Box::new(error)))
}

/// Returns whether a failed statement may succeed when it is repeated: connection trouble,
/// shutdown, lock or serialisation conflicts, a full disk, a transaction that was given up while
/// its process slept.
pub fn is_transient(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_) | sqlx::Error::PoolTimedOut | sqlx::Error::Protocol(_) => true,
        sqlx::Error::Database(database) => database.code().is_some_and(|code| {
            // Appendix A of PostgreSQL's manual names the classes; 25P03 is that of
            // idle_in_transaction_session_timeout.
            code == "25P03" || matches!(&code[..2], "08" | "40" | "53" | "55" | "57" | "58")
        }),
        _ => false,
    }
}

/// Returns whether the statement only met another one at the same rows.
pub(crate) fn is_conflict(error: &sqlx::Error) -> bool {
    error.as_database_error().and_then(|database| database.code()).is_some_and(|code| code.starts_with("40"))
}

/// Reason for which the database takes no more rows, where that is what it says.
pub(crate) fn refused_write(error: &sqlx::Error) -> Option<&'static str> {
    match error.as_database_error()?.code()?.as_ref() {
        "53100" => Some("the database refuses to write: its disk is full; free some space and try again"),
        "25006" => Some("the database refuses to write: it is read-only"),
        _ => None,
    }
}

/// Shortest time after which a transaction that waits for its process is given up. Not tuned: a
/// busy machine may let one wait for seconds.
const SHORTEST_IDLE: Duration = Duration::from_secs(5);

/// Opens a pool of at most `connections`; does not connect yet. A transaction whose process does
/// nothing for as long as a `lease` is ended by the server, so that a process that was stopped
/// keeps no row from those who took over its work.
///
/// # Errors
/// If the URL cannot be parsed.
pub fn open(url: &str, connections: u32, lease: Duration) -> Result<PgPool, StoreError> {
    // sqlx takes an address of any scheme.
    if !url.starts_with("postgres://") && !url.starts_with("postgresql://") {
        return Err(StoreError::Url);
    }
    let options: PgConnectOptions = url.parse().map_err(|_| StoreError::Url)?;
    let options = options
        .application_name("observatory")
        .log_statements(tracing::log::LevelFilter::Trace)
        .log_slow_statements(tracing::log::LevelFilter::Warn, Duration::from_secs(5));
    Ok(PgPoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(Duration::from_secs(30))
        .max_lifetime(Duration::from_secs(3600))
        .after_connect(move |connection, _| Box::pin(give_up_idle_transactions(connection, lease)))
        .connect_lazy_with(options))
}

async fn give_up_idle_transactions(connection: &mut PgConnection, lease: Duration) -> SqlResult<()> {
    let limit = format!("{} ms", lease.max(SHORTEST_IDLE).as_millis());
    // `set` takes no parameters; `false` makes it last for the session instead of the transaction.
    sqlx::query("select set_config('idle_in_transaction_session_timeout', $1, false)")
        .bind(limit)
        .execute(connection)
        .await
        .map(drop)
}

/// Begins a transaction whose statements all see what was stored when it began.
///
/// # Errors
/// If the statement fails.
pub(crate) async fn begin_view(connection: &mut PgConnection) -> SqlResult<Transaction<'_, Postgres>> {
    connection.begin_with("begin isolation level repeatable read, read only").await
}

/// Time in which a server answers a connection, or is taken to be away: a network that drops
/// packets says nothing for minutes. Not tuned: far above a handshake of TLS across an ocean.
const CONNECT: Duration = Duration::from_secs(10);

/// A connection of its own, at once or with the reason why not: a pool would go on trying.
async fn reach(pool: &PgPool) -> Result<PgConnection, StoreError> {
    let options = pool.connect_options();
    let connected = match tokio::time::timeout(CONNECT, PgConnection::connect_with(&options)).await {
        Ok(connected) => connected,
        Err(_) => Err(sqlx::Error::Io(std::io::ErrorKind::TimedOut.into())),
    };
    connected.map_err(StoreError::Unreachable)
}

/// Brings the schema to this binary's version and returns the version; two migrators at once are
/// serialised by an advisory lock. A newer schema is left as it is: it serves an older program too,
/// which a rollback brings back. A schema of `obs_owner` is changed as `obs_owner`, so that each of
/// its members may do so next time.
///
/// # Errors
/// If the database is not reachable, a migration fails, or pgvector is older than 0.8 or missing
/// and may not be installed.
pub async fn migrate(pool: &PgPool) -> Result<i64, StoreError> {
    // Not one of the pool, with which a `set role` would stay.
    let mut connection = reach(pool).await?;
    check_server(&mut connection).await?;
    let (found, known) = (schema_version(&mut connection).await?, needed_schema_version());
    // Before the first write: an older program must not change a newer database.
    if found > known {
        tracing::warn!(schema.found = found, schema.known = known, "a newer schema: nothing to do");
        return Ok(found);
    }
    install_pgvector(&mut connection).await?;
    become_owner(&mut connection).await?;
    // Before the migrations, which would fail with the server's words: the type `vector` is in
    // them.
    MIGRATOR.run(&mut connection).await?;
    let version = pgvector_version(&mut connection).await?;
    if !pgvector_is_supported(&version) {
        return Err(StoreError::PgvectorTooOld(version));
    }
    schema_version(&mut connection).await
}

/// Installs pgvector as the login itself, which may be allowed what `obs_owner` is not.
async fn install_pgvector(connection: &mut PgConnection) -> Result<(), StoreError> {
    if !pgvector_version(&mut *connection).await?.is_empty() {
        return Ok(());
    }
    let installed = sqlx::query("create extension if not exists vector").execute(&mut *connection).await;
    let Err(error) = installed else { return Ok(()) };
    // Another migrator may have been faster.
    if !pgvector_version(&mut *connection).await?.is_empty() {
        return Ok(());
    }
    // 42501 is insufficient privilege, the one failure that an administrator can mend by one
    // statement.
    if error.as_database_error().and_then(|error| error.code()).is_none_or(|code| code != "42501") {
        return Err(error.into());
    }
    let (database, user) =
        sqlx::query_as("select current_database()::text, current_user::text").fetch_one(connection).await?;
    Err(StoreError::PgvectorNotAllowed(database, user))
}

/// Acts as `obs_owner` where the tables are that role's, or will be because the database is.
async fn become_owner(connection: &mut PgConnection) -> Result<(), StoreError> {
    // `SET`, not `MEMBER`: since PostgreSQL 16 a membership can come without the right to `set
    // role`.
    let owned: bool = sqlx::query_scalar(
        "select exists (
             select from pg_roles r
             where r.rolname = 'obs_owner' and pg_has_role(r.oid, 'SET')
                 and r.oid = coalesce(
                     (select relowner from pg_class where oid = to_regclass('_sqlx_migrations')),
                     (select datdba from pg_database where datname = current_database())))",
    )
    .fetch_one(&mut *connection)
    .await?;
    if owned {
        sqlx::query("set role obs_owner").execute(connection).await?;
    }
    Ok(())
}

/// Checks that the migrations can run at all: their own words for it are the server's.
async fn check_server(connection: &mut PgConnection) -> Result<(), StoreError> {
    let (number, version, vector): (i32, String, Option<String>) = sqlx::query_as(
        "select current_setting('server_version_num')::integer, current_setting('server_version'),
             coalesce((select extversion from pg_extension where extname = 'vector'),
                 (select default_version from pg_available_extensions where name = 'vector'))",
    )
    .fetch_one(connection)
    .await?;
    judge_server(number / 10_000, version, vector)
}

fn judge_server(major: i32, version: String, vector: Option<String>) -> Result<(), StoreError> {
    match vector {
        _ if major < OLDEST_SERVER => Err(StoreError::ServerTooOld(version)),
        None => Err(StoreError::NoPgvector(version, major)),
        Some(vector) if !pgvector_is_supported(&vector) => Err(StoreError::PgvectorTooOld(vector)),
        Some(_) => Ok(()),
    }
}

/// Newest version in `MIGRATOR`.
pub fn needed_schema_version() -> i64 {
    MIGRATOR.iter().map(|migration| migration.version).max().unwrap_or(0)
}

/// Version of the database's schema; 0 when it was never migrated.
///
/// # Errors
/// If the database is not reachable.
pub async fn schema_version(connection: &mut PgConnection) -> Result<i64, StoreError> {
    // Null where the table is missing, which in the query below would be an error.
    let migrated: bool = sqlx::query_scalar("select to_regclass('_sqlx_migrations') is not null")
        .fetch_one(&mut *connection)
        .await
        .map_err(StoreError::Unreachable)?;
    if !migrated {
        return Ok(0);
    }
    let version: Option<i64> = sqlx::query_scalar("select max(version) from _sqlx_migrations where success")
        .fetch_one(connection)
        .await?;
    Ok(version.unwrap_or(0))
}

/// Checks that the schema is at least `needed`.
///
/// # Errors
/// `StoreError::SchemaTooOld` when it is not.
pub async fn require_schema(pool: &PgPool, needed: i64) -> Result<(), StoreError> {
    let mut connection = reach(pool).await?;
    let found = schema_version(&mut connection).await?;
    if found < needed { Err(StoreError::SchemaTooOld { found, needed }) } else { Ok(()) }
}

/// Version of the pgvector extension in this database.
///
/// # Errors
/// If the statement fails.
pub(crate) async fn pgvector_version(connection: &mut PgConnection) -> Result<String, StoreError> {
    let version = sqlx::query_scalar!("select extversion from pg_extension where extname = 'vector'")
        .fetch_optional(connection)
        .await?;
    Ok(version.unwrap_or_default())
}

fn pgvector_is_supported(version: &str) -> bool {
    let mut parts = version.split('.').map(|part| part.parse::<u32>().unwrap_or(0));
    (parts.next().unwrap_or(0), parts.next().unwrap_or(0)) >= OLDEST_PGVECTOR
}

/// A page of a listing: at most `size` rows after `after`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Page<T> {
    /// Key of the last row of the previous page.
    pub after: Option<T>,
    /// Number of rows wanted.
    pub size: i64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pgvector_versions() {
        let check = |version, expected| assert_eq!(pgvector_is_supported(version), expected, "{version}");
        check("0.8.5", true);
        check("0.10.0", true);
        check("1.0", true);
        check("0.7.4", false);
        check("", false);
    }

    #[test]
    fn servers_are_judged_before_a_migration() {
        let check = |major, vector: Option<&str>, expected: &str| {
            let judged = judge_server(major, format!("{major}.4"), vector.map(str::to_owned));
            let told = judged.err().map(|error| error.to_string()).unwrap_or_default();
            assert!(told.starts_with(expected) && told.is_empty() == expected.is_empty(), "{told}");
        };
        check(18, Some("0.8.5"), "");
        check(15, Some("0.8.5"), "the database server is PostgreSQL 15.4; use PostgreSQL 16 to 18");
        check(15, None, "the database server is PostgreSQL 15.4");
        check(17, None, "the PostgreSQL 17.4 server has no pgvector; install pgvector 0.8 or newer");
        check(17, None, "the PostgreSQL 17.4 server has no pgvector");
        check(17, Some("0.5.1"), "pgvector 0.5.1 is too old");
    }

    #[test]
    fn bad_url_is_refused() {
        assert!(matches!(open("mysql://x", 1, Duration::ZERO), Err(StoreError::Url)));
    }
}
