//! Imports at the same time, killed ones, and records that nobody can store.

use std::{fs, thread};

use super::ground::Ground;

#[tokio::test(flavor = "multi_thread")]
async fn imports_at_once_store_each_text_once() {
    let ground = Ground::bare().await;
    let trial = ground.trial().await;
    trial.execute("truncate posting, sighting, raw_jobs cascade").await;
    let process = trial.start("orchestrator");
    let path = ground.site.ads(400);
    let text = fs::read_to_string(&path).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let files: Vec<String> = (0..6)
        .map(|shift| {
            let mut shifted: Vec<&str> =
                lines.iter().cycle().skip(shift * 61).take(lines.len()).copied().collect();
            if shift % 2 == 1 {
                shifted.reverse();
            }
            ground.site.file(&format!("{shift}.jsonl"), shifted.join("\n"))
        })
        .collect();
    thread::scope(|scope| {
        let imports: Vec<_> =
            files.iter().map(|file| scope.spawn(|| ground.import(&process, file))).collect();
        for import in imports {
            import.join().unwrap().ended(0);
        }
    });
    let count =
        async |sql: &'static str| -> i64 { sqlx::query_scalar(sql).fetch_one(&trial.pool).await.unwrap() };
    let texts = count("select count(*) from posting").await;
    assert_eq!(count("select count(distinct content_hash) from posting").await, texts);
    assert_eq!(
        count("select count(distinct times_seen % 6) from sighting").await,
        1,
        "each import counted once"
    );
    let again = ground.import(&process, &path).ended(0).json();
    assert_eq!(again["imported"], 0, "{again}");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_bad_record_costs_itself_alone() {
    let ground = Ground::bare().await;
    let trial = ground.trial().await;
    let process = trial.start("orchestrator");
    let good = |number: usize| {
        serde_json::json!({ "portal": "bumeran", "country": "AR", "title": format!("Panadero {number}"),
            "url": format!("https://www.bumeran.example/empleos/{number}"), "description": "Hornear pan." })
    };
    let with = |number: usize, field: &str, value: serde_json::Value| {
        let mut ad = good(number);
        ad[field] = value;
        ad
    };
    let long = "x".repeat(200_000);
    let bad = [
        with(1, "url", "https://x.example/a\u{0}b".into()),
        with(2, "url", format!("https://x.example/{long}").into()),
        with(3, "portal", format!("p\u{0}{long}").into()),
        with(4, "country", long.clone().into()),
        with(5, "id", "9".repeat(6_000).into()),
        with(6, "posted_date", "-9000-01-01".into()),
        with(7, "scraped_at", "0001-01-01T00:00:00Z".into()),
        with(8, "description", "y".repeat(17 << 20).into()),
        with(9, "title", serde_json::json!([long])),
    ];
    let (mut lines, mut count) = (String::new(), 0);
    for (place, record) in bad.iter().enumerate() {
        for number in 0..40 {
            lines.push_str(&format!("{}\n", good(100 * (place + 1) + number)));
            count += 1;
        }
        lines.push_str(&format!("{record}\n"));
    }
    let file = ground.site.file("bad.jsonl", lines);
    let said = ground.import(&process, &file).ended(1);
    let told = said.json();
    // Two days that are none are left out.
    assert_eq!(told["imported"], count + 2, "{told}");
    assert_eq!(told["refused"], bad.len() - 2, "{told}");
    for (place, field) in
        ["url", "url", "portal", "country", "id", "posted_date", "scraped_at", "MiB", "title"]
            .iter()
            .enumerate()
    {
        let line = (place + 1) * 41;
        let list = if matches!(*field, "posted_date" | "scraped_at") { "notes" } else { "errors" };
        let error = told[list].as_array().unwrap().iter().find(|error| error["line"] == line);
        let message = error.unwrap_or_else(|| panic!("line {line}: {told}"))["message"].as_str().unwrap();
        assert!(message.contains(field) && message.len() < 600, "line {line}: {message}");
    }
    // An id with characters that nobody sees is stored without them.
    let odd = with(10, "id", "7\u{0}7".into()).to_string();
    let file = ground.site.file("odd.jsonl", odd);
    assert_eq!(ground.import(&process, &file).ended(0).json()["imported"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_import_can_be_repeated() {
    let ground = Ground::bare().await;
    let trial = ground.trial().await;
    trial.execute("truncate posting, sighting, raw_jobs cascade").await;
    let path = ground.site.ads(2_000);
    let process = trial.start("orchestrator");
    thread::scope(|scope| {
        let import = scope.spawn(|| ground.import(&process, &path));
        let stored = || {
            let pool = trial.pool.clone();
            tokio::task::block_in_place(|| {
                tokio::runtime::Handle::current().block_on(async move {
                    sqlx::query_scalar::<_, i64>("select count(*) from posting")
                        .fetch_one(&pool)
                        .await
                        .unwrap()
                })
            })
        };
        crate::site::eventually("stored advertisements", || (stored() >= 200).then_some(()));
        process.signal("-KILL");
        assert_ne!(import.join().unwrap().code, 0);
    });
    let process = trial.start("orchestrator");
    ground.import(&process, &path).ended(0);
    let count =
        async |sql: &'static str| -> i64 { sqlx::query_scalar(sql).fetch_one(&trial.pool).await.unwrap() };
    let other = ground.trial().await;
    other.execute("truncate posting, sighting, raw_jobs cascade").await;
    let fresh = other.start("orchestrator");
    ground.import(&fresh, &path).ended(0);
    let expected: i64 =
        sqlx::query_scalar("select count(*) from sighting").fetch_one(&other.pool).await.unwrap();
    assert_eq!(count("select count(*) from sighting").await, expected);
}
