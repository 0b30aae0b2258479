//! The simulated portals: what they serve is what the truth says, by readers that share no code
//! with them.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "simulator/client.rs"]
mod client;
#[path = "simulator/faults.rs"]
mod faults;
#[path = "simulator/generated.rs"]
mod generated;
#[path = "simulator/program.rs"]
mod program;
#[path = "simulator/served.rs"]
mod served;
