//! The models of this process: their names, state, and which answers by default.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use anyhow::{Context, Result, ensure};

use super::files::EncoderConfig;
use super::load::load;
use super::{LoadedModel, Task};
use crate::device::OpenDevice;
use crate::error::Error;

/// Where a model stands.
#[derive(Debug, Clone)]
pub enum State {
    /// Its files are being read.
    Loading,
    /// It answers.
    Ready(Arc<LoadedModel>),
    /// It does not answer, and why.
    Failed(String),
}

/// A model by name, as listed.
#[derive(Debug, Clone)]
pub struct Entry {
    /// `organisation/name`.
    pub name: String,
    /// What its `config.json` says it is for; `None` where that cannot be read.
    pub task: Option<Task>,
    /// Where it stands.
    pub state: State,
    /// Whether it answers where a request names no model.
    pub is_default: bool,
}

#[derive(Debug)]
struct Slot {
    name: String,
    task: Option<Task>,
    state: State,
}

/// What to serve, found in the store before any port opens.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The model store.
    pub store: PathBuf,
    /// Names of the models, in order of preference.
    pub names: Vec<String>,
    /// The model for embeddings where a request names none; `None` takes the first that embeds.
    pub default_embedding: Option<String>,
}

impl Plan {
    /// Finds the models in the store: `asked`, or all of them where none are named.
    ///
    /// # Errors
    /// Where the store is not a directory, or a named model is not in it.
    pub fn find(store: &Path, asked: &[String], default_embedding: Option<&str>) -> Result<Self> {
        let known = names_in(store)?;
        let has = if known.is_empty() { "nothing".to_owned() } else { known.join(", ") };
        let check = |flag: &str, name: &String| {
            ensure!(
                known.contains(name),
                "{flag} {name}: not in the model store {}, which has {has}",
                store.display()
            );
            Ok(())
        };
        asked.iter().try_for_each(|name| check("--model", name))?;
        let mut names = if asked.is_empty() { known.clone() } else { asked.to_vec() };
        if let Some(default) = default_embedding.map(str::to_owned) {
            check("--default-embedding", &default)?;
            ensure!(
                names.contains(&default),
                "--default-embedding {default}: not among the models to serve: {}",
                names.join(", ")
            );
        }
        let mut seen = std::collections::HashSet::new();
        names.retain(|name| seen.insert(name.clone()));
        Ok(Self { store: store.to_owned(), names, default_embedding: default_embedding.map(str::to_owned) })
    }
}

/// `organisation/name` of every model in the store, sorted.
fn names_in(store: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for organisation in folders(store).with_context(|| format!("model store {}", store.display()))? {
        let path = store.join(&organisation);
        for name in folders(&path).with_context(|| format!("model store {}", path.display()))? {
            names.push(format!("{organisation}/{name}"));
        }
    }
    names.sort_unstable();
    Ok(names)
}

fn folders(dir: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(dir).context("cannot be read as a directory")? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if !name.starts_with('.') && dir.join(&name).is_dir() {
            names.push(name);
        }
    }
    Ok(names)
}

/// The models of this process.
#[derive(Debug)]
pub struct Registry {
    slots: RwLock<Vec<Slot>>,
    default_embedding: Option<String>,
}

impl Registry {
    /// All models of the plan, loading.
    pub fn new(plan: &Plan) -> Self {
        let slot = |name: &String| Slot {
            name: name.clone(),
            task: EncoderConfig::read(&plan.store.join(name)).and_then(|config| config.task()).ok(),
            state: State::Loading,
        };
        Self {
            slots: RwLock::new(plan.names.iter().map(slot).collect()),
            default_embedding: plan.default_embedding.clone(),
        }
    }

    /// Models that are ready already.
    pub fn ready(models: Vec<LoadedModel>) -> Self {
        let slot = |model: LoadedModel| Slot {
            name: model.info.name.clone(),
            task: Some(model.info.task),
            state: State::Ready(Arc::new(model)),
        };
        Self { slots: RwLock::new(models.into_iter().map(slot).collect()), default_embedding: None }
    }

