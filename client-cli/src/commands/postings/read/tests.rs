//! Files as written by Excel in Latin America, pandas, JobSpy and schema.org.
//!
//! Each goes through `prepare`, as a user's file does.

use clap::Parser;
use observatory_proto::pipeline::v1::ImportPostingsRequest;

use super::*;

#[derive(Debug, clap::Parser)]
struct Line {
    #[command(flatten)]
    import: ImportOptions,
}

/// Reads a file of this name and content with these flags.
fn read(name: &str, content: &[u8], flags: &str) -> Result<Prepared, String> {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join(name);
    std::fs::write(&path, content).expect("written");
    let mut line = vec!["import".to_owned(), path.display().to_string()];
    line.extend(flags.split_whitespace().map(str::to_owned));
    let line = Line::try_parse_from(line).map_err(|error| error.to_string())?;
    prepare(&line.import)
        .map_err(|error| format!("{error:#}").replace(&format!("{}/", folder.path().display()), ""))
}

/// The advertisements of a file, with their lines.
fn ads(name: &str, content: &[u8], flags: &str) -> Vec<(u64, Value)> {
    let prepared = read(name, content, flags).unwrap_or_else(|message| panic!("{name}: {message}"));
    let ad = |ad: &ImportPostingsRequest| (ad.line, serde_json::from_str(&ad.posting_json).expect("JSON"));
    prepared.ads.iter().map(ad).collect()
}

/// Everything reported about a file.
fn told(name: &str, content: &[u8], flags: &str) -> String {
    match read(name, content, flags) {
        Err(message) => message,
        Ok(prepared) => {
            let notes = prepared.files.iter().flat_map(|file| file.notes.clone());
            let unused = prepared.files.iter().map(|file| format!("not used: {}", file.unused.join(", ")));
            let lines = prepared.refused.iter().chain(&prepared.notes);
            let lines = lines.map(|error| format!("{}: {} ({})", error.line, error.message, error.count));
            notes.chain(unused).chain(lines).collect::<Vec<_>>().join("\n")
        }
    }
}

const FLAGS: &str = "--portal file --country CO";

fn field<'v>(ads: &'v [(u64, Value)], at: usize, name: &str) -> Option<&'v str> {
    ads[at].1[name].as_str()
}

fn windows(text: &str) -> Vec<u8> {
    encoding_rs::WINDOWS_1252.encode(text).0.into_owned()
}

fn utf16(text: &str) -> Vec<u8> {
    format!("\u{feff}{text}").encode_utf16().flat_map(u16::to_le_bytes).collect()
}

const SPANISH: &str = "Título;Empresa;Descripción;Fecha de publicación;Ubicación;País;Enlace\r\n\
    Panadero;Pan & Cía;Hornear, amasar;03/11/2025;Bogotá;Colombia;www.empleos.example/1\r\n\
    Niñera;;\"Cuidar niños\r\ny jugar\";25/11/2025;Cali;Colombia;www.empleos.example/2\r\n\
    Señalero;ACME;Señalar;;;;www.empleos.example/3\r\n";

#[test]
fn spanish_spreadsheets_saved_as_text_are_read() {
    let check = |name: &str, content: Vec<u8>| {
        let found = ads(name, &content, FLAGS);
        let lines: Vec<u64> = found.iter().map(|(line, _)| *line).collect();
        assert_eq!(lines, [2, 3, 5], "{name}");
        let expected = serde_json::json!({ "country": "Colombia", "url": "www.empleos.example/1", "title": "Panadero",
            "company": "Pan & Cía", "location": "Bogotá", "description": "Hornear, amasar",
            "posted_date": "2025-11-03", "portal": "file" });
        assert_eq!(found[0].1, expected, "{name}");
        assert_eq!(field(&found, 1, "description"), Some("Cuidar niños\ny jugar"));
        assert_eq!((field(&found, 2, "country"), field(&found, 2, "posted_date")), (Some("CO"), None));
    };
    check("d1_windows.csv", windows(SPANISH));
    check("d2_utf8.csv", format!("\u{feff}{SPANISH}").into_bytes());
    check("d4_unicode.txt", utf16(&SPANISH.replace(';', "\t")));
    check("tabs.tsv", SPANISH.replace(';', "\t").into_bytes());
    check("mac.csv", encoding_rs::MACINTOSH.encode(SPANISH).0.into_owned());
    check("pipes.csv", SPANISH.replace(';', "|").into_bytes());
}

