//! The tables of a report as CSV.
//!
//! RFC 4180 in UTF-8, lines end in CR LF, numbers without grouping, an empty cell for what is not
//! known. The dialect decides on mark, separator and decimal sign and guards against formulas; in
//! `report.json` text is unchanged.

use anyhow::{Context, Result};

use super::comparison::{MIN_GROUP, interval, ranking};
use super::document::{ClusterRow, Quote, ReportDocument, SkillRow};
use super::words::percent;
use crate::spreadsheet::Dialect;

/// One CSV file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Table {
    /// File name.
    pub name: &'static str,
    /// Content.
    pub csv: Vec<u8>,
}

/// All tables: `skills.csv`, `country_skills.csv`, `occupations.csv`, `clusters.csv`,
/// `evidence.csv`. A report without
/// rows for one has the heading line only.
pub(crate) fn tables(document: &ReportDocument, dialect: Dialect) -> Result<Vec<Table>> {
    let skills = document.skills.iter().enumerate().map(|(i, s)| skill(document, i, s));
    Ok(vec![
        table("skills.csv", &SKILLS, dialect, skills)?,
        table("country_skills.csv", &COUNTRY_SKILLS, dialect, country_skills(document))?,
        table("occupations.csv", &OCCUPATIONS, dialect, occupations(document))?,
        table("clusters.csv", &CLUSTERS, dialect, clusters(document))?,
        table("evidence.csv", &EVIDENCE, dialect, evidence(document))?,
    ])
}

const SKILLS: [&str; 14] = [
    "rank",
    "skill",
    "kind",
    "category",
    "job_count",
    "postings",
    "share_percent",
    "low_percent",
    "high_percent",
    "implicit_count",
    "cluster_id",
    "uri",
    "preferred_label",
    "countries",
];
const COUNTRY_SKILLS: [&str; 8] = [
    "country",
    "skill",
    "job_count",
    "country_postings",
    "share_percent",
    "low_percent",
    "high_percent",
    "comparable",
];
const OCCUPATIONS: [&str; 10] = [
    "rank",
    "occupation",
    "isco",
    "cuoc",
    "uri",
    "job_count",
    "postings",
    "share_percent",
    "low_percent",
    "high_percent",
];
const CLUSTERS: [&str; 7] = ["rank", "cluster_id", "label", "size", "job_count", "cohesion", "top_skills"];
const EVIDENCE: [&str; 15] = [
    "skill",
    "job_id",
    "portal",
    "country",
    "url",
    "published",
    "field",
    "start",
    "end",
    "explicit",
    "method",
    "confidence",
    "before",
    "surface",
    "after",
];

/// A cell: text is guarded, numbers are not.
enum Cell {
    Text(String),
    Number(String),
}

fn text(value: impl Into<String>) -> Cell {
    Cell::Text(value.into())
}

fn number(value: impl ToString) -> Cell {
    Cell::Number(value.to_string())
}

fn maybe<T: ToString>(value: Option<T>) -> Cell {
    Cell::Number(value.map_or(String::new(), |v| v.to_string()))
}

/// The whole, the share in percent, and the ends of its 95 % interval.
fn share(part: u64, whole: u64) -> [Cell; 4] {
    let ends = interval(part, whole);
    [
        number(whole),
        two_places(percent(part, whole)),
        two_places(ends.map(|(low, _)| low)),
        two_places(ends.map(|(_, high)| high)),
    ]
}

fn two_places(value: Option<f64>) -> Cell {
    Cell::Number(value.map_or(String::new(), |value| format!("{value:.2}")))
}

fn table(
    name: &'static str,
    heading: &[&str],
    dialect: Dialect,
    rows: impl Iterator<Item = Vec<Cell>>,
) -> Result<Table> {
    let csv = write(heading, dialect, rows).with_context(|| format!("cannot write the table {name}"))?;
    Ok(Table { name, csv })
}

fn write(heading: &[&str], dialect: Dialect, rows: impl Iterator<Item = Vec<Cell>>) -> Result<Vec<u8>> {
    let mut writer = dialect.writer();
    writer.write_record(heading)?;
    for row in rows {
        writer.write_record(row.into_iter().map(|cell| match cell {
            Cell::Text(value) => dialect.text(&value),
            Cell::Number(value) => dialect.number(value),
        }))?;
    }
    Ok([dialect.mark(), &writer.into_inner()?].concat())
}

