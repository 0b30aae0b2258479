//! Portal files: what is right, and what is said about what is wrong.

use super::portal;
use crate::scraper::portal::{Permission, Portal, built_in, load};

const GOOD: &str = r#"
schema = 1
name = "p"
[permission]
basis = "robots"
note = "read"
[countries.CO]
base = "https://p.example"
zone = "-05:00"
[listing]
url = "{base}/jobs"
cards = "article"
[listing.fields]
title = { css = "h2" }
url = { css = "a", attr = "href" }
description = { css = "p", html = true }
"#;

fn problems(text: &str) -> String {
    let problems = Portal::parse(text).expect_err("the file is refused");
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

#[test]
fn the_files_of_the_program_are_valid() {
    for (name, text) in built_in() {
        let portal = Portal::parse(text).unwrap_or_else(|problems| panic!("{name}: {problems:#?}"));
        assert_eq!(&portal.name, name);
        for country in ["AR", "CO", "MX"].iter().filter(|code| portal.countries.contains_key(**code)) {
            assert!(portal.countries[*country].base.starts_with("https://"));
        }
        assert_ne!(portal.permission, Permission::Written);
    }
    assert_eq!(portal("bumeran").countries["AR"].values["site_id"], "BMAR");
}

#[test]
fn a_good_file_is_read() {
    let portal = Portal::parse(GOOD).unwrap();
    assert_eq!(portal.permission, Permission::Robots);
    assert_eq!(portal.fields().into_iter().collect::<Vec<_>>(), ["description", "title", "url"]);
}

/// What is changed in the good file, into what, and what is said about it.
const MISTAKES: &[(&str, &str, &str)] = &[
    ("schema = 1", "schema = 2", "schema: is `2`, expected a whole number from 1 to 1"),
    ("schema = 1", "", "schema: is missing, expected 1"),
    ("\"p\"", "\"P x\"", "name: is `P x`, expected 1 to 50 of a-z, 0-9, `-`, `_`"),
    ("[permission]", "[permision]", "permision: unknown key; did you mean `permission`?"),
    (
        "\"robots\"",
        "\"robot\"",
        "permission.basis: is `robot`, expected one of ask, public-api, robots, written; did you mean `robots`?",
    ),
    ("note = \"read\"", "", "permission.note: is missing"),
    ("countries.CO", "countries.co", "countries.co: is not a country code of two capital letters such as CO"),
    (
        "https://p.example",
        "p.example",
        "countries.CO.base: is `p.example`, expected an address such as https://co.portal.example",
    ),
    ("-05:00", "Bogota", "countries.CO.zone: is `Bogota`, expected an offset such as -05:00"),
    (
        "{base}/jobs",
        "/jobs",
        "listing.url: must begin with {base} or {url}, so that the portal's address can be replaced",
    ),
    (
        "{base}/jobs",
        "{base}/{quer:slug}",
        "listing.url: `{quer}`: unknown placeholder; did you mean `query`?",
    ),
    ("{base}/jobs", "{base}/{query:slg}", "listing.url: unknown filter `slg`; known are slug, url, json"),
    ("cards = \"article\"", "", "listing.cards: is missing, expected a CSS selector"),
    ("{ css = \"h2\" }", "[]", "listing.fields.title: is an empty list, expected a rule"),
    (
        "css = \"h2\"",
        "cs = \"h2\"",
        "listing.fields.title: needs exactly one source: css, attr, json, json_ld, value, template, page_url",
    ),
    (
        "title = { css = \"h2\" }",
        "titel = { css = \"h2\" }",
        "listing.fields.titel: unknown field; did you mean `title`?",
    ),
    ("title = { css = \"h2\" }", "", "listing.fields: no rule here or in detail.fields gives `title`"),
    (
        "css = \"h2\"",
        "css = \"h2\", regx = \"x\"",
        "listing.fields.title.regx: unknown key; did you mean `regex`?",
    ),
    ("css = \"h2\"", "css = \"h2\", lower = 1", "listing.fields.title.lower: is `1`, expected true or false"),
    (
        "css = \"h2\"",
        "css = \"h2\", attr = \"a\", html = true",
        "listing.fields.title: only one of `attr`, `html` and `own_text` can be read",
    ),
    (
        "css = \"h2\"",
        "json = \"/t\"",
        "listing.fields.title.json: needs `css` or `attr` next to it on an HTML page",
    ),
    (
        "css = \"h2\"",
        "json_ld = \"title\"",
        "listing.fields.title.json_ld: is `title`, expected TYPE/NAME such as `JobPosting/title`",
    ),
    ("css = \"h2\"", "css = \"h2\", date = \"iso\"", "listing.fields.title.date: is for posted_date only"),
    (
        "title =",
        "posted_date = { css = \"i\" }\ntitle =",
        "listing.fields.posted_date.date: is missing; a day needs one, e.g. [\"relative\", \"%d-%m-%Y\"]",
    ),
    (
        "title =",
        "posted_date = { css = \"i\", date = \"%d\" }\ntitle =",
        "listing.fields.posted_date.date: `%d` is not a date form; known are relative, day-month, iso, epoch-s, epoch-ms, or a pattern such as %d-%m-%Y",
    ),
    (
        "cards =",
        "headers = { User-Agent = \"x\" }\ncards =",
        "listing.headers.User-Agent: cannot be set by a portal file",
    ),
    ("cards =", "body = \"x\"\ncards =", "listing.body: needs method = \"POST\""),
    (
        "cards =",
        "pagination = { kind = \"page\" }\ncards =",
        "listing.pagination: needs `url`, or {page} in the url or the body of the listing",
    ),
    ("cards =", "pagination = { kind = \"next\" }\ncards =", "listing.pagination.css: is missing"),
    (
        "[listing]",
        "[expected]\ncompany = 0.5\ntitle = 2\n[listing]",
        "expected.company: no rule gives this field",
    ),
    ("[listing]", "[expected]\ntitle = 2\n[listing]", "expected.title: is not a share from 0 to 1"),
    (
        "[listing]",
        "[marks]\nlogin = \"(\"\n[listing]",
        "marks.login: `(` is not a regular expression: error: unclosed group",
    ),
    (
        "[listing]",
        "[zebra]\n[listing]",
        "zebra: unknown key; known are schema, name, title, permission, countries, queries, limits, marks, listing, detail, expected",
    ),
];

#[test]
fn mistakes_are_named() {
    for (from, to, expected) in MISTAKES {
        assert!(GOOD.contains(from), "{from}");
        let found = problems(&GOOD.replacen(from, to, 1));
        assert!(found.lines().any(|line| line == *expected), "expected\n{expected}\nin\n{found}");
    }
}

#[test]
fn every_mistake_is_named_at_once() {
    let found = problems(&GOOD.replace("-05:00", "x").replace("h2", "h2 >>").replace("\"article\"", "3"));
    assert_eq!(found.lines().count(), 3, "{found}");
    assert!(found.contains("listing.fields.title.css: `h2 >>` is not a CSS selector"), "{found}");
    assert!(problems("name = ").starts_with("line 1: "));
    assert!(problems(&format!("{GOOD}\n[listing]\n")).starts_with("line "));
    assert!(problems("").contains("listing: is missing"));
}

#[test]
fn a_folder_takes_precedence() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("mine.toml"), GOOD).unwrap();
    std::fs::write(folder.path().join("notes.txt"), "no portal").unwrap();
    let own = GOOD.replace("\"p\"", "\"elempleo\"");
    std::fs::write(folder.path().join("elempleo.toml"), own).unwrap();
    let portals = load(Some(folder.path())).unwrap();
    assert_eq!(portals.keys().collect::<Vec<_>>(), ["bumeran", "computrabajo", "elempleo", "p"]);
    assert_eq!(portals["elempleo"].countries["CO"].base, "https://p.example");
    std::fs::write(folder.path().join("bad.toml"), "schema = 1").unwrap();
    let message = load(Some(folder.path())).unwrap_err().to_string();
    assert!(message.contains("bad.toml is not a portal file:\n  name: is missing"), "{message}");
    assert!(load(Some(&folder.path().join("none"))).is_err());
}

/// Whatever line is lost or cut, the file is either still whole or refused with a reason.
#[test]
fn damaged_files_are_read_or_refused() {
    let mut refused = 0;
    for (name, text) in built_in() {
        for (number, line) in text.lines().enumerate() {
            for damage in ["", &line[..line.floor_char_boundary(line.len() / 2)]] {
                let mut lines: Vec<&str> = text.lines().collect();
                lines[number] = damage;
                if let Err(problems) = Portal::parse(&lines.join("\n")) {
                    assert!(problems.iter().all(|problem| !problem.message.is_empty()), "{name}:{number}");
                    refused += 1;
                }
            }
        }
    }
    assert!(refused > 100, "only {refused} damaged files were refused");
}