#[test]
fn what_was_understood_is_shown_once() {
    let prepared = read("ads.csv", &windows(SPANISH), FLAGS).expect("read");
    let file = &prepared.files[0];
    assert_eq!(file.form, "delimited text, delimiter `;`, windows-1252");
    let columns: Vec<String> =
        file.columns.iter().map(|(ours, theirs)| format!("{ours} ← {theirs}")).collect();
    let expected = "country ← País, url ← Enlace, title ← Título, company ← Empresa, location ← Ubicación, \
        description ← Descripción, posted_date ← Fecha de publicación";
    assert_eq!(columns.join(", "), expected);
    assert_eq!(file.notes, ["posted_date: day/month/year, as `25/11/2025` in line 3 shows"]);
    let plain = read("a.csv", b"title,url,description\na,b,c\n", FLAGS).expect("read");
    assert!(!plain.files[0].remarkable);
}

#[test]
fn flags_overrule_what_is_detected() {
    let text = "title;url;description;posted_date\na;b;c;03/11/2025\n";
    let check = |content: &[u8], flags: &str, field_name: &str, expected: &str| {
        let found = ads("a.csv", content, &format!("{FLAGS} {flags}"));
        assert_eq!(field(&found, 0, field_name), Some(expected), "{flags}");
    };
    check(text.as_bytes(), "--delimiter ; --date-format %d/%m/%Y", "posted_date", "2025-11-03");
    check(text.as_bytes(), "--delimiter semicolon --date-format %m/%d/%Y", "posted_date", "2025-03-11");
    check(b"title^url^description\na^b^c\n", "--delimiter ^", "description", "c");
    check(b"title,url,description\nni\xf1o,b,c\n", "--encoding latin1", "title", "niño");
    check(b"title,url,description\nni\xa4o,b,c\n", "--encoding cp850", "title", "niño");
    check(b"{\"title\":\"a\",\"url\":\"b\",\"description\":\"c\"}", "--format jsonl", "title", "a");
    check(b"a,b,c\n1,2,3\n", "--map title=a,url=b,description=c --format csv", "portal", "file");
}

#[test]
fn dates_of_every_program_are_read() {
    let check = |value: &str, flags: &str, expected: Option<&str>| {
        let text = format!("title,url,description,posted_date\na,b,c,{value}\na,b,d,2025-12-31\n");
        let found = ads("a.csv", text.as_bytes(), &format!("{FLAGS} {flags}"));
        assert_eq!(field(&found, 0, "posted_date"), expected, "{value}");
        assert_eq!(found.len(), 2, "{value}");
    };
    check("2025-11-03 00:00:00", "", Some("2025-11-03"));
    check("2025-11-03T10:00:00Z", "", Some("2025-11-03"));
    check("NaT", "", None);
    check("03/11/2025", "--date-format %d/%m/%Y", Some("2025-11-03"));
    check("45964", "--date-format excel", Some("2025-11-03"));
    check("1762128000000", "--date-format epoch-ms", Some("2025-11-03"));
    check("hace 3 días", "", None);
    check("45964", "", None);
}

#[test]
fn a_bad_date_is_told_once_and_its_advertisement_kept() {
    let rows: String = (0..300).map(|n| format!("t,u{n},d,ayer\n")).collect();
    let text = format!("title,url,description,posted_date\n{rows}t,u,d,2025-11-03\n");
    let prepared = read("a.csv", text.as_bytes(), FLAGS).expect("read");
    assert_eq!((prepared.ads.len(), prepared.notes.len()), (301, 1));
    assert_eq!(prepared.notes[0].message, "posted_date: `ayer` is not a date; omitted");
    assert_eq!((prepared.notes[0].line, prepared.notes[0].count), (2, 300));
}

