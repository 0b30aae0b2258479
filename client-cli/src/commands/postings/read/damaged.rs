//! Files that are damaged in ways nobody thought of: refused or read, never a panic, and never much
//! more than was there.

use std::io::{Cursor, Read as _, Write as _};

use clap::Parser;
use zip::{CompressionMethod, ZipArchive, ZipWriter, write::SimpleFileOptions};

use super::*;

#[derive(Debug, clap::Parser)]
struct Line {
    #[command(flatten)]
    import: ImportOptions,
}

/// Reads mutations of files; what is sent of one may not be out of proportion to it.
fn meet(name: &str, corpus: &[Vec<u8>], made: impl Fn(&[u8]) -> Vec<u8>) {
    let line = ["import", "file", "--portal", "file", "--country", "CO"];
    let import = Line::try_parse_from(line).expect("flags").import;
    observatory_mutator::bytes(name, corpus, |input| {
        let content = made(input);
        let length = content.len();
        let mut prepared = Prepared::default();
        match read_file("file", content, &import, &mut prepared) {
            Ok(ads) => {
                let sent: usize =
                    ads.iter().map(|ad| Value::Object(ad.object.clone()).to_string().len()).sum();
                assert!(sent <= 100 * length + 10_000, "{sent} bytes of {length}");
            }
            Err(problem) => {
                assert!(problem.len() <= 4 * length + 2_000, "a refusal of {} bytes", problem.len())
            }
        }
    });
}

fn whole(input: &[u8]) -> Vec<u8> {
    input.to_vec()
}

fn texts(texts: &[&str]) -> Vec<Vec<u8>> {
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}

#[test]
fn delimited_text() {
    let corpus = texts(&[
        "title;description;url;posted_date\nPanadero;Hornear \"pan\";https://p.example/1;03/11/2025\n",
        "sep=,\ntitle,url\n\"a \"\"b\"\",\"x\ny\"\n",
        "Título\tEmpresa\tSalario\nNiñera\tACME\t$ 1.300.000 a $ 2.000.000\n",
    ]);
    meet("delimited", &corpus, whole);
    let wide = "\u{feff}title|url\r\nuno|u\r\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
    meet("delimited, wide", &[wide, b"title,url\nNi\xf1era,u\n".to_vec()], whole);
}

#[test]
fn json() {
    let corpus = texts(&[
        r#"[{"title":"a","url":"https://p.example/1","posted_date":"2025-11-03","salary":{"min":1,"max":2.5e3,"currency":"COP"}}]"#,
        r#"{"@graph":[{"@type":"JobPosting","title":"a","jobLocation":{"address":{"addressCountry":"CO"}},"baseSalary":{"value":{"minValue":1}}}]}"#,
        "{\"title\":\"a\",\"date\":NaN}\n{\"title\":\"b\",\"date\":{\"$date\":1762000000000}}\n",
        r#"{"title":{"0":"a","1":"b"},"url":{"0":"u","1":"v"}}"#,
        r#"[{"title":"a","skills":"['uno', \"dos\", None, 3]","date":45000}]"#,
    ]);
    meet("json", &corpus, whole);
}

#[test]
fn packed() {
    let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packer.write_all(b"title,url\na,b\n").expect("packed");
    let gzip = packer.finish().expect("packed");
    meet("packed", &[gzip, zipped(&[("a.csv".to_owned(), b"title,url\na,b\n".to_vec())])], whole);
}

#[test]
fn parquet() {
    let files: [&[u8]; 2] = [
        include_bytes!("../../../../tests/fixtures/import/pandas.parquet"),
        include_bytes!("../../../../tests/fixtures/import/zstd.parquet"),
    ];
    meet("parquet", &files.map(<[u8]>::to_vec), whole);
}

const BOOK: &[u8] = include_bytes!("../../../../tests/fixtures/import/spreadsheet.xlsx");

#[test]
fn spreadsheets() {
    meet("spreadsheets", &[BOOK.to_vec()], whole);
}

