//! The models of this process: their names, state, and which answers by default.

pub(crate) mod card;
pub(crate) mod load;
pub(crate) mod loaded;
pub(crate) mod loader;
pub(crate) mod revision;
pub(crate) mod warm_up;

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use anyhow::{Context, Result, anyhow, ensure};

use crate::device::OpenDevice;
use crate::error::Error;
use crate::models::Task;
use crate::models::checkpoint;
use crate::models::load_progress::LoadProgress;
use crate::registry::load::load_within;
use crate::registry::loaded::LoadedModel;

/// Where a model stands.
#[derive(Debug, Clone)]
pub enum State {
    /// Its files are being read, or will be when those before it have been.
    Loading(Arc<LoadProgress>),
    /// It answers.
    Ready(Arc<LoadedModel>),
    /// It does not answer, and why.
    Failed(String),
    /// It was taken out of service.
    Unloaded,
}

impl State {
    fn task(&self) -> Option<Task> {
        if let Self::Ready(model) = self { Some(model.info.task) } else { None }
    }
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

impl Slot {
    fn waiting(store: &Path, name: &str) -> Self {
        Self {
            name: name.to_owned(),
            task: guarded(|| checkpoint::task(&store.join(name)).ok()).ok().flatten(),
            state: State::Loading(Arc::default()),
        }
    }

    fn weight_bytes(&self) -> u64 {
        if let State::Ready(model) = &self.state { model.info.weight_bytes } else { 0 }
    }
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
    /// Bytes that the weights of all models may take together.
    pub weight_bytes: u64,
}

impl Plan {
    /// Finds the models in the store: `asked`, or all of them where none are named.
    ///
    /// # Errors
    /// If the store is not a directory, or a named model is not in it.
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
        Ok(Self {
            store: store.to_owned(),
            names,
            default_embedding: default_embedding.map(str::to_owned),
            weight_bytes: u64::MAX,
        })
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
    /// Where models come from, and the bytes that all weights may take; `None` where they came from
    /// elsewhere.
    store: Option<(PathBuf, u64)>,
}

impl Registry {
    /// All models of the plan, loading.
    pub fn new(plan: &Plan) -> Self {
        let registry = Self {
            slots: RwLock::default(),
            default_embedding: plan.default_embedding.clone(),
            store: Some((plan.store.clone(), plan.weight_bytes)),
        };
        *registry.write() = plan.names.iter().map(|name| Slot::waiting(&plan.store, name)).collect();
        registry
    }

    /// Models that are ready already.
    pub fn ready(models: Vec<LoadedModel>) -> Self {
        let slot = |model: LoadedModel| Slot {
            name: model.info.name.clone(),
            task: Some(model.info.task),
            state: State::Ready(Arc::new(model)),
        };
        let slots = RwLock::new(models.into_iter().map(slot).collect());
        Self { slots, default_embedding: None, store: None }
    }

