//! The gRPC contract of the Labor Market Observatory and nothing else.
//!
//! Generated from the `.proto` files beside this crate; no hand-written types, no logic.

#![allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic)]

/// Embeddings, classification, ranking and text generation.
pub mod inference {
    /// Version 1.
    pub mod v1 {
        tonic::include_proto!("observatory.inference.v1");
    }
}

/// Runs, postings, taxonomy, skills and reports.
pub mod pipeline {
    /// Version 1.
    pub mod v1 {
        tonic::include_proto!("observatory.pipeline.v1");
    }
}

/// Encoded `FileDescriptorSet` of every proto above, for server reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
