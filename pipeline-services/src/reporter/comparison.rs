//! Which groups may be compared with each other, and how far a share can be trusted.
//!
//! The one place that decides it: charts, tables, pages and sentences all ask here, so that no
//! artefact shows a comparison that another one refuses.

use super::document::{CountryScope, ReportDocument, Scope};

/// Postings that a group needs before its shares are compared with another's. With fewer, the 95 %
/// interval of a share near one half reaches about ten points to each side (Wilson: 9.6 points with
/// 100), more than most differences.
pub(super) const MIN_GROUP: u64 = 100;

/// Quantile of the normal distribution for 95 % intervals.
const Z: f64 = 1.959_963_984_540_054;

/// The 95 % interval of a share in percent, after E. B. Wilson, "Probable inference, the law of
/// succession, and statistical inference", JASA 22 (1927); none without a whole. It knows of chance
/// alone, not of what a portal leaves out.
pub(super) fn interval(part: u64, whole: u64) -> Option<(f64, f64)> {
    if whole == 0 {
        return None;
    }
    let n = whole as f64;
    let p = part as f64 / n;
    let scale = 1.0 + Z * Z / n;
    let middle = (p + Z * Z / (2.0 * n)) / scale;
    let reach = Z / scale * (p * (1.0 - p) / n + Z * Z / (4.0 * n * n)).sqrt();
    // Rounding can carry the ends beyond what a share can be.
    Some(((middle - reach).max(0.0) * 100.0, (middle + reach).min(1.0) * 100.0))
}

/// Countries with enough postings to be compared with others.
pub(super) fn compared(scope: &Scope) -> Vec<&CountryScope> {
    scope.countries.iter().filter(|country| country.postings >= MIN_GROUP).collect()
}

/// Countries that have postings, but too few of them.
pub(super) fn left_out(scope: &Scope) -> Vec<&CountryScope> {
    scope.countries.iter().filter(|country| (1..MIN_GROUP).contains(&country.postings)).collect()
}

/// Returns whether the report can say anything of one country compared with the others.
pub(super) fn compares(scope: &Scope) -> bool {
    scope.countries.len() > 1 && !compared(scope).is_empty()
}

/// The skills of one country, the most named first.
#[derive(Debug, PartialEq)]
pub(super) struct Ranking<'a> {
    /// The country.
    pub(super) country: &'a CountryScope,
    /// Skill and postings of the country that name it.
    pub(super) rows: Vec<(&'a str, u64)>,
}

/// A ranking for each country that may be compared; none where there is only one country.
pub(super) fn rankings(document: &ReportDocument) -> Vec<Ranking<'_>> {
    if !compares(&document.scope) {
        return Vec::new();
    }
    compared(&document.scope).into_iter().map(|country| ranking(document, country)).collect()
}

/// The ranking of a country of any size.
pub(super) fn ranking<'a>(document: &'a ReportDocument, country: &'a CountryScope) -> Ranking<'a> {
    let counted = document.skills.iter().map(|skill| (skill.label.as_str(), count_in(skill, &country.code)));
    let mut rows: Vec<(&str, u64)> = counted.filter(|(_, count)| *count > 0).collect();
    rows.sort_by(|left, right| right.1.cmp(&left.1).then_with(|| left.0.cmp(right.0)));
    Ranking { country, rows }
}

/// Postings of a country that name a skill.
pub(super) fn count_in(skill: &super::document::SkillRow, country: &str) -> u64 {
    skill.countries.iter().find(|found| found.country == country).map_or(0, |found| found.job_count)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reporter::sample;

    /// Worked out apart, in Python, from the formula of the paper.
    #[test]
    fn intervals_are_wilsons() {
        let check = |part, whole, low: f64, high: f64| {
            let (found_low, found_high) = interval(part, whole).unwrap();
            assert!(
                (found_low - low).abs() < 0.005 && (found_high - high).abs() < 0.005,
                "{part} of {whole}: {found_low} {found_high}"
            );
        };
        check(50, 100, 40.38, 59.62);
        check(0, 28, 0.0, 12.06);
        check(3, 28, 3.71, 27.20);
        check(657, 3109, 19.73, 22.60);
        check(28, 28, 87.94, 100.0);
        assert_eq!(interval(0, 0), None);
    }

    #[test]
    fn a_hundred_postings_bound_the_error_to_ten_points() {
        let reach = |whole| interval(whole / 2, whole).map(|(low, high)| (high - low) / 2.0).unwrap();
        assert!(reach(MIN_GROUP) < 10.0 && reach(MIN_GROUP - 20) > 10.0);
    }

    #[test]
    fn countries_below_the_bound_are_left_out() {
        let mut document = sample::full();
        let sizes = |document: &mut ReportDocument, sizes: [u64; 3]| {
            for (country, size) in document.scope.countries.iter_mut().zip(sizes) {
                country.postings = size;
            }
        };
        let codes =
            |countries: Vec<&CountryScope>| countries.iter().map(|c| c.code.clone()).collect::<Vec<_>>();
        sizes(&mut document, [2_000, 100, 99]);
        assert_eq!(codes(compared(&document.scope)), ["CO", "MX"]);
        assert_eq!(codes(left_out(&document.scope)), ["AR"]);
        assert_eq!(rankings(&document).len(), 2);
        sizes(&mut document, [99, 28, 0]);
        assert_eq!((compares(&document.scope), rankings(&document).len()), (false, 0));
        assert_eq!(codes(left_out(&document.scope)), ["CO", "MX"]);
        document.scope.countries.truncate(1);
        document.scope.countries[0].postings = 2_000;
        assert!(!compares(&document.scope), "there is nothing to compare one country with");
    }
}
