//! Faults of a site, on demand.
//!
//! A fault counts the requests it sees, so that it strikes at the same request in every run.

use std::{collections::BTreeMap, fmt, str::FromStr, time::Duration};

use super::site::Portal;

/// A fault of one portal, or of all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The portal; none for every one.
    pub portal: Option<Portal>,
    /// Its kind.
    pub kind: FaultKind,
}

/// Kind of a fault. Requests are counted per fault; robots.txt and the simulator's own pages are
/// neither counted nor touched, except by [`FaultKind::RobotsUnavailable`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FaultKind {
    /// Every n-th request is answered 429 with `Retry-After`.
    TooManyRequests {
        /// n.
        every: u32,
        /// Seconds to wait.
        retry_after: u32,
    },
    /// After some requests, a burst of 503.
    Unavailable {
        /// Requests answered before the burst.
        after: u32,
        /// Length of the burst.
        count: u32,
    },
    /// After some requests every answer is a wall that wants a browser, with status 403.
    Challenge {
        /// Requests answered before the wall.
        after: u32,
    },
    /// Every n-th answer comes late.
    Slow {
        /// n.
        every: u32,
        /// Delay in milliseconds.
        millis: u32,
    },
    /// Every n-th body breaks off in the middle.
    Cut {
        /// n.
        every: u32,
    },
    /// Classes, attributes and names of the JSON answers are not those of the documented layout.
    LayoutChange,
    /// Every page of a listing is the first one and has a next one.
    PaginationLoop,
    /// robots.txt is answered 503.
    RobotsUnavailable,
}

/// Forms of a fault, for messages.
const FORMS: &str = "too-many-requests:every=5,retry-after=2; unavailable:after=10,count=5; challenge:after=20; \
    slow:every=3,millis=200; cut:every=4; layout-change; pagination-loop; robots-unavailable; \
    each with a portal and a slash before it for that portal only";

/// A fault that cannot be read.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("fault `{given}`: {problem}; forms are {FORMS}")]
pub struct FaultError {
    given: String,
    problem: String,
}

impl FromStr for Fault {
    type Err = FaultError;

    /// Reads forms such as `computrabajo/too-many-requests:every=5,retry-after=2`.
    fn from_str(given: &str) -> Result<Self, FaultError> {
        Self::read(given).map_err(|problem| FaultError { given: given.to_owned(), problem })
    }
}

impl Fault {
    fn read(given: &str) -> Result<Self, String> {
        let (portal, rest) = match given.split_once('/') {
            Some((portal, rest)) => (Some(portal.parse()?), rest),
            None => (None, given),
        };
        let (name, values) = rest.split_once(':').unwrap_or((rest, ""));
        let mut settings = Settings::read(values)?;
        let kind = settings.kind(name)?;
        // Each setting that the kind knows was taken out.
        match settings.0.keys().next() {
            Some(unknown) => Err(format!("`{unknown}` is no setting of {name}")),
            None => Ok(Self { portal, kind }),
        }
    }
}

struct Settings(BTreeMap<String, u32>);

impl Settings {
    fn read(text: &str) -> Result<Self, String> {
        let mut settings = BTreeMap::new();
        for part in text.split(',').filter(|part| !part.is_empty()) {
            let (name, value) = part.split_once('=').ok_or_else(|| format!("`{part}` is not name=number"))?;
            let number =
                value.parse().map_err(|_| format!("{name} is `{value}`, expected a whole number"))?;
            settings.insert(name.to_owned(), number);
        }
        Ok(Self(settings))
    }

    fn take(&mut self, name: &str, least: u32) -> Result<u32, String> {
        match self.0.remove(name) {
            Some(value) if value >= least => Ok(value),
            Some(value) => Err(format!("{name} is {value}, expected at least {least}")),
            None => Err(format!("{name} is missing")),
        }
    }

    fn kind(&mut self, name: &str) -> Result<FaultKind, String> {
        Ok(match name {
            "too-many-requests" => FaultKind::TooManyRequests {
                every: self.take("every", 1)?,
                retry_after: self.take("retry-after", 0)?,
            },
            "unavailable" => {
                FaultKind::Unavailable { after: self.take("after", 0)?, count: self.take("count", 1)? }
            }
            "challenge" => FaultKind::Challenge { after: self.take("after", 0)? },
            "slow" => FaultKind::Slow { every: self.take("every", 1)?, millis: self.take("millis", 1)? },
            "cut" => FaultKind::Cut { every: self.take("every", 1)? },
            "layout-change" => FaultKind::LayoutChange,
            "pagination-loop" => FaultKind::PaginationLoop,
            "robots-unavailable" => FaultKind::RobotsUnavailable,
            _ => return Err(format!("`{name}` is unknown")),
        })
    }
}

