//! Plain types of the domain; no I/O.

pub mod cluster;
pub mod posting;
pub mod run;
pub mod skill;
pub mod taxonomy;
