//! Faults in the middle of runs: each ends in the rows of an undisturbed run, or says what is
//! missing.
//!
//! Every trial has a database of its own, copied from one with the same advertisements, and
//! processes of its own with leases of two seconds. `OBSERVATORY_CHAOS=N` draws N kill points
//! instead of ten (`make chaos`).

#[path = "chaos/callers.rs"]
mod callers;
#[path = "chaos/crawls.rs"]
mod crawls;
#[path = "chaos/database.rs"]
mod database;
#[path = "chaos/encryption.rs"]
mod encryption;
#[path = "chaos/ground.rs"]
mod ground;
#[path = "chaos/inference.rs"]
mod inference;
#[path = "chaos/intake.rs"]
mod intake;
#[path = "chaos/proxy.rs"]
mod proxy;
#[path = "chaos/stopping.rs"]
mod stopping;
#[path = "chaos/workers.rs"]
mod workers;
