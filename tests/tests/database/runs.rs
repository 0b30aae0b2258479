//! Runs from start to end, with the real worker and orchestrator.

use std::sync::Arc;

use observatory_pipeline::testing::{
    domain::{
        enhancement::{Enhancement, Rejection},
        posting::Field,
        run::{
            RunState,
            StageName::{self, Enhance, Extract},
            StageState,
        },
        skill::{Citation, EnhancedSkill, Maker, Makers, SkillKind},
    },
    orchestrator::Orchestrator,
    stage::{Effect, Outcome, Stage, StageError},
    store::{
        PgPool, runs,
        runs::{Run, RunOptions},
        skills,
        tasks::Task,
    },
    worker::{ModuleConfig, Worker},
};
use uuid::Uuid;

use crate::support::{Scripted, ad, extracted, put};

fn enhanced(task: &Task) -> Outcome {
    let skill = |label: &str, duplicate_of| EnhancedSkill {
        original_skill_text: Some("Panadero".to_owned()),
        normalized_skill: label.to_owned(),
        explicit: true,
        kind: SkillKind::Hard,
        category: "tool".to_owned(),
        esco_concept_uri: None,
        esco_preferred_label: None,
        confidence: 0.9,
        reasoning: None,
        duplicate_of,
        maker: Maker::Rules,
        citation: Citation { field: Field::Title, start: 0, end: 8 },
    };
    Ok(Effect::Enhanced {
        job_id: task.posting_id().expect("a posting"),
        version: "test".to_owned(),
        duration_ms: 1.0,
        skills: vec![skill("Panadería", None), skill("Hornear", None), skill("Panadería", Some(0))],
        sources: Vec::new(),
        makers: Makers { rules: "test".to_owned(), model: String::new() },
        enhancement: Box::new(Enhancement {
            rejected: [(Rejection::QuoteNotFound, 2)].into(),
            ..Enhancement::default()
        }),
    })
}

fn orchestrator(pool: &PgPool) -> Orchestrator {
    Orchestrator::new(pool.clone(), vec![Extract, Enhance], 1)
}

async fn get(pool: &PgPool, run_id: Uuid) -> Run {
    runs::get(&mut pool.acquire().await.unwrap(), run_id).await.unwrap().unwrap()
}

/// Ticks and works until the run ends.
async fn drive(pool: &PgPool, run_id: Uuid, stages: &[Arc<dyn Stage>]) -> Run {
    let orchestrator = orchestrator(pool);
    for _ in 0..50 {
        orchestrator.tick().await.unwrap();
        let run = get(pool, run_id).await;
        if run.state != RunState::Running {
            return run;
        }
        for stage in stages {
            let worker = Worker::new(Arc::clone(stage), ModuleConfig::default(), pool.clone());
            worker.work_once().await.unwrap();
        }
        sqlx::query("update task set run_at = now() where state = 'ready'").execute(pool).await.unwrap();
    }
    panic!("the run does not end");
}

fn both(pool: &PgPool) -> Vec<Arc<dyn Stage>> {
    vec![Scripted::new(pool, Extract, Box::new(extracted)), Scripted::new(pool, Enhance, Box::new(enhanced))]
}

#[sqlx::test(migrations = "../migrations")]
async fn a_run_ends_and_a_second_one_has_nothing_to_do(pool: PgPool) {
    put(&pool, (0..12).map(ad).collect()).await;
    let first = orchestrator(&pool).start(RunOptions::default()).await.unwrap();
    let run = drive(&pool, first, &both(&pool)).await;
    assert_eq!(run.state, RunState::Succeeded, "{:?}", run.problems);
    assert!(run.stages.iter().all(|stage| stage.done == 12), "{:?}", run.stages);
    let facts = &run.describe()["facts"]["enhance"];
    assert_eq!(
        (&facts["answered_by"]["rules"], &facts["rejected"]["quote_not_found"]),
        (&12.into(), &24.into())
    );
    let top = skills::top(&mut pool.acquire().await.unwrap(), None, 10).await.unwrap();
    let counted: Vec<(&str, i64)> = top.iter().map(|count| (count.skill.as_str(), count.job_count)).collect();
    assert_eq!(counted, [("Hornear", 12), ("Panadería", 12)]);

    let second = orchestrator(&pool).start(RunOptions::default()).await.unwrap();
    let run = drive(&pool, second, &both(&pool)).await;
    assert!(run.stages.iter().all(|stage| (stage.done, stage.up_to_date) == (0, 12)), "{:?}", run.stages);
}

