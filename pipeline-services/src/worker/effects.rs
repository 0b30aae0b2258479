//! Writes what a stage handed back, on the transaction that also ends its task.
//!
//! Here alone are rows of stages written. Nothing is read back from a stage: an effect that meets a
//! deadlock is applied again as it is.

use std::collections::BTreeMap;

use serde_json::Value;
use uuid::Uuid;

use crate::{
    domain::run::{
        Problem, StageName, StageState,
        facts::{ReportFacts, RunFacts, VisitFacts},
    },
    intake::{self, Prepared},
    stage::{Effect, Plan},
    store::{
        PgConnection, SqlResult, analyses, embeddings, occupations,
        postings::{self, Stored},
        reports, runs,
        skills::{self, Enhanced, Finished},
        tasks::{self, NewTask, Subject, Task},
        visits::{self, VisitProgress},
    },
};

/// Applies `effect` of `task`.
///
/// # Errors
/// If a statement fails; the caller rolls back.
pub(super) async fn apply(
    connection: &mut PgConnection,
    stage: StageName,
    task: &Task,
    effect: &Effect,
    max_retries: i32,
) -> SqlResult<()> {
    match effect {
        Effect::UpToDate | Effect::Vanished => Ok(()),
        Effect::Planned(plan) => planned(connection, stage, task.run_id, plan, max_retries).await,
        Effect::Gathered { visit, items, seen_again, refused } => {
            let visit_id = gathered(connection, task.run_id, visit, (items, refused)).await?;
            let place = (visit.portal.as_str(), visit.country.as_str());
            visits::saw_again(connection, visit_id, place, seen_again).await
        }
        Effect::Visited { portal, country, report, problem } => {
            visited(connection, task.run_id, (portal, country), report).await?;
            match problem {
                Some(problem) => runs::add_problem(connection, task.run_id, problem).await,
                None => Ok(()),
            }
        }
        Effect::Extracted { job_id, version, duration_ms, mentions, occupation, taxonomy } => {
            let finished = Finished { job_id: *job_id, version, duration_ms: *duration_ms };
            skills::replace_extracted(connection, &finished, mentions).await?;
            // After the mentions, whose lock keeps another run from the posting until the end.
            occupations::replace(connection, &finished, occupation.as_ref(), taxonomy.as_deref()).await?;
            // On the transaction of the mentions, so that no crash leaves a posting that never goes
            // on.
            follow_on(connection, task.run_id, *job_id, max_retries).await
        }
        Effect::Enhanced { job_id, version, duration_ms, skills, sources, makers, enhancement } => {
            let finished = Finished { job_id: *job_id, version, duration_ms: *duration_ms };
            let enhanced = Enhanced { skills, sources, makers, enhancement };
            skills::replace_enhanced(connection, &finished, &enhanced).await
        }
        Effect::Quarantined { job_id, reason } => {
            skills::quarantine(connection, stage.name(), *job_id, reason).await
        }
        Effect::Embedded { skill_id, model_id, vector } => {
            // A copy: a transaction that meets a deadlock is applied again from the same effect.
            embeddings::insert(connection, *skill_id, *model_id, vector.clone()).await
        }
        Effect::Analyzed(clustering) => {
            analyses::replace(connection, task.run_id, clustering).await?;
            let facts = RunFacts { analyze: Some(clustering.results.clone()), ..RunFacts::default() };
            runs::add_facts(connection, task.run_id, &facts).await
        }
        Effect::Reported { directory, artefacts } => {
            reports::replace(connection, task.run_id, directory, artefacts).await?;
            let artefacts = artefacts.iter().map(|artefact| artefact.name.clone()).collect();
            let report = ReportFacts { directory: directory.clone(), artefacts };
            let facts = RunFacts { report: Some(report), ..RunFacts::default() };
            runs::add_facts(connection, task.run_id, &facts).await
        }
    }
}

/// Stores what a visit found; returns the visit's id.
async fn gathered(
    connection: &mut PgConnection,
    run_id: Uuid,
    visit: &VisitProgress,
    (items, refused): (&[Prepared], &BTreeMap<String, u64>),
) -> SqlResult<i64> {
    let visit_id = visits::progress(connection, run_id, visit).await?;
    let outcomes = intake::store_batch(connection, items).await?;
    let mut refused = refused.clone();
    let mut stored = Vec::with_capacity(items.len());
    let mut new = 0;
    for (item, outcome) in items.iter().zip(outcomes) {
        match outcome {
            Ok(Stored::New(job_id)) => {
                new += 1;
                stored.push((item.external_id().to_owned(), job_id));
            }
            Ok(Stored::Duplicate(job_id)) => stored.push((item.external_id().to_owned(), job_id)),
            Err(refusal) => *refused.entry(refusal.field.to_owned()).or_default() += 1,
        }
    }
    visits::count(connection, visit_id, new, stored.len() as i64 - new).await?;
    postings::count_refused(connection, "scrape", &refused).await?;
    let place = (visit.portal.as_str(), visit.country.as_str());
    // After the sightings were stored, which it looks up.
    visits::saw(connection, visit_id, place, &stored).await?;
    Ok(visit_id)
}

/// Adds the facts about a visit to the summary of its run.
async fn visited(
    connection: &mut PgConnection,
    run_id: Uuid,
    (portal, country): (&str, &str),
    report: &Value,
) -> SqlResult<()> {
    // Counted from the rows, not in memory: another worker may have made the first half of the
    // visit.
    let (new, folded) = visits::stored(connection, run_id, portal, country).await?;
    let facts = VisitFacts { new, folded, crawl: report };
    runs::merge_summary(connection, run_id, &facts.patch(portal, country)).await
}

async fn planned(
    connection: &mut PgConnection,
    stage: StageName,
    run_id: Uuid,
    plan: &Plan,
    max_retries: i32,
) -> SqlResult<()> {
    let source = stage.service();
    let wanted: Vec<_> = plan.tasks.iter().cloned().map(|subject| NewTask { stage, subject }).collect();
    tasks::create(connection, run_id, source, &wanted, max_retries).await?;
    runs::set_up_to_date(connection, run_id, stage, plan.up_to_date).await?;
    // The model becomes active in the transaction of its plan: an outdated worker that lost its
    // task cannot switch models.
    if let Some(model) = &plan.model {
        embeddings::activate(connection, model).await?;
    }
    runs::add_facts(connection, run_id, &plan.facts).await?;
    if let Some(problem) = &plan.problem {
        runs::add_problem(connection, run_id, problem).await?;
    }
    if let Some(reason) = &plan.skipped {
        // The orchestrator passes over a stage in this state, so that the run goes on without it.
        runs::set_stage(connection, run_id, stage, StageState::Skipped).await?;
        runs::add_problem(connection, run_id, &Problem::skipped(stage, reason)).await?;
    }
    Ok(())
}

/// A posting that was extracted goes on to the enhancer at once, when the run has that stage.
async fn follow_on(
    connection: &mut PgConnection,
    run_id: Uuid,
    job_id: Uuid,
    max_retries: i32,
) -> SqlResult<()> {
    if !runs::has_stage(connection, run_id, StageName::Enhance).await? {
        return Ok(());
    }
    let next = NewTask { stage: StageName::Enhance, subject: Subject::Posting(job_id) };
    tasks::create(connection, run_id, StageName::Extract.service(), &[next], max_retries).await?;
    Ok(())
}
