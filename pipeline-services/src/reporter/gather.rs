//! Reads the figures of a run into a report document.
//!
//! All SQL is in `store`; here rows become the parts of a document, and what a run worked
//! with becomes its models, notices and methods.

use std::collections::HashMap;

use chrono::{NaiveDate, Utc};
use serde_json::Value;

use super::comparison::MIN_GROUP;
use super::document::{
    CategoryRow, CharSpan, ClusterSection, Count, CountryCount, CountryScope, DOCUMENT_VERSION, DataQuality,
    DateRange, Filter, Language, Methods, ModelUse, Notice, Parameter, PortalScope, Publication, Quote,
    ReportDocument, Run as RunSection, Scope as ScopeSection, SkillEvidence, SkillRow, StageRow, TaxonomyUse,
    Totals,
};
use crate::{
    domain::run::{
        RunState, StageName, StageState,
        facts::{EmbedFacts, EnhanceFacts, RunFacts},
    },
    store::{
        PgConnection, SqlResult,
        figures::{self, Evidence, Extent, SkillFigures},
        runs::{Run, Scope, StageProgress},
        taxonomies,
    },
    text::sentences::sentence_at,
};

mod clusters;
mod occupations;

/// Skills whose evidence is shown: as many as the chart of top skills has.
const SHOWN_SKILLS: usize = 15;
/// Quotes of each. A choice, not tuned.
const QUOTES: i64 = 3;

/// Settings of the reporter about its reports.
#[derive(Debug, Clone, Default)]
pub(super) struct Edition {
    /// Language of the report's own words.
    pub(super) language: Language,
    /// True if the advertisements are invented.
    pub(super) invented: bool,
    /// Person or institution that answers for it.
    pub(super) publication: Publication,
}

/// Amounts that can be reported on.
#[derive(Debug, Clone, Copy)]
struct Found {
    postings: u64,
    clustered: bool,
    taxonomy: bool,
}

fn size(count: i64) -> u64 {
    count.unsigned_abs()
}

/// The document of a run: its scope's figures as they stand now.
///
/// # Errors
/// If a statement fails.
pub(super) async fn document(
    connection: &mut PgConnection,
    run: &Run,
    edition: &Edition,
) -> SqlResult<ReportDocument> {
    let scope = run.scope();
    let extent = figures::extent(connection, &scope).await?;
    let rows = figures::skills(connection, &scope).await?;
    let clusters = clusters::section(connection, run, &scope, &rows).await?;
    let skills = skill_rows(&rows, clusters.as_ref());
    let taxonomy = taxonomy_use(connection).await?;
    // Without the facts of a run that another release wrote, the figures are still a report.
    let facts = run.facts().unwrap_or_default();
    let found = Found {
        postings: size(extent.postings),
        clustered: clusters.is_some(),
        taxonomy: taxonomy.is_some(),
    };
    Ok(ReportDocument {
        version: DOCUMENT_VERSION,
        language: edition.language,
        title: None,
        generated_at: Utc::now(),
        publication: edition.publication.clone(),
        scope: scope_section(connection, run, &scope, &extent).await?,
        run: run_section(run),
        models: models(&facts, clusters.as_ref()),
        notices: notices(run, &facts, edition, found),
        totals: totals(connection, &scope, &rows).await?,
        categories: categories(connection, &scope).await?,
        occupations: occupations::section(connection, &scope).await?,
        evidence: evidence(connection, &scope, &skills).await?,
        quality: quality(connection, &scope, &extent).await?,
        methods: methods(&facts, taxonomy),
        skills,
        clusters,
    })
}

async fn scope_section(
    connection: &mut PgConnection,
    run: &Run,
    scope: &Scope,
    extent: &Extent,
) -> SqlResult<ScopeSection> {
    let countries = figures::countries(connection, scope).await?;
    let places = figures::places(connection, scope).await?;
    Ok(ScopeSection {
        postings: size(extent.postings),
        sightings: size(extent.sightings),
        countries: countries
            .into_iter()
            .map(|country| CountryScope {
                code: country.code,
                name: Some(country.name),
                postings: size(country.postings),
            })
            .collect(),
        portals: places
            .into_iter()
            .map(|place| PortalScope {
                portal: place.portal,
                country: Some(place.country),
                sightings: size(place.sightings),
            })
            .collect(),
        published: days(extent.published_from, extent.published_to),
        collected: days(
            extent.collected_from.map(|time| time.date_naive()),
            extent.collected_to.map(|time| time.date_naive()),
        ),
        filters: filters(run, scope),
    })
}

fn days(from: Option<NaiveDate>, to: Option<NaiveDate>) -> Option<DateRange> {
    Some(DateRange { from: from?, to: to? })
}

