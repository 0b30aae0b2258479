//! What the types of a report document cannot say.
//!
//! A document from a file or another version is checked before anything is drawn: renderers may
//! then rely on finite numbers, parts no larger than their wholes, and references that exist.

use std::collections::BTreeSet;
use std::fmt;

use super::{ClusterSection, DOCUMENT_VERSION, Quote, ReportDocument};

/// A document that contradicts itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidDocument(String);

impl fmt::Display for InvalidDocument {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the report document is not consistent: {}", self.0)
    }
}

impl std::error::Error for InvalidDocument {}

impl ReportDocument {
    /// Checks what the types cannot say: version, finite numbers, counts that fit their totals,
    /// countries and clusters that exist. The first contradiction is named by field and value.
    pub fn validate(&self) -> Result<(), InvalidDocument> {
        ensure(self.version == DOCUMENT_VERSION, || {
            format!("version is {}, this program reads {DOCUMENT_VERSION}", self.version)
        })?;
        self.validate_skills()?;
        self.validate_occupations()?;
        if let Some(section) = &self.clusters {
            section.validate()?;
        }
        let titles = self.occupations.rows.iter().flat_map(|row| &row.titles);
        for quote in self.evidence.iter().flat_map(|e| &e.quotes).chain(titles) {
            quote.validate()?;
        }
        Ok(())
    }

    fn validate_skills(&self) -> Result<(), InvalidDocument> {
        let countries: BTreeSet<&str> = self.scope.countries.iter().map(|c| c.code.as_str()).collect();
        ensure(countries.len() == self.scope.countries.len(), || {
            "scope.countries names one twice".to_owned()
        })?;
        for (i, skill) in self.skills.iter().enumerate() {
            // A file may hold any numbers, also some whose sum overflows.
            let asked = skill.job_count.saturating_add(skill.implicit_count);
            ensure(asked <= self.scope.postings, || {
                format!(
                    "skills[{i}].job_count and implicit_count are {asked}, of {} postings",
                    self.scope.postings
                )
            })?;
            let unknown = skill.countries.iter().find(|c| !countries.contains(c.country.as_str()));
            ensure(unknown.is_none(), || {
                let code = unknown.map_or("", |c| c.country.as_str());
                format!("skills[{i}].countries names `{code}`, which is not in scope.countries")
            })?;
        }
        Ok(())
    }

    /// A posting has one occupation at most.
    fn validate_occupations(&self) -> Result<(), InvalidDocument> {
        let section = &self.occupations;
        // Saturating, for the numbers of a file may be any.
        let counted = section.rows.iter().fold(section.without, |sum, row| sum.saturating_add(row.job_count));
        ensure(counted <= self.scope.postings, || {
            format!("occupations counts {counted} postings, of {}", self.scope.postings)
        })
    }
}

impl ClusterSection {
    fn validate(&self) -> Result<(), InvalidDocument> {
        let ids: BTreeSet<i32> = self.clusters.iter().map(|c| c.cluster_id).collect();
        ensure(ids.len() == self.clusters.len(), || "clusters.clusters has an id twice".to_owned())?;
        ensure(self.metrics.noise <= self.metrics.points, || {
            format!("clusters.metrics.noise is {}, of {} points", self.metrics.noise, self.metrics.points)
        })?;
        let metrics = [self.metrics.silhouette, self.metrics.davies_bouldin];
        let cohesion = self.clusters.iter().map(|c| c.cohesion);
        ensure(metrics.into_iter().chain(cohesion).flatten().all(f64::is_finite), || {
            "a cluster metric is not a finite number (leave it out instead)".to_owned()
        })?;
        for (i, point) in self.points.iter().enumerate() {
            ensure(point.x.is_finite() && point.y.is_finite(), || {
                format!("clusters.points[{i}] has a coordinate that is not finite")
            })?;
            ensure(point.cluster.is_none_or(|id| ids.contains(&id)), || {
                format!("clusters.points[{i}].cluster is {:?}, which is not listed", point.cluster)
            })?;
        }
        Ok(())
    }
}

impl Quote {
    fn validate(&self) -> Result<(), InvalidDocument> {
        // What is not a number lies in no range, so this refuses it too.
        ensure((0.0..=1.0).contains(&self.confidence), || {
            format!("a quote of job {} has confidence {}, allowed is 0 to 1", self.job_id, self.confidence)
        })?;
        ensure(self.span.is_none_or(|s| s.start < s.end), || {
            format!("a quote of job {} has an empty span", self.job_id)
        })
    }
}

fn ensure(holds: bool, message: impl FnOnce() -> String) -> Result<(), InvalidDocument> {
    if holds { Ok(()) } else { Err(InvalidDocument(message())) }
}
