//! Shared by the tests of the whole system: a simulator of job portals that tells the truth.
//!
//! | part | what it does |
//! |---|---|
//! | [`simulator`] | sites in the form of three portals, with faults and robots.txt on request |
//! | `portal-simulator` | the same as a program, which the demo starts |
//! | `tests/data` | advertisements written for this project, with every skill marked |
//!
//! It promises that a seed gives the same sites, and the simulator says what it printed (its
//! truth), so that a stored set can be compared field by field.
//!
//! The tests themselves are in `tests/tests`:
//!
//! | suite | what it checks |
//! |---|---|
//! | `tidy` | the rules of the tree: imports, owners, sizes, licences, advisories |
//! | `database` | what the store promises, on a real PostgreSQL |
//! | `simulator` | that the simulator prints what it says |
//! | `e2e` | the whole system, also under faults (`chaos`) |
//! | `chart` | that the chart renders to valid objects |
//! | `setup` | what `make` checks before it builds |
//!
//! Read on in `CONTRIBUTING.md`.

pub mod simulator;
