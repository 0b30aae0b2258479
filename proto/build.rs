//! Compiles the contract without protoc and writes the descriptor set that reflection serves.
//!
//! A pure-Rust compiler reads the `.proto` files, so that a build needs no tool outside Cargo.

use std::{env, error::Error, fs, path::PathBuf};

/// The contract; a new file has to be added here.
const PROTOS: [&str; 9] = [
    "observatory/inference/v1/classification.proto",
    "observatory/inference/v1/embedding.proto",
    "observatory/inference/v1/generation.proto",
    "observatory/inference/v1/models.proto",
    "observatory/inference/v1/ranking.proto",
    "observatory/inference/v1/tokenization.proto",
    "observatory/pipeline/v1/orchestrator.proto",
    "observatory/pipeline/v1/review.proto",
    "observatory/pipeline/v1/services.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=observatory");
    let descriptors = protox::compile(PROTOS, ["."])?;
    let path = PathBuf::from(env::var("OUT_DIR")?).join("descriptors.bin");
    fs::write(&path, prost::Message::encode_to_vec(&descriptors))?;
    tonic_prost_build::configure().compile_fds(descriptors)?;
    Ok(())
}
