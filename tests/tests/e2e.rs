//! The real programs together: a stack of its own, advertisements in, skills, vectors, clusters and
//! a report out.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says so by panicking")]

#[path = "e2e/chaos.rs"]
mod chaos;
#[path = "e2e/credentials.rs"]
mod credentials;
#[path = "e2e/demo.rs"]
mod demo;
#[path = "e2e/encoder.rs"]
mod encoder;
#[path = "e2e/evaluation.rs"]
mod evaluation;
#[path = "e2e/import.rs"]
mod import;
#[path = "e2e/job.rs"]
mod job;
#[path = "e2e/mistakes.rs"]
mod mistakes;
#[path = "e2e/models.rs"]
mod models;
#[path = "e2e/operation.rs"]
mod operation;
#[path = "e2e/outputs.rs"]
mod outputs;
#[path = "e2e/portals.rs"]
mod portals;
#[path = "e2e/privileges.rs"]
mod privileges;
#[path = "e2e/review.rs"]
mod review;
#[path = "e2e/rollout.rs"]
mod rollout;
#[path = "e2e/schema.rs"]
mod schema;
#[path = "e2e/site.rs"]
mod site;
#[path = "e2e/survival.rs"]
mod survival;
#[path = "e2e/taxonomies.rs"]
mod taxonomies;