impl fmt::Display for FaultKind {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::TooManyRequests { .. } => "too-many-requests",
            Self::Unavailable { .. } => "unavailable",
            Self::Challenge { .. } => "challenge",
            Self::Slow { .. } => "slow",
            Self::Cut { .. } => "cut",
            Self::LayoutChange => "layout-change",
            Self::PaginationLoop => "pagination-loop",
            Self::RobotsUnavailable => "robots-unavailable",
        })
    }
}

/// Effects of the faults in force on one request.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Effects {
    pub(crate) delay: Option<Duration>,
    pub(crate) refusal: Option<Refusal>,
    pub(crate) cut: bool,
    pub(crate) layout_change: bool,
    pub(crate) pagination_loop: bool,
}

/// An answer in place of the page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    TooManyRequests { retry_after: u32 },
    Unavailable,
    Challenge,
}

/// Faults in force, each with the requests it has seen.
#[derive(Debug, Default)]
pub(crate) struct Faults(Vec<(Fault, u32)>);

impl Faults {
    pub(crate) fn new(faults: Vec<Fault>) -> Self {
        Self(faults.into_iter().map(|fault| (fault, 0)).collect())
    }

    /// Counts a request for a page or an answer of a portal and says what happens to it; the first
    /// refusal wins.
    pub(crate) fn strike(&mut self, portal: Portal) -> Effects {
        let mut effects = Effects::default();
        for (fault, seen) in
            self.0.iter_mut().filter(|(fault, _)| fault.portal.is_none_or(|only| only == portal))
        {
            *seen += 1;
            // A burst ends by itself; a wall stays until the faults are changed.
            let refusal = match fault.kind {
                FaultKind::TooManyRequests { every, retry_after } if seen.is_multiple_of(every) => {
                    Some(Refusal::TooManyRequests { retry_after })
                }
                FaultKind::Unavailable { after, count } if *seen > after && *seen - after <= count => {
                    Some(Refusal::Unavailable)
                }
                FaultKind::Challenge { after } if *seen > after => Some(Refusal::Challenge),
                _ => None,
            };
            // All faults count a request, also one that another of them refuses.
            effects.refusal = effects.refusal.or(refusal);
            match fault.kind {
                FaultKind::Slow { every, millis } if seen.is_multiple_of(every) => {
                    effects.delay = Some(Duration::from_millis(u64::from(millis)));
                }
                FaultKind::Cut { every } => effects.cut |= seen.is_multiple_of(every),
                FaultKind::LayoutChange => effects.layout_change = true,
                FaultKind::PaginationLoop => effects.pagination_loop = true,
                _ => {}
            }
        }
        effects
    }

    /// Returns true if robots.txt of a portal (none: of the whole origin) is unavailable.
    pub(crate) fn robots_unavailable(&self, portal: Option<Portal>) -> bool {
        self.0.iter().any(|(fault, _)| {
            // robots.txt of the origin covers all portals, so a fault of any of them makes it
            // unavailable.
            fault.kind == FaultKind::RobotsUnavailable
                && (fault.portal.is_none() || portal.is_none() || fault.portal == portal)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_read_from_text() {
        let check = |text: &str, portal, kind| assert_eq!(text.parse(), Ok(Fault { portal, kind }), "{text}");
        let every = |every, retry_after| FaultKind::TooManyRequests { every, retry_after };
        check("too-many-requests:every=5,retry-after=2", None, every(5, 2));
        check("bumeran/challenge:after=20", Some(Portal::Bumeran), FaultKind::Challenge { after: 20 });
        check("layout-change", None, FaultKind::LayoutChange);
        let refuse = |text: &str, expected: &str| {
            let message = text.parse::<Fault>().unwrap_err().to_string();
            assert!(message.contains(expected), "{message}");
        };
        refuse("slow:every=0,millis=5", "every is 0, expected at least 1");
        refuse("slow:every=2", "millis is missing");
        refuse("slow:every=x,millis=5", "every is `x`, expected a whole number");
        refuse("cut:every=2,after=1", "`after` is no setting of cut");
        refuse("indeed/cut:every=2", "unknown portal `indeed`");
        refuse("meltdown", "`meltdown` is unknown; forms are too-many-requests");
    }

    #[test]
    fn faults_strike_on_their_turn() {
        let check = |text: &str, expected: &str| {
            let mut faults = Faults::new(vec![text.parse().unwrap()]);
            let struck: String = (0..8)
                .map(|_| {
                    let effects = faults.strike(Portal::Bumeran);
                    let touched = effects != Effects::default();
                    if touched { 'x' } else { '.' }
                })
                .collect();
            assert_eq!(struck, expected, "{text}");
        };
        check("too-many-requests:every=3,retry-after=1", "..x..x..");
        check("unavailable:after=2,count=3", "..xxx...");
        check("challenge:after=5", ".....xxx");
        check("slow:every=4,millis=1", "...x...x");
        check("cut:every=2", ".x.x.x.x");
        check("elempleo/challenge:after=0", "........");
        check("robots-unavailable", "........");
    }
}