#[sqlx::test(migrations = "../migrations")]
async fn filters_limit_a_run(pool: PgPool) {
    put(&pool, (0..6).map(ad).collect()).await;
    let check = async |options: RunOptions, expected: i64| {
        let run_id =
            orchestrator(&pool).start(RunOptions { stages: vec![Extract], ..options }).await.unwrap();
        let stages: Vec<Arc<dyn Stage>> = vec![Scripted::new(&pool, Extract, Box::new(extracted))];
        let run = drive(&pool, run_id, &stages).await;
        assert_eq!(run.stages[0].done + run.stages[0].up_to_date, expected, "{:?}", run.options);
    };
    check(RunOptions { limit: 4, ..RunOptions::default() }, 4).await;
    check(RunOptions { countries: vec!["AR".to_owned()], ..RunOptions::default() }, 0).await;
    check(RunOptions { countries: vec!["CO".to_owned()], ..RunOptions::default() }, 6).await;
    check(RunOptions { portals: vec!["bumeran".to_owned()], ..RunOptions::default() }, 0).await;
    // The advertisements were seen at a fixed time long ago.
    check(RunOptions { since_seconds: 1, ..RunOptions::default() }, 0).await;
}

#[sqlx::test(migrations = "../migrations")]
async fn what_cannot_be_started_is_named(pool: PgPool) {
    let check = async |options: RunOptions, expected: &str| {
        let error = orchestrator(&pool).start(options).await.unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    };
    let stages = vec![StageName::Scrape];
    check(RunOptions { stages, ..RunOptions::default() }, "available are extract, enhance").await;
    let countries = vec!["ZZ".to_owned()];
    check(RunOptions { countries, ..RunOptions::default() }, "enabled are AR, CO, MX").await;
}

#[sqlx::test(migrations = "../migrations")]
async fn a_partial_run_says_why_and_its_failures_can_be_retried(pool: PgPool) {
    put(&pool, (0..5).map(ad).collect()).await;
    let failing = |task: &Task| match task.task_id % 2 {
        0 => Err(StageError::Fail("cannot read it".to_owned())),
        _ => extracted(task),
    };
    let run_id = orchestrator(&pool).start(RunOptions::default()).await.unwrap();
    let stages: Vec<Arc<dyn Stage>> = vec![
        Scripted::new(&pool, Extract, Box::new(failing)),
        Scripted::new(&pool, Enhance, Box::new(enhanced)),
    ];
    let run = drive(&pool, run_id, &stages).await;
    assert_eq!(run.state, RunState::Partial);
    assert!(run.problems[0].to_string().starts_with("extract: cannot read it"), "{:?}", run.problems);
    let failed = run.stages[0].failed;
    assert!(failed > 0 && run.stages[0].done + failed == 5);

    let mut connection = pool.acquire().await.unwrap();
    assert_eq!(runs::reopen(&mut connection, run_id, true).await.unwrap().cast_signed(), failed);
    drop(connection);
    let run = drive(&pool, run_id, &both(&pool)).await;
    assert_eq!(run.state, RunState::Succeeded, "{:?}", run.problems);
    assert!(run.stages.iter().all(|stage| stage.done == 5), "{:?}", run.stages);
}

/// Two stages over the same postings, of which the second reads what the first wrote.
fn failing(pool: &PgPool, broken: StageName) -> Vec<Arc<dyn Stage>> {
    let fails = move |stage: StageName, task: &Task| stage == broken && task.task_id % 3 == 0;
    let failed = || Err(StageError::Fail("broken".to_owned()));
    vec![
        Scripted::new(
            pool,
            Extract,
            Box::new(move |task| if fails(Extract, task) { failed() } else { extracted(task) }),
        ),
        Scripted::new(
            pool,
            Enhance,
            Box::new(move |task| if fails(Enhance, task) { failed() } else { enhanced(task) }),
        ),
    ]
}

#[sqlx::test(migrations = "../migrations")]
async fn a_retry_gives_what_a_fresh_run_gives(pool: PgPool) {
    put(&pool, (0..7).map(ad).collect()).await;
    let rows = async || -> Vec<serde_json::Value> {
        sqlx::query_scalar(
            "select to_jsonb(e) - 'enhanced_at' - 'skill_id' from enhanced_skills e order by enhancement_id",
        )
        .fetch_all(&pool)
        .await
        .unwrap()
    };
    let fresh = orchestrator(&pool).start(RunOptions::default()).await.unwrap();
    drive(&pool, fresh, &both(&pool)).await;
    let expected = rows().await;
    for broken in [Extract, Enhance] {
        sqlx::query("delete from posting_stage").execute(&pool).await.unwrap();
        sqlx::query("delete from extracted_skills").execute(&pool).await.unwrap();
        sqlx::query("delete from enhanced_skills").execute(&pool).await.unwrap();
        let run_id = orchestrator(&pool).start(RunOptions::default()).await.unwrap();
        let run = drive(&pool, run_id, &failing(&pool, broken)).await;
        assert_eq!(run.state, RunState::Partial, "{broken}");
        assert!(rows().await.len() < expected.len(), "{broken}");
        runs::reopen(&mut pool.acquire().await.unwrap(), run_id, true).await.unwrap();
        let run = drive(&pool, run_id, &both(&pool)).await;
        assert_eq!(run.state, RunState::Succeeded, "{broken}: {:?}", run.problems);
        assert!(run.problems.is_empty(), "{:?}", run.problems);
        assert_eq!(rows().await, expected, "{broken}");
    }
}

