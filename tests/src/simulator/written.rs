//! Advertisements written by hand for this project, with every skill marked
//! (`tests/data/README.md`).

use std::{
    io::{BufRead, BufReader},
    sync::LazyLock,
};

use flate2::read::GzDecoder;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{
    rng::Rng,
    site::{Country, Site},
};

/// The set, one advertisement a line.
const ADS: &[u8] = include_bytes!("../../data/written-ads.jsonl.gz");
/// Test part: the SHA-256 of the id begins with a byte below this, as in `tests/data/README.md`.
const TEST_BELOW: u8 = 46;

/// A skill marked in the description of a written advertisement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// First code point of the description.
    pub start: usize,
    /// Code point after the last.
    pub end: usize,
    /// `tool`, `knowledge`, `ability`, `language`, `licence` or `soft`.
    pub kind: String,
    /// `R`: asked of the candidate; `D`: a duty of the job.
    pub place: String,
    /// The skill in its plain form.
    pub norm: String,
}

/// Which written advertisement stands on a site, and what is marked in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Marks {
    /// Id in the set.
    pub id: String,
    /// Belongs to the part that nothing is trained or tuned on.
    pub test: bool,
    /// The marks, by place.
    pub spans: Vec<Mark>,
}

/// One advertisement of the set.
#[derive(Deserialize)]
pub(crate) struct Written {
    id: String,
    country: String,
    pub(crate) title: String,
    pub(crate) description: String,
    pub(crate) spans: Vec<Mark>,
}

impl Written {
    pub(crate) fn marks(&self) -> Marks {
        // By a hash of the id, so that an advertisement stays in its part when others are added.
        let test = Sha256::digest(&self.id)[0] < TEST_BELOW;
        Marks { id: self.id.clone(), test, spans: self.spans.clone() }
    }
}

/// Number of advertisements in the set.
pub(crate) fn count() -> usize {
    SET.len()
}

static SET: LazyLock<Vec<Written>> = LazyLock::new(|| {
    let lines = BufReader::new(GzDecoder::new(ADS)).lines();
    let read =
        lines.map(|line| serde_json::from_str(&line.expect("a readable set")).expect("an advertisement"));
    read.collect()
});

/// The advertisements of the set that one site prints: those of its country are dealt out among the
/// country's sites, in an order that the seed decides.
pub(crate) fn of_site(site: Site, seed: u64) -> Vec<&'static Written> {
    let sites: Vec<Site> = Site::ALL.into_iter().filter(|other| other.country == site.country).collect();
    let place = sites.iter().position(|other| *other == site).unwrap_or_default();
    let dealt = of_country(site.country, seed);
    dealt.into_iter().skip(place).step_by(sites.len()).collect()
}

fn of_country(country: Country, seed: u64) -> Vec<&'static Written> {
    let ads: Vec<&Written> = SET.iter().filter(|ad| ad.country == country.code()).collect();
    let number = Country::ALL.iter().position(|other| *other == country).unwrap_or_default();
    // A stream of its own for each country, whose order the other countries do not change.
    Rng::new(&[seed, number as u64, 0x3717]).sample(&ads, ads.len())
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn the_set_is_what_its_readme_says() {
        assert_eq!(count(), 1_000);
        assert_eq!(SET.iter().filter(|ad| ad.marks().test).count(), 162);
        for ad in SET.iter() {
            let length = ad.description.chars().count();
            for mark in &ad.spans {
                assert!(mark.start < mark.end && mark.end <= length, "{} {mark:?}", ad.id);
                assert!(matches!(mark.place.as_str(), "R" | "D"), "{} {mark:?}", ad.id);
            }
        }
    }

    #[test]
    fn every_advertisement_is_dealt_to_one_site() {
        let mut seen = HashSet::new();
        for site in Site::ALL {
            for ad in of_site(site, 42) {
                assert_eq!(ad.country, site.country.code());
                assert!(seen.insert(&ad.id), "{} is on two sites", ad.id);
            }
        }
        assert_eq!(seen.len(), count());
        let order = |seed| of_site(Site::ALL[0], seed).iter().map(|ad| ad.id.clone()).collect::<Vec<_>>();
        assert_ne!(order(42), order(43));
    }
}
