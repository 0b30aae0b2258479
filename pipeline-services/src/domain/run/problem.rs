//! What a run's reader should know: why it failed, is partial, or did less than was asked.
//!
//! The column `run.problems` and `run.json` hold sentences. A sentence begins with its stage, which
//! is read here and nowhere else.

use std::fmt;

use super::StageName;

/// Something a run's reader should know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    stage: Option<StageName>,
    skipped: bool,
    text: String,
}

/// Words between the name of a skipped stage and the reason.
const SKIPPED: &str = " was skipped: ";

impl Problem {
    /// A problem of `stage`.
    pub(crate) fn of(stage: StageName, text: impl Into<String>) -> Self {
        Self { stage: Some(stage), skipped: false, text: text.into() }
    }

    /// A problem of no stage in particular.
    pub(crate) fn general(text: impl Into<String>) -> Self {
        Self { stage: None, skipped: false, text: text.into() }
    }

    /// The reason for which `stage` had nothing to work on.
    pub(crate) fn skipped(stage: StageName, reason: impl Into<String>) -> Self {
        Self { stage: Some(stage), skipped: true, text: reason.into() }
    }

    /// Reads a sentence of a run.
    pub(crate) fn read(sentence: &str) -> Self {
        for stage in StageName::ALL {
            let Some(rest) = sentence.strip_prefix(stage.name()) else { continue };
            // The name alone proves nothing: "extracting goes on" begins with one.
            if let Some(text) = rest.strip_prefix(": ") {
                return Self::of(stage, text);
            }
            if let Some(reason) = rest.strip_prefix(SKIPPED) {
                return Self::skipped(stage, reason);
            }
        }
        Self::general(sentence)
    }

    /// The sentences of a run that are problems of none of these stages.
    pub(crate) fn without(sentences: Vec<String>, stages: &[StageName]) -> Vec<String> {
        sentences
            .into_iter()
            .filter(|sentence| Self::read(sentence).stage.is_none_or(|stage| !stages.contains(&stage)))
            .collect()
    }

    /// The stage that has it.
    pub(crate) fn stage(&self) -> Option<StageName> {
        self.stage
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.stage {
            Some(stage) if self.skipped => write!(formatter, "{stage}{SKIPPED}{}", self.text),
            Some(stage) => write!(formatter, "{stage}: {}", self.text),
            None => formatter.write_str(&self.text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sentences_are_read_as_they_were_written() {
        let check = |problem: Problem, sentence: &str| {
            assert_eq!(problem.to_string(), sentence);
            assert_eq!(Problem::read(sentence), problem, "{sentence}");
        };
        check(Problem::of(StageName::Extract, "worker lost"), "extract: worker lost");
        check(Problem::skipped(StageName::Embed, "no skills"), "embed was skipped: no skills");
        check(Problem::general("extracting goes on: slowly"), "extracting goes on: slowly");
        check(Problem::general("other: thing"), "other: thing");
    }

    #[test]
    fn a_stage_loses_its_own_sentences_alone() {
        let told = ["extract: worker lost", "extracting goes on", "extract was skipped: none", "embed: away"];
        let kept = Problem::without(told.map(str::to_owned).to_vec(), &[StageName::Extract]);
        assert_eq!(kept, ["extracting goes on", "embed: away"]);
    }
}
