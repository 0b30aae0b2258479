//! What the figures say, as sentences.
//!
//! Each sentence is worked out from figures of the document and appears only where they bear it:
//! enough postings, no tie that a word like "most" would hide, intervals apart where two countries
//! are compared.

use super::comparison::{MIN_GROUP, compared, count_in, interval};
use super::document::{CountryScope, ReportDocument, SkillRow};
use super::words::{Words, percent};

/// Postings that a report needs before anything is said of it.
pub(super) const MIN_POSTINGS: u64 = MIN_GROUP;
/// Postings that must name a skill before it is called one of the most named: below that, one
/// advertisement more or less moves the figure by a tenth.
const MIN_NAMED: u64 = 10;
/// Technical skills named in a sentence. A choice, not tuned.
const NAMED_SKILLS: usize = 3;
/// Skills among which the difference between countries is sought. Not tuned: of rarer ones the
/// intervals overlap.
const COMPARED_SKILLS: usize = 20;
/// Percentage points below which a difference between countries is not worth a sentence. A choice,
/// not tuned.
const MIN_DIFFERENCE: f64 = 5.0;
/// Distinct skills below which "the ten most named" is no concentration: five times as many. Not
/// tuned.
const MANY_SKILLS: u64 = 50;

/// The sentences, in the order in which they are read.
pub(super) fn findings(document: &ReportDocument, words: Words) -> Vec<String> {
    let postings = document.scope.postings;
    if postings == 0 {
        return Vec::new();
    }
    if postings < MIN_POSTINGS {
        let values = [("n", &*words.count(postings)), ("min", &*words.count(MIN_POSTINGS))];
        return vec![words.fill("finding.too_few", &values)];
    }
    [named, technical, soft, digital, countries, concentration, implied, linked]
        .into_iter()
        .filter_map(|finding| finding(document, words))
        .collect()
}

/// The number of postings that name any skill.
fn named(document: &ReportDocument, words: Words) -> Option<String> {
    let (part, whole) = (document.totals.postings_with_skills, document.scope.postings);
    // A document from a file is not checked for this; a share above 100 % would be nonsense.
    (part >= MIN_NAMED && part <= whole).then(|| {
        let skills = words.count(document.totals.skills);
        let values = [
            ("part", &*words.count(part)),
            ("n", &*words.count(whole)),
            ("share", &*words.share(part, whole)),
            ("skills", &*skills),
        ];
        words.fill("finding.named", &values)
    })
}

/// The technical skills that most postings name: as many of the first three as are apart from what
/// follows.
fn technical(document: &ReportDocument, words: Words) -> Option<String> {
    let first = leaders(document.skills.iter().filter(|skill| is_technical(skill)), NAMED_SKILLS);
    let shown: Vec<String> = first.iter().map(|skill| with_share(skill, document, words)).collect();
    let key = match shown.len() {
        0 => return None,
        1 => "finding.technical_one",
        _ => "finding.technical",
    };
    let n = words.count(document.scope.postings);
    Some(words.fill(key, &[("skills", &words.list(&shown)), ("n", &n)]))
}

fn is_technical(skill: &SkillRow) -> bool {
    // Hard by their kind, but not what a reader calls technical.
    skill.kind == "hard" && !matches!(skill.category.as_str(), "language" | "licence" | "license")
}

/// The longest beginning of the ranking, up to `most`, that no tie cuts.
fn leaders<'a>(skills: impl Iterator<Item = &'a SkillRow>, most: usize) -> Vec<&'a SkillRow> {
    let mut ranked: Vec<&SkillRow> = skills.filter(|skill| skill.job_count >= MIN_NAMED).collect();
    ranked.sort_by(|left, right| {
        right.job_count.cmp(&left.job_count).then_with(|| left.label.cmp(&right.label))
    });
    let mut end = most.min(ranked.len());
    while end > 0 && ranked.get(end).is_some_and(|next| ranked[end - 1].job_count <= next.job_count) {
        end -= 1;
    }
    ranked.truncate(end);
    ranked
}

fn with_share(skill: &SkillRow, document: &ReportDocument, words: Words) -> String {
    format!("{} ({})", skill.label, words.share(skill.job_count, document.scope.postings))
}

/// The number of postings that name a soft skill, and the one most of them name.
fn soft(document: &ReportDocument, words: Words) -> Option<String> {
    let row = document.categories.iter().find(|row| row.category == "soft")?;
    let whole = document.scope.postings;
    if row.job_count < MIN_NAMED {
        return None;
    }
    let first = leaders(document.skills.iter().filter(|skill| skill.kind == "soft"), 1);
    let (key, first) = match first.first() {
        Some(skill) => ("finding.soft", with_share(skill, document, words)),
        None => ("finding.soft_only", String::new()),
    };
    let values = [
        ("part", &*words.count(row.job_count)),
        ("n", &*words.count(whole)),
        ("share", &*words.share(row.job_count, whole)),
        ("first", &*first),
    ];
    Some(words.fill(key, &values))
}

