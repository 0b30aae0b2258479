//! The similarity of some texts: asks an inference server for their vectors and prints the cosine
//! of each pair.
//!
//! ```sh
//! inference-server --models-dir MODELS --listen 127.0.0.1:50051      # in another terminal
//! cargo run -p observatory-client --example embed -- --endpoint http://127.0.0.1:50051 \
//!     "data analyst" "analista de datos" "welder"
//! ```
//!
//! An address that begins with `https://`, a token and certificates work as in our own programs;
//! see `--help`.

use std::error::Error;

use clap::Parser;
use observatory_client::Credentials;
use observatory_proto::inference::v1 as pb;
use pb::embedding_service_client::EmbeddingServiceClient;

#[derive(Parser)]
#[command(about = "How alike some texts are, by the vectors of an inference server")]
struct Args {
    /// Address of the inference server.
    #[arg(long, env = "OBSERVATORY_INFERENCE", default_value = "http://127.0.0.1:50051", value_name = "URL")]
    endpoint: String,
    /// Model to ask; the server's default model unless given.
    #[arg(long)]
    model: Option<String>,
    /// Token and certificates, by the flags that our own programs have.
    #[command(flatten)]
    credentials: Credentials,
    /// The texts.
    #[arg(required = true, value_name = "TEXT")]
    texts: Vec<String>,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let args = Args::parse();
    // 1. Connect. The credentials are checked before anything is sent, and a token is shown with
    //    every call.
    let connection = args.credentials.server(&args.endpoint)?.connect().await?;
    let mut service = EmbeddingServiceClient::new(connection);

    // 2. Ask. All texts go in one call: the server forms its batches itself. Without settings the
    //    model's own defaults hold; here the vectors have length one, so that a cosine is a plain
    //    sum of products.
    let settings = pb::EmbedSettings {
        model: args.model.map(|name| pb::ModelRef { name, revision: String::new() }),
        normalize: Some(true),
        ..pb::EmbedSettings::default()
    };
    let request = pb::EmbedRequest { settings: Some(settings), texts: args.texts.clone() };
    let answer = service.embed(request).await?.into_inner();

    // 3. Look at each text. One that is empty, say, fails alone, and the others have their vectors.
    for (text, item) in args.texts.iter().zip(&answer.items) {
        if let Some(error) = &item.error {
            eprintln!("{text:?}: {}", error.message);
        }
    }

    print_table(&args.texts, &vectors(&answer));
    Ok(())
}

/// The rows of the answer: little-endian numbers of four bytes, text after text. That of a failed
/// text is all zeros.
fn vectors(answer: &pb::EmbedResponse) -> Vec<Vec<f32>> {
    let numbers: Vec<f32> =
        answer.vectors.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
    numbers.chunks(answer.dimensions.max(1) as usize).map(<[f32]>::to_vec).collect()
}

/// A row and a column for each text; the columns go by the numbers of the rows.
fn print_table(texts: &[String], vectors: &[Vec<f32>]) {
    for (row, (text, vector)) in texts.iter().zip(vectors).enumerate() {
        print!("{:>3}", row + 1);
        for other in vectors {
            let cosine: f32 = vector.iter().zip(other).map(|(a, b)| a * b).sum();
            print!("{cosine:>7.3}");
        }
        println!("  {text}");
    }
}
