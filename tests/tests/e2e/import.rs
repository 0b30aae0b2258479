//! Files as people have them, through the real programs.

use crate::site::Site;

const SPANISH: &str = "Título;Empresa;Descripción;Fecha de publicación;País;Enlace;Interno\r\n\
    Panadero;Pan & Cía;Hornear pan y control de stock. Escribir a ana@pan.example;03/11/2025;Colombia;www.empleos.example/ver?jk=a1;x\r\n\
    Niñera;ACME;Cuidar niños con =paciencia;25/11/2025;Colombia;www.empleos.example/ver?jk=b2;y\r\n";

fn windows(text: &str) -> Vec<u8> {
    // Every character of the text is one of Latin-1.
    text.chars().map(|char| u8::try_from(u32::from(char)).unwrap()).collect()
}

#[test]
fn a_spanish_spreadsheet_is_shown_then_stored_then_exported() {
    let site = Site::up();
    let file = site.file("avisos.csv", windows(SPANISH));
    let import = ["postings", "import", &file, "--portal", "Empleos Ejemplo"];
    let dry = site.run(&[&import[..], &["--dry-run", "--json"]].concat()).ended(0).json();
    assert_eq!((&dry["imported"], &dry["refused"]), (&2.into(), &0.into()));
    assert_eq!(dry["files"][0]["columns"]["title"], "Título");
    assert_eq!(dry["files"][0]["not_used"], serde_json::json!(["Interno"]));
    let first = &dry["postings"][0];
    assert!(first["scraped_at"].is_null(), "nobody said when it was collected: {first}");
    let dated =
        site.run(&[&import[..], &["--collected", "2025-11-26", "--dry-run", "--json"]].concat()).ended(0);
    assert_eq!(dated.json()["postings"][0]["scraped_at"], "2025-11-26T12:00:00Z");
    assert_eq!(
        [&first["portal"], &first["country"], &first["url"], &first["external_id"], &first["posted_date"]],
        ["empleos-ejemplo", "CO", "https://www.empleos.example/ver?jk=a1", "a1", "2025-11-03"]
    );
    assert!(!first["description"].as_str().unwrap().contains('@'), "{first}");
    let shown = site.run(&[&import[..], &["--dry-run"]].concat()).ended(0);
    for expected in
        ["title ← Título", "not used: Interno", "windows-1252", "nothing was stored; 2 would be imported"]
    {
        assert!(shown.stdout.contains(expected), "{expected}: {}", shown.stdout);
    }
    assert_eq!(site.run(&["postings", "list"]).code, 1);

    let stored = site.run(&[&import[..], &["--json"]].concat()).ended(0);
    assert_eq!(stored.json()["imported"], 2);
    for expected in ["`Colombia` became `CO` (2 lines)", "became `empleos-ejemplo`", "day/month/year"] {
        assert!(stored.stderr.contains(expected), "{expected}: {}", stored.stderr);
    }
    let again = site.run(&[&import[..], &["--dry-run", "--json"]].concat()).ended(0).json();
    assert_eq!((&again["imported"], &again["duplicates"]), (&0.into(), &2.into()));
    let listed = site.run(&["postings", "list", "--json"]).ended(0).json();
    for posting in listed.as_array().unwrap() {
        let shown = site.run(&["postings", "show", posting["job_id"].as_str().unwrap()]).ended(0).json();
        assert!(shown["previous_job_id"].is_null(), "{shown}");
    }

    let out = site.dir.path().join("excel.csv");
    let out = out.to_str().unwrap();
    site.run(&["export", "postings", "--excel", "--out", out]).ended(0);
    let text = std::fs::read_to_string(out).unwrap();
    assert!(
        text.starts_with("\u{feff}job_id;portal;country;url;title;") && text.contains(";Niñera;"),
        "{text}"
    );
    let refused = site.run(&["export", "postings", "--excel", "--format", "jsonl", "--out", out]).ended(2);
    assert!(refused.stderr.contains("--excel requires --format csv"), "{}", refused.stderr);

    site.run(&["run", "start", "--watch"]).ended(0);
    let tables = site.dir.path().join("tables");
    site.run(&["report", "build", "--format", "csv", "--excel", "--out", tables.to_str().unwrap()]).ended(0);
    let skills = std::fs::read_to_string(tables.join("skills.csv")).unwrap();
    assert!(skills.starts_with("\u{feff}rank;skill;"), "{skills}");
}

#[test]
fn standard_input_and_a_zip_are_read() {
    let site = Site::up();
    let ad = r#"[{"portal":"p","country":"Argentina","url":"x.example/1","title":"Panadero","description":"Hornear"}]"#;
    let file = site.file("ads.json", ad);
    let mut command = site.command(&["postings", "import", "-", "--json"]);
    command.stdin(std::fs::File::open(&file).unwrap());
    let said: crate::site::Said = command.output().unwrap().into();
    assert_eq!(said.ended(0).json()["imported"], 1);
    let bad = site.file("bad.csv", "title,url\na,/1\n");
    let said = site.run(&["postings", "import", &bad, "--portal", "p", "--country", "AR"]).ended(2);
    assert!(said.stderr.contains("no column for description; found title, url"), "{}", said.stderr);
    let relative = site.file("relative.csv", "title,url,description\na,/1,c\nb,/2,d\ne,/3,f\n");
    let said = site.run(&["postings", "import", &relative, "--portal", "p", "--country", "AR"]).ended(1);
    let expected =
        "relative.csv:2: url: `/1` names no host: expected https://HOST/…; also `/2`, `/3` (3 lines)";
    assert!(said.stderr.contains(expected), "{}", said.stderr);
}
