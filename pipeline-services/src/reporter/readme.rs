//! The page next to a report's files: what they are, what they cover, and what they do not mean.
//!
//! Says in Markdown what the other artefacts say, by the same sentences, and lists only files that
//! were really written. No text of the document can act as markup.

use super::artefact::Artefact;
use super::document::ReportDocument;
use super::findings::findings;
use super::statements::{about, cluster_note, country_note, filters, limits};
use super::words::Words;

/// File name of the page.
pub(crate) const README_FILE: &str = "README.md";

/// The page, in Markdown and in the language of the document.
pub(super) fn readme(document: &ReportDocument, files: &[Artefact]) -> String {
    let words = Words::of(document.language);
    let mut page = format!("# {}\n\n{}. ", plain(&words.title(document)), words.get("subtitle"));
    page.push_str(&format!("{} {}.\n", words.get("generated"), words.moment(document.generated_at)));
    let notices: Vec<String> = document.notices.iter().map(|notice| words.notice(notice)).collect();
    section(&mut page, words.get("notices"), &notices);
    section(&mut page, words.get("scope"), &scope(document, words));
    section(&mut page, words.get("findings"), &findings(document, words));
    section(&mut page, words.get("limits"), &limits(document, words));
    let about: Vec<String> =
        about(document, words).into_iter().map(|(name, value)| format!("{name}: {value}")).collect();
    section(&mut page, words.get("about"), &about);
    let files = files
        .iter()
        .map(|file| words.fill("readme.file", &[("name", &file.name), ("what", words.get(what(file)))]));
    section(&mut page, words.get("readme.files"), &files.collect::<Vec<_>>());
    page
}

/// The key of what a file holds.
fn what(file: &Artefact) -> &'static str {
    match file.name.as_str() {
        "report.pdf" => "readme.pdf",
        "report.html" => "readme.html",
        "report.json" => "readme.json",
        "run.json" => "readme.run",
        "skills.csv" => "readme.skills",
        "country_skills.csv" => "readme.country_skills",
        "occupations.csv" => "readme.occupations",
        "clusters.csv" => "readme.clusters",
        "evidence.csv" => "readme.evidence",
        _ => "readme.chart",
    }
}

fn scope(document: &ReportDocument, words: Words) -> Vec<String> {
    let scope = &document.scope;
    let fact = |key: &str, value: String| format!("{}: {value}", words.get(key));
    let filters = filters(document, words);
    let filters =
        if filters.is_empty() { words.get("scope.no_filters").to_owned() } else { filters.join("; ") };
    let mut facts = vec![
        fact("scope.postings", words.count(scope.postings)),
        fact("scope.countries", words.countries(scope)),
        fact("scope.filters", filters),
        fact("scope.published", words.days(scope.published)),
        fact("scope.collected", words.days(scope.collected)),
    ];
    facts.extend(country_note(document, words));
    facts.extend(cluster_note(document, words));
    facts
}

fn section(page: &mut String, heading: &str, items: &[String]) {
    if items.is_empty() {
        return;
    }
    page.push_str(&format!("\n## {heading}\n\n"));
    for item in items {
        page.push_str(&format!("- {}\n", plain(item)));
    }
}

/// Text on one line whose characters mean nothing to Markdown or HTML.
fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\\' | '`' | '*' | '[' | ']' | '<' | '>' => out.extend(['\\', c]),
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reporter::document::Publication;
    use crate::reporter::sample;

    #[test]
    fn the_page_of_the_full_document() {
        let mut document = sample::full();
        document.publication = Publication {
            author: Some("Ministerio de Ejemplo".into()),
            contact: Some("datos@ejemplo.example".into()),
            licence: Some("CC BY 4.0".into()),
        };
        let files = ["report.json", "report.pdf", "skills.csv", "top_skills.png"];
        let files = files.map(|name| Artefact::describe(name, crate::reporter::Format::Json, b""));
        insta::assert_snapshot!(readme(&document, &files));
    }

    #[test]
    fn text_of_advertisements_is_no_markup() {
        assert_eq!(plain("a*b_c [x](y) <img> `#1`\n# h"), "a\\*b_c \\[x\\](y) \\<img\\> \\`#1\\` # h");
    }
}