#[test]
fn doubtful_and_damaged_files_are_refused_in_one_message() {
    let head = "title,url,description";
    let check = |content: &[u8], flags: &str, expected: &str| {
        let message = read("a.csv", content, &format!("{FLAGS} {flags}")).expect_err(expected);
        assert!(message.starts_with("a.csv: ") && message.contains(expected), "{message}");
    };
    let text = |rest: &str| format!("{head}{rest}").into_bytes();
    check(
        &text(",posted_date\na,b,c,03/11/2025\n"),
        "",
        "posted_date: `03/11/2025` (line 2) could be day/month or month/day",
    );
    check(&text(",posted_date\na,b,c,03/11/25\n"), "", "has a two-digit year; pass --date-format");
    check(&text(",posted_date\na,b,c,45964\n"), "", "pass --date-format excel");
    check(&text("\na,b,\"c\nd,e,f\n"), "", "line 2: unclosed quote");
    check(
        b"Title,Url\na,b\n",
        "",
        "no column for description; found Title, Url; pass --map description=COLUMN",
    );
    check(
        b"titulo,url,description\na,b,c\n",
        "--map title=Titulo",
        "no column `Titulo` (did you mean `titulo`?); found titulo, url, description",
    );
    check(b"title,url,description,title\na,b,c,d\n", "", "column `title` appears 2 times");
    check(
        b"Cargo,Puesto,url,description\na,b,c,d\n",
        "",
        "ambiguous columns for title: `Cargo` and `Puesto`",
    );
    check(b"title,url,description\nni\xf1o,b,a\xc3\xb1o\n", "", "line 2: byte 0xF1 is not valid UTF-8");
    check(b"title,url,description\na,\0,c\n", "", "line 2: NUL character");
    check(b"x\ny\n", "", "pass --delimiter or --format");
    check(b"<html><table><tr>", "", "is a web page, despite its name");
    check(b"PK\x03\x04 cut off", "", "the zip or Excel file is corrupt or truncated");
    check(b"\xd0\xcf\x11\xe0 locked", "", "corrupt, truncated or password-protected");
    check(b"PAR1 cut off", "", "Parquet");
    check(b"\x1f\x8b\x08", "", "the gzip data is corrupt or truncated");
    check(b"[{\"title\": \"a\"},\n{\"tit", "", "not valid JSON, the file may be corrupt or truncated");
    check(b"title,url,description\n", "--format xlsx", "is not a spreadsheet");
}

#[test]
fn a_portal_and_a_country_are_asked_for_by_their_flags() {
    let text = b"title,url,description\na,b,c\n";
    let message = read("a.csv", text, "").expect_err("refused");
    let expected = "no column for portal, country; found title, url, description; pass --map portal=COLUMN or --portal or --country";
    assert_eq!(message, format!("a.csv: {expected}"));
}

#[test]
fn json_of_every_shape_is_read() {
    let ad = r#"{"title":"a","url":"b","description":"c"}"#;
    let check = |name: &str, text: String| {
        let found = ads(name, text.as_bytes(), FLAGS);
        assert_eq!((found.len(), field(&found, 0, "title")), (1, Some("a")), "{text}");
    };
    check("a.json", format!("[{ad}]"));
    check("a.json", format!("{{\"jobs\":[{ad}]}}"));
    check("a.json", format!("{{\"status\":\"ok\",\"data\":{{\"results\":[{ad}]}}}}"));
    check("a.json", ad.to_owned());
    check("a.jsonl", format!("\u{feff}{ad}\r\n"));
    check("a.txt", format!("[{ad}]"));
    check("a", ad.to_owned());
    check(
        "a.json",
        "{\"title\":{\"0\":\"a\"},\"url\":{\"0\":\"b\"},\"description\":{\"0\":\"c\"}}".to_owned(),
    );
}

