//! Pulls a model from a hub into the store. The model appears there only when every file is
//! complete and verified.

use std::collections::BTreeSet;
use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use chrono::Utc;
use reqwest::StatusCode;
use serde::Serialize;

use super::files::{self, CHECKPOINTS};
use super::hub::{FileResponse, Hub, HubError, HubOptions, ListedFile, Listing, Retries};
use super::meter::{Bytes, Meter};
use super::record::{Digests, FileRecord, PublishedDigest, Record, Source};
use super::work::{ModelLock, Partial, WorkingFolder, check_room};
use super::{check_folder, check_name, install};
use crate::error::{Hint, Hinted};
use crate::output::progress;

/// Default branch of repositories on the hub.
const DEFAULT_REVISION: &str = "main";

/// Request for a model.
#[derive(Debug, Clone)]
pub struct Request {
    /// ORGANISATION/NAME.
    pub name: String,
    /// Branch, tag or commit; the main branch if unset.
    pub revision: Option<String>,
    /// GGUF file to pull from a repository with several.
    pub file: Option<String>,
    /// True to stay off the network.
    pub offline: bool,
}

/// Result of a pull.
#[derive(Debug, Serialize)]
pub struct Pulled {
    /// ORGANISATION/NAME.
    pub name: String,
    /// Folder in the store.
    pub path: PathBuf,
    /// The commit, if known.
    pub revision: Option<String>,
    /// The hub, or another origin.
    pub origin: Option<String>,
    /// True if the store was changed.
    pub changed: bool,
    /// Size of the model.
    pub bytes: u64,
    /// Bytes received by this pull.
    pub received: u64,
    /// The files with their digests.
    pub files: Vec<FileRecord>,
}

impl fmt::Display for Pulled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verb = if self.changed { "pulled" } else { "is up to date" };
        write!(f, "{} {verb}", self.name)?;
        if let Some(revision) = &self.revision {
            write!(f, " at {revision}")?;
        }
        writeln!(f, ": {} files, {}, {}", self.files.len(), Bytes(self.bytes), self.path.display())
    }
}

/// Pulls a model, unless the store has it at that revision.
///
/// # Errors
/// If the hub refuses, a file does not match its digest, or the store cannot be written to. Files
/// received so far are kept, and the next pull resumes from there.
pub async fn pull(store: &Path, request: &Request, options: &HubOptions) -> anyhow::Result<Pulled> {
    check_name(&request.name)?;
    let asked = request.revision.as_deref().unwrap_or(DEFAULT_REVISION);
    check_revision(asked)?;
    if request.offline {
        return offline(store, request);
    }
    // A commit never changes, so a stored one needs no request.
    if let Some(pulled) = up_to_date(store, request, asked)? {
        return Ok(pulled);
    }
    // Another process may have pulled it while this one waited for the lock, so check once more
    // after the listing.
    let hub = Hub::new(options)?;
    let _lock = lock(store, &request.name).await?;
    let listing = hub.listing(&request.name, asked).await.map_err(advise)?;
    if let Some(pulled) = up_to_date(store, request, &listing.sha)? {
        return Ok(pulled);
    }
    let work = WorkingFolder::of(store, &request.name)?;
    let mut pull =
        Pull { hub: &hub, listing: &listing, request, store, work, meter: Meter::new(), received: 0 };
    let record = pull.gather(asked).await?;
    let (received, path) = (pull.received, pull.finish(&record)?);
    Ok(Pulled { changed: true, received, ..summary(&request.name, path, Some(record)) })
}

fn summary(name: &str, path: PathBuf, record: Option<Record>) -> Pulled {
    Pulled {
        name: name.to_owned(),
        path,
        changed: false,
        received: 0,
        bytes: record.as_ref().map_or(0, Record::bytes),
        revision: record.as_ref().and_then(|record| record.revision.clone()),
        origin: record.as_ref().map(|record| record.origin.clone()),
        files: record.map(|record| record.files).unwrap_or_default(),
    }
}

