//! The models of this process: their names, their states, and the default model of each task.
//!
//! The registry knows nothing of how models are asked for. It is written by the loader thread and
//! by unload calls, and read by everything that resolves a model name. A model that is resolved
//! stays usable until its last `Arc` is dropped, even if it is unloaded meanwhile.

pub(crate) mod card;
pub(crate) mod load;
pub(crate) mod loaded;
pub(crate) mod loader;
pub(crate) mod plan;
pub(crate) mod revision;
pub(crate) mod warm_up;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, Weak};
use std::time::Instant;

use anyhow::{Result, anyhow};

use crate::device::OpenDevice;
use crate::error::Error;
use crate::models::Task;
use crate::models::checkpoint;
use crate::models::load_progress::LoadProgress;
use load::load_within;
use loaded::LoadedModel;
use plan::{ServePlan, model_names};

/// State of a model.
#[derive(Debug, Clone)]
pub enum ModelState {
    /// Queued for the loader thread, or being read by it.
    Loading(Arc<LoadProgress>),
    /// Answers requests.
    Ready(Arc<LoadedModel>),
    /// Failed to load, with the cause on one line.
    Failed(String),
    /// Taken out of service by a caller.
    Unloaded,
}

impl ModelState {
    fn task(&self) -> Option<Task> {
        if let Self::Ready(model) = self { Some(model.info.task) } else { None }
    }
}

/// A model as listed: a snapshot of its state.
#[derive(Debug, Clone)]
pub struct ModelEntry {
    /// `organisation/name`.
    pub name: String,
    /// Task according to its configuration; `None` if that cannot be read.
    pub task: Option<Task>,
    /// State at the time of listing.
    pub state: ModelState,
    /// True if it answers requests for its task that name no model.
    pub is_default: bool,
}

#[derive(Debug)]
struct ModelSlot {
    name: String,
    task: Option<Task>,
    state: ModelState,
}

impl ModelSlot {
    fn loading(store: &Path, name: &str) -> Self {
        Self {
            name: name.to_owned(),
            task: catch_panic(|| checkpoint::task(&store.join(name)).ok()).ok().flatten(),
            state: ModelState::Loading(Arc::default()),
        }
    }

    fn is_ready(&self) -> bool {
        matches!(self.state, ModelState::Ready(_))
    }

    fn weight_bytes(&self) -> u64 {
        if let ModelState::Ready(model) = &self.state { model.info.weight_bytes } else { 0 }
    }
}

#[derive(Debug)]
struct ModelStore {
    dir: PathBuf,
    /// Byte limit on the weights of all models together.
    weight_limit: u64,
}

/// The models of this process.
#[derive(Debug)]
pub struct Registry {
    slots: RwLock<Vec<ModelSlot>>,
    default_embedding: Option<String>,
    /// Models of the plan, which the start waits for.
    planned: Vec<String>,
    /// True if the operator named the models of the plan.
    named: bool,
    /// Models that were unloaded, and their bytes: calls in flight may keep them in memory.
    unloaded: Mutex<Vec<(Weak<LoadedModel>, u64)>>,
    /// `None` if the models were handed in loaded, so that nothing can be loaded from a store.
    store: Option<ModelStore>,
}

impl Registry {
    /// A registry with all models of the plan in the state `Loading`.
    pub fn new(plan: &ServePlan) -> Self {
        let slots = plan.names.iter().map(|name| ModelSlot::loading(&plan.store, name)).collect();
        Self {
            slots: RwLock::new(slots),
            default_embedding: plan.default_embedding.clone(),
            planned: plan.names.clone(),
            named: plan.named,
            unloaded: Mutex::default(),
            store: Some(ModelStore { dir: plan.store.clone(), weight_limit: plan.weight_bytes }),
        }
    }

    /// A registry of models that were loaded elsewhere.
    pub fn ready(models: Vec<LoadedModel>) -> Self {
        let mut slots = Vec::with_capacity(models.len());
        for model in models {
            slots.push(ModelSlot {
                name: model.info.name.clone(),
                task: Some(model.info.task),
                state: ModelState::Ready(Arc::new(model)),
            });
        }
        Self {
            slots: RwLock::new(slots),
            default_embedding: None,
            planned: Vec::new(),
            named: false,
            unloaded: Mutex::default(),
            store: None,
        }
    }