#[test]
fn typed_values_become_text() {
    let text = r#"{"title":"a","url":"b","description":"c","salary_raw":2500000,"remote_type":true,"company":{"name":"ACME"},
        "requirements":["Excel","SAP"],"location":NaN,"posted_date":1762128000000,"contract_type":null,"id":77}"#;
    let found = ads("a.json", text.as_bytes(), FLAGS);
    let expected = serde_json::json!({ "id": "77", "url": "b", "title": "a", "company": "ACME", "description": "c",
        "requirements": "Excel\nSAP", "salary_raw": "2500000", "remote_type": "remote", "posted_date": "2025-11-03",
        "portal": "file", "country": "CO" });
    assert_eq!(found[0].1, expected);
}

#[test]
fn job_postings_have_company_place_date_and_salary() {
    let text = r#"{"@context":"https://schema.org","@type":"JobPosting","title":"Contador","description":"NIIF",
        "datePosted":"2025-11-03T08:00:00-05:00","hiringOrganization":{"@type":"Organization","name":"ACME"},
        "jobLocation":{"@type":"Place","address":{"@type":"PostalAddress","addressLocality":"Cali","addressCountry":"CO"}},
        "baseSalary":{"@type":"MonetaryAmount","currency":"COP","value":{"minValue":2500000,"unitText":"MONTH"}},
        "identifier":{"@type":"PropertyValue","name":"ACME","value":"A-77"},"validThrough":"2025-12-03",
        "employmentType":"FULL_TIME","jobLocationType":"TELECOMMUTE","url":"https://acme.example/77"}"#;
    let content = text.replace('\n', " ");
    let found = ads("a.jsonl", content.as_bytes(), "--portal acme");
    let expected = serde_json::json!({ "id": "A-77", "country": "CO", "url": "https://acme.example/77",
        "title": "Contador", "company": "ACME", "location": "Cali, CO", "description": "NIIF",
        "salary_raw": "2500000 COP MONTH", "contract_type": "FULL_TIME", "remote_type": "remote",
        "posted_date": "2025-11-03", "portal": "acme" });
    assert_eq!(found[0].1, expected);
    assert!(told("a.jsonl", content.as_bytes(), "--portal acme").contains("not used: validThrough"));
}

#[test]
fn jobspy_files_are_read() {
    let text = "\"id\",\"site\",\"job_url\",\"job_url_direct\",\"title\",\"company\",\"location\",\"date_posted\",\"job_type\",\"interval\",\"min_amount\",\"max_amount\",\"currency\",\"is_remote\",\"description\"\n\
        \"in-1\",\"indeed\",\"https://mx.indeed.com/viewjob?jk=1\",\"\",\"Dev\",\"ACME\",\"CDMX\",\"2025-11-03\",\"fulltime\",\"monthly\",20000.0,30000.0,\"MXN\",False,\"* C\\\\+\\\\+\n* \"\"C\"\"\"\n\
        \"li-2\",\"linkedin\",\"https://www.linkedin.com/jobs/view/2\",\"\",\"QA\",\"\",\"\",\"\",\"\",\"\",,,\"\",True,\"* C\\\\#\"\n";
    let found = ads("jobs.csv", text.as_bytes(), "--country Mexico");
    let expected = serde_json::json!({ "id": "in-1", "portal": "indeed", "url": "https://mx.indeed.com/viewjob?jk=1",
        "title": "Dev", "company": "ACME", "location": "CDMX", "description": "* C\\+\\+\n* \"C\"",
        "contract_type": "fulltime", "posted_date": "2025-11-03", "salary_raw": "20000 - 30000 MXN monthly",
        "country": "Mexico" });
    assert_eq!(found[0].1, expected);
    assert_eq!((found[1].0, field(&found, 1, "remote_type")), (4, Some("remote")));
    assert!(told("jobs.csv", text.as_bytes(), "--country MX").contains("not used: job_url_direct"));
}

