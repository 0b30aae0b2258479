//! Processes that die, hang, are asked to stop, or meet another version's schema.

use std::{process::Command, time::Duration};

use observatory_pipeline::testing::{
    domain::run::{
        RunState,
        StageName::{self, Analyze, Embed, Enhance, Extract, Report},
    },
    store::tasks,
};

use super::ground::{Ground, STAGES, Trial, kill_points, pause};
use crate::site::program;

const ROLES: [&str; 6] = ["orchestrator", "extractor", "enhancer", "embedder", "analyzer", "reporter"];

/// Kills a role's process in the middle of its stage and starts another.
async fn kill_role(ground: &Ground, role: &str, stage: StageName, done: i64) {
    let trial = ground.trial().await;
    let mut processes: Vec<_> = ROLES.iter().map(|role| (*role, Some(trial.start(role)))).collect();
    let every = [Extract, Enhance, Embed, Analyze, Report];
    let run_id = trial.run(&every).await;
    trial.until(stage, done).await;
    let (_, process) = processes.iter_mut().find(|(name, _)| *name == role).unwrap();
    process.take().unwrap().kill();
    *process = Some(trial.start(role));
    ground.undisturbed_by(&format!("kill -9 of the {role}"), &trial, run_id).await;
    let reports: i64 = sqlx::query_scalar("select count(*) from report where run_id = $1")
        .bind(run_id)
        .fetch_one(&trial.pool)
        .await
        .unwrap();
    assert_eq!(reports, 1, "kill -9 of the {role}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_that_dies_loses_nothing() {
    let ground = Ground::new().await;
    kill_role(&ground, "extractor", Extract, 9).await;
    kill_role(&ground, "enhancer", Enhance, 9).await;
    kill_role(&ground, "embedder", Embed, 40).await;
    kill_role(&ground, "analyzer", Embed, 90).await;
    kill_role(&ground, "reporter", Analyze, 1).await;
    kill_role(&ground, "orchestrator", Extract, 20).await;
}

/// Pauses that a seed gives, milliseconds (splitmix64).
fn pauses(seed: u64) -> impl Iterator<Item = u64> {
    let mut state = seed;
    std::iter::repeat_with(move || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        50 + (mixed ^ (mixed >> 31)) % 700
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn kills_at_any_moment_lose_nothing() {
    let ground = Ground::new().await;
    let trial = ground.trial().await;
    let run_id = trial.run(&STAGES).await;
    let mut process = trial.start("all");
    for millis in pauses(20_261_130).take(kill_points() as usize) {
        pause(millis).await;
        process.kill();
        process = trial.start("all");
    }
    ground.undisturbed_by("kill points of seed 20261130", &trial, run_id).await;
    drop(process);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_told_to_stop_gives_its_work_back() {
    let ground = Ground::new().await;
    let trial = ground.trial().await;
    let run_id = trial.run(&STAGES).await;
    let mut process = trial.start("all");
    for done in [9, 25, 40] {
        trial.until(Extract, done).await;
        process.signal("-TERM");
        let took = process.ended();
        assert!(took < Duration::from_secs(8), "{took:?}");
        process = trial.start("all");
    }
    trial.until(Extract, 50).await;
    process.signal("-TERM");
    process.signal("-TERM");
    let took = process.ended();
    assert!(took < Duration::from_secs(6), "told twice: {took:?}");
    let costs: i64 = sqlx::query_scalar("select coalesce(sum(retry_count + losses), 0)::bigint from task")
        .fetch_one(&trial.pool)
        .await
        .unwrap();
    assert_eq!(costs, 0, "a stop costs no try");
    let process = trial.start("all");
    ground.undisturbed_by("four stops", &trial, run_id).await;
    drop(process);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_slept_past_its_lease_writes_nothing() {
    let ground = Ground::new().await;
    let trial = ground.trial().await;
    let run_id = trial.run(&STAGES).await;
    let (first, second) = (trial.start("all"), trial.start("orchestrator"));
    trial.until(Extract, 9).await;
    first.signal("-STOP");
    let other = trial.start("all");
    let run = trial.finish(run_id).await;
    assert_eq!(run.state, RunState::Succeeded, "{:?}", run.problems);
    first.signal("-CONT");
    pause(1_500).await;
    ground.undisturbed_by("a worker that slept", &trial, run_id).await;
    drop((first, second, other));
}

/// A posting whose rows take so long to write that the harness can kill the worker meanwhile, in
/// place of the posting.
async fn poison(trial: &Trial) -> String {
    let subject: String = sqlx::query_scalar("select job_id::text from posting order by job_id limit 1")
        .fetch_one(&trial.pool)
        .await
        .unwrap();
    trial
        .execute(&format!(
            "create function linger() returns trigger language plpgsql as
                 $$ begin perform pg_sleep(1); return new; end $$;
             create trigger linger before insert or update on posting_stage for each row
                 when (new.stage = 'extract' and new.job_id = '{subject}') execute function linger();"
        ))
        .await;
    subject
}

#[tokio::test(flavor = "multi_thread")]
async fn a_posting_that_kills_its_worker_costs_itself_alone() {
    let ground = Ground::new().await;
    let trial = ground.trial().await;
    let subject = poison(&trial).await;
    let orchestrator = trial.start("orchestrator");
    let mut extractor = trial.start("extractor");
    let run_id = trial.run(&STAGES).await;
    let others: Vec<_> = ["enhancer", "embedder"].iter().map(|role| trial.start(role)).collect();
    let (mut kills, mut killed) = (0, 0);
    let run = loop {
        let found: Option<(String, i64)> =
            sqlx::query_as("select state, fence from task where stage = 'extract' and subject = $1")
                .bind(&subject)
                .fetch_optional(&trial.pool)
                .await
                .unwrap();
        let (state, fence) = found.unwrap_or_default();
        match state.as_str() {
            // Once for each claim: until its lease ends it still counts as running.
            "running" if fence > killed => {
                extractor.kill();
                (kills, killed) = (kills + 1, fence);
                extractor = trial.start("extractor");
            }
            "failed" => break trial.finish(run_id).await,
            "done" => panic!("the poison was faster than the harness, {kills} kills"),
            _ => pause(1).await,
        }
    };
    assert!(kills <= tasks::LOSSES, "{kills} kills");
    assert_eq!(run.state, RunState::Partial);
    assert_eq!(run.problems.iter().map(ToString::to_string).collect::<Vec<_>>(), ["extract: worker lost"]);
    let failed: i64 = sqlx::query_scalar("select count(*) from task where state = 'failed'")
        .fetch_one(&trial.pool)
        .await
        .unwrap();
    assert_eq!(failed, 1, "its companions are done");
    // It stops killing: a retry gives what a fresh run gives.
    trial.execute("drop trigger linger on posting_stage").await;
    observatory_pipeline::testing::store::runs::reopen(
        &mut trial.pool.acquire().await.unwrap(),
        run_id,
        true,
    )
    .await
    .unwrap();
    ground.undisturbed_by("a retry after poison", &trial, run_id).await;
    drop((orchestrator, extractor, others));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schema_of_a_newer_version_is_worked_on_and_not_touched() {
    let ground = Ground::new().await;
    let trial = ground.trial().await;
    trial
        .execute(
            "insert into _sqlx_migrations (version, description, success, checksum, execution_time)
             values (99990101000000, 'of a later version', true, '\\x00', 0)",
        )
        .await;
    let said = Command::new(program("pipeline-services"))
        .arg("migrate")
        .env("DATABASE_URL", &trial.url)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&said.stderr);
    assert_eq!(said.status.code(), Some(0), "{text}");
    assert!(text.contains("a newer schema: nothing to do"), "{text}");
    let process = trial.start("all");
    let run_id = trial.run(&STAGES).await;
    ground.undisturbed_by("a newer schema", &trial, run_id).await;
    drop(process);
}
