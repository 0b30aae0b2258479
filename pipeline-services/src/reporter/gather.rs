//! Reads the figures of a run into a report document.

use std::collections::HashMap;

use chrono::Utc;
use serde_json::Value;

use super::document::{
    CategoryRow, CharSpan, ClusterMetrics, ClusterRow, ClusterSection, Count, CountryCount, CountryScope,
    DOCUMENT_VERSION, DataQuality, DateRange, Language, MapPoint, Methods, ModelUse, Notice, Parameter,
    PortalScope, Quote, ReportDocument, Run as RunSection, Scope as ScopeSection, SkillEvidence, SkillRow,
    StageRow, TaxonomyUse, Totals,
};
use crate::{
    store::{
        PgConnection, SqlResult, analyses,
        figures::{self, Evidence, Extent, Scope, SkillFigures},
        runs::{Run, StageProgress},
        taxonomies,
    },
    text::sentences::sentence_at,
};

/// Skills whose evidence is shown.
const SHOWN_SKILLS: usize = 15;
/// Quotes of each.
const QUOTES: i64 = 3;
/// Points on the map; the most demanded come first.
const POINTS: usize = 4_000;

fn size(count: i64) -> u64 {
    count.unsigned_abs()
}

/// The document of a run: its scope's figures as they stand now.
///
/// # Errors
/// When a statement fails.
pub(super) async fn document(
    connection: &mut PgConnection,
    run: &Run,
    language: Language,
) -> SqlResult<ReportDocument> {
    let scope = Scope { portals: run.options.portals.clone(), countries: run.options.countries.clone() };
    let extent = figures::extent(connection, &scope).await?;
    let rows = figures::skills(connection, &scope).await?;
    let clusters = clusters(connection, run, &rows).await?;
    let skills = skill_rows(&rows, clusters.as_ref());
    let taxonomy = taxonomy_use(connection).await?;
    Ok(ReportDocument {
        version: DOCUMENT_VERSION,
        language,
        title: None,
        generated_at: Utc::now(),
        scope: scope_section(connection, run, &scope, &extent).await?,
        run: run_section(run),
        models: models(run, clusters.as_ref()),
        notices: notices(run, language, clusters.is_some(), taxonomy.is_some()),
        totals: totals(connection, &scope, &rows).await?,
        categories: categories(connection, &scope).await?,
        evidence: evidence(connection, &scope, &skills).await?,
        quality: quality(connection, &extent).await?,
        methods: methods(run, taxonomy),
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
    let days = |from, to| Some(DateRange { from: from?, to: to? });
    Ok(ScopeSection {
        postings: size(extent.postings),
        sightings: size(extent.sightings),
        vacancies: None,
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
        filters: filters(run),
    })
}

fn filters(run: &Run) -> Vec<Parameter> {
    let options = &run.options;
    let mut filters = Vec::new();
    let mut add = |name: &str, value: String| filters.push(Parameter { name: name.to_owned(), value });
    if !options.portals.is_empty() {
        add("portal", options.portals.join(", "));
    }
    if !options.countries.is_empty() {
        add("country", options.countries.join(", "));
    }
    if options.since_seconds > 0 {
        add("since", format!("{} s", options.since_seconds));
    }
    if options.limit > 0 {
        add("limit", options.limit.to_string());
    }
    filters
}

fn run_section(run: &Run) -> RunSection {
    RunSection {
        run_id: run.run_id.to_string(),
        started_at: run.created_at,
        finished_at: run.stages.iter().filter_map(|stage| stage.finished_at).max(),
        partial: !run.problems.is_empty() || run.stages.iter().any(|stage| stage.failed > 0),
        stages: run.stages.iter().filter(|stage| stage.stage != "report").map(stage_row).collect(),
    }
}

fn stage_row(stage: &StageProgress) -> StageRow {
    let state = match stage.state.as_str() {
        "done" if stage.failed > 0 => "partial",
        "done" => "succeeded",
        other => other,
    };
    StageRow {
        stage: stage.stage.clone(),
        state: state.to_owned(),
        succeeded: size(stage.done),
        failed: size(stage.failed),
        skipped: size(stage.up_to_date),
        duration_ms: stage.seconds().map(|seconds| (seconds * 1000.0).max(0.0) as u64),
    }
}

fn text(value: &Value) -> Option<String> {
    value.as_str().map(str::to_owned)
}

fn models(run: &Run, clusters: Option<&ClusterSection>) -> Vec<ModelUse> {
    let mut models = Vec::new();
    if let Some(version) = text(&run.summary["enhance"]["version"]) {
        models.push(ModelUse {
            role: "enhancer".to_owned(),
            name: text(&run.summary["enhance"]["made_by"]).unwrap_or_default(),
            revision: Some(version),
            dimension: None,
            device: None,
        });
    }
    let embed = &run.summary["embed"];
    let name = text(&embed["model"]).or_else(|| clusters.map(|section| section.embedding_model.clone()));
    if let Some(name) = name {
        models.push(ModelUse {
            role: "embedding".to_owned(),
            name,
            revision: text(&embed["revision"]),
            dimension: embed["dimensions"].as_u64().and_then(|length| u32::try_from(length).ok()),
            device: None,
        });
    }
    models
}

fn notices(run: &Run, language: Language, clustered: bool, has_taxonomy: bool) -> Vec<Notice> {
    let mut notices = Vec::new();
    let embed = &run.summary["embed"];
    let languages: Vec<&str> =
        embed["languages"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let foreign =
        !languages.is_empty() && !languages.iter().any(|tag| *tag == "es" || *tag == "multilingual");
    if clustered && foreign {
        notices.push(Notice::IllustrativeClusters { model: text(&embed["model"]).unwrap_or_default() });
    }
    for stage in run.stages.iter().filter(|stage| matches!(stage.state.as_str(), "failed" | "skipped")) {
        let reason = run.problems.iter().find(|problem| problem.starts_with(&stage.stage));
        let unknown = match language {
            Language::Es => "sin motivo registrado",
            Language::En => "no reason recorded",
        };
        notices.push(Notice::PartialRun {
            stage: stage.stage.clone(),
            reason: reason.cloned().unwrap_or_else(|| unknown.to_owned()),
        });
    }
    // Other addresses than the portals' own: a simulation or a replay, not the labour market.
    if let Some(source) = text(&run.summary["scrape"]["base_url"]) {
        notices.push(Notice::SimulatedPostings { source });
    }
    if !has_taxonomy {
        notices.push(Notice::NoTaxonomy);
    }
    notices
}

async fn totals(connection: &mut PgConnection, scope: &Scope, rows: &[SkillFigures]) -> SqlResult<Totals> {
    let mentions = figures::mentions(connection, scope).await?;
    Ok(Totals {
        skills: rows.iter().filter(|row| row.job_count > 0).count() as u64,
        skills_with_uri: rows.iter().filter(|row| row.job_count > 0 && row.uri.is_some()).count() as u64,
        postings_with_skills: size(mentions.postings_with_skills),
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

async fn clusters(
    connection: &mut PgConnection,
    run: &Run,
    rows: &[SkillFigures],
) -> SqlResult<Option<ClusterSection>> {
    let Some(analysis) = analyses::find(connection, Some(run.run_id)).await? else { return Ok(None) };
    let found = analyses::clusters(connection, analysis.analysis_id).await?;
    let mut points = analyses::points(connection, analysis.analysis_id).await?;
    let noise = points.iter().filter(|point| point.cluster_id.is_none()).count() as u64;
    let all = points.len() as u64;
    points.sort_by(|left, right| right.job_count.cmp(&left.job_count).then(left.label.cmp(&right.label)));
    points.truncate(POINTS);
    let known: HashMap<&str, u64> =
        rows.iter().map(|row| (row.label.as_str(), size(row.job_count))).collect();
    let metric = |name: &str| analysis.results["quality_metrics"][name].as_f64();
    Ok(Some(ClusterSection {
        embedding_model: analysis.model_name.unwrap_or_default(),
        parameters: parameters(&analysis.parameters),
        metrics: ClusterMetrics {
            points: all,
            noise,
            silhouette: metric("silhouette_score"),
            davies_bouldin: metric("davies_bouldin_index"),
        },
        clusters: found
            .into_iter()
            .map(|cluster| ClusterRow {
                cluster_id: cluster.cluster_id,
                label: cluster.label,
                size: u64::from(cluster.size.unsigned_abs()),
                job_count: None,
                top_skills: cluster.top_skills,
                cohesion: Some(cluster.cohesion_score),
            })
            .collect(),
        points: points
            .into_iter()
            .map(|point| MapPoint {
                job_count: known.get(point.label.as_str()).copied().unwrap_or(size(point.job_count)),
                label: point.label,
                x: f64::from(point.x),
                y: f64::from(point.y),
                cluster: point.cluster_id,
            })
            .collect(),
    }))
}

/// `{"umap": {"n_neighbors": 15}}` as `umap.n_neighbors = 15`.
fn parameters(nested: &Value) -> Vec<Parameter> {
    let mut flat = Vec::new();
    for (group, values) in nested.as_object().into_iter().flatten() {
        match values.as_object() {
            None => flat.push(Parameter { name: group.clone(), value: plain(values) }),
            Some(values) => flat.extend(
                values
                    .iter()
                    .map(|(name, value)| Parameter { name: format!("{group}.{name}"), value: plain(value) }),
            ),
        }
    }
    flat
}

fn plain(value: &Value) -> String {
    text(value).unwrap_or_else(|| value.to_string())
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
    Ok(shown
        .into_iter()
        .filter_map(|label| quotes.remove(&label).map(|quotes| SkillEvidence { label, quotes }))
        .collect())
}

/// The sentence around a mention, cut where the mention begins and ends.
fn quote(row: Evidence) -> Quote {
    let (start, end) = (row.start.unsigned_abs(), row.end.unsigned_abs());
    let sentence = sentence_at(&row.text, start, end);
    let part = |from: u32, to: u32| -> String {
        row.text.chars().skip(from as usize).take(to.saturating_sub(from) as usize).collect()
    };
    Quote {
        before: part(sentence.start, start),
        surface: part(start, end),
        after: part(end, sentence.end),
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

async fn quality(connection: &mut PgConnection, extent: &Extent) -> SqlResult<DataQuality> {
    let counts = |rows: Vec<(String, i64)>| {
        rows.into_iter().map(|(name, count)| Count { name, count: size(count) }).collect()
    };
    Ok(DataQuality {
        duplicates_folded: size(extent.sightings - extent.postings),
        undated: size(extent.undated),
        without_skills: size(extent.without_skills),
        quarantined: size(extent.quarantined),
        personal_data_removed: counts(figures::removed(connection).await?),
        refused: counts(figures::refused(connection).await?),
        ..DataQuality::default()
    })
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

fn methods(run: &Run, taxonomy: Option<TaxonomyUse>) -> Methods {
    let version = |stage: &str| {
        let value = text(&run.summary[stage]["version"])?;
        Some(Parameter { name: format!("{stage}.version"), value })
    };
    Methods {
        code_version: env!("CARGO_PKG_VERSION").to_owned(),
        lexicon_version: text(&run.summary["extract"]["lexicon"]),
        taxonomy,
        parameters: ["extract", "enhance"].into_iter().filter_map(version).collect(),
    }
}