#[test]
fn spreadsheets_are_read() {
    let book = include_bytes!("../../../../tests/fixtures/import/spreadsheet.xlsx");
    let flags = "--portal file --country CO";
    let found = ads("a.xlsx", book, flags);
    let expected = serde_json::json!({ "id": "1117000001", "url": "https://empleos.example/oferta/1117000001",
        "title": "Panadero", "company": "Pan & Co", "description": "Hornear pan", "salary_raw": "2500000",
        "remote_type": "remote", "posted_date": "2025-11-03", "portal": "file", "country": "CO" });
    assert_eq!(found[0], (4, expected));
    assert_eq!((found[1].0, field(&found, 1, "posted_date")), (6, Some("2025-11-24")));
    assert_eq!((field(&found, 1, "salary_raw"), field(&found, 1, "remote_type")), (Some("1200.5"), None));
    assert_eq!((found[2].0, field(&found, 2, "posted_date")), (7, Some("2025-11-25")));
    let notes = told("whatever.dat", book, flags);
    for expected in ["the header is row 3", "ignored other sheets: `Notas`", "#N/A"] {
        assert!(notes.contains(expected), "{notes}");
    }
    let check = |content: &[u8], flags: &str, expected: &str| {
        let message = told("a.xlsx", content, &format!("{FLAGS} {flags}"));
        assert!(message.contains(expected), "{message}");
    };
    let two = include_bytes!("../../../../tests/fixtures/import/two_sheets.xlsx");
    check(two, "", "several sheets contain data: `Enero`, `Febrero`; choose one with --sheet");
    check(two, "--sheet Marzo", "no sheet `Marzo`; found Enero, Febrero");
    assert_eq!(ads("a.xlsx", two, &format!("{FLAGS} --sheet Febrero")).len(), 1);
    let half = include_bytes!("../../../../tests/fixtures/import/half_taken.xlsx");
    check(half, "", "`25/11/2025` (row 4) is text and 2 other values are dates");
    check(&book[..book.len() / 2], "", "corrupt or truncated");
    check(book, "--format csv", "is a spreadsheet, which does not match --format");
}

#[test]
fn parquet_is_read() {
    let check = |content: &[u8], date: Option<&str>, salary: Option<&str>| {
        let found = ads("a.parquet", content, FLAGS);
        assert_eq!(found.len(), 2);
        assert_eq!(
            (found[0].0, field(&found, 0, "title"), field(&found, 0, "company")),
            (1, Some("Panadero"), Some("Pan & Co"))
        );
        assert_eq!(
            (field(&found, 0, "id"), field(&found, 0, "requirements")),
            (Some("1117000001"), Some("Amasar\nHornear"))
        );
        assert_eq!(
            (field(&found, 0, "posted_date"), field(&found, 0, "salary_raw")),
            (Some("2025-11-03"), salary)
        );
        assert_eq!((field(&found, 1, "posted_date"), field(&found, 1, "salary_raw")), (date, None));
        assert_eq!(
            (field(&found, 0, "remote_type"), field(&found, 1, "remote_type")),
            (Some("remote"), None)
        );
    };
    check(include_bytes!("../../../../tests/fixtures/import/pandas.parquet"), None, Some("2500000"));
    check(
        include_bytes!("../../../../tests/fixtures/import/zstd.parquet"),
        Some("2025-11-04"),
        Some("2500000"),
    );
}

#[test]
fn odd_rows_are_told_with_their_place() {
    let check = |content: &str, flags: &str, expected: &str| {
        let message = told("a.csv", content.as_bytes(), &format!("{FLAGS} {flags}"));
        assert!(message.contains(expected), "{content:?}: {message}");
    };
    check(
        "title,url,description\r\na,b\r\nc,d\r\ne,f,g\r\n",
        "",
        "2: has 2 fields, but the header has 3 (2)",
    );
    check(
        "title,url,description\n\"a\" b,c,d\ne,f,g\n",
        "",
        "2: text after a closing quote; double the quotes",
    );
    check(
        "title,url,description\n\"a\nb\" c,c,d\ne,f,g\n",
        "",
        "2: text after a closing quote in line 3; everything up to it is skipped",
    );
    check("title,url,description\na,b,gestiÃ³n\n", "", "line 2: `gestiÃ³n` looks double-encoded");
    check("title,url,description\na,b,gesti\u{fffd}n\n", "", "characters were lost");
    check(
        "title,url,description\na,b,c\ntitle,url,description\nd,e,f\n",
        "",
        "the header is repeated 1 times",
    );
    check("Unnamed: 0,title,url,description,x\n0,a,b,c,1\n", "", "not used: Unnamed: 0, x");
    check(",title,url,description\n0,a,b,c\n", "", "not used: column 1");
    check(
        "title,url,description,id\na,b,c,\"1,11698E+09\"\n",
        "",
        "2: id: `1,11698E+09` lost digits because it was saved as a number; omitted (1)",
    );
    check(
        "title,url,description,id\na,b,c,7\nd,e,f,7\n",
        "",
        "2: id: `7` is used for several URLs; the id is derived from the URL (2)",
    );
    check(
        "title,url,description,salary_raw\na,b,c,#REF!\n",
        "",
        "2: salary_raw: `#REF!` is a formula error; omitted (1)",
    );
    check(
        "title,url,description,scraped_at\na,b,c,2025-11-03 10:00:00\n",
        "",
        "2: scraped_at: no time zone; UTC is assumed (1)",
    );
    check(
        "title,url,description,company\na,b,c,\"{'id': 3}\"\n",
        "",
        "2: company: an object without a name (it has id); expected text; omitted (1)",
    );
}

