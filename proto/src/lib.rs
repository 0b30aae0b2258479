//! The gRPC contract of the Labor Market Observatory and nothing else.
//!
//! Generated from the `.proto` files in `proto/observatory`; no hand-written types, no logic.
//!
//! | module | services |
//! |---|---|
//! | [`inference::v1`] | embeddings, token classification, ranking, tokenization, generation, models |
//! | [`pipeline::v1`] | runs, stages, postings, taxonomies, skills, reports, exports, privacy |
//! | [`FILE_DESCRIPTOR_SET`] | all of it, for server reflection |
//!
//! A field, enum value or method that was published never changes its name, number or type
//! (`proto/published.txt`, checked by `proto/tests/compatible.rs`). It compiles without protoc.
//!
//! Read on in the comments of the `.proto` files, `observatory_client` (how to call),
//! `observatory_server` (how to serve), and `ARCHITECTURE.md` ("How to add: an RPC").

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
