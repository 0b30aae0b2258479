//! What a report says, as data.
//!
//! A [`ReportDocument`] is complete: every artefact (PDF, HTML, CSV, charts) is a pure function of it.
//! It is also the wire format: `report.json` is this structure, and the typesetter and any user's
//! template read it. Figures are counts of distinct postings unless a field says otherwise.

use chrono::{DateTime, NaiveDate, Utc};
use serde::{Deserialize, Serialize};

mod consistency;

pub use consistency::InvalidDocument;

/// Version of the JSON layout; raised when a field changes its meaning or goes away.
pub const DOCUMENT_VERSION: u32 = 1;

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
    /// [`DOCUMENT_VERSION`] of the writer.
    pub version: u32,
    /// Language of headings and explanations.
    pub language: Language,
    /// Title of the first page; none gives the standard title of the language.
    #[serde(default)]
    pub title: Option<String>,
    /// When the figures were read; the only time stamp in the artefacts.
    pub generated_at: DateTime<Utc>,
    /// What was looked at.
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
    /// The cluster analysis; none if it did not run.
    pub clusters: Option<ClusterSection>,
    /// For a sample of skills, the sentences their figures came from.
    pub evidence: Vec<SkillEvidence>,
    /// What was folded, refused, removed or missing.
    pub quality: DataQuality,
    /// Versions and parameters needed to get the same figures again.
    pub methods: Methods,
}

/// The material of a report.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scope {
    /// Distinct postings: the denominator of every share.
    pub postings: u64,
    /// Times an advertisement was seen (portal, id, country), reposts included.
    pub sightings: u64,
    /// Openings behind the postings, if near-duplicates were grouped.
    #[serde(default)]
    pub vacancies: Option<u64>,
    /// Countries, most postings first. A posting seen in two countries counts in both.
    pub countries: Vec<CountryScope>,
    /// Portals and files, most sightings first.
    pub portals: Vec<PortalScope>,
    /// First and last publication date of dated advertisements.
    #[serde(default)]
    pub published: Option<DateRange>,
    /// First and last day of collection.
    #[serde(default)]
    pub collected: Option<DateRange>,
    /// Filters of the run, as the user gave them.
    #[serde(default)]
    pub filters: Vec<Parameter>,
}

/// One country of the scope.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CountryScope {
    /// ISO 3166-1 alpha-2 code.
    pub code: String,
    /// Name to print; none gives the name known for the code, or else the code.
    #[serde(default)]
    pub name: Option<String>,
    /// Distinct postings seen in the country: the denominator of its shares.
    pub postings: u64,
}

/// One source of the scope.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PortalScope {
    /// Portal name, or the name of an import.
    pub portal: String,
    /// Country code, where the portal serves one country.
    #[serde(default)]
    pub country: Option<String>,
    /// Sightings.
    pub sightings: u64,
}

/// A closed range of days.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DateRange {
    /// First day.
    pub from: NaiveDate,
    /// Last day.
    pub to: NaiveDate,
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

/// What one stage did.
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
        /// Why, in the report's language.
        reason: String,
    },
    /// The postings are generated or simulated, not a labour market.
    SimulatedPostings {
        /// Their source.
        source: String,
    },
    /// No taxonomy was active, so no skill carries a URI.
    NoTaxonomy,
    /// Anything else, in the report's language.
    Other {
        /// What to tell.
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
    /// Postings with at least one skill.
    pub postings_with_skills: u64,
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
    /// Postings that name it per country, most first; a posting seen in two countries counts in both.
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

/// The cluster analysis.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClusterSection {
    /// Model whose vectors were clustered.
    pub embedding_model: String,
    /// Reduction and clustering parameters, as used.
    pub parameters: Vec<Parameter>,
    /// Quality figures.
    pub metrics: ClusterMetrics,
    /// Clusters, largest first.
    pub clusters: Vec<ClusterRow>,
    /// The map: all points, or a sample if there are very many.
    pub points: Vec<MapPoint>,
}

/// How good the clusters are.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClusterMetrics {
    /// Points clustered (`points` may hold fewer).
    pub points: u64,
    /// Points assigned to no cluster.
    pub noise: u64,
    /// Mean silhouette over points that are not noise, -1 to 1; none with fewer than two clusters.
    #[serde(default)]
    pub silhouette: Option<f64>,
    /// Davies-Bouldin index over points that are not noise, lower is better.
    #[serde(default)]
    pub davies_bouldin: Option<f64>,
}

/// One cluster.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClusterRow {
    /// Cluster id.
    pub cluster_id: i32,
    /// Label.
    pub label: String,
    /// Skills in it.
    pub size: u64,
    /// Postings that ask for at least one of them.
    #[serde(default)]
    pub job_count: Option<u64>,
    /// Its skills, most demanded first (a handful).
    pub top_skills: Vec<String>,
    /// Mean cosine similarity to its centroid.
    #[serde(default)]
    pub cohesion: Option<f64>,
}

/// One skill on the map.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MapPoint {
    /// Skill label.
    pub label: String,
    /// First coordinate (finite).
    pub x: f64,
    /// Second coordinate (finite).
    pub y: f64,
    /// Cluster id; none for noise.
    #[serde(default)]
    pub cluster: Option<i32>,
    /// Postings that ask for it.
    pub job_count: u64,
}

/// Where the figure of one skill comes from.
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
    /// Where the surface stands in that field; none for an implied skill.
    #[serde(default)]
    pub span: Option<CharSpan>,
    /// Text before the surface, to the start of the sentence.
    pub before: String,
    /// The words that name the skill, or for an implied one the words it was concluded from.
    pub surface: String,
    /// Text after the surface, to the end of the sentence.
    pub after: String,
    /// What found it ("lexicon", "pattern", "tagger", ...).
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

/// What was folded, refused, removed or missing.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataQuality {
    /// Sightings whose text equals an earlier one's.
    pub duplicates_folded: u64,
    /// Groups of near-duplicate postings.
    pub near_duplicate_groups: u64,
    /// Postings in those groups.
    pub near_duplicates: u64,
    /// Items refused on the way in, by reason.
    pub refused: Vec<Count>,
    /// Pieces of personal data removed, by kind ("email", "phone", ...).
    pub personal_data_removed: Vec<Count>,
    /// Postings without a publication date.
    pub undated: u64,
    /// Postings without any skill.
    pub without_skills: u64,
    /// Rows set aside by a stage as unreadable.
    pub quarantined: u64,
}

/// A named number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Count {
    /// What is counted.
    pub name: String,
    /// How many.
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
