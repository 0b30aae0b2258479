//! What an operator meets: interrupted watches, full disks, portals that keep out, names that
//! nobody knows.

use std::process::{Command, Stdio};

use observatory_tests::simulator::{Config, Simulator};

use crate::site::{Said, Site, eventually};

const GOOD: &str = r#"{"portal":"p","country":"CO","url":"https://p.example/1","title":"Panadero","description":"Manejo de Excel y SQL. Atender la caja."}"#;

#[track_caller]
fn told(said: &Said, code: i32, expected: &[&str]) {
    assert_eq!(said.code, code, "stdout: {}\nstderr: {}", said.stdout, said.stderr);
    for words in expected {
        assert!(said.stderr.contains(words), "expected `{words}` in: {}", said.stderr);
    }
}

#[test]
fn empty_lists_say_what_fills_them() {
    let site = Site::up();
    for (arguments, expected) in [
        (&["postings", "list"][..], "no postings yet; import some with `observatory postings import FILE`"),
        (&["run", "list"], "no runs yet; start one with `observatory run start --watch`"),
        (&["report", "list"], "no reports yet; `observatory run start --watch` writes one"),
        (&["taxonomy", "list"], "no taxonomies yet; import one with `observatory taxonomy import esco PATH`"),
        (
            &["skills", "top"],
            "no skills yet; import postings with `observatory postings import FILE` and process them",
        ),
        (&["skills", "top", "--country", "AR"], "no posting from AR has a skill"),
    ] {
        told(&site.run(arguments), 1, &[expected]);
        let json = site.run(&[arguments, &["--json"]].concat());
        told(&json, 1, &[expected]);
        assert_eq!(json.stdout, "[]\n", "{arguments:?}");
    }
    // The figures of a skill are followed to its sentences, and unknown names are refused
    // everywhere.
    site.run(&["postings", "import", &site.file("one.jsonl", GOOD)]).ended(0);
    site.run(&["run", "start", "--stages", "extract,enhance", "--watch"]).ended(0);
    told(&site.run(&["postings", "list", "--country", "MX"]), 1, &["no posting was seen there"]);
    figures_are_followed_to_their_sentences(&site);
    names_that_nobody_knows_are_refused(&site);
}

fn figures_are_followed_to_their_sentences(site: &Site) {
    let top = site.run(&["skills", "top", "--json", "--top", "200"]).ended(0).json();
    let sql = top.as_array().unwrap().iter().find(|skill| skill["normalized_skill"] == "SQL").unwrap();
    let found = site
        .run(&["skills", "ads", "sql", "--country", "Colombia", "--portal", "P", "--json"])
        .ended(0)
        .json();
    assert_eq!((&found["normalized_skill"], &found["job_count"]), (&"SQL".into(), &sql["job_count"]));
    let ad = &found["ads"][0];
    assert_eq!(
        [&ad["url"], &ad["sentence"], &ad["skill_text"]],
        ["https://p.example/1", "Manejo de Excel y SQL.", "SQL"]
    );
    assert_eq!((&ad["span_start"], &ad["span_end"]), (&18.into(), &21.into()));
    let shown = site.run(&["skills", "evidence", "SQL"]).ended(0);
    assert!(shown.stdout.contains("description 18..21 `SQL`: Manejo de Excel y SQL."), "{}", shown.stdout);
    told(&site.run(&["skills", "ads", "SQLL"]), 2, &["no skill is called `SQLL`; near are `SQL`"]);

    let rows = site.run(&["export", "skills", "--format", "jsonl", "--out", "-"]).ended(0).lines();
    let row = rows.iter().find(|row| row["normalized_skill"] == "SQL").unwrap();
    assert_eq!([&row["sentence"], &row["source_field"]], ["Manejo de Excel y SQL.", "description"]);
    assert_eq!((&row["span_start"], &row["span_end"]), (&18.into(), &21.into()));
    let implied = rows.iter().find(|row| row["skill_type"] == "implicit").unwrap();
    // Nobody names it: it comes with what it follows from.
    assert!(implied["span_start"].is_null(), "{implied}");
    assert_eq!([&implied["sentence"], &implied["cited_field"]], ["Manejo de Excel y SQL.", "description"]);
}