    /// Loads every model that is loading, one after the other, calling `changed` after each.
    ///
    /// A model that fails is listed as failed and does not stop the others.
    pub fn load_all(&self, store: &Path, device: &OpenDevice, changed: impl Fn()) {
        let names: Vec<String> = self.entries().into_iter().map(|entry| entry.name).collect();
        for name in names {
            let started = std::time::Instant::now();
            let state = match load(store, &name, device) {
                Ok(model) => {
                    tracing::info!(
                        model.name = name,
                        model.revision = model.info.revision,
                        duration_ms = started.elapsed().as_millis() as u64,
                        "model ready"
                    );
                    State::Ready(Arc::new(model))
                }
                Err(error) => {
                    let cause = one_line(&error);
                    tracing::error!(model.name = name, error.message = cause, "model failed to load");
                    State::Failed(cause)
                }
            };
            self.set(&name, state);
            changed();
        }
    }

    fn set(&self, name: &str, state: State) {
        let mut slots = self.slots.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(slot) = slots.iter_mut().find(|slot| slot.name == name) {
            slot.state = state;
        }
    }

    /// All models, in order of preference.
    pub fn entries(&self) -> Vec<Entry> {
        let slots = self.slots.read().unwrap_or_else(PoisonError::into_inner);
        let defaults = Task::ALL.map(|task| self.default_for(&slots, task));
        slots
            .iter()
            .map(|slot| Entry {
                name: slot.name.clone(),
                task: slot.task,
                state: slot.state.clone(),
                is_default: defaults.contains(&Some(slot.name.as_str())),
            })
            .collect()
    }

    /// The operator's choice, or the first model of the task that has not failed.
    fn default_for<'a>(&'a self, slots: &'a [Slot], task: Task) -> Option<&'a str> {
        if task == Task::Embedding && self.default_embedding.is_some() {
            return self.default_embedding.as_deref();
        }
        let serves = |slot: &&Slot| slot.task == Some(task) && !matches!(slot.state, State::Failed(_));
        slots.iter().find(serves).map(|slot| slot.name.as_str())
    }

    /// The model that answers a request for `task`; an empty name or revision means any.
    ///
    /// # Errors
    /// Unknown, failed or loading model, wrong task, another revision.
    pub fn resolve(&self, name: &str, revision: &str, task: Option<Task>) -> Result<Arc<LoadedModel>, Error> {
        let slots = self.slots.read().unwrap_or_else(PoisonError::into_inner);
        let known = || {
            let names: Vec<&str> = slots.iter().map(|slot| slot.name.as_str()).collect();
            if names.is_empty() { "none".to_owned() } else { names.join(", ") }
        };
        let wanted = if name.is_empty() {
            // Any model has a tokenizer, so a request without a task takes the default for embeddings.
            let task = task.unwrap_or(Task::Embedding);
            self.default_for(&slots, task).ok_or_else(|| Error::UnknownModel {
                wanted: format!("for {}", task.name()),
                known: known(),
            })?
        } else {
            name
        };
        let slot = slots
            .iter()
            .find(|slot| slot.name == wanted)
            .ok_or_else(|| Error::UnknownModel { wanted: format!("\"{wanted}\""), known: known() })?;
        let model = match &slot.state {
            State::Ready(model) => Arc::clone(model),
            State::Loading => return Err(Error::ModelLoading { model: slot.name.clone() }),
            State::Failed(cause) => {
                return Err(Error::ModelFailed { model: slot.name.clone(), cause: cause.clone() });
            }
        };
        drop(slots);
        check(model, revision, task)
    }
}

fn check(model: Arc<LoadedModel>, revision: &str, task: Option<Task>) -> Result<Arc<LoadedModel>, Error> {
    let info = &model.info;
    if let Some(task) = task.filter(|task| *task != info.task) {
        return Err(Error::WrongTask { model: info.name.clone(), task: task.name() });
    }
    if !revision.is_empty() && revision != info.revision {
        let (asked, loaded) = (revision.to_owned(), info.revision.clone());
        return Err(Error::RevisionMismatch { model: info.name.clone(), asked, loaded });
    }
    Ok(model)
}

/// A cause chain on one line.
fn one_line(error: &anyhow::Error) -> String {
    format!("{error:#}").split_whitespace().collect::<Vec<_>>().join(" ")
}
