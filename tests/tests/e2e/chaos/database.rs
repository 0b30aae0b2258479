//! Faults of the database and of the way to it.

use observatory_pipeline::testing::domain::run::StageName::{Embed, Extract};
use sqlx::{Connection, PgConnection};

use super::ground::{Ground, STAGES, Trial, pause, signal};
use super::proxy::Proxy;

/// Ends sessions of a trial's database.
async fn terminate(ground: &Ground, trial: &Trial, which: &str) {
    let mut connection = ground.site.database().await;
    let sql = format!(
        "select pg_terminate_backend(pid) from pg_stat_activity where datname = '{}' {which}",
        trial.name
    );
    sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&mut connection).await.unwrap();
}

/// Sets something for the sessions to come, for some time.
async fn setting(ground: &Ground, trial: &Trial, set: &str, millis: u64) {
    let alter = async |what: &str| {
        let mut connection = ground.site.database().await;
        let sql = format!("alter database {} {what}", trial.name);
        sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&mut connection).await.unwrap();
        terminate(ground, trial, "").await;
    };
    alter(&format!("set {set}")).await;
    pause(millis).await;
    let (name, _) = set.split_once(' ').unwrap();
    alter(&format!("reset {name}")).await;
}

/// Holds a lock for some time.
async fn lock(trial: &Trial, sql: &'static str) {
    let mut transaction = trial.pool.begin().await.unwrap();
    sqlx::raw_sql(sql).execute(&mut *transaction).await.unwrap();
    pause(3_000).await;
    transaction.rollback().await.unwrap();
}

async fn fault<'a>(ground: &'a Ground, what: &str, make: impl AsyncFn(&'a Ground, &Trial)) {
    let trial = ground.trial().await;
    let process = trial.start("all");
    let run_id = trial.run(&STAGES).await;
    trial.until(Extract, 9).await;
    make(ground, &trial).await;
    ground.undisturbed_by(what, &trial, run_id).await;
    drop(process);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_fails_loses_nothing() {
    let ground = Ground::new().await;
    for (what, name) in [("a fast restart", "-INT"), ("kill -9", "-KILL"), ("an immediate shutdown", "-QUIT")]
    {
        let make = async |ground: &Ground, _: &Trial| signal(ground.site.pid("postgres").unwrap(), name);
        fault(&ground, what, make).await;
    }
    fault(&ground, "a stopped server", async |ground, _| {
        let pid = ground.site.pid("postgres").unwrap();
        signal(pid, "-STOP");
        pause(3_000).await;
        signal(pid, "-CONT");
    })
    .await;
    fault(&ground, "all sessions ended, again and again", async |ground, trial| {
        for _ in 0..5 {
            terminate(ground, trial, "").await;
            pause(200).await;
        }
    })
    .await;
    fault(&ground, "busy sessions ended", async |ground, trial| {
        for _ in 0..30 {
            terminate(ground, trial, "and state <> 'idle'").await;
            pause(50).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_refuses_loses_nothing() {
    let ground = Ground::new().await;
    fault(&ground, "a locked queue", async |_, trial| {
        lock(trial, "lock table task in access exclusive mode").await;
    })
    .await;
    fault(&ground, "locked postings", async |_, trial| lock(trial, "select * from posting for update").await)
        .await;
    fault(&ground, "a read-only database", async |ground, trial| {
        setting(ground, trial, "default_transaction_read_only = on", 2_000).await;
    })
    .await;
    fault(&ground, "short statements only", async |ground, trial| {
        setting(ground, trial, "statement_timeout = '40ms'", 2_000).await;
    })
    .await;
    fault(&ground, "a full disk", async |_, trial| {
        trial
            .execute(
                "create function fill() returns trigger language plpgsql as $$ begin
                     raise exception 'could not extend file: No space left on device' using errcode = '53100';
                 end $$;
                 create trigger full_disk before insert on extracted_skills
                     for each statement execute function fill();",
            )
            .await;
        pause(2_000).await;
        trial.execute("drop trigger full_disk on extracted_skills").await;
    })
    .await;
    fault(&ground, "every connection taken", async |ground, trial| {
        let mut taken = Vec::new();
        while let Ok(connection) = PgConnection::connect(&trial.url).await {
            taken.push(connection);
        }
        terminate(ground, trial, "and state = 'active' and pid <> pg_backend_pid()").await;
        pause(2_000).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_network_that_is_cut_loses_nothing() {
    let ground = Ground::new().await;
    let mut trial = ground.trial().await;
    let proxy = Proxy::to(ground.database()).await;
    trial.url = trial.url.replace(&ground.database().to_string(), &proxy.address.to_string());
    let process = trial.start_with("all", &["--database-connections", "4"]);
    let run_id = trial.run(&STAGES).await;
    for (stage, done) in [(Extract, 9), (Embed, 40)] {
        trial.until(stage, done).await;
        proxy.cut();
        pause(2_500).await;
        proxy.mend();
    }
    ground.undisturbed_by("a cut network", &trial, run_id).await;
    drop(process);
}
