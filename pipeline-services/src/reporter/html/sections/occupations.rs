//! The table of occupations with titles of their postings.
//!
//! Complete without JavaScript. How many postings have no occupation is said above the table, since
//! the shares are of all postings.

use super::skills::quote;
use crate::reporter::document::{OccupationRow, ReportDocument};
use crate::reporter::html::markup::{Column, escape, link, paragraph, table};
use crate::reporter::statements::occupation_note;
use crate::reporter::words::Words;

/// Rows of the table; `occupations.csv` has all. A choice, not tuned.
const ROWS: usize = 100;

pub(in crate::reporter::html) fn occupations(document: &ReportDocument, words: Words) -> String {
    let section = &document.occupations;
    let note = paragraph("fine", &occupation_note(document, words));
    if section.rows.is_empty() {
        return format!("{}{note}", paragraph("lead", words.get("occupations.empty")));
    }
    let share = words.with_n("share", document.scope.postings);
    let columns = [
        (words.get("occupations.label"), Column::Label),
        (words.get("occupations.isco"), Column::Text),
        (words.get("occupations.cuoc"), Column::Text),
        (words.get("job_count"), Column::Number),
        (&*share, Column::Number),
        (words.get("interval"), Column::Number),
    ];
    let rows = section.rows.iter().take(ROWS).map(|occupation| row(occupation, document, words));
    let table = table(words.get("occupations"), &columns, &rows.collect::<Vec<_>>());
    let mut out = format!("{}{note}{table}", paragraph("lead", words.get("occupations.lead")));
    if section.rows.len() > ROWS {
        let values =
            [("shown", &*words.count(ROWS as u64)), ("total", &*words.count(section.rows.len() as u64))];
        out.push_str(&paragraph("fine", &words.fill("occupations.more", &values)));
    }
    out
}

fn row(occupation: &OccupationRow, document: &ReportDocument, words: Words) -> Vec<String> {
    let n = document.scope.postings;
    let code = |code: &Option<String>| code.as_deref().map_or_else(|| words.none(), escape);
    vec![
        format!(
            "{}{}",
            link(occupation.uri.as_deref(), &escape(&occupation.label)),
            titles(occupation, words)
        ),
        code(&occupation.isco),
        code(&occupation.cuoc),
        words.count(occupation.job_count),
        words.share(occupation.job_count, n),
        words.interval(occupation.job_count, n),
    ]
}

/// The titles of a few postings; nothing where the document has none.
fn titles(occupation: &OccupationRow, words: Words) -> String {
    if occupation.titles.is_empty() {
        return String::new();
    }
    let shown = words.count(occupation.titles.len() as u64);
    let of =
        words.fill("evidence.shown", &[("shown", &shown), ("total", &words.count(occupation.job_count))]);
    let quotes: String = occupation.titles.iter().map(|title| quote(title, words)).collect();
    let summary = escape(words.get("occupations.open"));
    format!("<details><summary>{summary} ({})</summary>\n{quotes}</details>", escape(&of))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reporter::document::Language;
    use crate::reporter::sample;

    #[test]
    fn an_occupation_has_its_codes_and_titles() {
        let page = occupations(&sample::full(), Words::of(Language::Es));
        assert!(page.contains("1.077 de las 2.611 ofertas (41,2\u{a0}%) no tienen ocupación"));
        assert!(page.contains("<td>9901</td><td>99011</td><td class=\"n\">430</td>"), "codes and postings");
        assert!(page.contains("<td>—</td><td>99059</td>"), "a CUOC code alone");
        assert!(
            page.contains("<mark>Asesor comercial</mark>") && page.contains("Ver títulos (1 de 430 ofertas)")
        );
    }

    #[test]
    fn the_rest_of_a_long_table_is_in_the_file() {
        let mut document = sample::full();
        let row = document.occupations.rows[0].clone();
        document.occupations.rows = vec![row; ROWS + 1];
        let page = occupations(&document, Words::of(Language::En));
        assert_eq!(page.matches("<td>9901</td>").count(), ROWS);
        assert!(page.contains("The table shows the first 100 of 101 occupations"), "{page}");
    }
}
