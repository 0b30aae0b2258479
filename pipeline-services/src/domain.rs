//! Plain types of the domain; no I/O.

pub(crate) mod cluster;
pub(crate) mod posting;
pub(crate) mod run;
pub(crate) mod skill;
pub(crate) mod taxonomy;
