//! Why a stage did not do all its work, in the language of the page.
//!
//! Stages record English text; here it is recognised by the English entries of the word table and
//! said again in the page's language. What is not recognised is never passed off as translated.

use std::sync::LazyLock;

use regex::{Captures, Regex};

use super::{Language, TABLES, Words, fill};

/// Keys of the reasons that have words of their own; the English text is what the stages record.
const PREFIX: &str = "reason.";

/// Key and pattern of each reason; places of values are groups.
static REASONS: LazyLock<Vec<(String, Regex)>> = LazyLock::new(|| {
    let table = TABLES.get(Language::En.tag()).into_iter().flatten();
    let known = table.filter(|(key, _)| key.starts_with(PREFIX));
    known.filter_map(|(key, text)| Some((key.clone(), pattern(text)?))).collect()
});

/// The pattern that a text with `{name}` places makes.
fn pattern(text: &str) -> Option<Regex> {
    let mut pattern = String::from("^");
    let mut rest = text;
    while let Some((before, (name, after))) =
        rest.split_once('{').and_then(|(b, a)| Some((b, a.split_once('}')?)))
    {
        pattern.push_str(&regex::escape(before));
        pattern.push_str(&format!("(?P<{name}>.+?)"));
        rest = after;
    }
    pattern.push_str(&regex::escape(rest));
    pattern.push('$');
    Regex::new(&pattern).ok()
}

impl Words {
    /// Record of a run about `stage` as a sentence of these words' language. A reason without
    /// words of its own is quoted on an English page; on another one the reader learns where it
    /// stands.
    pub(crate) fn reason(&self, stage: &str, raw: &str) -> String {
        let bare = [format!("{stage} was skipped: "), format!("{stage}: ")];
        let text = bare.iter().find_map(|start| raw.strip_prefix(start.as_str())).unwrap_or(raw);
        let (text, times) = without_times(text);
        let sentence = match self.phrase(text) {
            Some(told) => told,
            None if self.language == Language::En => text.to_owned(),
            None => return self.get("reason_elsewhere").to_owned(),
        };
        match times {
            Some(times) => self.fill("reason_times", &[("reason", &sentence), ("n", times)]),
            None => self.fill("reason_once", &[("reason", &sentence)]),
        }
    }

    /// A phrase that the program records in English, in these words' language; none if it has no
    /// words of its own.
    pub(crate) fn phrase(&self, text: &str) -> Option<String> {
        REASONS.iter().find_map(|(key, pattern)| Some(self.told(key, &pattern.captures(text)?)))
    }

    fn told(&self, key: &str, found: &Captures<'_>) -> String {
        fill(self.get(key), |name| found.name(name).map(|part| part.as_str().to_owned()))
    }
}

/// A reason and how many tasks it befell, where the run counted them: "x (3 times)".
fn without_times(text: &str) -> (&str, Option<&str>) {
    let counted = text.strip_suffix(" times)").and_then(|text| text.rsplit_once(" ("));
    match counted {
        Some((reason, n)) if n.bytes().all(|byte| byte.is_ascii_digit()) => (reason, Some(n)),
        _ => (text, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stages_record_is_told_in_the_language_of_the_page() {
        let check = |language, stage, raw: &str, expected: &str| {
            assert_eq!(Words::of(language).reason(stage, raw), expected);
        };
        let skipped = "embed was skipped: there are no skills to embed";
        check(Language::Es, "embed", skipped, "Motivo: no hay habilidades que convertir en vectores.");
        check(Language::En, "embed", skipped, "Reason: there are no skills to embed.");
        let slow = "extract: no progress within 120 s (10 times)";
        check(Language::Es, "extract", slow, "Motivo: un lote no avanzó durante 120 s (10 veces).");
        let failed = "analyze: the clustering failed: 5 partitions were tried, and in each one cluster holds more than \
             40 % of the 296 skills (the largest holds 87 %, 60 %)";
        let told = "Motivo: se probaron 5 particiones y en cada una un solo grupo reúne más del 40 % de las 296 habilidades.";
        check(Language::Es, "analyze", failed, told);
        let away =
            "embed: the inference server has no embedding model; get one with `observatory models pull NAME`";
        check(
            Language::Es,
            "embed",
            away,
            "Motivo: el servidor de inferencia no tiene ningún modelo de vectores.",
        );
        check(
            Language::En,
            "embed",
            "embed: inference server: connection refused",
            "Reason: inference server: connection refused.",
        );
        let parked =
            "scrape: bumeran/AR: parked: www.bumeran.com.ar asks to come back in 3600 s; waited 3610 s";
        let told = "Motivo: bumeran/AR: el portal pide que se vuelva más tarde.";
        check(Language::Es, "scrape", parked, told);
        let empty =
            "scrape: elempleo/CO: exhausted: https://x.example answered with image/png, not with a page";
        check(Language::Es, "scrape", empty, "Motivo: elempleo/CO: la visita no recogió nada.");
        check(Language::En, "extract", "extract: a new reason (2 times)", "Reason: a new reason (2 times).");
        check(
            Language::Es,
            "extract",
            "extract: a new reason",
            "El motivo está, en inglés, en el archivo run.json.",
        );
    }

    /// The places where stages say why they were skipped; a new one needs its words here.
    #[test]
    fn every_reason_to_skip_a_stage_has_words() {
        let sources = [
            include_str!("../../analyzer.rs"),
            include_str!("../../embedder.rs"),
            include_str!("../../enhancer/stage.rs"),
            include_str!("../../extractor/stage.rs"),
            include_str!("../../scraper/stage.rs"),
        ];
        let reason = Regex::new(r#"(?s)skipped(?:: | =\s+)[^"]*?"([^"]+)"\.to_owned"#).unwrap();
        let mut seen = 0;
        for source in sources {
            for found in reason.captures_iter(source) {
                let raw = format!("x was skipped: {}", &found[1]);
                assert_ne!(
                    Words::of(Language::Es).reason("x", &raw),
                    Words::of(Language::Es).get("reason_elsewhere"),
                    "{raw}"
                );
                seen += 1;
            }
        }
        assert_eq!(seen, 5, "reasons found in the stages");
    }
}
