//! What a report says, as data.
//!
//! A [`ReportDocument`] is complete: every artefact (PDF, HTML, CSV, charts) is a pure function of
//! it. It is also the wire format: `report.json` is this structure, and the typesetter and any
//! user's template read it. Figures are counts of distinct postings unless a field says otherwise.

use chrono::{DateTime, NaiveDate, Utc};
use serde::{Deserialize, Serialize};

mod clusters;
mod consistency;
mod occupations;
mod scope;

pub(crate) use clusters::{ClusterMetrics, ClusterRow, ClusterSection, MapPoint};
pub(crate) use occupations::{OccupationRow, OccupationSection};
pub use scope::Filter;
pub(crate) use scope::{CountryScope, DateRange, PortalScope, Scope};

/// Version of the JSON layout; raised when a field changes its meaning or goes away.
pub(crate) const DOCUMENT_VERSION: u32 = 2;

/// Language of a report's own words. Labels and quotes stay in the language they were found in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Language {
    /// Spanish, with `1.234,5` as number format.
    #[default]
    Es,
    /// English, with `1,234.5` as number format.
    En,
}

impl Language {
    /// The BCP 47 tag.
    pub const fn tag(self) -> &'static str {
        match self {
            Self::Es => "es",
            Self::En => "en",
        }
    }
}

impl std::str::FromStr for Language {
    type Err = String;

    fn from_str(value: &str) -> Result<Self, Self::Err> {
        match value {
            "es" => Ok(Self::Es),
            "en" => Ok(Self::En),
            _ => Err(format!("unknown report language `{value}` (allowed: es, en)")),
        }
    }
}

/// A whole report.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReportDocument {
    /// `DOCUMENT_VERSION` of the writer.
    pub version: u32,
    /// Language of headings and explanations.
    pub language: Language,
    /// Title of the first page; none gives the standard title of the language.
    #[serde(default)]
    pub title: Option<String>,
    /// Time at which the figures were read; the only time stamp in the artefacts.
    pub generated_at: DateTime<Utc>,
    /// Its publisher, and what may be done with it.
    #[serde(default)]
    pub publication: Publication,
    /// The material.
    pub scope: Scope,
    /// The run that produced the figures.
    pub run: Run,
    /// Every model that had a part in the figures.
    pub models: Vec<ModelUse>,
    /// Warnings for the first page.
    pub notices: Vec<Notice>,
    /// Overall figures.
    pub totals: Totals,
    /// Skills, most demanded first.
    pub skills: Vec<SkillRow>,
    /// Skill categories, most demanded first.
    pub categories: Vec<CategoryRow>,
    /// Occupations of the postings.
    pub occupations: OccupationSection,
    /// The cluster analysis; none if it did not run.
    pub clusters: Option<ClusterSection>,
    /// For a sample of skills, the sentences their figures came from.
    pub evidence: Vec<SkillEvidence>,
    /// Counts of what was folded, refused, removed or missing.
    pub quality: DataQuality,
    /// Versions and parameters needed to get the same figures again.
    pub methods: Methods,
}

/// Particulars of a publication that the program cannot know; each comes from its configuration.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Publication {
    /// Publisher of the report.
    #[serde(default)]
    pub author: Option<String>,
    /// Address for questions.
    #[serde(default)]
    pub contact: Option<String>,
    /// Licence of the figures.
    #[serde(default)]
    pub licence: Option<String>,
}

/// The run behind the figures.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Run {
    /// Run id.
    pub run_id: String,
    /// Start of the run.
    pub started_at: DateTime<Utc>,
    /// End of the last stage before the report.
    #[serde(default)]
    pub finished_at: Option<DateTime<Utc>>,
    /// True if a stage could not do all its work.
    pub partial: bool,
    /// Stages in the order they ran.
    pub stages: Vec<StageRow>,
}

/// Work of one stage.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StageRow {
    /// Stage name ("extract").
    pub stage: String,
    /// State at the end ("succeeded", "partial", "failed", "skipped").
    pub state: String,
    /// Items done.
    pub succeeded: u64,
    /// Items given up on.
    pub failed: u64,
    /// Items already done at the same versions.
    pub skipped: u64,
    /// Wall time.
    #[serde(default)]
    pub duration_ms: Option<u64>,
}

/// One model, and what it was used for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelUse {
    /// Role: "embedding", "tagger", "enhancer" or another.
    pub role: String,
    /// Model id, or the name of a rule set.
    pub name: String,
    /// Revision or content hash.
    #[serde(default)]
    pub revision: Option<String>,
    /// Length of its vectors.
    #[serde(default)]
    pub dimension: Option<u32>,
    /// Device it ran on.
    #[serde(default)]
    pub device: Option<String>,
}

/// A warning the reader must see before any figure.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Notice {
    /// The vectors come from a model too small, or of the wrong language, for the clusters to be
    /// more than an illustration.
    IllustrativeClusters {
        /// The model's id.
        model: String,
    },
    /// A stage could not do all its work.
    PartialRun {
        /// Stage name.
        stage: String,
        /// Why, as the run recorded it: in English.
        #[serde(default)]
        reason: Option<String>,
    },
    /// The advertisements are invented for demonstration (a setting of the reporter).
    InventedPostings,
    /// The postings were collected at another address than the portals' own.
    OtherAddress {
        /// That address.
        source: String,
    },
    /// The report rests on so few postings that its shares are rough.
    FewPostings {
        /// Their number.
        postings: u64,
    },
    /// No taxonomy was active, so no skill carries a URI.
    NoTaxonomy,
    /// Anything else, in the report's language.
    Other {
        /// The text.
        text: String,
    },
}

