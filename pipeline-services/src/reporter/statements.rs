//! What a report says about itself: its filters, what its figures do not mean, and who answers for
//! it.

use chrono::NaiveDate;

use super::accuracy::DEVELOPMENT;
use super::comparison::{MIN_GROUP, compares, left_out};
use super::document::{Parameter, ReportDocument};
use super::words::Words;

/// Namespace of the concepts of ESCO, as the European Commission publishes them.
const ESCO_URIS: &str = "http://data.europa.eu/esco/";
/// Licence of this program, as its manifest has it.
const PROGRAM_LICENCE: &str = env!("CARGO_PKG_LICENSE");

/// The filters of the run, each already applied to every figure; none where it covered everything.
pub(super) fn filters(document: &ReportDocument, words: Words) -> Vec<String> {
    let scope = &document.scope;
    scope.filters.iter().map(|filter| words.filter(filter, &scope.countries)).collect()
}

/// The reason for which some countries, or all, are not compared with others.
pub(super) fn country_note(document: &ReportDocument, words: Words) -> Option<String> {
    let scope = &document.scope;
    if let [only] = scope.countries.as_slice() {
        let name = words.country(&only.code, &scope.countries);
        let values = [("country", &*name), ("n", &*words.count(only.postings))];
        return Some(words.fill("by_country.one", &values));
    }
    let small: Vec<String> = left_out(scope)
        .into_iter()
        .map(|c| format!("{} ({})", words.country(&c.code, &scope.countries), words.n(c.postings)))
        .collect();
    if small.is_empty() {
        return None;
    }
    let key = if compares(scope) { "by_country.left_out" } else { "by_country.none_compared" };
    Some(words.fill(key, &[("countries", &words.list(&small)), ("min", &words.count(MIN_GROUP))]))
}

/// The number of postings without an occupation, and where to find the occupation of each.
pub(super) fn occupation_note(document: &ReportDocument, words: Words) -> String {
    let (without, postings) = (document.occupations.without, document.scope.postings);
    let values = [
        ("without", &*words.count(without)),
        ("n", &*words.count(postings)),
        ("share", &*words.share(without, postings)),
    ];
    words.fill("occupations.without", &values)
}

/// The part of the clusters that is of the whole store; none where the report covers all that was
/// clustered.
pub(super) fn cluster_note(document: &ReportDocument, words: Words) -> Option<String> {
    let section = document.clusters.as_ref()?;
    let partial = !document.scope.filters.is_empty() || section.analysed != section.metrics.points;
    partial.then(|| {
        let values = [
            ("all", &*words.count(section.analysed)),
            ("points", &*words.count(section.metrics.points)),
            ("n", &*words.count(document.scope.postings)),
        ];
        words.fill("clusters.scope", &values)
    })
}

/// Limits of the figures.
pub(super) fn limits(document: &ReportDocument, words: Words) -> Vec<String> {
    let ads = words.count(DEVELOPMENT.advertisements);
    let (year, month, day) = DEVELOPMENT.measured;
    let date = NaiveDate::from_ymd_opt(year, month, day).map(|day| words.date(day)).unwrap_or_default();
    let share = |value: f64| format!("{}{}", words.decimal(value * 100.0, 0), words.get("number.percent"));
    let values = [
        ("ads", &*ads),
        ("date", &*date),
        ("precision", &*share(DEVELOPMENT.precision)),
        ("recall", &*share(DEVELOPMENT.recall)),
        ("f1", &*words.decimal(DEVELOPMENT.f1, 3)),
        ("right", &*share(DEVELOPMENT.links_right)),
        ("wrong", &*share(DEVELOPMENT.links_wrong)),
        ("min", &*words.count(MIN_GROUP)),
    ];
    let mut keys = vec!["limit.online", "limit.portals", "limit.accuracy"];
    if document.methods.taxonomy.is_some() {
        keys.push("limit.links");
    }
    keys.extend(["limit.implied", "limit.duplicates"]);
    if document.clusters.is_some() {
        keys.push("limit.clusters");
    }
    keys.push("limit.intervals");
    keys.into_iter().map(|key| words.fill(key, &values)).collect()
}

