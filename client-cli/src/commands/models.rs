//! `models`: the model store and what the server has loaded.

use std::path::PathBuf;

use observatory_proto::inference::v1::{
    ListModelsRequest, Model, ModelState, ModelTask, models_service_client::ModelsServiceClient,
};
use serde_json::{Value, json};

use crate::cli::Context;
use crate::client::answer;
use crate::local::Stack;
use crate::models;
use crate::output::{Outcome, Table, progress};

/// Look at the models that are served and import others.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// List what the inference server knows.
    List,
    /// Copy a folder of model files into the model store.
    Import {
        /// Folder with config.json, tokenizer.json and the weights.
        dir: PathBuf,
        /// Name in the store, ORGANISATION/NAME [default: local/ and the folder's name].
        #[arg(long, value_name = "NAME")]
        name: Option<String>,
        /// Model store [default: models in the data directory].
        #[arg(long, env = "OBSERVATORY_MODELS", value_name = "DIR")]
        models_dir: Option<PathBuf>,
    },
}

/// Does what the subcommand says.
///
/// # Errors
/// When no server answers, or the folder is no model.
pub async fn run(context: &Context, arguments: Arguments) -> anyhow::Result<Outcome> {
    match arguments.action {
        Action::List => list(context).await,
        Action::Import { dir, name, models_dir } => {
            let store = models_dir.unwrap_or_else(|| context.data.models());
            let folder_name = dir.file_name().map(|name| name.to_string_lossy().into_owned());
            let name = name.unwrap_or_else(|| format!("local/{}", folder_name.unwrap_or_default()));
            let target = models::import(&dir, &store, &name)?;
            progress(format_args!("{name} imported into {}", target.display()));
            if Stack::new(context.data.clone()).status().await.is_ok_and(|status| status.is_running()) {
                progress("it is served from the next start on: `observatory down`, then `observatory up`");
            }
            Ok(Outcome::Done)
        }
    }
}

async fn list(context: &Context) -> anyhow::Result<Outcome> {
    let mut service = ModelsServiceClient::new(context.client.inference().await?);
    let request = ListModelsRequest { page_size: 500, page_token: String::new() };
    let found = answer(service.list_models(request).await)?.models;
    let rows = found.iter().map(row).collect();
    let header = ["model", "state", "tasks", "dimensions", "device", "revision"];
    context.output.print(&Table::new(&header, rows, found.iter().map(as_json).collect()))?;
    for model in found.iter().filter(|model| !model.error.is_empty()) {
        progress(format_args!("{}: {}", model.name, model.error));
    }
    if found.is_empty() {
        progress("no model is served; import one with `observatory models import DIR`");
    }
    Ok(Outcome::from_fine(!found.is_empty()))
}

fn state(model: &Model) -> &'static str {
    match model.state() {
        ModelState::Unspecified => "unknown",
        ModelState::Loading => "loading",
        ModelState::Ready => "ready",
        ModelState::Failed => "failed",
    }
}

fn tasks(model: &Model) -> Vec<&'static str> {
    let names = model.tasks().filter_map(|task| match task {
        ModelTask::Unspecified => None,
        ModelTask::Embedding => Some("embedding"),
        ModelTask::TokenClassification => Some("token-classification"),
        ModelTask::Ranking => Some("ranking"),
    });
    names.collect()
}

fn row(model: &Model) -> Vec<String> {
    vec![
        model.name.clone(),
        state(model).to_owned(),
        tasks(model).join(","),
        model.dimensions.to_string(),
        model.device.clone(),
        model.revision.chars().take(12).collect(),
    ]
}

fn as_json(model: &Model) -> Value {
    json!({ "name": model.name, "revision": model.revision, "state": state(model), "tasks": tasks(model),
        "architecture": model.architecture, "dimensions": model.dimensions, "pooling": model.pooling,
        "max_input_tokens": model.max_input_tokens, "device": model.device, "languages": model.languages,
        "parameters": model.parameters, "default": model.is_default, "error": model.error })
}
