//! The parts of the page, as finished HTML.
//!
//! One function a section, in the order of the page. Each decides for itself what it shows where
//! the document has no figures, so that the page only joins them.

mod clusters;
mod occupations;
mod skills;

pub(super) use clusters::clusters;
pub(super) use occupations::occupations;
pub(super) use skills::{countries, skills};

use super::markup::{Column, escape, figures as figure_list, heading, paragraph, table};
use crate::reporter::document::{Count, ReportDocument};
use crate::reporter::statements::{self, filters};
use crate::reporter::words::Words;

pub(super) fn notices(document: &ReportDocument, words: Words) -> String {
    if document.notices.is_empty() {
        return String::new();
    }
    let title = escape(words.get("notices"));
    let mut out = format!("<aside class=\"notice\" aria-label=\"{title}\">\n<h2>{title}</h2>\n<ul>\n");
    for notice in &document.notices {
        out.push_str(&format!("<li>{}</li>\n", escape(&words.notice(notice))));
    }
    out.push_str("</ul>\n</aside>");
    out
}

pub(super) fn figures(document: &ReportDocument, words: Words) -> String {
    let clusters = document.clusters.as_ref().map(|c| words.count(c.clusters.len() as u64));
    figure_list(&[
        (words.get("scope.postings"), words.count(document.scope.postings)),
        (words.get("scope.skills"), words.count(document.totals.skills)),
        (words.get("scope.countries"), words.count(document.scope.countries.len() as u64)),
        (words.get("scope.clusters"), clusters.unwrap_or_else(|| words.none())),
    ])
}

/// A table of names and values.
fn facts(caption: &str, words: Words, rows: &[(&str, String)]) -> String {
    let columns = [(words.get("figure"), Column::Label), (words.get("methods.value"), Column::Text)];
    let rows: Vec<_> = rows.iter().map(|(name, value)| vec![escape(name), escape(value)]).collect();
    table(caption, &columns, &rows)
}

pub(super) fn scope(document: &ReportDocument, words: Words) -> String {
    let scope = &document.scope;
    let portals = scope.portals.iter().map(|p| {
        let country = p.country.as_ref().map_or(String::new(), |code| format!(" {code}"));
        format!("{}{country} ({})", p.portal, words.count(p.sightings))
    });
    facts(
        words.get("scope"),
        words,
        &[
            (words.get("scope.countries"), words.countries(scope)),
            (words.get("scope.portals"), joined(words, portals.collect(), "none")),
            (words.get("scope.sightings"), words.count(scope.sightings)),
            (words.get("scope.published"), words.days(scope.published)),
            (words.get("scope.collected"), words.days(scope.collected)),
            (words.get("scope.filters"), joined(words, filters(document, words), "scope.no_filters")),
        ],
    )
}

fn joined(words: Words, items: Vec<String>, none: &str) -> String {
    if items.is_empty() { words.get(none).to_owned() } else { items.join(", ") }
}

fn list(items: &[String]) -> String {
    let items: String = items.iter().map(|item| format!("<li>{}</li>\n", escape(item))).collect();
    format!("<ul>\n{items}</ul>\n")
}

pub(super) fn findings(document: &ReportDocument, words: Words) -> String {
    let found = super::super::findings::findings(document, words);
    if found.is_empty() {
        return paragraph("lead", words.get("skills.empty"));
    }
    format!("{}{}", list(&found), paragraph("fine", words.get("findings.lead")))
}

pub(super) fn limits(document: &ReportDocument, words: Words) -> String {
    list(&statements::limits(document, words))
}

pub(super) fn about(document: &ReportDocument, words: Words) -> String {
    let rows = statements::about(document, words);
    let rows: Vec<(&str, String)> = rows.iter().map(|(name, value)| (&**name, value.clone())).collect();
    facts(words.get("about"), words, &rows)
}

pub(super) fn stages(document: &ReportDocument, words: Words) -> String {
    let columns = [
        (words.get("run.stage"), Column::Label),
        (words.get("run.state"), Column::Text),
        (words.get("run.succeeded"), Column::Number),
        (words.get("run.failed"), Column::Number),
        (words.get("run.skipped"), Column::Number),
        (words.get("run.duration"), Column::Number),
    ];
    let rows = document.run.stages.iter().map(|s| {
        vec![
            escape(&words.value("stage", &s.stage)),
            escape(&words.value("state", &s.state)),
            words.count(s.succeeded),
            words.count(s.failed),
            words.count(s.skipped),
            s.duration_ms.map_or_else(|| words.none(), |ms| words.duration(ms)),
        ]
    });
    table(words.get("run"), &columns, &rows.collect::<Vec<_>>())
}

pub(super) fn models(document: &ReportDocument, words: Words) -> String {
    if document.models.is_empty() {
        return paragraph("fine", words.get("models.empty"));
    }
    let columns = [
        (words.get("models.name"), Column::Label),
        (words.get("models.role"), Column::Text),
        (words.get("models.revision"), Column::Text),
        (words.get("models.dimension"), Column::Number),
        (words.get("models.device"), Column::Text),
    ];
    let rows = document.models.iter().map(|m| {
        vec![
            escape(&words.maker(&m.name)),
            escape(&words.value("role", &m.role)),
            m.revision.as_ref().map_or_else(|| words.none(), |r| format!("<code>{}</code>", escape(r))),
            m.dimension.map_or_else(|| words.none(), |d| words.count(d.into())),
            m.device.as_ref().map_or_else(|| words.none(), |d| escape(d)),
        ]
    });
    table(words.get("models"), &columns, &rows.collect::<Vec<_>>())
}

