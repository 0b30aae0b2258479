//! The table of skills with its evidence, and the ranking of each country.
//!
//! A skill and its sentences form one table body, which the script sorts and hides together.
//! Countries stand in columns only where the comparison rules allow it.

use std::collections::HashMap;

use crate::reporter::comparison::{compared, compares, rankings};
use crate::reporter::document::{Quote, ReportDocument, SkillRow};
use crate::reporter::html::markup::{Column, cell, escape, link, paragraph, table};
use crate::reporter::statements::country_note;
use crate::reporter::words::Words;

/// Rows of the ranking of a country; `country_skills.csv` has all. A choice, not tuned.
const COUNTRY_RANKS: usize = 20;

pub(in crate::reporter::html) fn skills(document: &ReportDocument, words: Words) -> String {
    if document.skills.is_empty() {
        return paragraph("lead", words.get("skills.empty"));
    }
    let quotes: HashMap<&str, &[Quote]> =
        document.evidence.iter().map(|e| (e.label.as_str(), e.quotes.as_slice())).collect();
    // At least 1: the widths of the bars are divided by it.
    let most = document.skills.iter().map(|s| s.job_count).max().unwrap_or(1).max(1);
    let mut out = controls(document, words);
    let title = escape(words.get("skills"));
    out.push_str(&format!(
        "<div class=\"scroll tall\" role=\"region\" aria-label=\"{title}\" tabindex=\"0\">\n\
         <table id=\"skills-table\">\n<caption>{title}. {}</caption>\n{}",
        escape(words.get("html.sort_hint")),
        head(document, words)
    ));
    for skill in &document.skills {
        let quotes = quotes.get(skill.label.as_str()).copied().unwrap_or_default();
        out.push_str(&body(document, words, skill, quotes, most));
    }
    out.push_str("</table></div>\n");
    out
}

fn controls(document: &ReportDocument, words: Words) -> String {
    // Hidden until the script runs, without which it does nothing.
    format!(
        "<div class=\"controls\" id=\"controls\" hidden>\n\
         <label>{}<input id=\"query\" type=\"search\" autocomplete=\"off\" spellcheck=\"false\"></label>\n{}\
         <p class=\"fine\" id=\"matches\" role=\"status\"></p>\n</div>\n",
        escape(words.get("html.search")),
        country_filter(document, words),
    )
}

/// A choice among the countries that may be compared; nothing where none may.
fn country_filter(document: &ReportDocument, words: Words) -> String {
    if !compares(&document.scope) {
        return String::new();
    }
    let mut options = format!("<option value=\"\">{}</option>", escape(words.get("html.all_countries")));
    for country in compared(&document.scope) {
        let name = words.country(&country.code, &document.scope.countries);
        let name = format!("{name} ({})", words.n(country.postings));
        options.push_str(&format!("<option value=\"{}\">{}</option>", escape(&country.code), escape(&name)));
    }
    let label = escape(words.get("html.filter_country"));
    format!("<label>{label}<select id=\"country\">{options}</select></label>\n")
}

fn head(document: &ReportDocument, words: Words) -> String {
    let mut columns = vec![
        ("skill", "label", "label"),
        ("category", "category", ""),
        ("job_count", "jobs", "n"),
        ("share", "share", "n"),
        ("implicit", "implicit", "n"),
    ];
    if shows_countries(document) {
        columns.push(("countries", "", ""));
    }
    let mut out = String::from("<thead><tr>");
    for (key, sort, class) in columns {
        out.push_str("<th scope=\"col\"");
        if !class.is_empty() {
            out.push_str(&format!(" class=\"{class}\""));
        }
        if !sort.is_empty() {
            out.push_str(&format!(" data-sort=\"{sort}\" aria-sort=\"none\""));
        }
        let text = match key {
            "share" => words.with_n(key, document.scope.postings),
            _ => words.get(key).to_owned(),
        };
        out.push_str(&format!(">{}</th>", escape(&text)));
    }
    out.push_str("</tr></thead>\n");
    out
}

/// Returns whether counts of countries stand side by side in the table.
fn shows_countries(document: &ReportDocument) -> bool {
    document.scope.countries.len() > 1 && compared(&document.scope).len() > 1
}

