//! The models to serve, found in the model store before any port opens.
//!
//! The store is a directory with one directory for each model, `<organisation>/<name>`; names that
//! begin with a dot are not models. A name on the command line that the store does not have is an
//! error at startup, not a model that fails later.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

/// Models to serve and the limits on them.
#[derive(Debug, Clone)]
pub struct ServePlan {
    /// Directory of the model store.
    pub store: PathBuf,
    /// `organisation/name` of the models, in order of preference.
    pub names: Vec<String>,
    /// True if the operator named them; false if they are all that the store has.
    pub named: bool,
    /// Default model for embeddings; `None` picks the first model that embeds.
    pub default_embedding: Option<String>,
    /// Byte limit on the weights of all models together.
    pub weight_bytes: u64,
}

impl ServePlan {
    /// Finds the models in the store: the `requested` ones, or all of them if none are named.
    ///
    /// # Errors
    /// If the store is not a directory, or a named model is not in it.
    pub fn find(store: &Path, requested: &[String], default_embedding: Option<&str>) -> Result<Self> {
        let known = model_names(store)?;
        for name in requested {
            check_known(store, &known, "--model", name)?;
        }
        let mut names = if requested.is_empty() { known.clone() } else { requested.to_vec() };
        if let Some(default) = default_embedding {
            check_known(store, &known, "--default-embedding", default)?;
            ensure!(
                names.iter().any(|name| name == default),
                "--default-embedding {default}: not among the models to serve: {}",
                names.join(", ")
            );
        }
        let mut seen = HashSet::new();
        // Twice in the registry, a model would be set ready in its first place only.
        names.retain(|name| seen.insert(name.clone()));
        Ok(Self {
            store: store.to_owned(),
            names,
            named: !requested.is_empty(),
            default_embedding: default_embedding.map(str::to_owned),
            weight_bytes: u64::MAX,
        })
    }
}

fn check_known(store: &Path, known: &[String], flag: &str, name: &str) -> Result<()> {
    let found = if known.is_empty() { "nothing".to_owned() } else { known.join(", ") };
    ensure!(
        known.iter().any(|model| model == name),
        "{flag} {name}: not in the model store {}, which has {found}",
        store.display()
    );
    Ok(())
}

/// `organisation/name` of every model in the store, sorted.
///
/// # Errors
/// If a directory of the store cannot be read.
pub(super) fn model_names(store: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for organisation in subdirectories(store).with_context(|| format!("model store {}", store.display()))? {
        let path = store.join(&organisation);
        for name in subdirectories(&path).with_context(|| format!("model store {}", path.display()))? {
            names.push(format!("{organisation}/{name}"));
        }
    }
    names.sort_unstable();
    Ok(names)
}

fn subdirectories(dir: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(dir).context("cannot be read as a directory")? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        // Dotted directories are the store's own, such as `.digests`. `is_dir` follows links: a
        // store may link to models elsewhere.
        if !name.starts_with('.') && dir.join(&name).is_dir() {
            names.push(name);
        }
    }
    Ok(names)
}
