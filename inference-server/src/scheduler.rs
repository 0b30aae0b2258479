//! Admission, batching and execution of encoder work.
//!
//! [`admission`] bounds the work in the server and refuses the rest at once, [`batcher`] orders
//! rows fairly and packs them into batches, [`queue`] runs batches on the device and answers the
//! requests they belong to. Knows models by the trait [`crate::models::RowModel`] only.

pub(crate) mod admission;
pub(crate) mod batcher;
pub(crate) mod queue;
