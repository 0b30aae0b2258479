//! The interactive page: one file that loads nothing and also works without JavaScript.
//!
//! Fills the shipped page with style, script, data and the finished sections. Every text of the
//! document is escaped on its way in, and the script reads its data as JSON.

mod data;
mod markup;
mod sections;

use anyhow::{Context, Result};

use super::document::ReportDocument;
use super::words::{Words, fill};
use markup::escape;

const PAGE: &str = include_str!("../../reports/explorer.html");
const STYLE: &str = include_str!("../../reports/explorer.css");
const SCRIPT: &str = include_str!("../../reports/explorer.js");

/// The page of `document`. Every text of the document is escaped; the only script is our own.
pub(crate) fn html(document: &ReportDocument) -> Result<String> {
    let words = Words::of(document.language);
    let data = data::json(document, words).context("cannot write the data of the page")?;
    // In one pass, so that a label such as `{data}` stays a label.
    Ok(fill(PAGE, |name| part(name, document, words, &data)))
}

/// Content for a name of the page: a word, one of the files around it, or a section.
fn part(name: &str, document: &ReportDocument, words: Words, data: &str) -> Option<String> {
    if let Some(key) = name.strip_prefix("w:") {
        return Some(escape(words.get(key)));
    }
    Some(match name {
        "lang" => document.language.tag().to_owned(),
        "title" => escape(&words.title(document)),
        "generated" => escape(&words.moment(document.generated_at)),
        "style" => STYLE.trim().to_owned(),
        "script" => SCRIPT.trim().to_owned(),
        "data" => data.to_owned(),
        "notices" => sections::notices(document, words),
        "figures" => sections::figures(document, words),
        "scope" => sections::scope(document, words),
        "stages" => sections::stages(document, words),
        "models" => sections::models(document, words),
        "findings" => sections::findings(document, words),
        "limits" => sections::limits(document, words),
        "about" => sections::about(document, words),
        "skills" => sections::skills(document, words),
        "clusters" => sections::clusters(document, words),
        "countries" => sections::countries(document, words),
        "occupations" => sections::occupations(document, words),
        "composition" => sections::composition(document, words),
        "quality" => sections::quality(document, words),
        "methods" => sections::methods(document, words),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reporter::sample;

    #[test]
    fn the_page_of_the_small_document() {
        let page = html(&sample::small()).unwrap();
        let page = page.replace(STYLE.trim(), "[style]").replace(SCRIPT.trim(), "[script]");
        insta::assert_snapshot!(page);
    }

    #[test]
    fn the_page_of_an_empty_document() {
        let page = html(&sample::empty()).unwrap();
        let words = Words::of(Default::default());
        assert!(page.contains(words.get("skills.empty")));
        assert!(page.contains(words.get("clusters.empty")));
        assert!(page.contains(words.get("occupations.empty")));
        assert!(!page.contains("<canvas") && !page.contains("id=\"skills-table\""));
    }

    #[test]
    fn a_country_of_few_postings_is_nowhere_beside_others() {
        let mut document = sample::full();
        document.scope.countries[2].postings = 99;
        let page = html(&document).unwrap();
        let note = "Argentina (n\u{a0}=\u{a0}99)";
        assert_eq!(page.matches(note).count(), 2, "in the scope, and where it says why it is left out");
        assert!(page.contains("<option value=\"CO\">") && !page.contains("<option value=\"AR\">"));
        assert!(page.contains("MX\u{a0}") && !page.contains("AR\u{a0}"), "counts of the table");
        assert!(!page.contains("\"AR\":"), "data of the filter");
        document.scope.countries.iter_mut().for_each(|country| country.postings = 99);
        let page = html(&document).unwrap();
        assert!(!page.contains("id=\"country\"") && page.contains("No se comparan países"));
    }

    #[test]
    fn every_share_says_what_it_is_a_part_of() {
        let page = html(&sample::full()).unwrap();
        let n = "% de ofertas (n\u{a0}=\u{a0}2.611)";
        assert_eq!(page.matches(n).count(), 3, "skills, occupations and categories");
        for code in ["1.180", "902", "655"] {
            assert!(page.contains(&format!("% de ofertas (n\u{a0}=\u{a0}{code})")), "{code}");
        }
        assert!(
            page.contains("<td class=\"n\">414</td><td>JavaScript, React"),
            "clusters have their postings"
        );
    }

    #[test]
    fn every_placeholder_is_filled() {
        for document in [sample::full(), sample::empty()] {
            let page = html(&document).unwrap();
            let page = page.replace(STYLE.trim(), "").replace(SCRIPT.trim(), "");
            let page = page.split("<script type=\"application/json\"").next().unwrap().to_owned();
            let open = page.find('{').map(|i| &page[i..(i + 30).min(page.len())]);
            assert_eq!(open, None);
        }
    }

    /// Whatever the text, the page has exactly the elements of our own templates.
    #[test]
    fn hostile_text_makes_no_element() {
        let page = html(&sample::hostile()).unwrap();
        let elements = |name: &str| page.matches(&format!("<{name}")).count();
        assert_eq!(elements("script"), 2);
        assert_eq!(page.matches("</script").count(), 2);
        assert_eq!(elements("img"), 0);
        assert!(!page.contains("href=\"javascript"));
        for text in sample::HOSTILE.into_iter().filter(|t| t.contains(['<', '"'])) {
            assert!(!page.contains(text), "{text}");
        }
    }

    #[test]
    fn the_data_survives_its_script_element() {
        let document = sample::hostile();
        let page = html(&document).unwrap();
        let start = page.find("id=\"data\">").unwrap() + "id=\"data\">".len();
        let end = start + page[start..].find("</script>").unwrap();
        let data: serde_json::Value = serde_json::from_str(&page[start..end]).unwrap();
        let labels: Vec<_> = data["skills"].as_array().unwrap().iter().map(|s| s["label"].as_str()).collect();
        let expected: Vec<_> = document.skills.iter().map(|s| Some(s.label.as_str())).collect();
        assert_eq!(labels, expected);
    }

    #[test]
    fn nothing_is_loaded() {
        let page = html(&sample::full()).unwrap();
        for loader in ["<link", "src=", "@import", "url(", "<iframe", "fetch(", "XMLHttpRequest"] {
            assert!(!page.contains(loader), "{loader}");
        }
    }
}