impl Request {
    /// True if the model contains the requested file, if any.
    fn finds_its_file(&self, record: &Record) -> bool {
        self.file.as_ref().is_none_or(|file| record.files.iter().any(|has| has.path == *file))
    }
}

/// Returns the stored model if it is at this commit with all its files.
fn up_to_date(store: &Path, request: &Request, commit: &str) -> anyhow::Result<Option<Pulled>> {
    let (name, path) = (request.name.as_str(), store.join(&request.name));
    let record = Record::read(&path)?;
    let here = record.filter(|record| {
        record.source == Source::Hub
            && record.revision.as_deref() == Some(commit)
            && request.finds_its_file(record)
            // Sizes only: reading gigabytes each time is for `models verify`.
            && record.looks_whole(&path)
    });
    Ok(here.map(|record| summary(name, path, Some(record))))
}

/// Returns the stored model if it satisfies the request without network access.
fn offline(store: &Path, request: &Request) -> anyhow::Result<Pulled> {
    let path = store.join(&request.name);
    let hint = "pull it on a machine that can reach a hub and copy its folder here with `observatory models import`, \
                or omit --offline and OBSERVATORY_OFFLINE";
    if check_folder(&path).is_err() {
        let text = format!("offline, and {} is not in the model store {}", request.name, store.display());
        return Err(Hinted::error(text, hint));
    }
    let record = Record::read(&path)?;
    if let Some(file) = &request.file
        && !record.as_ref().is_some_and(|record| request.finds_its_file(record))
    {
        return Err(Hinted::error(
            format!("offline, and {} in the model store is not {file}", request.name),
            hint,
        ));
    }
    if let Some(asked) = &request.revision {
        let has = record.as_ref().and_then(|record| record.revision.as_deref());
        let branch = record.as_ref().and_then(|record| record.requested.as_deref());
        if has != Some(asked) && branch != Some(asked) {
            let has = has.unwrap_or("an unknown revision");
            let text = format!("offline, and {} in the model store is at {has}, not {asked}", request.name);
            return Err(Hinted::error(text, hint));
        }
    }
    Ok(summary(&request.name, path, record))
}

fn check_revision(revision: &str) -> anyhow::Result<()> {
    // It becomes a part of URLs; git forbids `..` in the names of branches, too.
    let good = !revision.is_empty()
        && revision.len() <= 250
        && revision.chars().all(|char| char.is_ascii_alphanumeric() || "-_./+".contains(char))
        && !revision.starts_with(['-', '/'])
        && !revision.contains("..");
    ensure!(good, "invalid revision `{revision}`: expected a branch, tag or commit");
    Ok(())
}

async fn lock(store: &Path, name: &str) -> anyhow::Result<ModelLock> {
    let (store, name) = (store.to_owned(), name.to_owned());
    tokio::task::spawn_blocking(move || ModelLock::on(&store, &name)).await?
}

/// Adds a hint to an error of the hub.
fn advise(error: HubError) -> anyhow::Error {
    let hint = match &error {
        HubError::NotFound { .. } => {
            "check the name and the revision; a private model is not found without a token in HF_TOKEN"
        }
        HubError::Refused { status: 401 | 403, .. } => {
            "set HF_TOKEN to a token that may read it; to use a gated model, accept its terms on the hub first"
        }
        HubError::Busy { .. } | HubError::Network { .. } => {
            "try again later, which resumes the pull, or set HF_ENDPOINT to a mirror"
        }
        _ => "check the address of the hub in HF_ENDPOINT",
    };
    Hinted::wrap(error, hint)
}

/// True if the hub has no such model, revision or file.
pub fn is_not_found(error: &anyhow::Error) -> bool {
    let hinted = error.chain().filter_map(|cause| cause.downcast_ref::<Hinted>());
    hinted
        .filter_map(|hinted| hinted.inner().downcast_ref())
        .any(|error| matches!(error, HubError::NotFound { .. }))
}