fn skill(document: &ReportDocument, index: usize, row: &SkillRow) -> Vec<Cell> {
    let countries: Vec<_> = row.countries.iter().map(|c| format!("{}:{}", c.country, c.job_count)).collect();
    let mut cells = vec![
        number(index + 1),
        text(&row.label),
        text(&row.kind),
        text(&row.category),
        number(row.job_count),
    ];
    cells.extend(share(row.job_count, document.scope.postings));
    cells.extend([
        number(row.implicit_count),
        maybe(row.cluster),
        text(row.uri.as_deref().unwrap_or_default()),
        text(row.preferred_label.as_deref().unwrap_or_default()),
        text(countries.join(";")),
    ]);
    cells
}

fn country_skills(document: &ReportDocument) -> impl Iterator<Item = Vec<Cell>> {
    document.scope.countries.iter().flat_map(move |country| {
        // The table holds every country, also those that charts leave out for their size.
        let comparable = country.postings >= MIN_GROUP;
        ranking(document, country).rows.into_iter().map(move |(label, count)| {
            let mut cells = vec![text(&country.code), text(label), number(count)];
            cells.extend(share(count, country.postings));
            cells.push(number(comparable));
            cells
        })
    })
}

fn occupations(document: &ReportDocument) -> impl Iterator<Item = Vec<Cell>> {
    document.occupations.rows.iter().enumerate().map(move |(i, row)| {
        // Codes are texts: "0110" would lose its zero as a number.
        let mut cells = vec![number(i + 1), text(&row.label)];
        cells.extend([&row.isco, &row.cuoc, &row.uri].map(|code| text(code.as_deref().unwrap_or_default())));
        cells.push(number(row.job_count));
        cells.extend(share(row.job_count, document.scope.postings));
        cells
    })
}

fn clusters(document: &ReportDocument) -> impl Iterator<Item = Vec<Cell>> {
    let rows = document.clusters.iter().flat_map(|section| &section.clusters).enumerate();
    rows.map(|(i, cluster): (usize, &ClusterRow)| {
        vec![
            number(i + 1),
            number(cluster.cluster_id),
            text(&cluster.label),
            number(cluster.size),
            number(cluster.job_count),
            maybe(cluster.cohesion),
            text(cluster.top_skills.join("; ")),
        ]
    })
}

fn evidence(document: &ReportDocument) -> impl Iterator<Item = Vec<Cell>> {
    let rows = document.evidence.iter().flat_map(|e| e.quotes.iter().map(move |q| (&e.label, q)));
    rows.map(|(label, quote): (&String, &Quote)| {
        vec![
            text(label),
            text(&quote.job_id),
            text(&quote.portal),
            text(&quote.country),
            text(quote.url.as_deref().unwrap_or_default()),
            maybe(quote.published),
            text(&quote.field),
            maybe(quote.span.map(|s| s.start)),
            maybe(quote.span.map(|s| s.end)),
            // An implied skill has no place in the text.
            number(quote.span.is_some()),
            text(quote.method.join("+")),
            number(quote.confidence),
            text(&quote.before),
            text(&quote.surface),
            text(&quote.after),
        ]
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reporter::sample;

    #[test]
    fn tables_of_the_small_document() {
        let tables = tables(&sample::small(), Dialect::Plain).unwrap();
        let shown: Vec<_> =
            tables.iter().map(|t| format!("-- {}\n{}", t.name, String::from_utf8_lossy(&t.csv))).collect();
        insta::assert_snapshot!(shown.join("").replace("\r\n", "\n"));
    }

    #[test]
    fn excel_gets_its_mark_separator_and_comma() {
        let tables = tables(&sample::small(), Dialect::Excel).unwrap();
        let skills = String::from_utf8(tables[0].csv.clone()).unwrap();
        assert!(skills.starts_with("\u{feff}rank;skill;kind;"), "{skills}");
        let share = skills.lines().nth(1).and_then(|line| line.split(';').nth(6)).unwrap();
        assert!(share.contains(',') && !share.contains('.'), "{skills}");
    }

    #[test]
    fn an_empty_document_has_heading_lines_only() {
        for table in tables(&sample::empty(), Dialect::Plain).unwrap() {
            assert_eq!(String::from_utf8(table.csv).unwrap().lines().count(), 1, "{}", table.name);
        }
    }

    #[test]
    fn hostile_text_survives_a_csv_reader() {
        let document = sample::hostile();
        let tables = tables(&document, Dialect::Plain).unwrap();
        let mut reader = csv::Reader::from_reader(tables[0].csv.as_slice());
        let labels: Vec<_> = reader.records().map(|r| r.unwrap()[1].to_owned()).collect();
        let expected: Vec<_> = document.skills.iter().map(|s| Dialect::Plain.text(&s.label)).collect();
        assert_eq!(labels, expected);
    }
}
