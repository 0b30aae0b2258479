//! What the device computes next, and what is not let in at all.
//!
//! [`admission`] bounds the work in the server, [`batcher`] orders rows fairly and packs them into
//! batches, [`queue`] hands batches to the device and answers to their requests.

pub(crate) mod admission;
pub(crate) mod batcher;
pub(crate) mod queue;
