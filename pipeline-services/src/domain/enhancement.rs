//! How the enhanced skills of a posting came about: who answered, and what was not taken.
//!
//! Stored with the posting's stage, summed over a run for its facts. Names are those of the
//! database: rows outlive releases.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Who may answer for a posting, in the order in which they are asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answerer {
    /// A language model of the inference server.
    ServedModel,
    /// An OpenAI-compatible endpoint.
    Endpoint,
    /// Lexicon and taxonomy.
    #[default]
    Rules,
}

impl Answerer {
    /// Every one, in the order in which they are asked.
    pub(crate) const ALL: [Self; 3] = [Self::ServedModel, Self::Endpoint, Self::Rules];

    /// Name in rows, facts and metrics.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::ServedModel => "served_model",
            Self::Endpoint => "endpoint",
            Self::Rules => "rules",
        }
    }
}

/// Why something was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rejection {
    /// A mention whose text does not stand at its span.
    SpanMoved,
    /// A mention in a passage that speaks to a language model.
    InInstruction,
    /// An entry about a mention that does not exist.
    UnknownMention,
    /// An entry that does not repeat the text of its mention.
    CitationDiffers,
    /// A name that is none, or that the mention does not support.
    LabelUnsupported,
    /// A fold of two mentions that name different skills.
    FoldUnsupported,
    /// A confidence outside 0 to 1, or too low for an inference.
    Confidence,
    /// An inference without a quotation of at least one word.
    QuoteMissing,
    /// An inference whose quotation does not stand in the advertisement.
    QuoteNotFound,
    /// An inference from a passage that speaks to a language model.
    QuoteInInstruction,
    /// An inference of a skill that the advertisement names, so that it implies nothing.
    NamedInText,
    /// An inference without a reason, or with one that is too long.
    Reason,
    /// An inference of something that neither lexicon nor taxonomy know.
    UnknownSkill,
    /// An inference beyond the number that is taken.
    TooMany,
    /// An inference that a person rejected.
    Reviewed,
}

impl Rejection {
    /// Every reason.
    pub(crate) const ALL: [Self; 15] = [
        Self::SpanMoved,
        Self::InInstruction,
        Self::UnknownMention,
        Self::CitationDiffers,
        Self::LabelUnsupported,
        Self::FoldUnsupported,
        Self::Confidence,
        Self::QuoteMissing,
        Self::QuoteNotFound,
        Self::QuoteInInstruction,
        Self::NamedInText,
        Self::Reason,
        Self::UnknownSkill,
        Self::TooMany,
        Self::Reviewed,
    ];

    /// Name in rows, facts and metrics.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::SpanMoved => "span_moved",
            Self::InInstruction => "in_instruction",
            Self::UnknownMention => "unknown_mention",
            Self::CitationDiffers => "citation_differs",
            Self::LabelUnsupported => "label_unsupported",
            Self::FoldUnsupported => "fold_unsupported",
            Self::Confidence => "confidence",
            Self::QuoteMissing => "quote_missing",
            Self::QuoteNotFound => "quote_not_found",
            Self::QuoteInInstruction => "quote_in_instruction",
            Self::NamedInText => "named_in_text",
            Self::Reason => "reason",
            Self::UnknownSkill => "unknown_skill",
            Self::TooMany => "too_many",
            Self::Reviewed => "reviewed",
        }
    }
}

/// Rejections by reason.
pub(crate) type Rejected = BTreeMap<Rejection, u64>;

/// A model that was asked in vain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PassedOver {
    /// Which one.
    pub answerer: Answerer,
    /// Its model.
    pub model: String,
    /// Its answer, or the error, in one sentence.
    pub why: String,
}

/// How the enhanced skills of a posting came about.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Enhancement {
    /// Who answered.
    pub answered_by: Answerer,
    /// The model that answered, if it was one.
    pub model: Option<String>,
    /// Those before it, in order.
    pub passed_over: Vec<PassedOver>,
    /// What was not taken.
    pub rejected: Rejected,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_rows() {
        for answerer in Answerer::ALL {
            assert_eq!(serde_json::to_value(answerer).unwrap(), answerer.name());
        }
        for rejection in Rejection::ALL {
            assert_eq!(serde_json::to_value(rejection).unwrap(), rejection.name());
        }
        let enhancement =
            Enhancement { rejected: Rejected::from([(Rejection::TooMany, 2)]), ..Enhancement::default() };
        let row = serde_json::to_value(&enhancement).unwrap();
        assert_eq!(row["rejected"]["too_many"], 2);
        assert_eq!(serde_json::from_value::<Enhancement>(row).unwrap(), enhancement);
        assert_eq!(
            serde_json::from_value::<Enhancement>(serde_json::json!({})).unwrap(),
            Enhancement::default()
        );
    }
}
