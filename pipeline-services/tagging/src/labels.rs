//! What a word can be: outside of skills, or the beginning or inside of one of a kind and place.
//!
//! Labels are small numbers, so that rows of scores are arrays: 0 is outside, odd ones begin a
//! skill, the even one after it continues the same.

/// Kinds of skills, those of the guide by which the training advertisements were marked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Named software, technology, product or machine.
    Tool,
    /// Field, method, norm or technique.
    Knowledge,
    /// Something one does or can do on the job.
    Ability,
    /// A language people speak.
    Language,
    /// Licence, registration or certification.
    Licence,
    /// Attitude or transversal skill.
    Soft,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 6] =
        [Self::Tool, Self::Knowledge, Self::Ability, Self::Language, Self::Licence, Self::Soft];

    /// Name in files and answers.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tool => "tool",
            Self::Knowledge => "knowledge",
            Self::Ability => "ability",
            Self::Language => "language",
            Self::Licence => "licence",
            Self::Soft => "soft",
        }
    }

    /// The kind of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// Where an advertisement names a skill.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Place {
    /// Asked of the candidate.
    Required,
    /// A duty of the job.
    Duty,
}

/// Label of a word.
pub(crate) type Label = usize;

/// Combinations of kind and place.
pub(crate) const CLASSES: usize = 2 * Kind::ALL.len();

/// Number of labels.
pub(crate) const LABELS: usize = 1 + 2 * CLASSES;

/// Outside of every skill.
pub(crate) const OUTSIDE: Label = 0;

/// The combination of a kind and a place.
pub(crate) const fn class(kind: Kind, place: Place) -> usize {
    kind as usize * 2 + place as usize
}

/// Kind and place of a combination.
pub(crate) const fn meaning(class: usize) -> (Kind, Place) {
    (Kind::ALL[class / 2], if class.is_multiple_of(2) { Place::Required } else { Place::Duty })
}

/// Label of the first word of a skill.
pub(crate) const fn begin(class: usize) -> Label {
    1 + 2 * class
}

/// Label of every further word of a skill.
pub(crate) const fn inside(class: usize) -> Label {
    2 + 2 * class
}

/// Returns whether `next` may follow `previous`: a skill goes on only with its own label.
pub(crate) const fn may_follow(previous: Label, next: Label) -> bool {
    let begins = next % 2 == 1;
    next == OUTSIDE || begins || previous == next || previous + 1 == next
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_skill_goes_on_only_as_itself() {
        let tool = class(Kind::Tool, Place::Required);
        let duty = class(Kind::Ability, Place::Duty);
        assert_eq!(meaning(duty), (Kind::Ability, Place::Duty));
        for (previous, next, allowed) in [
            (OUTSIDE, OUTSIDE, true),
            (OUTSIDE, begin(duty), true),
            (OUTSIDE, inside(tool), false),
            (begin(tool), inside(tool), true),
            (inside(tool), inside(tool), true),
            (inside(tool), begin(tool), true),
            (begin(tool), inside(duty), false),
            (inside(tool), inside(duty), false),
        ] {
            assert_eq!(may_follow(previous, next), allowed, "{previous} {next}");
        }
    }
}
