//! The states of runs, stages and tasks, and the kinds of messages, as closed lists.
//!
//! SQL and the wire hold them as texts; a text is read where its row or message comes in, and one
//! that is not on the list is an error that names the table and the column.

use std::{fmt, str::FromStr};

use serde::Serialize;

/// A text of a row that is none of those its column may hold.
#[derive(Debug, thiserror::Error)]
#[error("invalid {column} `{text}`: expected {expected}")]
pub struct UnknownText {
    column: &'static str,
    text: String,
    expected: String,
}

impl UnknownText {
    /// An unknown text of `column`, which is written with its table.
    pub(super) fn new(column: &'static str, text: &str, expected: &[&str]) -> Self {
        Self { column, text: text.to_owned(), expected: expected.join(", ") }
    }
}

/// A closed list of texts that a column holds.
macro_rules! column_texts {
    ($(#[$about:meta])* $vis:vis $name:ident of $column:literal { $($(#[$of:meta])* $variant:ident = $text:literal,)+ }) => {
        $(#[$about])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
        $vis enum $name {
            $($(#[$of])* #[serde(rename = $text)] $variant,)+
        }

        impl $name {
            /// Every one, in order.
            const ALL: &[Self] = &[$(Self::$variant,)+];

            /// The text in the database, in `run.json` and on the command line.
            $vis const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $text,)+
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.pad(self.name())
            }
        }

        impl FromStr for $name {
            type Err = UnknownText;

            fn from_str(text: &str) -> Result<Self, UnknownText> {
                let known = Self::ALL.iter().find(|known| known.name() == text);
                known.copied().ok_or_else(|| UnknownText::new($column, text, &[$($text,)+]))
            }
        }
    };
}

column_texts! {
    /// State of a run.
    pub RunState of "run.state" {
        /// It goes on.
        Running = "running",
        /// Every stage did all of its work.
        Succeeded = "succeeded",
        /// Some of the work was done.
        Partial = "partial",
        /// No stage did any work.
        Failed = "failed",
        /// Somebody ended it.
        Cancelled = "cancelled",
    }
}

column_texts! {
    /// State of a stage of a run.
    pub StageState of "run_stage.state" {
        /// The stage before it is not over, or it is to be planned.
        Waiting = "waiting",
        /// It is planned or at work.
        Running = "running",
        /// It is over, and did some of its work or had none.
        Done = "done",
        /// It had nothing to work on.
        Skipped = "skipped",
        /// It is over and did none of its work.
        Failed = "failed",
    }
}

column_texts! {
    /// State of a task.
    pub(crate) TaskState of "task.state" {
        /// A worker may claim it.
        Ready = "ready",
        /// A worker holds it.
        Running = "running",
        /// It is done.
        Done = "done",
        /// It was given up.
        Failed = "failed",
        /// Its run was cancelled.
        Cancelled = "cancelled",
    }
}

column_texts! {
    /// Kind of work that a task asks of its module.
    pub MessageKind of "task.message_type" {
        /// To make the stage's tasks of a run.
        Plan = "plan",
        /// To work on a subject.
        Process = "process",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_read_and_unknown_ones_named() {
        for state in TaskState::ALL {
            assert_eq!(state.name().parse::<TaskState>().unwrap(), *state);
            assert_eq!(serde_json::to_value(state).unwrap(), state.name());
        }
        let check = |error: UnknownText, expected: &str| assert_eq!(error.to_string(), expected);
        check(
            "paused".parse::<StageState>().unwrap_err(),
            "invalid run_stage.state `paused`: expected waiting, running, done, skipped, failed",
        );
        check(
            "Plan".parse::<MessageKind>().unwrap_err(),
            "invalid task.message_type `Plan`: expected plan, process",
        );
    }
}