#[test]
fn the_day_of_collection_is_a_column_or_given_for_the_file() {
    let check = |column: &str, flags: &str, expected: [Value; 2]| {
        let text = format!("title,url,description,{column}\na,b,c,2025-11-03T10:00:00Z\nd,e,f,\n");
        let flags = format!("--portal p --country CO {flags}");
        let found = ads("a.csv", text.as_bytes(), &flags).into_iter().map(|(_, ad)| ad["scraped_at"].clone());
        assert_eq!(found.collect::<Vec<_>>(), expected, "{column} {flags}");
    };
    let (own, given) = (Value::from("2025-11-03T10:00:00+00:00"), Value::from("2025-12-24T12:00:00+00:00"));
    for column in ["scraped_at", "collected", "Fecha de recolección", "Collected On", "fecha_captura"] {
        check(column, "", [own.clone(), Value::Null]);
        check(column, "--collected 2025-12-24", [own.clone(), given.clone()]);
    }
    check("Interno", "--collected 2025-12-24", [given.clone(), given]);
    check("Recogido", "--map scraped_at=Recogido", [own, Value::Null]);
}

#[test]
fn empty_files_hold_nothing() {
    for (name, content) in [
        ("a.csv", ""),
        ("a.csv", "\u{feff}"),
        ("a.csv", "title,url\n"),
        ("a.jsonl", "\n\n"),
        ("a.json", "[]"),
        ("a.txt", " \r\n"),
    ] {
        let prepared = read(name, content.as_bytes(), "").expect("read");
        assert_eq!((prepared.ads.len(), prepared.refused_count), (0, 0), "{name} {content:?}");
    }
}

#[test]
fn every_bad_file_is_named_before_anything_is_sent() {
    let folder = tempfile::tempdir().expect("a folder");
    let good = folder.path().join("good.csv");
    std::fs::write(&good, "title,url,description\na,b,c\n").expect("written");
    let missing = folder.path().join("missing.csv");
    let line = [
        "import",
        good.to_str().expect("a path"),
        missing.to_str().expect("a path"),
        "--portal",
        "p",
        "--country",
        "CO",
    ];
    let import = Line::try_parse_from(line).expect("flags").import;
    let message = format!("{:#}", prepare(&import).expect_err("refused"));
    assert!(message.starts_with("cannot read ") && message.contains("missing.csv"), "{message}");
}

#[test]
fn flags_are_checked() {
    let check = |flags: &str, expected: &str| {
        let message = read("a.csv", b"", flags).expect_err(expected);
        assert!(message.contains(expected), "{message}");
    };
    check("--delimiter ab", "invalid delimiter `ab`");
    check("--delimiter a", "invalid delimiter `a`");
    check("--encoding klingon", "unknown encoding `klingon`");
    check("--date-format ayer", "invalid date format `ayer`");
    check("--map titel=x", "unknown field `titel`");
    check("--format doc", "possible values: csv, jsonl, json, xlsx, parquet");
}
