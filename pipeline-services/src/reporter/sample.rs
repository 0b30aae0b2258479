//! Documents for tests.
//!
//! From an empty one to the full invented report, and one whose every text is hostile to some
//! format: what a renderer does with these is what its tests look at.

use super::document::{
    CharSpan, CountryCount, CountryScope, Notice, OccupationRow, OccupationSection, Quote, ReportDocument,
    SkillEvidence, SkillRow,
};

/// The invented document that also serves authors of templates.
pub(super) fn full() -> ReportDocument {
    serde_json::from_str(include_str!("../../reports/example.json")).unwrap()
}

/// The full one, cut to a size whose snapshots can be read.
pub(super) fn small() -> ReportDocument {
    let mut document = full();
    document.skills.truncate(4);
    document.categories.truncate(2);
    document.occupations.rows.truncate(2);
    document.evidence.truncate(2);
    if let Some(section) = &mut document.clusters {
        section.clusters.truncate(2);
        section.points.retain(|p| p.cluster.is_none_or(|id| id < 2));
        section.points.truncate(40);
    }
    document
}

/// Nothing was found at all.
pub(super) fn empty() -> ReportDocument {
    let mut document = full();
    document.scope.postings = 0;
    document.scope.sightings = 0;
    document.scope.countries.clear();
    document.scope.portals.clear();
    document.scope.published = None;
    document.scope.collected = None;
    document.scope.filters.clear();
    document.run.stages.clear();
    document.models.clear();
    document.notices.clear();
    document.totals = Default::default();
    document.skills.clear();
    document.categories.clear();
    document.occupations = Default::default();
    document.clusters = None;
    document.evidence.clear();
    document.quality = Default::default();
    document.methods = Default::default();
    document
}

/// Text that some format, renderer or spreadsheet would take for code.
pub(super) const HOSTILE: [&str; 10] = [
    "#panic(\"typst\") *b* _i_ @ref <label> `raw` \\ // comment /* c */",
    "$x^2$ and US$ 5",
    "</script><script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "{data} {w:title} {{x}}",
    "=HYPERLINK(\"http://x\",\"y\")",
    "a\tb\r\nc\u{0}\u{7}",
    "\u{202e}rtl \u{200b} \u{1f600} 漢字 ñandú",
    "palabrainterminablesinespacios-palabrainterminablesinespacios-palabrainterminablesinespacios-fin",
    "",
];

/// The full one with [`HOSTILE`] text wherever text goes.
pub(super) fn hostile() -> ReportDocument {
    let mut document = full();
    let template = document.skills[0].clone();
    document.skills = HOSTILE
        .iter()
        .map(|text| SkillRow {
            label: (*text).to_owned(),
            category: (*text).to_owned(),
            uri: Some(format!("javascript:{text}")),
            countries: vec![CountryCount { country: "CO".into(), job_count: 3 }],
            ..template.clone()
        })
        .collect();
    document.occupations =
        OccupationSection { rows: HOSTILE.into_iter().map(occupation).collect(), without: 0 };
    document.title = Some(HOSTILE.join(" "));
    document.notices = HOSTILE.iter().map(|t| Notice::Other { text: (*t).to_owned() }).collect();
    document.scope.countries =
        vec![CountryScope { code: "CO".into(), name: Some(HOSTILE[2].into()), postings: 9 }];
    document.scope.portals.iter_mut().for_each(|p| p.portal = HOSTILE[3].to_owned());
    document.evidence = HOSTILE.iter().map(|text| evidence(text)).collect();
    if let Some(section) = &mut document.clusters {
        for (cluster, text) in section.clusters.iter_mut().zip(HOSTILE.iter().cycle()) {
            cluster.label = (*text).to_owned();
            cluster.top_skills = HOSTILE.iter().map(|t| (*t).to_owned()).collect();
        }
        for (point, text) in section.points.iter_mut().zip(HOSTILE.iter().cycle()) {
            point.label = (*text).to_owned();
        }
    }
    document.models.iter_mut().for_each(|m| m.name = HOSTILE[0].to_owned());
    document.methods.code_version = HOSTILE[0].to_owned();
    document
}

fn occupation(text: &str) -> OccupationRow {
    OccupationRow {
        label: text.to_owned(),
        uri: Some(format!("javascript:{text}")),
        isco: Some(text.to_owned()),
        cuoc: Some(text.to_owned()),
        job_count: 3,
        titles: evidence(text).quotes,
    }
}

fn evidence(text: &str) -> SkillEvidence {
    let quote = Quote {
        job_id: text.to_owned(),
        portal: text.to_owned(),
        country: "CO".to_owned(),
        url: Some(format!("javascript:alert(1)//{text}")),
        published: None,
        field: text.to_owned(),
        span: Some(CharSpan { start: 0, end: 1 }),
        before: text.to_owned(),
        surface: text.to_owned(),
        after: text.to_owned(),
        method: vec![text.to_owned()],
        confidence: 1.0,
    };
    SkillEvidence { label: text.to_owned(), quotes: vec![quote] }
}
