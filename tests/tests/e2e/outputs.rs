//! Outputs that are full or closed, on every command that prints.

use std::{fs::OpenOptions, process::Stdio};

use crate::site::{Said, Site};

const GOOD: &str = r#"{"portal":"p","country":"CO","url":"https://p.example/1","title":"Panadero","description":"Manejo de Excel y SQL"}"#;

const GOLD: &str = r#"{"id":"a","description":"Manejo de Excel","spans":[{"start":10,"end":15}]}"#;

/// Everything that only reads, for a site with one posting, one run and its report.
fn commands(site: &Site) -> Vec<Vec<String>> {
    let first = |arguments: &[&str], field: &str| {
        let found = site.run(&[arguments, &["--json"]].concat()).ended(0).json();
        found[0][field].as_str().unwrap().to_owned()
    };
    let posting = first(&["postings", "list"], "job_id");
    let run = first(&["run", "list"], "run_id");
    let report = first(&["report", "list"], "report_id");
    let taxonomy = site.file("own.csv", "uri,kind,class,language,label,preferred\nx:1,skill,,es,Hornear,1\n");
    site.run(&["taxonomy", "import", "csv", &taxonomy]).ended(0);
    let file = site.file("again.jsonl", GOOD);
    let gold = site.file("gold.jsonl", GOLD);
    let mut all = Vec::new();
    for line in [
        "--help",
        "postings import --help",
        "--version",
        "version",
        "completions bash",
        "status",
        "doctor",
        "countries list",
        "taxonomy list",
        "taxonomy show x:1",
        "postings list",
        &format!("postings show {posting}"),
        &format!("postings import --dry-run {file}"),
        "run list",
        &format!("run show {run}"),
        &format!("run watch {run}"),
        "report list",
        &format!("report get {report}"),
        "skills top",
        "skills ads sql",
        "export postings --out -",
        "export skills --out - --format jsonl",
        "export clusters --out -",
        "extract --text Excel",
        &format!("eval spans --gold {gold}"),
        &format!("eval skills --gold {gold}"),
        "infer embed hola",
        "infer tokenize hola",
        "models list",
        "models list --stored",
        "models verify",
        "privacy scrub --dry-run",
        "db migrate",
    ] {
        let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
        if !line.starts_with("--") && !line.contains("--out") {
            all.push([words.as_slice(), &["--json".to_owned()]].concat());
        }
        all.push(words);
    }
    all
}

fn run_to(site: &Site, arguments: &[String], stdout: Stdio) -> Said {
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    site.command(&arguments).stdout(stdout).output().unwrap().into()
}

#[test]
fn a_full_or_closed_output_is_said_or_nothing_at_all() {
    let site = Site::up();
    site.run(&["postings", "import", &site.file("one.jsonl", GOOD)]).ended(0);
    site.run(&["run", "start", "--watch"]);
    for arguments in commands(&site) {
        let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
        let said = run_to(&site, &arguments, full.into());
        assert_eq!(said.code, 2, "{arguments:?}: {}", said.stderr);
        let expected = "cannot write to standard output: No space left on device";
        assert!(said.stderr.contains(expected), "{arguments:?}: {}", said.stderr);

        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let said = run_to(&site, &arguments, writer.into());
        assert_eq!(said.code, 0, "{arguments:?}: {}", said.stderr);
        for word in ["panicked", "Broken pipe"] {
            assert!(!said.stderr.contains(word), "{arguments:?}: {}", said.stderr);
        }
    }
    a_closed_stderr_changes_nothing(&site);
    a_device_is_written_and_not_replaced(&site);
}

fn a_device_is_written_and_not_replaced(site: &Site) {
    let before = std::fs::metadata("/dev/full").unwrap().file_type();
    for arguments in [
        &["export", "postings", "--out", "/dev/full"][..],
        &["extract", "--text", "Excel", "--out", "/dev/full"],
    ] {
        let said = site.run(arguments).ended(2);
        assert!(said.stderr.contains("cannot write /dev/full: No space left on device"), "{}", said.stderr);
    }
    assert_eq!(std::fs::metadata("/dev/full").unwrap().file_type(), before);
    site.run(&["export", "postings", "--out", "/dev/null"]).ended(0);
}

fn a_closed_stderr_changes_nothing(site: &Site) {
    for (arguments, code) in [
        (["run", "start", "--watch"], 0),
        (["postings", "import", "absent.csv"], 2),
        (["postings", "list", "--country=AR"], 1),
    ] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let ended = site.command(&arguments).stderr(writer).output().unwrap();
        assert_eq!(ended.status.code(), Some(code), "{arguments:?}");
    }
}