/// Overall figures.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Totals {
    /// Distinct skills (`skills` may hold fewer rows).
    pub skills: u64,
    /// Distinct skills linked to a taxonomy URI.
    pub skills_with_uri: u64,
    /// Postings that name at least one skill.
    pub postings_with_skills: u64,
    /// Postings that name at least one technology or program of the lexicon.
    pub postings_with_digital: u64,
    /// Mentions in the text.
    pub explicit_mentions: u64,
    /// Skills implied, not written.
    pub implicit_mentions: u64,
    /// Mentions linked to a taxonomy URI, explicit and implicit.
    pub mentions_with_uri: u64,
}

/// One skill.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SkillRow {
    /// Normalised label.
    pub label: String,
    /// "hard" or "soft".
    pub kind: String,
    /// Category ("technology", "tool", "language", ...).
    pub category: String,
    /// Taxonomy URI.
    #[serde(default)]
    pub uri: Option<String>,
    /// Label of the concept in the report's language.
    #[serde(default)]
    pub preferred_label: Option<String>,
    /// Postings that name it.
    pub job_count: u64,
    /// Further postings that only imply it.
    pub implicit_count: u64,
    /// Postings that name it per country, most first; a posting seen in two countries counts in
    /// both.
    pub countries: Vec<CountryCount>,
    /// Cluster it belongs to; none for noise and for skills outside the analysis.
    #[serde(default)]
    pub cluster: Option<i32>,
}

/// Postings of one country.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CountryCount {
    /// Country code; must be one of the scope.
    pub country: String,
    /// Postings.
    pub job_count: u64,
}

/// One category of skills.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CategoryRow {
    /// Category name.
    pub category: String,
    /// Distinct skills in it.
    pub skills: u64,
    /// Postings that ask for at least one of them.
    pub job_count: u64,
}

/// Sources of the figure of one skill.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SkillEvidence {
    /// Skill label.
    pub label: String,
    /// Sentences, a few of the `job_count` there are.
    pub quotes: Vec<Quote>,
}

/// One sentence of one posting, personal data removed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Quote {
    /// Posting id.
    pub job_id: String,
    /// Portal of one of its sightings.
    pub portal: String,
    /// Country code of that sighting.
    pub country: String,
    /// Address of that sighting.
    #[serde(default)]
    pub url: Option<String>,
    /// Publication date.
    #[serde(default)]
    pub published: Option<NaiveDate>,
    /// Field of the posting ("title", "description", "requirements").
    pub field: String,
    /// Place of the surface in that field; none for an implied skill.
    #[serde(default)]
    pub span: Option<CharSpan>,
    /// Text before the surface, to the start of the sentence.
    pub before: String,
    /// The words that name the skill, or for an implied one the words it was concluded from.
    pub surface: String,
    /// Text after the surface, to the end of the sentence.
    pub after: String,
    /// Names of its finders ("lexicon", "pattern", "tagger", ...).
    pub method: Vec<String>,
    /// Confidence, 0 to 1.
    pub confidence: f64,
}

/// A half-open range of code points.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CharSpan {
    /// First code point.
    pub start: u64,
    /// One past the last code point.
    pub end: u64,
}

/// Counts of what was folded, refused, removed or missing.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataQuality {
    /// Sightings whose text equals an earlier one's.
    pub duplicates_folded: u64,
    /// Items refused on the way in, by reason; none where the report covers a part of the store,
    /// for they belong to none.
    #[serde(default)]
    pub refused: Option<Vec<Count>>,
    /// Pieces of personal data removed, by kind ("email", "phone", ...); none as above.
    #[serde(default)]
    pub personal_data_removed: Option<Vec<Count>>,
    /// Postings without a publication date.
    pub undated: u64,
    /// Postings that name no skill.
    pub without_skills: u64,
    /// Rows set aside by a stage as unreadable.
    pub quarantined: u64,
}

/// A named number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Count {
    /// Name of what is counted.
    pub name: String,
    /// The number.
    pub count: u64,
}

/// A named setting.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Parameter {
    /// Name.
    pub name: String,
    /// Value, as written.
    pub value: String,
}

/// Versions behind the figures.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Methods {
    /// Version of the program.
    pub code_version: String,
    /// Version of the lexicon.
    #[serde(default)]
    pub lexicon_version: Option<String>,
    /// Active taxonomy.
    #[serde(default)]
    pub taxonomy: Option<TaxonomyUse>,
    /// Version of the extraction rules, prompts and anything else worth naming.
    #[serde(default)]
    pub parameters: Vec<Parameter>,
}

/// The taxonomy skills were linked to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TaxonomyUse {
    /// Name ("esco").
    pub name: String,
    /// Version.
    pub version: String,
    /// Languages of its labels.
    pub languages: Vec<String>,
    /// Concepts in it.
    pub concepts: u64,
}
