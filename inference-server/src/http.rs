//! HTTP: OpenAI's API, and health probes for orchestrators that cannot probe over gRPC.
//!
//! `openai` calls `service` and `probes` calls `health`, as `grpc` does: both transports give equal
//! answers.

pub(crate) mod openai;
pub(crate) mod probes;