    fn read(&self) -> RwLockReadGuard<'_, Vec<ModelSlot>> {
        self.slots.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Vec<ModelSlot>> {
        self.slots.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Loads a model in the state `Loading` onto the device and runs `warm_up` on it before it
    /// becomes `Ready`; if either fails, it becomes `Failed`. Does nothing in any other state.
    pub fn load(&self, name: &str, device: &OpenDevice, warm_up: impl FnOnce(&LoadedModel) -> Result<()>) {
        let Some(store) = &self.store else { return };
        // A model that is requested before the thread starts comes up twice: as an entry of the
        // registry and through the channel.
        if !matches!(self.entry(name), Ok(ModelEntry { state: ModelState::Loading(_), .. })) {
            return;
        }
        let started = Instant::now();
        // Loads are serial, so nothing else can take from the limit meanwhile.
        let progress = Arc::new(LoadProgress::within(store.weight_limit.saturating_sub(self.weight_bytes())));
        // Replaced by one that knows the limit; calls that report progress read it from the slot.
        self.set(name, ModelState::Loading(Arc::clone(&progress)));
        // Warmed up inside: a model whose first pass panics must not become ready.
        let loaded = catch_panic(|| {
            let model = load_within(&store.dir, name, device, &progress)?;
            warm_up(&model)?;
            Ok(model)
        });
        let loaded = loaded.unwrap_or_else(|panic| Err(anyhow!("its files are damaged: {panic}")));
        let state = match loaded {
            Ok(model) => {
                tracing::info!(
                    model.name = name,
                    model.revision = model.info.revision,
                    duration_ms = started.elapsed().as_millis() as u64,
                    "model ready"
                );
                ModelState::Ready(Arc::new(model))
            }
            Err(error) => {
                let cause = one_line(&error);
                tracing::error!(model.name = name, error.message = cause, "model failed to load");
                ModelState::Failed(cause)
            }
        };
        self.set(name, state);
    }

    /// Bytes of the weights in memory: of ready models, and of unloaded ones that calls still hold.
    fn weight_bytes(&self) -> u64 {
        // Ready models first: one that is unloaded in between counts twice rather than not at all.
        let ready: u64 = self.read().iter().map(ModelSlot::weight_bytes).sum();
        let mut unloaded = self.unloaded();
        unloaded.retain(|(model, _)| model.strong_count() > 0);
        ready + unloaded.iter().map(|(_, bytes)| bytes).sum::<u64>()
    }

    fn unloaded(&self) -> MutexGuard<'_, Vec<(Weak<LoadedModel>, u64)>> {
        self.unloaded.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, name: &str, state: ModelState) {
        if let Some(slot) = self.write().iter_mut().find(|slot| slot.name == name) {
            // A failed model keeps the task it was found with, so that its kind can still be
            // listed.
            slot.task = state.task().or(slot.task);
            slot.state = state;
        }
    }

    /// Puts a model of the store into the state `Loading`. Returns whether the caller has to have
    /// it loaded: `false` if it is ready or queued already.
    ///
    /// # Errors
    /// If the store has no such model, or cannot be read.
    pub(crate) fn queue_load(&self, name: &str) -> Result<bool, Error> {
        // Files are read before the lock is taken, so that a slow disk holds up no request.
        let found = self.find_in_store(name);
        let mut slots = self.write();
        let index = slots.iter().position(|slot| slot.name == name);
        let state = index.map(|index| &slots[index].state);
        // Checked under the lock: of two callers who ask at once, one loads and the other watches.
        if matches!(state, Some(ModelState::Loading(_) | ModelState::Ready(_))) {
            return Ok(false);
        }
        let queued = found?;
        match index {
            Some(index) => slots[index] = queued,
            None => slots.push(queued),
        }
        Ok(true)
    }

    /// The slot of a model of the store that is about to be loaded.
    fn find_in_store(&self, name: &str) -> Result<ModelSlot, Error> {
        let mut known = Vec::new();
        if let Some(store) = &self.store {
            known = model_names(&store.dir)
                .map_err(|error| Error::ModelFailed { model: name.to_owned(), cause: one_line(&error) })?;
            if known.iter().any(|known| known == name) {
                return Ok(ModelSlot::loading(&store.dir, name));
            }
        }
        Err(Error::UnknownModel {
            wanted: format!("\"{name}\" in the model store"),
            known: list(known.iter().map(String::as_str)),
        })
    }

