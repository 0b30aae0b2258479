//! How well skills are found, as the reports say it: the figures of `docs/ACCURACY.md`, in one
//! place.

/// A measurement on advertisements that were marked by hand.
#[derive(Debug, Clone, Copy)]
pub(super) struct Accuracy {
    /// Advertisements.
    pub(super) advertisements: u64,
    /// Day of the measurement.
    pub(super) measured: (i32, u32, u32),
    /// Share of what was found that is marked, by mentions that overlap.
    pub(super) precision: f64,
    /// Share of what is marked that was found.
    pub(super) recall: f64,
    /// Their harmonic mean.
    pub(super) f1: f64,
    /// Of the skills found, those that carry the right link to the taxonomy.
    pub(super) links_right: f64,
    /// Those that carry a wrong one; the rest carry none though there is one.
    pub(super) links_wrong: f64,
}

/// The development set of advertisements of every trade.
pub(super) const DEVELOPMENT: Accuracy = Accuracy {
    advertisements: 120,
    measured: (2026, 12, 1),
    precision: 0.740,
    recall: 0.803,
    f1: 0.770,
    links_right: 0.863,
    links_wrong: 0.051,
};

#[cfg(test)]
mod tests {
    use super::*;

    /// A new measurement changes both, or this fails.
    #[test]
    fn the_reports_say_what_the_document_says() {
        let document = include_str!("../../../docs/ACCURACY.md");
        let Accuracy { advertisements, measured, precision, recall, f1, links_right, links_wrong } =
            DEVELOPMENT;
        let plain = |value: f64| format!("{value:.3}").trim_start_matches('0').to_owned();
        let row =
            format!("overlap a mark by half | {} | {} | {} |", plain(precision), plain(recall), plain(f1));
        assert!(document.contains(&row), "{row}");
        let text = document.split_whitespace().collect::<Vec<_>>().join(" ");
        for words in [
            format!("Skills in {advertisements} real advertisements of every trade"),
            format!("the link is right in {}, missing in", plain(links_right)),
            format!("and wrong in {}", plain(links_wrong)),
            format!("measured {:04}-{:02}-{:02}", measured.0, measured.1, measured.2),
            "`pipeline-services/src/reporter/accuracy.rs`".to_owned(),
        ] {
            assert!(text.contains(&words), "{words}");
        }
    }
}