/// One table body a skill, so that a skill and its sentences are sorted and hidden together.
fn body(document: &ReportDocument, words: Words, skill: &SkillRow, quotes: &[Quote], most: u64) -> String {
    let width = skill.job_count as f64 * 100.0 / most as f64;
    let label = format!(
        "{}<span class=\"bar\" style=\"width:{width:.1}%\" aria-hidden=\"true\"></span>",
        link(skill.uri.as_deref(), &escape(&skill.label)),
    );
    let compared = compared(&document.scope);
    let countries: Vec<_> = skill
        .countries
        .iter()
        // Side by side, counts of countries that are too small would be compared all the same.
        .filter(|c| compared.iter().any(|country| country.code == c.country))
        .map(|c| format!("{}\u{a0}{}", escape(&c.country), words.count(c.job_count)))
        .collect();
    let mut cells = vec![
        (label, Column::Label),
        (escape(&words.value("category", &skill.category)), Column::Text),
        (words.count(skill.job_count), Column::Number),
        (words.share(skill.job_count, document.scope.postings), Column::Number),
        (words.count(skill.implicit_count), Column::Number),
    ];
    if shows_countries(document) {
        cells.push((countries.join(", "), Column::Text));
    }
    let row: String = cells.iter().map(|(html, column)| cell(html, *column)).collect();
    if quotes.is_empty() {
        return format!("<tbody><tr>{row}</tr></tbody>\n");
    }
    let shown = words.count(quotes.len() as u64);
    let of = words.fill("evidence.shown", &[("shown", &shown), ("total", &words.count(skill.job_count))]);
    let quotes: String = quotes.iter().map(|q| quote(q, words)).collect();
    format!(
        "<tbody class=\"with-quotes\"><tr>{row}</tr>\n<tr class=\"more\"><td colspan=\"{}\"><details>\
         <summary>{} ({})</summary>\n{quotes}</details></td></tr></tbody>\n",
        cells.len(),
        escape(words.get("evidence.open")),
        escape(&of),
    )
}

/// A sentence with its source.
pub(super) fn quote(quote: &Quote, words: Words) -> String {
    let field = escape(&words.value("field", &quote.field));
    let place = match quote.span {
        Some(span) => format!("{field} {}–{}", words.count(span.start), words.count(span.end)),
        None => format!("{field} ({})", escape(words.get("evidence.implied"))),
    };
    let methods: Vec<_> = quote.method.iter().map(|m| escape(&words.value("method", m))).collect();
    let id = format!("<code>{}</code>", escape(&quote.job_id));
    let source = [
        escape(&quote.portal),
        escape(&quote.country),
        quote.published.map_or_else(|| words.get("none").to_owned(), |d| words.date(d)),
        place,
        methods.join(" + "),
        format!("{} {}", escape(words.get("evidence.confidence")), words.decimal(quote.confidence, 2)),
        format!("{} {}", escape(words.get("evidence.posting")), link(quote.url.as_deref(), &id)),
    ];
    format!(
        "<blockquote><p>{}<mark>{}</mark>{}</p><footer>{}</footer></blockquote>\n",
        escape(&quote.before),
        escape(&quote.surface),
        escape(&quote.after),
        source.join(" · "),
    )
}

pub(in crate::reporter::html) fn countries(document: &ReportDocument, words: Words) -> String {
    let scope = &document.scope;
    let note = country_note(document, words).map(|note| paragraph("fine", &note)).unwrap_or_default();
    let mut out = String::new();
    for ranking in rankings(document).into_iter().filter(|ranking| !ranking.rows.is_empty()) {
        let n = ranking.country.postings;
        let cells = ranking.rows.iter().take(COUNTRY_RANKS).enumerate().map(|(i, (label, count))| {
            vec![
                (i + 1).to_string(),
                escape(label),
                words.count(*count),
                words.share(*count, n),
                words.interval(*count, n),
            ]
        });
        let share = words.with_n("share", n);
        let columns = [
            (words.get("by_country.rank"), Column::Number),
            (words.get("skill"), Column::Label),
            (words.get("job_count"), Column::Number),
            (&*share, Column::Number),
            (words.get("interval"), Column::Number),
        ];
        let name = words.country(&ranking.country.code, &scope.countries);
        let name = format!("{name} ({})", words.n(n));
        out.push_str(&format!("<details><summary>{}</summary>\n", escape(&name)));
        out.push_str(&table(&name, &columns, &cells.collect::<Vec<_>>()));
        out.push_str("</details>\n");
    }
    match (out.is_empty(), note.is_empty()) {
        (true, true) => paragraph("lead", words.get("by_country.empty")),
        (true, false) => note,
        _ => format!("{}{note}{out}", paragraph("lead", words.get("by_country.lead"))),
    }
}
