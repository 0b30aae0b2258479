//! What was looked at.
//!
//! Postings, countries, portals, days and filters that every figure of the document rests on: a
//! share without its denominator here is not shown.

use chrono::{DateTime, NaiveDate, Utc};
use serde::{Deserialize, Serialize};

/// The material of a report.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scope {
    /// Distinct postings: the denominator of every share.
    pub postings: u64,
    /// Times an advertisement was seen (portal, id, country), reposts included.
    pub sightings: u64,
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
    /// Filters of the run; every figure of the document is of what they leave.
    #[serde(default)]
    pub filters: Vec<Filter>,
}

/// A filter of the run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Filter {
    /// Only what was seen on these portals.
    Portals {
        /// Their names.
        names: Vec<String>,
    },
    /// Only what was seen in these countries.
    Countries {
        /// Their codes.
        codes: Vec<String>,
    },
    /// Only what was collected, or else published, within some time before the run began.
    Since {
        /// Length of that time.
        seconds: u64,
        /// Its beginning.
        from: DateTime<Utc>,
    },
    /// Only the texts that were stored first.
    First {
        /// Their number.
        postings: u64,
    },
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