/// The number of postings that name a technology or a program.
fn digital(document: &ReportDocument, words: Words) -> Option<String> {
    let (part, whole) = (document.totals.postings_with_digital, document.scope.postings);
    (part >= MIN_NAMED && part <= whole).then(|| {
        let values = [
            ("part", &*words.count(part)),
            ("n", &*words.count(whole)),
            ("share", &*words.share(part, whole)),
        ];
        words.fill("finding.digital", &values)
    })
}

/// The skill of which two countries differ most, where their intervals are apart. What hardly
/// anybody names in one of them may bear another name there (a class of driving licence), so it
/// tells nothing apart.
fn countries(document: &ReportDocument, words: Words) -> Option<String> {
    let found = compared(&document.scope);
    let [one, other, ..] = found.as_slice() else { return None };
    let named: Vec<&SkillRow> = document.skills.iter().take(COMPARED_SKILLS).collect();
    let mut apart: Vec<(f64, &SkillRow)> = named
        .iter()
        .filter_map(|skill| {
            let (a, b) = (count_in(skill, &one.code), count_in(skill, &other.code));
            let (low, high) = (interval(a, one.postings)?, interval(b, other.postings)?);
            let difference = (percent(a, one.postings)? - percent(b, other.postings)?).abs();
            let disjoint = low.1 < high.0 || high.1 < low.0;
            let is_named = a.min(b) >= MIN_NAMED;
            (is_named && disjoint && difference >= MIN_DIFFERENCE).then_some((difference, *skill))
        })
        .collect();
    apart.sort_by(|left, right| right.0.total_cmp(&left.0));
    let (difference, skill) = apart.first()?;
    // Two skills of which they differ alike: none of them most.
    if apart.get(1).is_some_and(|second| difference - second.0 < f64::EPSILON * 100.0) {
        return None;
    }
    let here = percent(count_in(skill, &one.code), one.postings);
    let there = percent(count_in(skill, &other.code), other.postings);
    let (more, less) = if here >= there { (one, other) } else { (other, one) };
    let values = [
        ("skill", &*skill.label),
        ("more", &*country_part(skill, more, document, words)),
        ("less", &*country_part(skill, less, document, words)),
        ("skills", &*words.count(named.len() as u64)),
    ];
    Some(words.fill("finding.countries", &values))
}

/// The share of one country that names a skill, with its number of postings and its interval.
fn country_part(skill: &SkillRow, country: &CountryScope, document: &ReportDocument, words: Words) -> String {
    let part = count_in(skill, &country.code);
    let values = [
        ("country", &*words.country(&country.code, &document.scope.countries)),
        ("share", &*words.share(part, country.postings)),
        ("n", &*words.count(country.postings)),
        ("interval", &*words.interval(part, country.postings)),
    ];
    words.fill("finding.country_part", &values)
}

/// The share of all mentions that falls to the ten skills most named.
fn concentration(document: &ReportDocument, words: Words) -> Option<String> {
    let (skills, mentions) = (document.totals.skills, document.totals.explicit_mentions);
    let mut counts: Vec<u64> = document.skills.iter().map(|skill| skill.job_count).collect();
    // The rows of a document from a file may stand in any order.
    counts.sort_unstable_by_key(|count| std::cmp::Reverse(*count));
    let first: u64 = counts.iter().take(10).sum();
    let are_many = skills >= MANY_SKILLS && counts.len() >= 10;
    (are_many && mentions >= MIN_POSTINGS && first <= mentions).then(|| {
        let values = [
            ("share", &*words.share(first, mentions)),
            ("mentions", &*words.count(mentions)),
            ("skills", &*words.count(skills)),
        ];
        words.fill("finding.concentration", &values)
    })
}

/// Skills that are implied and count nowhere.
fn implied(document: &ReportDocument, words: Words) -> Option<String> {
    let implied = document.totals.implicit_mentions;
    let all = implied + document.totals.explicit_mentions;
    (implied > 0 && all >= MIN_POSTINGS).then(|| {
        let values = [
            ("part", &*words.count(implied)),
            ("share", &*words.share(implied, all)),
            ("all", &*words.count(all)),
        ];
        words.fill("finding.implied", &values)
    })
}

/// The number of mentions that carry a concept of the taxonomy.
fn linked(document: &ReportDocument, words: Words) -> Option<String> {
    let taxonomy = document.methods.taxonomy.as_ref()?;
    let part = document.totals.mentions_with_uri;
    let all = document.totals.explicit_mentions + document.totals.implicit_mentions;
    (part > 0 && part <= all && all >= MIN_POSTINGS).then(|| {
        let values = [
            ("part", &*words.count(part)),
            ("all", &*words.count(all)),
            ("share", &*words.share(part, all)),
            ("taxonomy", &*words.taxonomy_name(&taxonomy.name)),
        ];
        words.fill("finding.linked", &values)
    })
}

#[cfg(test)]
mod tests;