    fn read(&self) -> RwLockReadGuard<'_, Vec<Slot>> {
        self.slots.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Vec<Slot>> {
        self.slots.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Loads a model that waits for it onto the device, and has it made `ready` before it answers;
    /// one that fails is listed as failed.
    pub fn load(&self, name: &str, device: &OpenDevice, ready: impl FnOnce(&LoadedModel) -> Result<()>) {
        let Some((store, limit)) = &self.store else { return };
        if !matches!(self.entry(name), Ok(Entry { state: State::Loading(_), .. })) {
            return;
        }
        let started = std::time::Instant::now();
        let used: u64 = self.read().iter().map(Slot::weight_bytes).sum();
        let loading = Arc::new(LoadProgress::within(limit.saturating_sub(used)));
        self.set(name, State::Loading(Arc::clone(&loading)));
        let load =
            || load_within(store, name, device, &loading).and_then(|model| ready(&model).map(|()| model));
        let loaded = guarded(load).unwrap_or_else(|panic| Err(anyhow!("its files are damaged: {panic}")));
        let state = match loaded {
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
        self.set(name, state);
    }

    fn set(&self, name: &str, state: State) {
        if let Some(slot) = self.write().iter_mut().find(|slot| slot.name == name) {
            slot.task = state.task().or(slot.task);
            slot.state = state;
        }
    }

    /// Puts a model of the store among those to be loaded; says whether somebody has to load it
    /// now, which is not so where it answers or is on its way.
    ///
    /// # Errors
    /// If the store has no such model.
    pub fn request(&self, name: &str) -> Result<bool, Error> {
        let names = self.store.as_ref().map(|(store, _)| names_in(store).unwrap_or_default());
        let names = names.unwrap_or_default();
        let known = names.iter().any(|known| known == name);
        let slot = self.store.as_ref().filter(|_| known).map(|(store, _)| Slot::waiting(store, name));
        let mut slots = self.write();
        let place = slots.iter().position(|slot| slot.name == name);
        if let Some(State::Loading(_) | State::Ready(_)) = place.map(|place| &slots[place].state) {
            return Ok(false);
        }
        let slot = slot.ok_or_else(|| Error::UnknownModel {
            wanted: format!("\"{name}\" in the model store"),
            known: list(names.iter().map(String::as_str)),
        })?;
        match place {
            Some(place) => slots[place] = slot,
            None => slots.push(slot),
        }
        Ok(true)
    }

    /// Takes a model out of service and hands out what may still be in use, if anything.
    ///
    /// # Errors
    /// If there is no such model, or it is just being loaded.
    pub fn unload(&self, name: &str) -> Result<Option<Arc<LoadedModel>>, Error> {
        let mut slots = self.write();
        let known = list(slots.iter().map(|slot| slot.name.as_str()));
        let slot = slots
            .iter_mut()
            .find(|slot| slot.name == name)
            .ok_or_else(|| Error::UnknownModel { wanted: format!("\"{name}\""), known })?;
        if matches!(slot.state, State::Loading(_)) {
            return Err(Error::ModelLoading { model: name.to_owned() });
        }
        match std::mem::replace(&mut slot.state, State::Unloaded) {
            State::Ready(model) => Ok(Some(model)),
            _ => Ok(None),
        }
    }

    /// One model.
    ///
    /// # Errors
    /// If there is none of this name.
    pub fn entry(&self, name: &str) -> Result<Entry, Error> {
        let entries = self.entries();
        let known = list(entries.iter().map(|entry| entry.name.as_str()));
        entries
            .into_iter()
            .find(|entry| entry.name == name)
            .ok_or_else(|| Error::UnknownModel { wanted: format!("\"{name}\""), known })
    }

    /// All models, in order of preference.
    pub fn entries(&self) -> Vec<Entry> {
        let slots = self.read();
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

    /// The operator's choice, or the first model of the task that answers or is going to.
    fn default_for<'a>(&'a self, slots: &'a [Slot], task: Task) -> Option<&'a str> {
        if task == Task::Embedding && self.default_embedding.is_some() {
            return self.default_embedding.as_deref();
        }
        let serves = |slot: &&Slot| {
            slot.task == Some(task) && matches!(slot.state, State::Ready(_) | State::Loading(_))
        };
        slots.iter().find(serves).map(|slot| slot.name.as_str())
    }

    /// The model that answers a request for `task`; an empty name or revision means any.
    ///
    /// # Errors
    /// Unknown, failed or loading model, wrong task, another revision.
    pub fn resolve(&self, name: &str, revision: &str, task: Option<Task>) -> Result<Arc<LoadedModel>, Error> {
        let slots = self.read();
        let known = || list(slots.iter().map(|slot| slot.name.as_str()));
        let wanted = if name.is_empty() {
            // Any model has a tokenizer, so a request without a task takes the default for
            // embeddings.
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
            State::Loading(_) => return Err(Error::ModelLoading { model: slot.name.clone() }),
            State::Unloaded => return Err(Error::ModelUnloaded { model: slot.name.clone() }),
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

/// What a read of a model's files gives, or what its panic says: one model's files are no other's
/// trouble.
fn guarded<T>(read: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(read)).map_err(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no reason given").to_owned()
    })
}

/// Names in a message.
fn list<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let names: Vec<&str> = names.collect();
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

/// A cause chain on one line.
fn one_line(error: &anyhow::Error) -> String {
    format!("{error:#}").split_whitespace().collect::<Vec<_>>().join(" ")
}