/// The filters that were asked for; each of them is in the [`Scope`] that every figure is read
/// with.
fn filters(run: &Run, scope: &Scope) -> Vec<Filter> {
    let (portals, countries) = (scope.portals.clone(), scope.countries.clone());
    let portals = (!portals.is_empty()).then_some(Filter::Portals { names: portals });
    let countries = (!countries.is_empty()).then_some(Filter::Countries { codes: countries });
    let since = scope.since.map(|from| Filter::Since { seconds: run.options.since_seconds, from });
    let first = (scope.limit > 0).then(|| Filter::First { postings: size(scope.limit) });
    [portals, countries, since, first].into_iter().flatten().collect()
}

fn run_section(run: &Run) -> RunSection {
    RunSection {
        run_id: run.run_id.to_string(),
        started_at: run.created_at,
        finished_at: run.stages.iter().filter_map(|stage| stage.finished_at).max(),
        partial: !run.problems.is_empty() || run.stages.iter().any(|stage| stage.failed > 0),
        // The stage of the report is still at work while this is read.
        stages: run.stages.iter().filter(|stage| stage.stage != StageName::Report).map(stage_row).collect(),
    }
}

fn stage_row(stage: &StageProgress) -> StageRow {
    let state = match stage.state {
        StageState::Done if stage.failed > 0 => RunState::Partial.name(),
        StageState::Done => RunState::Succeeded.name(),
        other => other.name(),
    };
    StageRow {
        stage: stage.stage.to_string(),
        state: state.to_owned(),
        succeeded: size(stage.done),
        failed: size(stage.failed),
        skipped: size(stage.up_to_date),
        duration_ms: stage.seconds().map(|seconds| (seconds * 1000.0).max(0.0) as u64),
    }
}

fn models(facts: &RunFacts, clusters: Option<&ClusterSection>) -> Vec<ModelUse> {
    let mut models = Vec::new();
    if let Some(EnhanceFacts { version: Some(version), made_by, .. }) = &facts.enhance {
        models.push(ModelUse {
            role: "enhancer".to_owned(),
            name: made_by.clone().unwrap_or_default(),
            revision: Some(version.clone()),
            dimension: None,
            device: None,
        });
    }
    let embed = facts.embed.clone().unwrap_or_default();
    let name = embed.model.or_else(|| clusters.map(|section| section.embedding_model.clone()));
    if let Some(name) = name {
        models.push(ModelUse {
            role: "embedding".to_owned(),
            name,
            revision: embed.revision,
            dimension: embed.dimensions,
            device: None,
        });
    }
    models
}

fn notices(run: &Run, facts: &RunFacts, edition: &Edition, found: Found) -> Vec<Notice> {
    let mut notices = Vec::new();
    // Other addresses than the portals' own: a simulation or a replay.
    let address = facts.scrape.as_ref().and_then(|scrape| scrape.base_url.clone());
    if edition.invented {
        notices.push(Notice::InventedPostings);
    // One warning is enough: what is invented was never on a portal.
    } else if let Some(source) = address {
        notices.push(Notice::OtherAddress { source });
    }
    if found.postings < MIN_GROUP {
        notices.push(Notice::FewPostings { postings: found.postings });
    }
    if let Some(embed) = facts.embed.as_ref().filter(|embed| found.clustered && is_foreign(embed)) {
        notices.push(Notice::IllustrativeClusters { model: embed.model.clone().unwrap_or_default() });
    }
    for stage in run.stages.iter().filter(|stage| stage.stage != StageName::Report) {
        let problem = run.problems.iter().find(|problem| problem.stage() == Some(stage.stage));
        let incomplete = matches!(stage.state, StageState::Failed | StageState::Skipped);
        if problem.is_some() || stage.failed > 0 || incomplete {
            let reason = problem.map(ToString::to_string);
            notices.push(Notice::PartialRun { stage: stage.stage.to_string(), reason });
        }
    }
    if !found.taxonomy {
        notices.push(Notice::NoTaxonomy);
    }
    notices
}

/// Returns whether the model says that it was trained on other languages than Spanish.
fn is_foreign(embed: &EmbedFacts) -> bool {
    // A model that names no language gives no ground for a warning.
    !embed.languages.is_empty() && !embed.languages.iter().any(|tag| tag == "es" || tag == "multilingual")
}

async fn totals(connection: &mut PgConnection, scope: &Scope, rows: &[SkillFigures]) -> SqlResult<Totals> {
    let mentions = figures::mentions(connection, scope).await?;
    Ok(Totals {
        skills: rows.iter().filter(|row| row.job_count > 0).count() as u64,
        skills_with_uri: rows.iter().filter(|row| row.job_count > 0 && row.uri.is_some()).count() as u64,
        postings_with_skills: size(mentions.postings_with_skills),
        postings_with_digital: size(mentions.postings_with_digital),
        explicit_mentions: size(mentions.explicit),
        implicit_mentions: size(mentions.implicit),
        mentions_with_uri: size(mentions.with_uri),
    })
}

async fn categories(connection: &mut PgConnection, scope: &Scope) -> SqlResult<Vec<CategoryRow>> {
    let rows = figures::categories(connection, scope).await?;
    Ok(rows
        .into_iter()
        .map(|row| CategoryRow {
            category: row.category,
            skills: size(row.skills),
            job_count: size(row.job_count),
        })
        .collect())
}