#[sqlx::test(migrations = "../migrations")]
async fn a_stage_whose_input_changed_is_planned_and_done_anew(pool: PgPool) {
    put(&pool, (0..3).map(ad).collect()).await;
    let run_id = orchestrator(&pool).start(RunOptions::default()).await.unwrap();
    drive(&pool, run_id, &both(&pool)).await;
    // One posting was extracted again behind the run's back, another was never extracted.
    let mut connection = pool.acquire().await.unwrap();
    let ids: Vec<Uuid> = sqlx::query_scalar("select job_id from posting order by job_id")
        .fetch_all(&mut *connection)
        .await
        .unwrap();
    sqlx::query("delete from posting_stage where stage = 'enhance' and job_id = $1")
        .bind(ids[0])
        .execute(&mut *connection)
        .await
        .unwrap();
    sqlx::query("update task set state = 'failed' where stage = 'extract' and job_id = $1")
        .bind(ids[1])
        .execute(&mut *connection)
        .await
        .unwrap();
    runs::reopen(&mut connection, run_id, true).await.unwrap();
    let states: Vec<StageState> =
        runs::progress(&mut connection, run_id).await.unwrap().into_iter().map(|stage| stage.state).collect();
    assert_eq!(states, [StageState::Running, StageState::Waiting]);
    drop(connection);
    let stages = both(&pool);
    let run = drive(&pool, run_id, &stages).await;
    assert_eq!(run.state, RunState::Succeeded, "{:?}", run.problems);
    let current: i64 = sqlx::query_scalar("select count(*) from posting_stage where stage = 'enhance'")
        .fetch_one(&pool)
        .await
        .unwrap();
    assert_eq!(current, 3);
}

#[sqlx::test(migrations = "../migrations")]
async fn a_run_that_cannot_be_moved_delays_no_other(pool: PgPool) {
    put(&pool, (0..2).map(ad).collect()).await;
    let stuck = orchestrator(&pool).start(RunOptions::default()).await.unwrap();
    sqlx::raw_sql(sqlx::AssertSqlSafe(format!(
        "create function refuse() returns trigger language plpgsql as
             $$ begin raise exception 'this run cannot be moved'; end $$;
         create trigger refuse before update on run_stage for each row
             when (old.run_id = '{stuck}') execute function refuse();"
    )))
    .execute(&pool)
    .await
    .unwrap();
    let other = orchestrator(&pool).start(RunOptions::default()).await.unwrap();
    let run = drive(&pool, other, &both(&pool)).await;
    assert_eq!(run.state, RunState::Succeeded, "{:?}", run.problems);
    assert_eq!(get(&pool, stuck).await.state, RunState::Running);
}

#[sqlx::test(migrations = "../migrations")]
async fn a_cancelled_run_stops_at_once(pool: PgPool) {
    put(&pool, (0..5).map(ad).collect()).await;
    let run_id = orchestrator(&pool).start(RunOptions::default()).await.unwrap();
    orchestrator(&pool).tick().await.unwrap();
    let stage = Scripted::new(&pool, Extract, Box::new(extracted));
    let worker = Worker::new(Arc::clone(&stage) as _, ModuleConfig::default(), pool.clone());
    assert_eq!(worker.work_once().await.unwrap().succeeded, 1, "the plan");
    let mut connection = pool.acquire().await.unwrap();
    runs::cancel(&mut connection, run_id).await.unwrap();
    drop(connection);
    assert_eq!(worker.work_once().await.unwrap().succeeded, 0);
    let run = get(&pool, run_id).await;
    assert_eq!(run.state, RunState::Cancelled);
    assert!(run.stages.iter().all(StageProgressExt::is_over), "{:?}", run.stages);
    assert!(stage.seen.lock().unwrap().is_empty());
}

trait StageProgressExt {
    fn is_over(&self) -> bool;
}

impl StageProgressExt for runs::StageProgress {
    fn is_over(&self) -> bool {
        self.is_idle() && self.state == StageState::Skipped
    }
}

#[sqlx::test(migrations = "../migrations")]
async fn rows_of_a_repeated_stage_are_the_same(pool: PgPool) {
    put(&pool, (0..3).map(ad).collect()).await;
    let rows = async || -> Vec<serde_json::Value> {
        sqlx::query_scalar(
            "select to_jsonb(e) - 'enhanced_at' - 'skill_id' from enhanced_skills e order by enhancement_id",
        )
        .fetch_all(&pool)
        .await
        .unwrap()
    };
    let first = orchestrator(&pool).start(RunOptions::default()).await.unwrap();
    drive(&pool, first, &both(&pool)).await;
    let before = rows().await;
    sqlx::query("delete from posting_stage").execute(&pool).await.unwrap();
    let second = orchestrator(&pool).start(RunOptions::default()).await.unwrap();
    drive(&pool, second, &both(&pool)).await;
    assert_eq!(before.len(), 9);
    assert_eq!(rows().await, before);
}