/// Models, versions and parameters, as names and values.
pub(super) fn parameters(document: &ReportDocument, words: Words) -> Vec<(String, String)> {
    let revisions = document.models.iter().filter_map(|model| {
        let revision = model.revision.as_ref()?;
        Some((words.value("role", &model.role), format!("{} @ {revision}", model.name)))
    });
    let mut rows: Vec<(String, String)> = revisions.collect();
    if let Some(section) = &document.clusters {
        rows.push((words.get("clusters.model").to_owned(), section.embedding_model.clone()));
        rows.extend(section.parameters.iter().map(|parameter| told(parameter, words)));
    }
    rows.extend(document.methods.parameters.iter().map(|parameter| told(parameter, words)));
    rows
}

fn told(parameter: &Parameter, words: Words) -> (String, String) {
    let value = words.phrase(&parameter.value).unwrap_or_else(|| parameter.value.clone());
    (parameter.name.clone(), value)
}

/// Author, contact, licences, attribution and citation, as names and values.
pub(super) fn about(document: &ReportDocument, words: Words) -> Vec<(String, String)> {
    let publication = &document.publication;
    let row = |key: &str, value: String| (words.get(key).to_owned(), value);
    vec![
        row("about.author", stated(words, publication.author.as_deref(), "about.author_missing")),
        row("about.contact", stated(words, publication.contact.as_deref(), "about.contact_missing")),
        row("about.licence", stated(words, publication.licence.as_deref(), "about.licence_missing")),
        row("about.quotes", words.get("about.quotes_value").to_owned()),
        row("about.program", {
            let values = [("version", &*document.methods.code_version), ("licence", PROGRAM_LICENCE)];
            words.fill("about.program_value", &values)
        }),
        row("about.esco", esco(document, words)),
        row("about.cite", citation(document, words)),
    ]
}

/// A value that the publisher gave, or the words for its absence.
fn stated(words: Words, value: Option<&str>, missing: &str) -> String {
    let value = value.map(str::trim).filter(|value| !value.is_empty());
    value.unwrap_or_else(|| words.get(missing)).to_owned()
}

/// The acknowledgement that the European Commission asks of publications, with the version; or that
/// ESCO had no part.
fn esco(document: &ReportDocument, words: Words) -> String {
    let taxonomy = document.methods.taxonomy.as_ref();
    let named = taxonomy.filter(|taxonomy| taxonomy.name.to_lowercase().starts_with("esco"));
    if let Some(taxonomy) = named {
        return words.fill("about.esco_used", &[("version", &taxonomy.version)]);
    }
    // A taxonomy of another name may hold ESCO's concepts, which ask for the same acknowledgement.
    let skills = document.skills.iter().filter_map(|skill| skill.uri.as_deref());
    let occupations = document.occupations.rows.iter().filter_map(|row| row.uri.as_deref());
    if skills.chain(occupations).any(|uri| uri.starts_with(ESCO_URIS)) {
        let name = taxonomy.map_or_else(String::new, |t| format!("{} {}", t.name, t.version));
        return words.fill("about.esco_uris", &[("taxonomy", name.trim())]);
    }
    words.get("about.esco_unused").to_owned()
}

/// The name under which the report is quoted elsewhere.
pub(super) fn citation(document: &ReportDocument, words: Words) -> String {
    let author = document.publication.author.as_deref().map(str::trim).filter(|author| !author.is_empty());
    let values = [
        ("author", author.unwrap_or(words.get("about.cite_anonymous"))),
        ("year", &*document.generated_at.format("%Y").to_string()),
        ("title", &*words.title(document)),
        ("date", &*words.date(document.generated_at.date_naive())),
        ("n", &*words.count(document.scope.postings)),
        ("run", &*document.run.run_id),
        ("version", &*document.methods.code_version),
    ];
    words.fill("about.cite_value", &values)
}

#[cfg(test)]
mod tests;