    /// Takes a model out of service. Returns the model if it was ready: calls in flight may still
    /// hold it, and its memory is freed with the last of them.
    ///
    /// # Errors
    /// If there is no such model, or it is loading.
    pub fn unload(&self, name: &str) -> Result<Option<Arc<LoadedModel>>, Error> {
        let mut slots = self.write();
        let known = names_of(&slots);
        let slot = slots
            .iter_mut()
            .find(|slot| slot.name == name)
            .ok_or_else(|| Error::UnknownModel { wanted: format!("\"{name}\""), known })?;
        if matches!(slot.state, ModelState::Loading(_)) {
            return Err(Error::ModelLoading { model: name.to_owned() });
        }
        match std::mem::replace(&mut slot.state, ModelState::Unloaded) {
            ModelState::Ready(model) => {
                // While the slots are locked: the model must count in one place or the other.
                self.unloaded().push((Arc::downgrade(&model), model.info.weight_bytes));
                Ok(Some(model))
            }
            _ => Ok(None),
        }
    }

    /// True if no model of the plan is loading any more: each is ready, has failed or was unloaded.
    pub(crate) fn has_decided(&self) -> bool {
        let slots = self.read();
        let mut planned = slots.iter().filter(|slot| self.planned.contains(&slot.name));
        planned.all(|slot| !matches!(slot.state, ModelState::Loading(_)))
    }

    /// True if the models that the operator named are ready; of models that nobody named, one is
    /// enough. Those taken out of service do not count: that was the operator's wish too.
    pub(crate) fn serves_what_was_asked(&self) -> bool {
        let slots = self.read();
        let mut counted = slots.iter().filter(|slot| !matches!(slot.state, ModelState::Unloaded)).peekable();
        if self.named {
            let mut named = counted.filter(|slot| self.planned.contains(&slot.name));
            return named.all(ModelSlot::is_ready);
        }
        // An empty store is served as it is: models come by a call.
        counted.peek().is_none() || counted.any(ModelSlot::is_ready)
    }

    /// The entry of one model.
    ///
    /// # Errors
    /// If there is no model of this name.
    pub fn entry(&self, name: &str) -> Result<ModelEntry, Error> {
        let entries = self.entries();
        let known = list(entries.iter().map(|entry| entry.name.as_str()));
        entries
            .into_iter()
            .find(|entry| entry.name == name)
            .ok_or_else(|| Error::UnknownModel { wanted: format!("\"{name}\""), known })
    }

    /// All models, in order of preference.
    pub fn entries(&self) -> Vec<ModelEntry> {
        let slots = self.read();
        let defaults = Task::ALL.map(|task| self.default_for(&slots, task));
        slots
            .iter()
            .map(|slot| ModelEntry {
                name: slot.name.clone(),
                task: slot.task,
                state: slot.state.clone(),
                is_default: defaults.contains(&Some(slot.name.as_str())),
            })
            .collect()
    }

    /// The operator's choice, or the first model of the task that is ready or loading.
    fn default_for<'a>(&'a self, slots: &'a [ModelSlot], task: Task) -> Option<&'a str> {
        // Even if it failed: answering with another model would mix vectors of two spaces.
        if task == Task::Embedding && self.default_embedding.is_some() {
            return self.default_embedding.as_deref();
        }
        for slot in slots {
            let is_served = matches!(slot.state, ModelState::Ready(_) | ModelState::Loading(_));
            if slot.task == Some(task) && is_served {
                return Some(&slot.name);
            }
        }
        None
    }

