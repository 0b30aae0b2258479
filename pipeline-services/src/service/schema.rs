//! Waits for the schema, and migrates it.
//!
//! A wait is logged at once and every ten seconds. Permanent errors end it immediately, and so does
//! a stop request.

use std::time::Duration;

use anyhow::{Result, bail};
use tokio::time::Instant;

use super::stopping::Signals;
use crate::{
    store::{self, PgPool, StoreError},
    telemetry::chain,
};

/// Pause between two looks at the schema. Not tuned: unnoticed by a person and cheap for a server.
const LOOK: Duration = Duration::from_millis(500);

/// Time between two lines about the same wait. Not tuned: a line or two for the usual wait, and few
/// enough not to fill a log.
const SAID: Duration = Duration::from_secs(10);

/// Waits until the schema is at least `needed`, for at most `patience`.
///
/// # Errors
/// With the last reason when the time is over, at once where waiting does not help, and if the
/// process is asked to stop.
pub(super) async fn wait(
    pool: &PgPool,
    needed: i64,
    patience: Duration,
    signals: &mut Signals,
) -> Result<()> {
    let started = Instant::now();
    let mut said: Option<Instant> = None;
    loop {
        let error = match signals.or_stop(store::require_schema(pool, needed)).await? {
            Ok(()) => return Ok(()),
            Err(error) => error,
        };
        if !error.may_pass() || started.elapsed() >= patience {
            return Err(flatten(error));
        }
        if said.is_none_or(|said| said.elapsed() >= SAID) {
            said = Some(Instant::now());
            tracing::warn!(
                reason = chain(&error),
                waited_seconds = started.elapsed().as_secs(),
                "waiting for the database"
            );
        }
        signals.or_stop(tokio::time::sleep(LOOK)).await?;
    }
}

/// Migrates, and returns the version of the schema.
///
/// # Errors
/// As [`store::migrate`], and if the process is asked to stop; the migration under way is rolled
/// back then.
pub(super) async fn migrate(pool: &PgPool, signals: &mut Signals) -> Result<i64> {
    let started = Instant::now();
    let migrating = store::migrate(pool);
    tokio::pin!(migrating);
    // Its first tick comes at once.
    let mut line = tokio::time::interval(SAID);
    loop {
        tokio::select! {
            migrated = &mut migrating => return migrated.map_err(flatten),
            _ = line.tick() => tracing::info!(
                waited_seconds = started.elapsed().as_secs(),
                "migrating the schema, or waiting for the migrator that holds its lock"
            ),
            () = signals.next() => bail!("asked to stop before the schema was migrated"),
        }
    }
}

/// A store error with its cause on one line.
fn flatten(error: StoreError) -> anyhow::Error {
    anyhow::anyhow!(chain(&error))
}
