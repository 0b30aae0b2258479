//! Bad input: a clear answer, nothing half-written, everything else goes on.

use std::{net::TcpListener, process::Command};

use crate::site::{Said, Site, program};

#[track_caller]
fn refused(said: Said, code: i32, expected: &[&str]) {
    let said = said.ended(code);
    for words in expected {
        assert!(said.stderr.contains(words), "expected `{words}` in: {}", said.stderr);
    }
}

const GOOD: &str = r#"{"portal":"p","country":"CO","url":"https://p.example/1","title":"Panadero","description":"Hornear pan y control de stock"}"#;

#[test]
fn lines_that_cannot_be_stored_are_named_and_the_others_are_stored() {
    let site = Site::up();
    let unknown_country = GOOD.replace("\"CO\"", "\"XX\"");
    let no_text = GOOD.replace("Hornear pan y control de stock", " ");
    let bad_date = GOOD.replace("\"title\"", "\"posted_date\":\"ayer\",\"title\"");
    let lines = format!("{GOOD}\n{{bad\n{unknown_country}\n{no_text}\n{bad_date}\n[1]\n");
    let file = site.file("mixed.jsonl", lines);
    let expected = [
        "mixed.jsonl:2: not valid JSON",
        "mixed.jsonl:3: country: `XX` is not enabled; enabled are AR, CO, MX",
        "mixed.jsonl:4: description: is empty",
        "mixed.jsonl:5: posted_date: `ayer` is not a date",
        "mixed.jsonl:6: not a JSON object",
    ];
    refused(site.run(&["postings", "import", &file]), 1, &expected);
    let stored = site.run(&["postings", "list", "--json"]).ended(0).json();
    assert_eq!(stored.as_array().unwrap().len(), 1);

    let empty = site.file("empty.jsonl", "");
    refused(site.run(&["postings", "import", &empty]), 1, &["the files contain no advertisements"]);
    refused(site.run(&["postings", "import", "absent.csv"]), 2, &["cannot read absent.csv"]);
    refused(
        site.run(&["postings", "import", &site.file("ads.txt", "x")]),
        2,
        &["pass --delimiter or --format"],
    );
    refused(site.run(&["run", "start", "--country", "ZZ"]), 2, &["country `ZZ` is not enabled"]);
    refused(site.run(&["run", "start", "--stages", "extrct"]), 2, &["unknown stage `extrct`"]);
    refused(site.run(&["run", "show", "zzzz"]), 2, &["is not a run id"]);
    refused(site.run(&["countries", "enable", "ZZ"]), 2, &["unknown country `ZZ`"]);
    refused(site.run(&["skills", "search", "pan"]), 2, &["there are no vectors yet"]);
    refused(site.run(&["export", "postings", "--out", "/proc/x.csv"]), 2, &["cannot write /proc/x.csv"]);
    let run = site.run(&["run", "start", "--stages", "extract", "--watch"]).ended(0);
    assert!(run.stdout.contains("succeeded"), "{}", run.stdout);
}

#[test]
fn wrong_words_are_answered_with_the_nearest_right_ones() {
    let site = Site::new();
    refused(site.run(&["postings", "imprt"]), 2, &["a similar subcommand exists: 'import'"]);
    refused(site.run(&["run", "start", "--stage", "x"]), 2, &["--stages"]);
    refused(site.run(&["run", "start", "--since", "week"]), 2, &["invalid duration `week`: expected 7d"]);
    refused(site.run(&["postings", "import", "x.csv", "--map", "titel=T"]), 2, &["unknown field `titel`"]);
    refused(site.run(&["models", "import", "/tmp"]), 2, &["is not a model: config.json is missing"]);
    refused(site.run(&["postings", "list", "--no-start"]), 2, &["hint: start the local stack"]);
}

fn services(arguments: &[&str], database: &str) -> Said {
    let mut command = Command::new(program("pipeline-services"));
    command.env_remove("OBSERVATORY_CONFIG").env("DATABASE_URL", database).args(arguments);
    command.output().unwrap().into()
}

#[test]
fn a_service_checks_everything_before_it_opens_a_port() {
    let site = Site::new();
    let config = |text: &str| site.file("observatory.toml", text);
    let away = "postgres://nobody@127.0.0.1:1/none";
    let with = |text: &str| services(&["all", "--config", &config(text)], away);
    refused(with("[modules.embeder]\n"), 2, &["unknown key `embeder`", "did you mean `embedder`?"]);
    refused(with("[modules.embedder.settings]\nmodle = 'x'\n"), 2, &["did you mean `model`?"]);
    refused(
        with("[modules.analyzer.settings]\nseed = 'x'\n"),
        2,
        &["modules.analyzer.settings is not valid"],
    );
    refused(
        with("[modules.analyzer.settings]\nmin_cluster_size = 0\n"),
        2,
        &["invalid modules.analyzer.settings.min_cluster_size `0`: expected a whole number from 2"],
    );
    refused(
        with("[modules.scraper]\nenabled = true\n"),
        2,
        &["modules.scraper.settings.contact is missing: expected the web or e-mail address"],
    );
    refused(
        with("[modules.scraper]\nenabled = true\n[modules.scraper.settings]\ncontact = 'me'\n"),
        2,
        &["invalid modules.scraper.settings.contact `me`: expected the web or e-mail address"],
    );
    refused(with("[modules.reporter.settings]\nformats = ['doc']\n"), 2, &["unknown report format `doc`"]);
    refused(with("modules"), 2, &["observatory.toml is not a valid configuration"]);
    refused(services(&["all", "--config", "/absent.toml"], away), 2, &["cannot read /absent.toml"]);
    refused(
        services(&["all", "--inference", "not an address"], away),
        2,
        &["invalid address `not an address`: expected http://"],
    );
    refused(services(&["migrate"], "mysql://x"), 2, &["expected postgres://"]);
    refused(services(&["wait-schema", "--timeout", "0"], away), 2, &["database is not reachable"]);
    refused(services(&["migrate"], away), 2, &["database is not reachable", "Connection refused"]);
}

#[test]
fn a_taken_port_is_named() {
    let site = Site::new();
    site.run(&["up", "--only", "postgres"]).ended(0);
    let database = std::fs::read_to_string(site.data().join("secrets/database-url")).unwrap();
    services(&["migrate"], &database).ended(0);
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    refused(
        services(&["all", "--listen", &address], &database),
        2,
        &["cannot listen on", &address, "in use"],
    );
}

#[test]
fn a_report_that_cannot_be_written_leaves_the_run_partial() {
    let site = Site::up();
    site.run(&["postings", "import", &site.file("one.jsonl", GOOD)]).ended(0);
    let run = site.run(&["run", "start", "--watch", "--json"]).ended(0).json();
    let id = run["run_id"].as_str().unwrap();
    refused(site.run(&["report", "build", "--run", id, "--out", "/proc/report"]), 2, &["/proc/report"]);
    refused(
        site.run(&["report", "build", "--run", id, "--format", "doc"]),
        2,
        &["unknown report format `doc`"],
    );
}