/// The checksum of a packed part shows damage to it; here the parts are damaged before they are
/// packed.
#[test]
fn parts_of_spreadsheets() {
    let parts = unzipped(BOOK);
    let sheets =
        |(name, _): &&(String, Vec<u8>)| name.starts_with("xl/worksheets/") && name.ends_with(".xml");
    let sheet = parts.iter().find(sheets).expect("a sheet");
    meet("a sheet", std::slice::from_ref(&sheet.1), |input| {
        let replaced = |(name, content): &(String, Vec<u8>)| {
            (name.clone(), if *name == sheet.0 { input.to_vec() } else { content.clone() })
        };
        zipped(&parts.iter().map(replaced).collect::<Vec<_>>())
    });
}

#[test]
fn a_cell_far_away_takes_no_memory() {
    let parts = unzipped(BOOK);
    let far = |row: &str| {
        let cell = format!("<row r=\"{row}\"><c r=\"XFD{row}\"><v>7</v></c></row></sheetData>");
        let changed = |(name, content): &(String, Vec<u8>)| {
            let text = String::from_utf8_lossy(content).replace("</sheetData>", &cell);
            let is_sheet = name.starts_with("xl/worksheets/") && name.ends_with(".xml");
            (name.clone(), if is_sheet { text.into_bytes() } else { content.clone() })
        };
        let book = zipped(&parts.iter().map(changed).collect::<Vec<_>>());
        workbook::table(book, None).map(|table| table.rows.len())
    };
    let plain = workbook::table(BOOK.to_vec(), None).expect("rows").rows.len();
    assert_eq!(far("1048576"), Ok(plain + 1));
}

fn opendocument(rows: &str) -> Vec<u8> {
    let content = format!(
        "<?xml version=\"1.0\"?><office:document-content><office:body><office:spreadsheet><table:table table:name=\"Hoja1\">\
         {rows}</table:table></office:spreadsheet></office:body></office:document-content>"
    );
    let manifest = "<?xml version=\"1.0\"?><manifest:manifest></manifest:manifest>";
    zipped(&[
        ("mimetype".to_owned(), b"application/vnd.oasis.opendocument.spreadsheet".to_vec()),
        ("META-INF/manifest.xml".to_owned(), manifest.into()),
        ("content.xml".to_owned(), content.into_bytes()),
    ])
}

#[test]
fn repeated_cells_take_no_memory() {
    let row = |times: &str, cells: &[&str]| {
        let cell = |text: &&str| {
            format!(
                "<table:table-cell office:value-type=\"string\"><text:p>{text}</text:p></table:table-cell>"
            )
        };
        let cells: String = cells.iter().map(cell).collect();
        let empty = "<table:table-cell table:number-columns-repeated=\"16380\"/>";
        format!("<table:table-row table:number-rows-repeated=\"{times}\">{cells}{empty}</table:table-row>")
    };
    let plain =
        [row("1", &["title", "url"]), row("2", &["Panadero", "https://p.example/1"]), row("1048570", &[])];
    let table = workbook::table(opendocument(&plain.concat()), None).expect("rows");
    assert_eq!((table.columns.len(), table.rows.len()), (2, 2));
    let wide = "<table:table-row table:number-rows-repeated=\"1000000\"><table:table-cell \
        table:number-columns-repeated=\"16000\" office:value-type=\"float\" office:value=\"1\"/></table:table-row>";
    let refused = workbook::table(opendocument(wide), None).map(|table| table.rows.len());
    assert!(
        refused.as_ref().is_err_and(|said| said.contains("spans more than 50000000 cells")),
        "{refused:?}"
    );
}

fn unzipped(book: &[u8]) -> Vec<(String, Vec<u8>)> {
    let mut archive = ZipArchive::new(Cursor::new(book)).expect("a zip");
    let count = archive.len();
    let part = |at| {
        let mut entry = archive.by_index(at).expect("a part");
        let mut content = Vec::new();
        entry.read_to_end(&mut content).expect("unpacked");
        (entry.name().expect("a name").into_owned(), content)
    };
    (0..count).map(part).collect()
}

fn zipped(parts: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
    for (name, content) in parts {
        archive.start_file(name.as_str(), options).expect("a part");
        archive.write_all(content).expect("written");
    }
    archive.finish().expect("a zip").into_inner()
}
