//! What the server does for a caller, on plain types: neither gRPC nor HTTP is known here.

pub(crate) mod access;
pub(crate) mod embedding_cache;
