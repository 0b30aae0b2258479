//! The store, the queue and the item pipeline on a real PostgreSQL.
//!
//! `scripts/with-postgres` gives `DATABASE_URL`; each test gets a database of its own with every
//! migration run.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says so by panicking")]

#[path = "database/collection.rs"]
mod collection;
#[path = "database/exports.rs"]
mod exports;
#[path = "database/intake.rs"]
mod intake;
#[path = "database/occupations.rs"]
mod occupations;
#[path = "database/privacy.rs"]
mod privacy;
#[path = "database/queue.rs"]
mod queue;
#[path = "database/reports.rs"]
mod reports;
#[path = "database/roles.rs"]
mod roles;
#[path = "database/runs.rs"]
mod runs;
#[path = "database/schema.rs"]
mod schema;
#[path = "database/support.rs"]
mod support;
