//! Content and behaviour of the simulated sites.
//!
//! Numbers are bounded here, so that no flag makes the simulator run out of memory.

use std::net::{Ipv4Addr, SocketAddr};

use chrono::{DateTime, Utc};

use super::{fault::Fault, site::Site, written};

/// Most advertisements of one site. Not tuned: no flag should make the simulator run out of memory.
const MOST_ADS: usize = 50_000;
/// Most waves. Not tuned: tests need two or three.
const MOST_WAVES: u32 = 9;

/// Shares of advertisements with something particular, each from 0 to 1.
#[derive(Debug, Clone, PartialEq)]
pub struct Shares {
    /// Computrabajo advertisements that copy one of the country's other portal word for word.
    pub duplicates: f64,
    /// Advertisements that stand twice in the listing under one id.
    pub listed_twice: f64,
    /// Advertisements with the text of an earlier one of the same site under a new id.
    pub reposts: f64,
    /// Advertisements whose text changes at each later wave.
    pub edited: f64,
    /// Advertisements that appear at each later wave, as a share of the first.
    pub added: f64,
    /// Advertisements that disappear at each later wave.
    pub dropped: f64,
    /// Advertisements without a date of publication.
    pub undated: f64,
    /// Advertisements whose employer is confidential.
    pub anonymous: f64,
    /// Advertisements without a figure for the salary.
    pub confidential_salaries: f64,
    /// Advertisements in English.
    pub english: f64,
    /// Advertisements that print an e-mail address or a telephone number.
    pub personal_data: f64,
}

impl Default for Shares {
    fn default() -> Self {
        // Not tuned: each share is large enough to occur among the hundred advertisements of a
        // test.
        Self {
            duplicates: 0.10,
            listed_twice: 0.03,
            reposts: 0.05,
            edited: 0.08,
            added: 0.10,
            dropped: 0.05,
            undated: 0.04,
            anonymous: 0.08,
            confidential_salaries: 0.40,
            english: 0.10,
            personal_data: 0.06,
        }
    }
}

impl Shares {
    fn named(&self) -> [(&'static str, f64); 11] {
        [
            ("duplicates", self.duplicates),
            ("listed_twice", self.listed_twice),
            ("reposts", self.reposts),
            ("edited", self.edited),
            ("added", self.added),
            ("dropped", self.dropped),
            ("undated", self.undated),
            ("anonymous", self.anonymous),
            ("confidential_salaries", self.confidential_salaries),
            ("english", self.english),
            ("personal_data", self.personal_data),
        ]
    }
}

/// Source of the words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Texts {
    /// Templates of this simulator, with coined skills that no lexicon holds: for tests.
    #[default]
    Composed,
    /// Advertisements written for this project, each printed by one site, every skill in them
    /// marked.
    Written,
}

/// Content and behaviour of the sites; equal configurations give equal advertisements, pages and
/// truth.
#[derive(Debug, Clone)]
pub struct Config {
    /// Seed of every choice.
    pub seed: u64,
    /// Source of the words.
    pub texts: Texts,
    /// Advertisements of the first wave, per site; a site that is not named has none.
    pub ads: Vec<(Site, usize)>,
    /// Shares of particular advertisements.
    pub shares: Shares,
    /// "Now" on the sites: ages and the Date header come from it.
    pub clock: DateTime<Utc>,
    /// Waves to generate, from 1.
    pub waves: u32,
    /// Wave to serve at first.
    pub wave: u32,
    /// Faults from the start.
    pub faults: Vec<Fault>,
    /// Seconds of `Crawl-delay` in robots.txt.
    pub crawl_delay: Option<u32>,
    /// Address to listen on; port 0 takes a free one.
    pub listen: SocketAddr,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            seed: 42,
            texts: Texts::default(),
            ads: Self::spread(120),
            shares: Shares::default(),
            clock: "2026-11-20T20:00:00Z".parse().expect("a valid time"),
            waves: 2,
            wave: 1,
            faults: Vec::new(),
            crawl_delay: None,
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
        }
    }
}

/// Reason why a configuration cannot be used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// A share outside of 0 to 1.
    #[error("share {name} is {value}; allowed are 0 to 1")]
    Share {
        /// Name of the share.
        name: &'static str,
        /// The value.
        value: String,
    },
    /// Too many advertisements for a site.
    #[error("{site} has {count} ads; allowed are 0 to {MOST_ADS}, each site once")]
    Ads {
        /// The site.
        site: Site,
        /// The number.
        count: usize,
    },
    /// Waves outside of their range.
    #[error("wave {wave} of {waves}; allowed are 1 to the number of waves, at most {MOST_WAVES}")]
    Wave {
        /// The wave to serve.
        wave: u32,
        /// The waves to generate.
        waves: u32,
    },
}

impl Config {
    /// `total` composed advertisements over the sites of three countries as evenly as possible.
    pub fn spread(total: usize) -> Vec<(Site, usize)> {
        let sites = Site::composed().count();
        Site::composed()
            .enumerate()
            .map(|(index, site)| (site, total / sites + usize::from(index < total % sites)))
            .collect()
    }

    /// `total` written advertisements over the sites of five countries, each site as many as its
    /// share of the set; no more than there are.
    pub fn written(total: usize, seed: u64) -> Self {
        let total = total.min(written::count());
        let mut ads = Vec::new();
        for site in Site::ALL {
            // Rounded down, because no site has more texts than its share of the set.
            ads.push((site, written::of_site(site, seed).len() * total / written::count()));
        }
        Self { seed, texts: Texts::Written, ads, ..Self::default() }
    }

    /// Checks every figure.
    ///
    /// # Errors
    /// Naming the first figure that is out of its range.
    pub fn check(&self) -> Result<(), ConfigError> {
        for (name, value) in self.shares.named() {
            if !(0.0..=1.0).contains(&value) {
                return Err(ConfigError::Share { name, value: value.to_string() });
            }
        }
        for (index, (site, count)) in self.ads.iter().enumerate() {
            let named_before = self.ads[..index].iter().any(|(other, _)| other == site);
            if *count > MOST_ADS || named_before {
                return Err(ConfigError::Ads { site: *site, count: *count });
            }
        }
        if self.wave == 0 || self.wave > self.waves || self.waves > MOST_WAVES {
            return Err(ConfigError::Wave { wave: self.wave, waves: self.waves });
        }
        Ok(())
    }

    /// Advertisements of a site in the first wave.
    pub(crate) fn ads_of(&self, site: Site) -> usize {
        self.ads.iter().find(|(named, _)| *named == site).map_or(0, |(_, count)| *count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spreads_evenly() {
        let counts: Vec<usize> = Config::spread(602).into_iter().map(|(_, count)| count).collect();
        assert_eq!(counts, [101, 101, 100, 100, 100, 100]);
    }

    #[test]
    fn refuses_figures_out_of_range() {
        let check = |change: fn(&mut Config), expected: &str| {
            let mut config = Config::default();
            change(&mut config);
            let message = config.check().unwrap_err().to_string();
            assert!(message.contains(expected), "{message}");
        };
        check(|config| config.shares.edited = 1.5, "share edited is 1.5");
        check(|config| config.shares.english = f64::NAN, "share english is NaN");
        check(|config| config.ads[0].1 = 50_001, "elempleo:CO has 50001");
        check(|config| config.ads.push(config.ads[0]), "each site once");
        check(|config| config.wave = 3, "wave 3 of 2");
        check(|config| config.wave = 0, "wave 0 of 2");
        assert_eq!(Config::default().check(), Ok(()));
    }
}
