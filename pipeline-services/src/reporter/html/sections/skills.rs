//! The table of skills with its evidence, and the ranking of each country.

use std::collections::HashMap;

use crate::reporter::document::{Quote, ReportDocument, SkillRow};
use crate::reporter::html::markup::{Column, cell, escape, link, paragraph, table};
use crate::reporter::words::Words;

/// Rows of the ranking of a country; `country_skills.csv` has all.
const COUNTRY_RANKS: usize = 20;

pub(in crate::reporter::html) fn skills(document: &ReportDocument, words: Words) -> String {
    if document.skills.is_empty() {
        return paragraph("lead", words.get("skills.empty"));
    }
    let quotes: HashMap<&str, &[Quote]> =
        document.evidence.iter().map(|e| (e.label.as_str(), e.quotes.as_slice())).collect();
    let most = document.skills.iter().map(|s| s.job_count).max().unwrap_or(1).max(1);
    let mut out = controls(document, words);
    let title = escape(words.get("skills"));
    out.push_str(&format!(
        "<div class=\"scroll tall\" role=\"region\" aria-label=\"{title}\" tabindex=\"0\">\n\
         <table id=\"skills-table\">\n<caption>{title}. {}</caption>\n{}",
        escape(words.get("html.sort_hint")),
        head(words)
    ));
    for skill in &document.skills {
        let quotes = quotes.get(skill.label.as_str()).copied().unwrap_or_default();
        out.push_str(&body(document, words, skill, quotes, most));
    }
    out.push_str("</table></div>\n");
    out
}

fn controls(document: &ReportDocument, words: Words) -> String {
    let mut options = format!("<option value=\"\">{}</option>", escape(words.get("html.all_countries")));
    for country in &document.scope.countries {
        let name = words.country(&country.code, &document.scope.countries);
        options.push_str(&format!("<option value=\"{}\">{}</option>", escape(&country.code), escape(&name)));
    }
    format!(
        "<div class=\"controls\" id=\"controls\" hidden>\n\
         <label>{}<input id=\"query\" type=\"search\" autocomplete=\"off\" spellcheck=\"false\"></label>\n\
         <label>{}<select id=\"country\">{options}</select></label>\n\
         <p class=\"fine\" id=\"matches\" role=\"status\"></p>\n</div>\n",
        escape(words.get("html.search")),
        escape(words.get("html.filter_country")),
    )
}

fn head(words: Words) -> String {
    let columns = [
        ("skill", "label", "label"),
        ("category", "category", ""),
        ("job_count", "jobs", "n"),
        ("share", "share", "n"),
        ("implicit", "implicit", "n"),
        ("countries", "", ""),
    ];
    let mut out = String::from("<thead><tr>");
    for (key, sort, class) in columns {
        out.push_str("<th scope=\"col\"");
        if !class.is_empty() {
            out.push_str(&format!(" class=\"{class}\""));
        }
        if !sort.is_empty() {
            out.push_str(&format!(" data-sort=\"{sort}\" aria-sort=\"none\""));
        }
        out.push_str(&format!(">{}</th>", escape(words.get(key))));
    }
    out.push_str("</tr></thead>\n");
    out
}

/// One table body a skill, so that a skill and its sentences are sorted and hidden together.
fn body(document: &ReportDocument, words: Words, skill: &SkillRow, quotes: &[Quote], most: u64) -> String {
    let width = skill.job_count as f64 * 100.0 / most as f64;
    let label = format!(
        "{}<span class=\"bar\" style=\"width:{width:.1}%\" aria-hidden=\"true\"></span>",
        link(skill.uri.as_deref(), &escape(&skill.label)),
    );
    let countries: Vec<_> = skill
        .countries
        .iter()
        .map(|c| format!("{}\u{a0}{}", escape(&c.country), words.count(c.job_count)))
        .collect();
    let cells = [
        (label, Column::Label),
        (escape(&words.value("category", &skill.category)), Column::Text),
        (words.count(skill.job_count), Column::Number),
        (words.share(skill.job_count, document.scope.postings), Column::Number),
        (words.count(skill.implicit_count), Column::Number),
        (countries.join(", "), Column::Text),
    ];
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

fn quote(quote: &Quote, words: Words) -> String {
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
    let with_postings = scope.countries.iter().filter(|c| c.postings > 0);
    let mut out = String::new();
    for country in with_postings {
        let mut rows: Vec<(&str, u64)> = document
            .skills
            .iter()
            .filter_map(|s| {
                let count = s.countries.iter().find(|c| c.country == country.code)?.job_count;
                (count > 0).then_some((s.label.as_str(), count))
            })
            .collect();
        if rows.is_empty() {
            continue;
        }
        rows.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        let cells = rows.iter().take(COUNTRY_RANKS).enumerate().map(|(i, (label, count))| {
            vec![
                (i + 1).to_string(),
                escape(label),
                words.count(*count),
                words.share(*count, country.postings),
            ]
        });
        let columns = [
            (words.get("by_country.rank"), Column::Number),
            (words.get("skill"), Column::Label),
            (words.get("job_count"), Column::Number),
            (words.get("share"), Column::Number),
        ];
        let name = words.country(&country.code, &scope.countries);
        let open = if scope.countries.len() == 1 { " open" } else { "" };
        out.push_str(&format!("<details{open}><summary>{}</summary>\n", escape(&name)));
        let caption = format!("{name}: {} {}", words.count(country.postings), words.get("job_count"));
        out.push_str(&table(&caption, &columns, &cells.collect::<Vec<_>>()));
        out.push_str("</details>\n");
    }
    if out.is_empty() {
        return paragraph("lead", words.get("by_country.empty"));
    }
    format!("{}{out}", paragraph("lead", words.get("by_country.lead")))
}