/// A pull in progress.
struct Pull<'a> {
    hub: &'a Hub,
    listing: &'a Listing,
    request: &'a Request,
    store: &'a Path,
    work: WorkingFolder,
    meter: Meter,
    received: u64,
}

/// Failure of an attempt to get a file.
enum Fault {
    /// An error of the hub; another attempt may help.
    Hub(HubError),
    /// The file is complete but has the wrong digest. If it was resumed, the old bytes are to blame
    /// and it is downloaded again.
    Corrupt { resumed: bool, error: anyhow::Error },
    /// Another attempt does not help.
    Fatal(anyhow::Error),
}

impl From<HubError> for Fault {
    fn from(error: HubError) -> Self {
        Self::Hub(error)
    }
}

impl From<anyhow::Error> for Fault {
    fn from(error: anyhow::Error) -> Self {
        Self::Fatal(error)
    }
}

/// A complete file with a verified digest.
struct VerifiedFile {
    partial: PathBuf,
    record: FileRecord,
}

impl Pull<'_> {
    /// Downloads all selected files to the working folder, and assembles the model there.
    async fn gather(&mut self, asked: &str) -> anyhow::Result<Record> {
        let (name, sha) = (&self.request.name, &self.listing.sha);
        let published: Vec<&str> = self.listing.files.iter().map(|file| file.path.as_str()).collect();
        let wanted = files::wanted(&published, self.request.file.as_deref())
            .with_context(|| format!("cannot pull {name} at {sha}"))?;
        let listed = self.listing.files.iter().filter(|file| wanted.contains(&file.path.as_str()));
        let listed: Vec<ListedFile> = listed.cloned().collect();
        self.reuse(&listed)?;
        let total: u64 = listed.iter().filter_map(|file| file.size).sum();
        let missing = total.saturating_sub(self.work.bytes()?);
        check_room(self.store, name, missing)?;
        progress(format_args!(
            "pulling {name} at {sha} from {}: {} files, {} of {} missing",
            self.hub.address(),
            listed.len(),
            Bytes(missing),
            Bytes(total)
        ));
        let mut whole = Vec::new();
        for file in &listed {
            whole.push(self.fetch(file).await.with_context(|| format!("cannot pull {name}"))?);
        }
        self.meter.clear();
        let record = Record {
            source: Source::Hub,
            origin: self.hub.address(),
            requested: Some(asked.to_owned()),
            revision: Some(sha.clone()),
            recorded_at: Utc::now(),
            files: whole.iter().map(|file| file.record.clone()).collect(),
        };
        // The record last: without one a folder is not taken for a pulled model.
        record.write(&self.assemble(whole)?)?;
        Ok(record)
    }

    /// Moves the verified files to their names in a model; returns its folder.
    fn assemble(&self, whole: Vec<VerifiedFile>) -> anyhow::Result<PathBuf> {
        let model = self.work.empty_model()?;
        for file in whole {
            let to = model.join(&file.record.path);
            let moved = fs::create_dir_all(to.parent().unwrap_or(&model))
                .and_then(|()| fs::rename(file.partial, &to));
            moved.with_context(|| format!("cannot write {}", to.display()))?;
        }
        check_index(&model)?;
        Ok(model)
    }

    /// Moves the assembled model into the store.
    fn finish(self, record: &Record) -> anyhow::Result<PathBuf> {
        let (model, target) = (self.work.model(), self.store.join(&self.request.name));
        ensure!(record.looks_whole(&model), "{} was changed during the pull", model.display());
        install(&model, &target)?;
        self.work.clear();
        Ok(target)
    }

    /// Links files that the stored model already has with the same digest.
    fn reuse(&self, listed: &[ListedFile]) -> anyhow::Result<()> {
        let target = self.store.join(&self.request.name);
        let Some(record) = Record::read(&target)? else { return Ok(()) };
        for file in listed {
            let (Some(digest), Some(size)) = (&file.digest, file.size) else { continue };
            let has = record.files.iter().find(|has| has.path == file.path && has.size == size);
            let same = has.is_some_and(|has| {
                has.sha256 == digest.hex() || has.git_blob.as_deref() == Some(digest.hex())
            });
            let (from, to) = (target.join(&file.path), self.work.partial(&file.path, digest));
            // A shorter file would be appended to through the link, which would damage the stored
            // model.
            let is_whole = fs::metadata(&from).is_ok_and(|found| found.len() == size);
            if same && is_whole && !to.exists() && fs::hard_link(&from, &to).is_err() {
                fs::copy(&from, &to).with_context(|| format!("cannot copy {}", from.display()))?;
            }
        }
        Ok(())
    }

    /// Downloads a file, with retries.
    async fn fetch(&mut self, file: &ListedFile) -> anyhow::Result<VerifiedFile> {
        let mut retries = Retries::new(self.hub.retry);
        loop {
            let before = self.received;
            match self.attempt(file).await {
                Ok(whole) => return Ok(whole),
                Err(Fault::Hub(error)) => {
                    // Slow but steady progress must not exhaust the attempts.
                    if self.received > before {
                        retries.reset();
                    }
                    self.meter.clear();
                    retries.pause(error).await.map_err(advise)?;
                }
                Err(Fault::Corrupt { resumed: true, error }) => {
                    self.meter.clear();
                    progress(format_args!("{error}; downloading it again"));
                }
                Err(Fault::Corrupt { error, .. } | Fault::Fatal(error)) => return Err(error),
            }
        }
    }

    async fn attempt(&mut self, file: &ListedFile) -> Result<VerifiedFile, Fault> {
        let partial = self.work.find(&file.path, file.digest.as_ref())?;
        if let Some(partial) = &partial
            && file.size.is_some_and(|size| partial.len >= size)
        {
            return self.check(file, partial, true).await;
        }
        let from = partial.as_ref().map_or(0, |partial| partial.len);
        let opened = self.open(file, from).await?;
        let digest = self.digest(file, &opened)?;
        // The partial file belonged to another version, so the response starts at the wrong byte.
        let stale = self.work.find(&file.path, Some(&digest))?.is_none() && from > 0;
        let opened = if stale { self.open(file, 0).await? } else { opened };
        let from = if stale { 0 } else { from };
        match opened.status {
            StatusCode::RANGE_NOT_SATISFIABLE => {
                let all = Partial { path: self.work.partial(&file.path, &digest), digest, len: from };
                self.check(file, &all, true).await
            }
            // A server without support for ranges sends the whole file.
            StatusCode::PARTIAL_CONTENT if opened.start == from => {
                self.receive(file, opened, digest, from).await
            }
            StatusCode::PARTIAL_CONTENT => {
                let problem = format!("sent {} from byte {} instead of {from}", file.path, opened.start);
                Err(self.violation(problem))
            }
            _ => self.receive(file, opened, digest, 0).await,
        }
    }

    async fn open(&self, file: &ListedFile, from: u64) -> Result<FileResponse, HubError> {
        self.hub.open(&self.request.name, &self.listing.sha, &file.path, from).await
    }

    /// The digest according to listing and response, which must not disagree.
    fn digest(&self, file: &ListedFile, opened: &FileResponse) -> Result<PublishedDigest, Fault> {
        let problem = match (&file.digest, &opened.digest) {
            (Some(PublishedDigest::Sha256(listed)), Some(PublishedDigest::Sha256(sent)))
                if listed != sent =>
            {
                format!("lists {} with sha256 {listed}, but sent {sent}", file.path)
            }
            (Some(PublishedDigest::GitBlob(listed)), Some(PublishedDigest::GitBlob(sent)))
                if listed != sent =>
            {
                format!("lists {} with git blob sha1 {listed}, but sent {sent}", file.path)
            }
            (Some(digest), _) | (None, Some(digest)) => return Ok(digest.clone()),
            (None, None) => format!("gives no checksum of {}, which cannot be verified", file.path),
        };
        Err(self.violation(problem))
    }

    /// The hub broke the rules of its own interface; it will break them again.
    fn violation(&self, problem: String) -> Fault {
        Fault::Fatal(self.hub.protocol_error(problem).into())
    }

    /// Appends the body to the first `from` bytes, then verifies the file.
    async fn receive(
        &mut self,
        file: &ListedFile,
        mut opened: FileResponse,
        digest: PublishedDigest,
        from: u64,
    ) -> Result<VerifiedFile, Fault> {
        let size = file.size.or(opened.size);
        let path = self.work.partial(&file.path, &digest);
        let cannot = || format!("cannot write {}", path.display());
        let opening =
            OpenOptions::new().create(true).append(from > 0).write(true).truncate(from == 0).open(&path);
        let mut written: File = opening.with_context(cannot)?;
        self.meter.begin(&file.path, from, size);
        let mut len = from;
        while let Some(chunk) = opened.chunk().await? {
            let chunk = chunk.as_ref();
            len += chunk.len() as u64;
            if size.is_some_and(|size| len > size) {
                return Err(self.violation(format!("sent more bytes of {} than its size", file.path)));
            }
            written
                .write_all(chunk)
                .with_context(cannot)
                .hint("free some space and pull again; what was downloaded so far is kept")?;
            // Also if the attempt fails later: it has made progress, which resets the retries.
            self.received += chunk.len() as u64;
            self.meter.advance(chunk.len() as u64);
        }
        if let Some(size) = size.filter(|size| len < *size) {
            let reason = format!("the connection was closed after {len} of {size} bytes of {}", file.path);
            return Err(Fault::Hub(HubError::Network { host: self.hub.host(), reason }));
        }
        written.sync_all().with_context(cannot)?;
        self.check(file, &Partial { path, digest, len }, from > 0).await
    }

    /// Verifies the digest of a file, and deletes it if it is wrong.
    async fn check(
        &self,
        file: &ListedFile,
        partial: &Partial,
        resumed: bool,
    ) -> Result<VerifiedFile, Fault> {
        let path = partial.path.clone();
        // Hashing takes seconds, in which the runtime would stand still.
        let sums =
            tokio::task::spawn_blocking(move || Digests::of(&path)).await.map_err(anyhow::Error::from)??;
        let (kind, own, right) = sums.compare(&partial.digest);
        if !right {
            // The next attempt would resume it, and fail again.
            let _ = fs::remove_file(&partial.path);
            let says = partial.digest.hex();
            let error = anyhow::anyhow!("{}: expected {kind} {says}, got {own}", file.path);
            return Err(Fault::Corrupt { resumed, error });
        }
        let git_blob = matches!(partial.digest, PublishedDigest::GitBlob(_)).then_some(sums.git_blob);
        let record = FileRecord { path: file.path.clone(), size: sums.size, sha256: sums.sha256, git_blob };
        Ok(VerifiedFile { partial: partial.path.clone(), record })
    }
}

/// Checks that all parts in the index of the checkpoint exist.
fn check_index(model: &Path) -> anyhow::Result<()> {
    for name in CHECKPOINTS.iter().filter(|name| name.ends_with(".index.json")) {
        let Ok(text) = fs::read(model.join(name)) else { continue };
        let index: serde_json::Value =
            serde_json::from_slice(&text).with_context(|| format!("{name} is not valid JSON"))?;
        let parts = index.get("weight_map").and_then(serde_json::Value::as_object);
        let parts: BTreeSet<&str> =
            parts.into_iter().flatten().filter_map(|(_, part)| part.as_str()).collect();
        for part in parts {
            if !files::is_inside(part) || !model.join(part).is_file() {
                bail!("{name} refers to {part:?}, which the hub does not list");
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_revision_is_a_branch_a_tag_or_a_commit() {
        for good in ["main", "v1.0", "refs/pr/1", &"a".repeat(40)] {
            check_revision(good).unwrap();
        }
        for bad in ["", "-x", "a b", "../x", "a\nb", "/x", "a?b", "a#b"] {
            assert!(check_revision(bad).is_err(), "{bad:?}");
        }
    }
}
