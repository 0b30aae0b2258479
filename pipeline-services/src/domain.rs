//! Plain types of the domain; no I/O.
//!
//! Nothing here knows SQL, gRPC or a file; everything else may depend on these types, and they on
//! nothing but each other.

pub(crate) mod cluster;
pub(crate) mod enhancement;
pub(crate) mod posting;
pub(crate) mod run;
pub(crate) mod skill;
pub(crate) mod taxonomy;
pub(crate) mod verdict;
