//! `infer`: the RPCs of the inference server from the command line.
//!
//! One line of JSON per input text, errors included, so that output lines match input texts.

mod generate;

use anyhow::bail;
use observatory_client::Connection;
use observatory_proto::inference::v1::{
    ClassifyRequest, ClassifySettings, EmbedRequest, EmbedSettings, Entity, ModelRef, Priority,
    TokenizeRequest, embedding_service_client::EmbeddingServiceClient,
    token_classification_service_client::TokenClassificationServiceClient,
    tokenization_service_client::TokenizationServiceClient,
};
use serde_json::{Value, json};

use crate::client::{MAX_MESSAGE_BYTES, answer};
use crate::context::Context;
use crate::output::{Outcome, print};

/// Call the inference server directly; prints one line of JSON per text, and generated text as it
/// is.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    action: Action,
    /// Model to use [default: the server's default].
    #[arg(long, global = true, default_value = "", hide_default_value = true, value_name = "NAME")]
    model: String,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Compute embeddings.
    Embed {
        /// Input texts.
        #[arg(required = true)]
        texts: Vec<String>,
        /// Name of the model's prompt to prepend to each text, such as query or passage.
        #[arg(long, default_value = "", hide_default_value = true, value_name = "NAME")]
        prompt: String,
    },
    /// Generate text with a language model, printed as it is generated.
    Generate(generate::Arguments),
    /// Find skills and other entities.
    Classify {
        /// Input texts.
        #[arg(required = true)]
        texts: Vec<String>,
        /// Minimum score of an entity.
        #[arg(long, default_value_t = 0.0, value_name = "X")]
        min_score: f32,
    },
    /// Tokenize texts.
    Tokenize {
        /// Input texts.
        #[arg(required = true)]
        texts: Vec<String>,
    },
}

/// Runs the subcommand.
///
/// # Errors
/// If the server cannot be reached or refuses.
pub(crate) async fn run(context: &Context, arguments: Arguments) -> anyhow::Result<Outcome> {
    let channel = context.client.inference().await?;
    let model = Some(ModelRef { name: arguments.model, revision: String::new() });
    match arguments.action {
        Action::Embed { texts, prompt } => embed(channel, model, texts, prompt).await,
        Action::Generate(arguments) => generate::run(context, channel, model, &arguments).await,
        Action::Classify { texts, min_score } => classify(channel, model, texts, min_score).await,
        Action::Tokenize { texts } => tokenize(channel, model, texts).await,
    }
}

async fn embed(
    channel: Connection,
    model: Option<ModelRef>,
    texts: Vec<String>,
    prompt_name: String,
) -> anyhow::Result<Outcome> {
    // Interactive, here and below: a person waits for it; batches of the pipeline can wait.
    let settings = EmbedSettings {
        model,
        prompt_name,
        priority: Priority::Interactive.into(),
        ..EmbedSettings::default()
    };
    // The texts are kept, since the response refers to them by their order alone.
    let request = EmbedRequest { settings: Some(settings), texts: texts.clone() };
    let mut service = EmbeddingServiceClient::new(channel).max_decoding_message_size(MAX_MESSAGE_BYTES);
    let answered = answer(service.embed(request).await)?;
    // Vectors are f32 unless the settings ask for another encoding.
    let width = answered.dimensions as usize * size_of::<f32>();
    // chunks_exact would drop an incomplete vector without a word.
    if width == 0 || answered.vectors.len() != width * texts.len() {
        bail!("the server returned {} bytes of embeddings for {} texts", answered.vectors.len(), texts.len());
    }
    let rows = answered.vectors.chunks_exact(width);
    let mut failures = false;
    for ((text, row), item) in texts.iter().zip(rows).zip(&answered.items) {
        let (line, ok) = embedding_line(text, row, item.error.as_ref());
        print_line(&line)?;
        failures |= !ok;
    }
    Ok(Outcome::done_if(!failures))
}

async fn tokenize(
    channel: Connection,
    model: Option<ModelRef>,
    texts: Vec<String>,
) -> anyhow::Result<Outcome> {
    let request = TokenizeRequest { model, texts: texts.clone(), ..TokenizeRequest::default() };
    let answered = answer(TokenizationServiceClient::new(channel).tokenize(request).await)?;
    for (text, found) in texts.iter().zip(answered.texts) {
        print_line(&json!({ "text": text, "ids": found.ids, "tokens": found.tokens }))?;
    }
    Ok(Outcome::Done)
}

fn print_line(document: &Value) -> anyhow::Result<()> {
    print(format_args!("{document}\n"))
}

async fn classify(
    channel: Connection,
    model: Option<ModelRef>,
    texts: Vec<String>,
    min_score: f32,
) -> anyhow::Result<Outcome> {
    let settings = ClassifySettings {
        model,
        min_score,
        priority: Priority::Interactive.into(),
        ..ClassifySettings::default()
    };
    let request = ClassifyRequest { settings: Some(settings), texts: texts.clone() };
    let mut service =
        TokenClassificationServiceClient::new(channel).max_decoding_message_size(MAX_MESSAGE_BYTES);
    let answered = answer(service.classify(request).await)?;
    let mut failures = false;
    for (text, found) in texts.iter().zip(answered.texts) {
        if let Some(error) = found.status.and_then(|status| status.error) {
            print_line(&json!({ "text": text, "error": error.message, "reason": error.reason }))?;
            failures = true;
            continue;
        }
        let entities: Vec<Value> = found.entities.into_iter().map(entity_json).collect();
        print_line(&json!({ "text": text, "entities": entities }))?;
    }
    Ok(Outcome::done_if(!failures))
}

fn entity_json(entity: Entity) -> Value {
    json!({
        "label": entity.label, "score": entity.score, "start": entity.start, "end": entity.end,
        "text": entity.text
    })
}

fn embedding_line(
    text: &str,
    row: &[u8],
    error: Option<&observatory_proto::inference::v1::ItemError>,
) -> (Value, bool) {
    match error {
        Some(error) => (json!({ "text": text, "error": error.message, "reason": error.reason }), false),
        None => {
            let words = row.chunks_exact(4);
            let vector: Vec<f32> =
                words.map(|word| f32::from_le_bytes([word[0], word[1], word[2], word[3]])).collect();
            (json!({ "text": text, "embedding": vector }), true)
        }
    }
}
