//! The reporter as a stage: figures to files.
//!
//! A report lies below the configured directory or nowhere: a caller's folder is checked before
//! anything is written.

use std::{
    collections::BTreeMap,
    path::{Component, Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use anyhow::{Context, Result};
use async_trait::async_trait;
use serde::Deserialize;
use uuid::Uuid;

use super::{
    FormatSet, TypesetCommand,
    document::{Language, Publication},
    gather::{self, Edition},
    render,
};
use crate::{
    domain::run::StageName,
    spreadsheet::Dialect,
    stage::{Checkpoints, Effect, Outcome, Plan, Stage, StageError},
    store::{
        PgPool,
        reports::Artefact,
        runs::{self, Run},
        tasks::{Subject, Task},
    },
};

/// Keys of [`Settings`].
pub(crate) const SETTINGS: [&str; 6] = ["formats", "language", "invented", "author", "contact", "licence"];

/// Settings of the reporter.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Files to write; all when empty.
    pub formats: Vec<String>,
    /// Language of the report: `es` or `en`.
    pub language: Language,
    /// True if the advertisements are invented for demonstration, which page 1 then says.
    pub invented: bool,
    /// Publisher of the reports.
    pub author: Option<String>,
    /// Address for questions about them.
    pub contact: Option<String>,
    /// Licence of their figures.
    pub licence: Option<String>,
}

/// Writes the report of a run.
pub struct ReporterStage {
    pool: PgPool,
    directory: PathBuf,
    formats: FormatSet,
    edition: Edition,
    reports: AtomicU64,
}

/// The formats with these names; all when there are none.
fn formats(names: &[String]) -> Result<FormatSet> {
    if names.is_empty() {
        return Ok(FormatSet::all());
    }
    Ok(names.join(",").parse()?)
}

impl ReporterStage {
    /// A stage that writes below `directory`, one folder for each run.
    ///
    /// # Errors
    /// If a format is unknown.
    pub fn new(pool: PgPool, directory: PathBuf, settings: Settings) -> Result<Self> {
        let formats = formats(&settings.formats).context("modules.reporter.settings.formats")?;
        let Settings { language, invented, author, contact, licence, .. } = settings;
        let edition = Edition { language, invented, publication: Publication { author, contact, licence } };
        Ok(Self { pool, directory, formats, edition, reports: AtomicU64::new(0) })
    }

    /// The folder of this name below the directory of reports, or the one at this path, if it lies
    /// there.
    ///
    /// # Errors
    /// If it does not.
    pub fn folder(&self, asked: &str) -> Result<PathBuf, String> {
        below(&self.directory, Path::new(asked))
    }

    /// Builds the report of a run, its tables in a dialect; empty `wanted` and no `directory` mean
    /// the configured ones. Returns the directory and its files.
    ///
    /// # Errors
    /// If the run does not exist, a format is unknown, or the directory cannot be written.
    pub async fn build(
        &self,
        run_id: Uuid,
        wanted: &[String],
        tables: Dialect,
        directory: Option<PathBuf>,
    ) -> Result<(String, Vec<Artefact>), StageError> {
        let formats = if wanted.is_empty() {
            self.formats.clone()
        } else {
            formats(wanted).map_err(|error| StageError::Fail(format!("{error:#}")))?
        };
        let formats = formats.with_tables(tables);
        let mut connection = self.pool.acquire().await?;
        let run = runs::get(&mut connection, run_id).await?;
        let run = run.ok_or_else(|| StageError::Fail(format!("no run {run_id}")))?;
        let document = gather::document(&mut connection, &run, &self.edition).await?;
        // Given back before the files are drawn, which takes seconds.
        drop(connection);
        let directory = directory.unwrap_or_else(|| self.directory.join(run_id.to_string()));
        let out = directory.clone();
        let summary = run.describe();
        let written = tokio::task::spawn_blocking(move || {
            render(&document, Some(&summary), &formats, &out, &TypesetCommand::default())
        });
        let artefacts = written
            .await
            .map_err(|error| StageError::Fail(format!("rendering panicked: {error}")))?
            .map_err(|error| StageError::Fail(format!("{error:#}")))?;
        self.reports.fetch_add(1, Ordering::Relaxed);
        // An absolute path, since readers of the row have other working directories.
        Ok((absolute(&directory), artefacts.into_iter().map(row).collect()))
    }
}

/// The folder `asked` below `root`: no other place, neither by `..` nor by a link.
fn below(root: &Path, asked: &Path) -> Result<PathBuf, String> {
    let root = std::path::absolute(root).map_err(|_| outside(asked))?;
    let inner = if asked.is_absolute() {
        std::path::absolute(asked)
            .map_err(|_| outside(asked))?
            .strip_prefix(&root)
            .map(Path::to_owned)
            .map_err(|_| outside(asked))?
    } else {
        asked.to_owned()
    };
    let is_plain = inner.components().all(|part| matches!(part, Component::Normal(_)));
    if !is_plain || inner.as_os_str().is_empty() {
        return Err(outside(asked));
    }
    let folder = root.join(inner);
    // What does not exist yet is made where its nearest folder really lies.
    let existing = folder.ancestors().find_map(|folder| folder.canonicalize().ok());
    match (existing, root.canonicalize()) {
        (Some(existing), Ok(root)) if !existing.starts_with(&root) => Err(outside(asked)),
        // A root that does not exist yet holds no link that leads out of it.
        _ => Ok(folder),
    }
}

fn outside(asked: &Path) -> String {
    format!("`{}` is not below the directory of reports", asked.display())
}

fn absolute(directory: &Path) -> String {
    std::path::absolute(directory).unwrap_or_else(|_| directory.to_owned()).display().to_string()
}

fn row(artefact: super::Artefact) -> Artefact {
    Artefact {
        name: artefact.name,
        format: artefact.format.name().to_owned(),
        bytes: i64::try_from(artefact.bytes).unwrap_or(i64::MAX),
        sha256: artefact.sha256,
    }
}

#[async_trait]
impl Stage for ReporterStage {
    fn name(&self) -> StageName {
        StageName::Report
    }

    async fn plan(&self, run: &Run) -> Result<Plan, StageError> {
        Ok(Plan { tasks: vec![Subject::other(run.run_id)], ..Plan::default() })
    }

    async fn process(&self, batch: &[Task], _: &Checkpoints) -> Result<Vec<Outcome>, StageError> {
        let mut outcomes = Vec::with_capacity(batch.len());
        for task in batch {
            let built = self.build(task.run_id, &[], Dialect::Plain, None).await;
            outcomes.push(built.map(|(directory, artefacts)| Effect::Reported { directory, artefacts }));
        }
        Ok(outcomes)
    }

    async fn validate_input(&self) -> Result<(), StageError> {
        let typesetter = TypesetCommand::default().locate();
        typesetter.map_err(|error| StageError::Fail(error.to_string()))?;
        std::fs::create_dir_all(&self.directory)
            .map_err(|error| StageError::Fail(format!("cannot write {}: {error}", self.directory.display())))
    }

    fn metrics(&self) -> BTreeMap<String, f64> {
        BTreeMap::from([("reports_total".to_owned(), self.reports.load(Ordering::Relaxed) as f64)])
    }

    async fn cleanup(&self) -> Result<(), StageError> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_lie_below_their_directory() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("reports");
        let elsewhere = dir.path().join("elsewhere");
        std::fs::create_dir_all(root.join("old")).unwrap();
        std::fs::create_dir(&elsewhere).unwrap();
        std::os::unix::fs::symlink(&elsewhere, root.join("link")).unwrap();
        let check = |asked: &str, expected: Option<&str>| {
            let found = below(&root, Path::new(asked));
            assert_eq!(found.ok(), expected.map(|inner| root.join(inner)), "{asked}");
        };
        check("new", Some("new"));
        check("old/new/newer", Some("old/new/newer"));
        check(root.join("old").to_str().unwrap(), Some("old"));
        check("", None);
        check("..", None);
        check("old/../../elsewhere", None);
        check("./new", None);
        check(root.to_str().unwrap(), None);
        check(elsewhere.to_str().unwrap(), None);
        check("/etc", None);
        check(&format!("{}/../elsewhere", root.display()), None);
        check("link", None);
        check("link/new", None);
        check(&format!("{}-sibling", root.display()), None);
    }
}