fn skill_rows(rows: &[SkillFigures], clusters: Option<&ClusterSection>) -> Vec<SkillRow> {
    let placed: HashMap<&str, i32> = clusters
        .into_iter()
        .flat_map(|section| &section.points)
        .filter_map(|point| Some((point.label.as_str(), point.cluster?)))
        .collect();
    rows.iter()
        .map(|row| SkillRow {
            label: row.label.clone(),
            kind: row.kind.clone(),
            category: row.category.clone(),
            uri: row.uri.clone(),
            preferred_label: row.preferred_label.clone(),
            job_count: size(row.job_count),
            implicit_count: size(row.implicit_count),
            countries: country_counts(&row.countries),
            cluster: placed.get(row.label.as_str()).copied(),
        })
        .collect()
}

fn country_counts(counts: &Value) -> Vec<CountryCount> {
    let mut counts: Vec<CountryCount> = counts
        .as_object()
        .into_iter()
        .flatten()
        .map(|(country, jobs)| CountryCount {
            country: country.clone(),
            job_count: jobs.as_u64().unwrap_or(0),
        })
        .collect();
    counts.sort_by(|left, right| right.job_count.cmp(&left.job_count).then(left.country.cmp(&right.country)));
    counts
}

async fn evidence(
    connection: &mut PgConnection,
    scope: &Scope,
    skills: &[SkillRow],
) -> SqlResult<Vec<SkillEvidence>> {
    let shown: Vec<String> = skills.iter().take(SHOWN_SKILLS).map(|skill| skill.label.clone()).collect();
    let mut quotes: HashMap<String, Vec<Quote>> = HashMap::new();
    for row in figures::evidence(connection, scope, &shown, QUOTES).await? {
        quotes.entry(row.label.clone()).or_default().push(quote(row));
    }
    // By the ranking, since a map keeps no order.
    Ok(shown
        .into_iter()
        .filter_map(|label| quotes.remove(&label).map(|quotes| SkillEvidence { label, quotes }))
        .collect())
}

/// The sentence around a mention, cut where the mention begins and ends.
fn quote(row: Evidence) -> Quote {
    let (start, end) = (row.start.unsigned_abs(), row.end.unsigned_abs());
    let sentence = sentence_at(&row.text, start, end);
    Quote {
        before: part(&row.text, sentence.start, start),
        surface: part(&row.text, start, end),
        after: part(&row.text, end, sentence.end),
        job_id: row.job_id.to_string(),
        portal: row.portal,
        country: row.country,
        url: Some(row.url),
        published: row.posted_date,
        field: row.field,
        span: Some(CharSpan { start: u64::from(start), end: u64::from(end) }),
        method: row.method.split('+').map(str::to_owned).collect(),
        confidence: row.confidence,
    }
}

fn part(text: &str, from: u32, to: u32) -> String {
    // Places count code points, not bytes.
    text.chars().skip(from as usize).take(to.saturating_sub(from) as usize).collect()
}

async fn quality(connection: &mut PgConnection, scope: &Scope, extent: &Extent) -> SqlResult<DataQuality> {
    // What was removed and refused is counted for the whole store and belongs to no posting.
    let (mut refused, mut removed) = (None, None);
    if scope.is_everything() {
        refused = Some(counts(figures::refused(connection).await?));
        removed = Some(counts(figures::removed(connection).await?));
    }
    Ok(DataQuality {
        // Never negative: every posting in scope has a sighting.
        duplicates_folded: size(extent.sightings - extent.postings),
        refused,
        personal_data_removed: removed,
        undated: size(extent.undated),
        without_skills: size(extent.without_skills),
        quarantined: size(extent.quarantined),
    })
}

fn counts(rows: Vec<(String, i64)>) -> Vec<Count> {
    rows.into_iter().map(|(name, count)| Count { name, count: size(count) }).collect()
}

async fn taxonomy_use(connection: &mut PgConnection) -> SqlResult<Option<TaxonomyUse>> {
    let all = taxonomies::list(connection).await?;
    let Some(active) = all.into_iter().find(|taxonomy| taxonomy.active) else { return Ok(None) };
    Ok(Some(TaxonomyUse {
        languages: taxonomies::languages(connection, active.taxonomy_id).await?,
        name: active.name,
        version: active.version,
        concepts: size(active.skills + active.occupations),
    }))
}

fn methods(facts: &RunFacts, taxonomy: Option<TaxonomyUse>) -> Methods {
    let extract = facts.extract.clone().unwrap_or_default();
    let enhance = facts.enhance.clone().unwrap_or_default();
    let versions = [(StageName::Extract, extract.version), (StageName::Enhance, enhance.version)];
    let mut parameters = Vec::new();
    for (stage, version) in versions {
        if let Some(value) = version {
            parameters.push(Parameter { name: format!("{stage}.version"), value });
        }
    }
    Methods {
        code_version: env!("CARGO_PKG_VERSION").to_owned(),
        lexicon_version: extract.lexicon,
        taxonomy,
        parameters,
    }
}
