//! An inference server that dies, hangs or is away, and retries of what failed.

use observatory_pipeline::testing::{
    domain::run::{
        RunState,
        StageName::{Embed, Extract},
    },
    store::runs,
};

use super::ground::{Ground, STAGES, pause, signal};
use super::proxy::Proxy;

#[tokio::test(flavor = "multi_thread")]
async fn an_inference_server_that_is_away_is_waited_for() {
    let ground = Ground::new().await;
    let mut trial = ground.trial().await;
    let proxy = Proxy::to(ground.inference()).await;
    trial.inference = format!("http://{}", proxy.address);
    let process = trial.start("all");
    let run_id = trial.run(&STAGES).await;
    trial.until(Embed, 40).await;
    proxy.cut();
    let told = trial
        .wait_for("a word about the wait", async || {
            let run = runs::get(&mut *trial.pool.acquire().await?, run_id).await?.unwrap();
            Ok(run.problems.first().cloned())
        })
        .await;
    let told = told.to_string();
    assert!(told.starts_with("embed: waiting since ") && told.contains("inference server"), "{told}");
    pause(4_000).await;
    proxy.mend();
    ground.undisturbed_by("an inference server that was away", &trial, run_id).await;
    let costs: i64 = sqlx::query_scalar("select sum(retry_count)::bigint from task where stage = 'embed'")
        .fetch_one(&trial.pool)
        .await
        .unwrap();
    assert_eq!(costs, 0, "waiting costs no try");
    drop(process);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_inference_server_that_dies_or_hangs_loses_nothing() {
    let ground = Ground::new().await;
    for name in ["-KILL", "-STOP"] {
        let trial = ground.trial().await;
        let process = trial.start("all");
        let run_id = trial.run(&STAGES).await;
        trial.until(Embed, 40).await;
        let pid = ground.site.pid("inference-server").unwrap();
        signal(pid, name);
        if name == "-STOP" {
            pause(3_000).await;
            signal(pid, "-CONT");
        }
        ground.undisturbed_by(name, &trial, run_id).await;
        drop(process);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_brings_later_stages_up_to_date() {
    let ground = Ground::new().await;
    // An inference server that stays away for longer than anybody waits.
    let modules = "[modules.extractor]\nbatch_size = 8\n[modules.embedder]\nbatch_size = 40\npatience = 0\n";
    let mut trial = ground.trial_with(modules).await;
    let proxy = Proxy::to(ground.inference()).await;
    trial.inference = format!("http://{}", proxy.address);
    let process = trial.start("all");
    let run_id = trial.run(&STAGES).await;
    trial.until(Embed, 40).await;
    proxy.cut();
    let run = trial.finish(run_id).await;
    assert_eq!(run.state, RunState::Partial);
    assert!(run.problems[0].to_string().starts_with("embed: inference server"), "{:?}", run.problems);
    proxy.mend();
    runs::reopen(&mut trial.pool.acquire().await.unwrap(), run_id, true).await.unwrap();
    ground.undisturbed_by("a retry of vectors", &trial, run_id).await;
    drop(process);

    // Extraction fails for some postings, so that their skills are missing everywhere.
    let trial = ground.trial().await;
    trial
        .execute(
            "create function refuse() returns trigger language plpgsql as
                 $$ begin raise exception 'not this one'; end $$;
             create trigger refuse before insert on extracted_skills for each row
                 when (left(new.job_id::text, 8) <> '' and right(new.job_id::text, 1) in ('0', '5', 'a'))
                 execute function refuse();",
        )
        .await;
    let process = trial.start("all");
    let run_id = trial.run(&STAGES).await;
    let run = trial.finish(run_id).await;
    assert_eq!(run.state, RunState::Partial);
    assert!(run.problems[0].to_string().starts_with("extract: "), "{:?}", run.problems);
    trial.execute("drop trigger refuse on extracted_skills").await;
    runs::reopen(&mut trial.pool.acquire().await.unwrap(), run_id, true).await.unwrap();
    trial.until(Extract, 1).await;
    ground.undisturbed_by("a retry of extraction", &trial, run_id).await;
    drop(process);
}
