//! The HTTP doors: OpenAI's API, and probes of health for whoever speaks no gRPC.

pub(crate) mod openai;
pub(crate) mod probes;