/// A table of counts with the whole they are part of, where there is one.
fn counts(caption: &str, words: Words, rows: &[(&str, u64, Option<u64>)]) -> String {
    let columns = [
        (words.get("figure"), Column::Label),
        (words.get("count"), Column::Number),
        (words.get("figure.of"), Column::Number),
        ("%", Column::Number),
    ];
    let rows = rows.iter().map(|(name, count, whole)| {
        vec![
            escape(name),
            words.count(*count),
            whole.map_or_else(String::new, |whole| words.count(whole)),
            whole.map_or_else(String::new, |whole| words.share(*count, whole)),
        ]
    });
    table(caption, &columns, &rows.collect::<Vec<_>>())
}

pub(super) fn composition(document: &ReportDocument, words: Words) -> String {
    let t = &document.totals;
    let mentions = Some(t.explicit_mentions + t.implicit_mentions);
    let postings = Some(document.scope.postings);
    let mut out = counts(
        words.get("composition.mentions"),
        words,
        &[
            (words.get("composition.postings_with_skills"), t.postings_with_skills, postings),
            (words.get("composition.postings_with_digital"), t.postings_with_digital, postings),
            (words.get("composition.explicit"), t.explicit_mentions, mentions),
            (words.get("composition.implicit"), t.implicit_mentions, mentions),
            (words.get("composition.mentions_with_uri"), t.mentions_with_uri, mentions),
            (words.get("composition.skills_with_uri"), t.skills_with_uri, Some(t.skills)),
        ],
    );
    if document.categories.is_empty() {
        return out;
    }
    let share = words.with_n("share", document.scope.postings);
    let columns = [
        (words.get("category"), Column::Label),
        (words.get("categories.skills"), Column::Number),
        (words.get("job_count"), Column::Number),
        (&*share, Column::Number),
    ];
    let rows = document.categories.iter().map(|c| {
        vec![
            escape(&words.value("category", &c.category)),
            words.count(c.skills),
            words.count(c.job_count),
            words.share(c.job_count, document.scope.postings),
        ]
    });
    out.push_str(&heading(words.get("categories")));
    out.push_str(&table(words.get("categories"), &columns, &rows.collect::<Vec<_>>()));
    out
}

pub(super) fn quality(document: &ReportDocument, words: Words) -> String {
    let q = &document.quality;
    let postings = Some(document.scope.postings);
    let mut out = counts(
        words.get("quality"),
        words,
        &[
            (words.get("quality.duplicates_folded"), q.duplicates_folded, Some(document.scope.sightings)),
            (words.get("quality.undated"), q.undated, postings),
            (words.get("quality.without_skills"), q.without_skills, postings),
            (words.get("quality.quarantined"), q.quarantined, None),
        ],
    );
    match (&q.refused, &q.personal_data_removed) {
        (Some(refused), Some(removed)) => {
            out.push_str(&named(words, ("quality.refused", "quality.reason", "refused"), refused));
            out.push_str(&named(words, ("quality.personal_data", "quality.kind", "personal"), removed));
        }
        // Counted for the whole store alone, so absent where the report covers a part of it.
        _ => out.push_str(&paragraph("fine", words.get("quality.not_scoped"))),
    }
    out
}

/// Counts by name under a heading; a sentence where there are none. Names are values of a set.
fn named(words: Words, (title, column, set): (&str, &str, &str), counts: &[Count]) -> String {
    let mut out = heading(words.get(title));
    if counts.is_empty() {
        out.push_str(&paragraph("fine", words.get("quality.nothing")));
        return out;
    }
    let columns = [(words.get(column), Column::Label), (words.get("count"), Column::Number)];
    let rows = counts.iter().map(|c| vec![escape(&words.value(set, &c.name)), words.count(c.count)]);
    out.push_str(&table(words.get(title), &columns, &rows.collect::<Vec<_>>()));
    out
}

pub(super) fn methods(document: &ReportDocument, words: Words) -> String {
    let (run, methods) = (&document.run, &document.methods);
    let taxonomy = methods.taxonomy.as_ref().map_or_else(
        || words.none(),
        |t| {
            let (concepts, languages) = (words.count(t.concepts), t.languages.join(", "));
            let values = [
                ("name", &*t.name),
                ("version", &*t.version),
                ("concepts", &*concepts),
                ("languages", &*languages),
            ];
            words.fill("methods.taxonomy_value", &values)
        },
    );
    let mut rows = vec![
        (words.get("methods.run_id"), run.run_id.clone()),
        (words.get("methods.started"), words.moment(run.started_at)),
        (words.get("methods.finished"), run.finished_at.map_or_else(|| words.none(), |at| words.moment(at))),
        (words.get("methods.code"), methods.code_version.clone()),
        (words.get("methods.lexicon"), methods.lexicon_version.clone().unwrap_or_else(|| words.none())),
        (words.get("methods.taxonomy"), taxonomy),
    ];
    let parameters = statements::parameters(document, words);
    rows.extend(parameters.iter().map(|(name, value)| (&**name, value.clone())));
    let mut out = facts(words.get("methods"), words, &rows);
    out.push_str(&heading(words.get("methods.steps")));
    out.push_str("<ol>\n");
    for step in ["clean", "extract", "occupation", "enhance", "cluster"] {
        out.push_str(&format!("<li>{}</li>\n", escape(words.get(&format!("methods.step.{step}")))));
    }
    out.push_str("</ol>\n");
    out
}