fn names_that_nobody_knows_are_refused(site: &Site) {
    for arguments in [
        &["run", "start"][..],
        &["postings", "list"],
        &["export", "postings", "--out", "-"],
        &["export", "skills", "--out", "-"],
        &["skills", "ads", "SQL"],
    ] {
        let with =
            |option: &'static str, value: &'static str| site.run(&[arguments, &[option, value]].concat());
        told(&with("--portal", "nope"), 2, &["`nope` is not known; known are p"]);
        told(&with("--country", "ZZ"), 2, &["`ZZ` is not enabled; enabled are AR, CO, MX"]);
        told(&with("--country", "PE"), 2, &["`PE` is not enabled; enabled are AR, CO, MX"]);
    }
    told(&site.run(&["skills", "top", "--country", "ZZ"]), 2, &["`ZZ` is not enabled"]);
    let runs = site.run(&["run", "list", "--json"]).ended(0).json();
    assert_eq!(runs.as_array().unwrap().len(), 1, "what was refused has started nothing");
}

#[test]
fn an_interrupted_watch_says_that_the_run_goes_on() {
    // A run that waits for a model goes on for as long as it takes.
    let site = Site::up();
    site.run(&["postings", "import", &site.ads(200)]).ended(0);
    let watched = site
        .command(&["run", "start", "--watch"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    eventually("the run", || {
        site.run(&["run", "list", "--json"]).json().as_array().filter(|runs| !runs.is_empty()).cloned()
    });
    let interrupted = Command::new("kill").args(["-INT", &watched.id().to_string()]).status().unwrap();
    assert!(interrupted.success());
    let said: Said = watched.wait_with_output().unwrap().into();
    let id = site.run(&["run", "list", "--json"]).ended(0).json()[0]["run_id"].as_str().unwrap().to_owned();
    let goes_on = format!(
        "run {id} keeps running; `observatory run watch {id}` follows it again, `observatory run cancel {id}` stops it"
    );
    told(&said, 130, &[&goes_on]);
    assert_eq!(site.run(&["run", "watch", &id]).code, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_says_what_is_stored() {
    let site = Site::up();
    let mut database = site.database().await;
    let full = "create function fill() returns trigger language plpgsql as $$ begin
            raise exception 'could not extend file: No space left on device' using errcode = '53100';
        end $$;
        create trigger full_disk before insert on raw_jobs_co for each row when (new.title = 'Ad 350')
            execute function fill();";
    sqlx::raw_sql(full).execute(&mut database).await.unwrap();
    let lines: String = (1..=500)
        .map(|number| {
            GOOD.replace("/1", &format!("/{number}")).replace("Panadero", &format!("Ad {number}")) + "\n"
        })
        .collect();
    let file = site.file("many.jsonl", lines);
    let expected = [
        "the database refuses to write: its disk is full",
        "`observatory doctor`",
        "200 advertisements are stored (200 of them new), the others are not; the import may be repeated",
    ];
    told(&site.run(&["postings", "import", &file]), 2, &expected);
    sqlx::raw_sql("drop trigger full_disk on raw_jobs_co").execute(&mut database).await.unwrap();
    let again = site.run(&["postings", "import", &file, "--json"]).ended(0).json();
    assert_eq!((&again["imported"], &again["duplicates"]), (&300.into(), &200.into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn portals_that_all_keep_out_leave_the_run_partial() {
    let parked = "too-many-requests:every=1,retry-after=86400".parse().unwrap();
    let portals =
        Simulator::start(Config { ads: Config::spread(30), faults: vec![parked], ..Config::default() })
            .await
            .unwrap();
    let site = Site::with_settings(&format!(
        "[modules.scraper]\nenabled = true\npatience = 0\n[modules.scraper.settings]\n\
         base_url = \"{}/{{portal}}/{{country}}\"\ndelay = 0.0\n",
        portals.origin()
    ));
    let run = site.run(&["run", "start", "--stages", "scrape", "--watch", "--json"]).ended(1).json();
    assert_eq!(run["state"], "failed", "{run}");
    let problems = run["problems"].to_string();
    assert!(problems.contains("scrape: computrabajo/CO: parked: "), "{problems}");
    // Portals that runs visit are known before anything is stored of them.
    told(&site.run(&["run", "start", "--portal", "nope"]), 2, &["known are bumeran, computrabajo, elempleo"]);
    portals.stop().await.unwrap();
}

#[test]
fn a_first_model_is_served_by_the_running_stack() {
    let site = Site::with("", &[]);
    told(&site.run(&["models", "list"]), 1, &["no model is loaded", "`observatory models pull NAME`"]);
    let from = Site::tiny_model("tiny-e5");
    let import =
        |name: &str| site.run(&["models", "import", from.to_str().unwrap(), "--name", name]).ended(0);
    told(&import("tests/first"), 0, &["has no model yet; loading tests/first", "loaded tests/first"]);
    told(&import("tests/second"), 0, &["run `observatory models load tests/second`"]);
    let served = site.run(&["models", "list", "--json"]).ended(0).json();
    assert_eq!((served.as_array().unwrap().len(), &served[0]["name"]), (1, &"tests/first".into()));
    site.run(&["models", "unload", "tests/first"]);
}