    /// The model that answers a request for `task`; an empty name or revision matches any.
    ///
    /// # Errors
    /// If the model is unknown, failed, unloaded or loading, is for another task, or has another
    /// revision.
    pub fn resolve(&self, name: &str, revision: &str, task: Option<Task>) -> Result<Arc<LoadedModel>, Error> {
        let slots = self.read();
        let wanted = if name.is_empty() {
            // Every model has a tokenizer, so a request without a task takes the embedding model.
            let task = task.unwrap_or(Task::Embedding);
            self.default_for(&slots, task).ok_or_else(|| Error::UnknownModel {
                wanted: format!("for {}", task.name()),
                known: names_of(&slots),
            })?
        } else {
            name
        };
        let slot = slots.iter().find(|slot| slot.name == wanted).ok_or_else(|| Error::UnknownModel {
            wanted: format!("\"{wanted}\""),
            known: names_of(&slots),
        })?;
        let model = match &slot.state {
            ModelState::Ready(model) => Arc::clone(model),
            ModelState::Loading(_) => return Err(Error::ModelLoading { model: slot.name.clone() }),
            ModelState::Unloaded => return Err(Error::ModelUnloaded { model: slot.name.clone() }),
            ModelState::Failed(cause) => {
                return Err(Error::ModelFailed { model: slot.name.clone(), cause: cause.clone() });
            }
        };
        // What follows needs no lock, and a loader that wants to write must not wait for it.
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

/// The result of `read`, or the message of its panic. The libraries that read a model's files panic
/// on some damaged ones, which must fail that model alone.
fn catch_panic<T>(read: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(read)).map_err(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no reason given").to_owned()
    })
}

/// Names of models, for messages.
fn names_of(slots: &[ModelSlot]) -> String {
    list(slots.iter().map(|slot| slot.name.as_str()))
}

/// Names separated by commas, for messages.
fn list<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let names: Vec<&str> = names.collect();
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

/// The chain of causes on one line.
fn one_line(error: &anyhow::Error) -> String {
    format!("{error:#}").split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use tokenizers::Tokenizer;
    use tokenizers::models::wordlevel::WordLevel;

    use super::*;
    use crate::models::{ComputeError, Extras, Model, ModelInfo, RowOutput};
    use crate::text::tokenizer::TextTokenizer;
    use loaded::Network;

    struct Nothing;

    impl Model for Nothing {
        fn run(&self, rows: &[&[u32]], _: Extras) -> Result<Vec<RowOutput>, ComputeError> {
            Ok(vec![RowOutput::default(); rows.len()])
        }
    }

    fn model(name: &str, weight_bytes: u64) -> LoadedModel {
        LoadedModel {
            info: ModelInfo {
                name: name.to_owned(),
                revision: String::new(),
                task: Task::Embedding,
                architecture: "bert",
                max_input_tokens: 8,
                dimensions: 1,
                pooling: None,
                matryoshka: Vec::new(),
                sparse: false,
                multi_vector_dimensions: 0,
                normalize: false,
                prompts: BTreeMap::new(),
                default_prompt: None,
                labels: Vec::new(),
                languages: Vec::new(),
                parameters: 1,
                weight_bytes,
                device: "cpu".to_owned(),
            },
            tokenizer: TextTokenizer::new(Tokenizer::new(WordLevel::default()), 8, false).unwrap(),
            network: Network::Encoder(Box::new(Nothing)),
        }
    }

    #[test]
    fn unloaded_models_count_until_nobody_holds_them() {
        let registry = Registry::ready(vec![model("a/a", 3), model("b/b", 4)]);
        assert_eq!(registry.weight_bytes(), 7);
        let in_use = registry.resolve("a/a", "", None).unwrap();
        drop(registry.unload("a/a").unwrap());
        assert_eq!(registry.weight_bytes(), 7, "a call still holds it");
        drop(in_use);
        assert_eq!(registry.weight_bytes(), 4);
        drop(registry.unload("b/b").unwrap());
        assert_eq!(registry.weight_bytes(), 0);
    }

    #[test]
    fn a_store_that_cannot_be_read_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let store = dir.path().join("gone");
        let plan =
            ServePlan { store, names: Vec::new(), named: false, default_embedding: None, weight_bytes: 0 };
        let error = Registry::new(&plan).queue_load("a/a").unwrap_err();
        assert_eq!(error.reason(), "MODEL_FAILED");
        assert!(error.to_string().contains("gone: cannot be read as a directory"), "{error}");
        std::fs::create_dir(&plan.store).unwrap();
        assert_eq!(Registry::new(&plan).queue_load("a/a").unwrap_err().reason(), "UNKNOWN_MODEL");
    }
}
