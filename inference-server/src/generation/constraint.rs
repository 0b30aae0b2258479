//! Constrained generation: which tokens may come next, and how to reach a valid end in time.
//!
//! A [`GrammarCompiler`] compiles constraints for one model; each sequence has a [`Matcher`]. Masks
//! come from the grammar library (llguidance). On top of it, a matcher keeps a valid end within
//! reach of the token limit ([`completion`]), and bounds the work that a constraint may cause
//! ([`work_meter`]).

use std::fmt;
use std::sync::Arc;

use anyhow::{Result, ensure};
use llguidance::earley::SlicedBiasComputer;
use llguidance::{Matcher as Parser, ParserFactory};
use tokenizers::Tokenizer;
use toktrie::{InferenceCapabilities, TokEnv};

mod completion;
mod definition;
mod error;
mod grammar;
mod matcher;
mod regex;
mod schema;
mod token_trie;
mod work_meter;

use completion::ClosingTokens;
pub use definition::Constraint;
pub(crate) use definition::MAX_BYTES;
pub(crate) use error::ConstraintError;
use error::one_line;
pub(crate) use matcher::Matcher;

/// Maximum number of lexer states of one constraint, of one or two kilobytes each: up to 80 MB. Not
/// tuned; llguidance by itself would allow 250,000.
const MAX_LEXER_STATES: usize = 40_000;

/// Compiler of the constraints of one model.
pub(crate) struct GrammarCompiler {
    factory: ParserFactory,
    closing: Arc<ClosingTokens>,
}

impl fmt::Debug for GrammarCompiler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GrammarCompiler").field("closing", &self.closing).finish_non_exhaustive()
    }
}

impl GrammarCompiler {
    /// Builds the token trie. `logits` is the length of the model's rows of logits, of which those
    /// without a token are never allowed; `eos_ids` are its end-of-sequence tokens. Takes about a
    /// second for 150,000 tokens.
    ///
    /// # Errors
    /// If tokens have no bytes of their own, there are more tokens than logits, or `eos_ids` is
    /// empty.
    pub(crate) fn new(tokenizer: &Arc<Tokenizer>, logits: usize, eos_ids: &[u32]) -> Result<Self> {
        let tokens: TokEnv = Arc::new(token_trie::TokenTrie::new(tokenizer, logits, eos_ids)?);
        // Precomputed masks of frequent token sets, such as those of a JSON string: most masks are
        // put together from them.
        let slices = SlicedBiasComputer::general_slices();
        let mut factory = ParserFactory::new(&tokens, InferenceCapabilities::default(), &slices)?;
        factory.quiet();
        factory.limits_mut().verbose_errors = false;
        factory.limits_mut().max_lexer_states = MAX_LEXER_STATES;
        ensure!(factory.limits().max_grammar_size > 0, "the grammar library allows no grammar");
        let closing = Arc::new(ClosingTokens::new(tokens.tok_trie()));
        Ok(Self { factory, closing })
    }

    /// Compiles a constraint and returns the matcher of one text. Takes milliseconds.
    ///
    /// # Errors
    /// [`ConstraintError::Invalid`].
    pub(crate) fn compile(&self, constraint: &Constraint) -> Result<Matcher, ConstraintError> {
        let grammar = grammar::grammar(constraint).map_err(|error| invalid(constraint, error))?;
        // Cancellable, as only the watchdog can end an operation that has begun.
        let parser = Parser::new(self.factory.create_parser(grammar)).into_cancellable();
        match parser.get_error() {
            Some(error) => Err(invalid(constraint, error)),
            None => Ok(Matcher::new(parser, Arc::clone(&self.closing))),
        }
    }
}

fn invalid(constraint: &Constraint, message: impl fmt::Display) -> ConstraintError {
    ConstraintError::Invalid { kind: constraint.to_string(), message: one_line(&message.to_string()) }
}

#[cfg(test)]
mod tests;
