//! Texts of a prescribed form: which tokens may come next, and how to reach a valid end in time.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use llguidance::earley::SlicedBiasComputer;
use llguidance::{Cancelled, Matcher as Parser, ParserFactory};
use tokenizers::Tokenizer;
use toktrie::{InferenceCapabilities, TokEnv};

mod ending;
mod grammar;
mod schema;
mod vocabulary;
mod watch;

use super::sampler::{Sampled, Sampler};
use ending::Hints;
use watch::Watch;

/// Most bytes of a constraint.
pub(crate) const MAX_BYTES: usize = 256 * 1024;
/// Most characters of what is wrong with a constraint.
const MAX_MESSAGE: usize = 300;
const TOO_MUCH: &str = "it takes too much work to follow";
/// Tokens before the limit from which on the end is kept in reach, or more where the shortest text
/// is long.
const HORIZON: usize = 256;
/// Tokens that are refused at one place before only the known ending is left.
const REFUSALS: usize = 4;
/// States of one constraint's lexer, of one or two kilobytes each.
const MOST_STATES: usize = 40_000;

/// The form that a text must have.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Constraint {
    /// JSON that is valid under this schema, written without line breaks.
    JsonSchema(String),
    /// A match of the whole text, without look-around; the syntax is that of Rust's `regex`.
    Regex(String),
    /// llguidance's variant of a Lark grammar.
    Lark(String),
    /// One of these texts.
    Choices(Vec<String>),
}

impl fmt::Display for Constraint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::JsonSchema(_) => "JSON schema",
            Self::Regex(_) => "regular expression",
            Self::Lark(_) => "grammar",
            Self::Choices(_) => "choices",
        })
    }
}

/// What is wrong with a constraint; messages are one line of at most 300 characters.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConstraintError {
    /// It is wrong in itself, or says what is not supported.
    #[error("the {kind} cannot be used: {message}")]
    Invalid {
        /// Which kind of constraint.
        kind: String,
        /// What is wrong.
        message: String,
    },
    /// It took too much work while the text was generated, or the text left it.
    #[error("the constraint failed: {0}")]
    Failed(String),
}

/// Where a text is after a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// The token is part of the text.
    Taken,
    /// It is, and the text is complete: nothing can follow.
    Stopped,
    /// It is not, for no way was found to end in time after it: sample again under the new mask.
    Refused,
}

/// What all constraints of a model share: its vocabulary as bytes.
pub(crate) struct Grammars {
    factory: ParserFactory,
    hints: Arc<Hints>,
}

impl fmt::Debug for Grammars {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Grammars").field("hints", &self.hints).finish_non_exhaustive()
    }
}

impl Grammars {
    /// Reads the vocabulary; `logits` is the number that the model gives, of which those without a
    /// token are never allowed. `eos` are the tokens that end a text. Takes about a second for
    /// 150,000 tokens.
    ///
    /// # Errors
    /// If the tokens have no bytes of their own, are more than the logits, or none ends a text.
    pub(crate) fn new(tokenizer: &Arc<Tokenizer>, logits: usize, eos: &[u32]) -> Result<Self> {
        let tokens: TokEnv = Arc::new(vocabulary::Vocabulary::new(tokenizer, logits, eos)?);
        let slices = SlicedBiasComputer::general_slices();
        let mut factory = ParserFactory::new(&tokens, InferenceCapabilities::default(), &slices)?;
        factory.quiet();
        factory.limits_mut().verbose_errors = false;
        factory.limits_mut().max_lexer_states = MOST_STATES;
        ensure!(factory.limits().max_grammar_size > 0, "the grammar library allows no grammar");
        let hints = Arc::new(Hints::new(tokens.tok_trie()));
        Ok(Self { factory, hints })
    }

    /// Begins a text of this form. Takes milliseconds.
    ///
    /// # Errors
    /// [`ConstraintError::Invalid`].
    pub(crate) fn start(&self, constraint: &Constraint) -> Result<Matcher, ConstraintError> {
        let invalid = |message: &dyn fmt::Display| ConstraintError::Invalid {
            kind: constraint.to_string(),
            message: one_line(&message.to_string()),
        };
        let grammar = grammar::grammar(constraint).map_err(|error| invalid(&error))?;
        let parser = Parser::new(self.factory.create_parser(grammar)).into_cancellable();
        match parser.get_error() {
            Some(error) => Err(invalid(&error)),
            None => Ok(Matcher::new(parser, Arc::clone(&self.hints))),
        }
    }
}

/// The first lines up to where the library dumps its state, as one.
fn one_line(message: &str) -> String {
    let end = ["<non-verbose/>", "<state>", "<backtrace>"].iter().filter_map(|mark| message.find(mark)).min();
    let words: Vec<&str> = message[..end.unwrap_or(message.len())].split_whitespace().collect();
    let line = words.join(" ");
    match line.char_indices().nth(MAX_MESSAGE - 1) {
        Some((place, _)) if place + line[place..].chars().next().map_or(0, char::len_utf8) < line.len() => {
            format!("{}…", &line[..place])
        }
        _ => line,
    }
}

/// Whether the end is in reach.
#[derive(Debug)]
enum Steering {
    /// It is not looked for yet.
    Off,
    /// These tokens lead to a complete text.
    On(Vec<u32>),
    /// None was found; the search is taken up again where so many tokens are left.
    Lost(usize),
}

/// One text under a constraint.
///
/// `left` is always how many tokens may still come, the next one included. From some hundred tokens
/// before the limit on, a token is refused where no end within the limit is found after it; so the
/// text is complete when the limit is reached, unless [`Matcher::is_steered`] says that no end was
/// found.
pub struct Matcher {
    parser: Parser,
    hints: Arc<Hints>,
    mask: Option<Vec<u32>>,
    refusals: usize,
    steering: Steering,
    horizon: Option<usize>,
    watch: Arc<Watch>,
    /// Tokens that the text begins with, and whether it is complete with each.
    begun: Vec<(u32, bool)>,
}

impl fmt::Debug for Matcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Matcher").field("steering", &self.steering).finish_non_exhaustive()
    }
}

impl Matcher {
    fn new(parser: Parser, hints: Arc<Hints>) -> Self {
        Self {
            parser,
            hints,
            mask: None,
            refusals: 0,
            steering: Steering::Off,
            horizon: None,
            watch: Watch::start(),
            begun: Vec::new(),
        }
    }

    /// Looks for an end in `left` tokens, takes those that the text must begin with, if asked, and
    /// makes the first mask: what no text can keep to, or what takes too much work from the start,
    /// is known before anything is computed.
    ///
    /// # Errors
    /// [`ConstraintError::Failed`].
    pub fn begin(&mut self, left: usize, takes_forced: bool) -> Result<(), ConstraintError> {
        self.steer(left);
        let mut room = left;
        if takes_forced {
            self.begun = self.take_forced(&mut room)?;
            let accepting = room == 0 && self.is_accepting();
            if let Some((_, complete)) = self.begun.last_mut() {
                *complete |= accepting;
            }
        }
        if room > 0 && !self.parser.is_stopped() {
            self.mask(room)?;
        }
        self.check()
    }

    /// The tokens that [`Matcher::begin`] took.
    pub fn begun(&mut self) -> Vec<(u32, bool)> {
        std::mem::take(&mut self.begun)
    }

    /// Takes the tokens that must come next, at most `room`, and whether the text is complete with
    /// each.
    ///
    /// # Errors
    /// [`ConstraintError::Failed`].
    pub fn take_forced(&mut self, room: &mut usize) -> Result<Vec<(u32, bool)>, ConstraintError> {
        let mut taken = Vec::new();
        while *room > 0 && !self.parser.is_stopped() {
            let forced = self.forced();
            self.check()?;
            if forced.is_empty() {
                break;
            }
            for id in forced.into_iter().take(*room) {
                match self.accept(id, *room)? {
                    // No end was in reach behind it: another token of the same text may do.
                    Progress::Refused => return Ok(taken),
                    progress => taken.push((id, progress == Progress::Stopped)),
                }
                *room -= 1;
            }
        }
        Ok(taken)
    }

    /// Processor time that the text has taken.
    pub fn spent(&self) -> Duration {
        self.watch.spent()
    }

    /// Whether the text may cause more work.
    fn check(&self) -> Result<(), ConstraintError> {
        if self.watch.is_spent() { Err(ConstraintError::Failed(TOO_MUCH.to_owned())) } else { Ok(()) }
    }

    /// An ending in at most `room` tokens.
    fn ending(&self, parser: &Parser, old: &[u32], room: usize) -> Option<Vec<u32>> {
        ending::find(parser, (&self.hints, &self.watch), old, room)
    }

    /// The tokens that may come next: a bit for each logit of the model, the lowest of a word
    /// first.
    ///
    /// # Errors
    /// [`ConstraintError::Failed`] where it takes too much work, or no token of the vocabulary can
    /// go on.
    pub fn mask(&mut self, left: usize) -> Result<&[u32], ConstraintError> {
        self.steer(left);
        self.check()?;
        let words = self.hints.logits.div_ceil(32);
        let mask = match (self.only(left), self.mask.take()) {
            (Some(id), _) => {
                let mut mask = vec![0; words];
                mask[id as usize / 32] |= 1 << (id % 32);
                mask
            }
            (None, Some(mask)) => mask,
            (None, None) => {
                let mask = self.watch.run(&mut self.parser, Parser::compute_mask_or_eos);
                let mut mask = Vec::from(mask.map_err(failed)?);
                mask.truncate(words);
                mask
            }
        };
        Ok(self.mask.insert(mask))
    }

    /// Whether the mask has this token, without making one.
    ///
    /// # Errors
    /// See [`Matcher::mask`].
    fn allows(&mut self, id: u32, left: usize) -> Result<bool, ConstraintError> {
        self.steer(left);
        self.check()?;
        let is_plain = self.hints.is_plain(id);
        match (self.only(left), &self.mask) {
            (Some(only), _) => Ok(id == only),
            (None, None) if is_plain => match self.forced().first() {
                Some(forced) => Ok(id == *forced),
                None => {
                    let valid = self.watch.run(&mut self.parser, |parser| parser.validate_tokens(&[id]));
                    Ok(valid.map_err(failed)? == 1)
                }
            },
            _ => Ok(self.mask(left)?.get(id as usize / 32).is_some_and(|word| word >> (id % 32) & 1 == 1)),
        }
    }

    /// The one token that is left where the end is near.
    fn only(&self, left: usize) -> Option<u32> {
        match &self.steering {
            Steering::On(ending) if ending.len() >= left || self.refusals >= REFUSALS => {
                Some(ending.first().copied().unwrap_or(self.hints.eos))
            }
            _ => None,
        }
    }

    /// Chooses the next token by its logits among those that are allowed, and takes it; whether the
    /// text is complete with it.
    ///
    /// What is likely is mostly allowed, and one token is checked much faster than all of them, so
    /// a mask is made only where the first draw is refused. Whether there was one already makes no
    /// difference.
    ///
    /// # Errors
    /// If no token can be drawn from the logits, or see [`Matcher::mask`].
    pub fn choose(&mut self, sampler: &mut Sampler, logits: &[f32], left: usize) -> Result<(Sampled, bool)> {
        let mut sampled = sampler.sample(logits, None)?;
        let mut allowed = self.allows(sampled.id, left)?;
        let mut refused = 0;
        loop {
            let progress = if allowed { self.accept(sampled.id, left)? } else { Progress::Refused };
            if progress != Progress::Refused {
                return Ok((sampled, progress == Progress::Stopped));
            }
            refused += 1;
            sampled = sampler.sample_again(refused, logits, self.mask(left)?)?;
            allowed = true;
        }
    }

    /// Takes the next token, which must be allowed by the mask.
    ///
    /// # Errors
    /// [`ConstraintError::Failed`] where it is not allowed or takes too much work.
    pub fn accept(&mut self, id: u32, left: usize) -> Result<Progress, ConstraintError> {
        self.steer(left);
        let room = left.saturating_sub(1);
        if let Steering::On(ending) = &mut self.steering
            && !self.hints.ends.contains(&id)
        {
            if ending.first() == Some(&id) {
                ending.remove(0);
            } else if ending.len() > room
                || !ending::leads(&mut self.parser, &[id], ending, (&self.hints, &self.watch))
            {
                let mut next = self.parser.clone();
                self.watch.run(&mut next, |parser| parser.consume_token(id)).map_err(failed)?;
                match ending::find(&next, (&self.hints, &self.watch), ending, room) {
                    Some(other) => {
                        *ending = other;
                        return Ok(self.taken(next));
                    }
                    None => return self.refused(id, left),
                }
            }
        }
        self.watch.run(&mut self.parser, |parser| parser.consume_token(id)).map_err(failed)?;
        self.watch.token();
        self.mask = None;
        self.refusals = 0;
        Ok(self.progress())
    }

    fn taken(&mut self, parser: Parser) -> Progress {
        self.parser = parser;
        self.watch.token();
        self.mask = None;
        self.refusals = 0;
        self.progress()
    }

    /// Takes it out of the mask, which is made for that.
    fn refused(&mut self, id: u32, left: usize) -> Result<Progress, ConstraintError> {
        self.mask(left)?;
        self.refusals += 1;
        if let Some(word) = self.mask.as_mut().and_then(|mask| mask.get_mut(id as usize / 32)) {
            *word &= !(1 << (id % 32));
        }
        Ok(Progress::Refused)
    }

    fn progress(&self) -> Progress {
        if self.parser.is_stopped() { Progress::Stopped } else { Progress::Taken }
    }

    /// Looks for an end where the limit comes near.
    fn steer(&mut self, left: usize) {
        let horizon = match self.horizon {
            Some(horizon) => horizon,
            None => {
                let shortest = self.ending(&self.parser, &[], left);
                let horizon = shortest.as_ref().map_or(HORIZON, |ending| HORIZON.max(2 * ending.len()));
                self.horizon = Some(horizon);
                self.steering = match shortest {
                    Some(ending) if left <= horizon => Steering::On(ending),
                    Some(_) => Steering::Off,
                    None => Steering::Lost(left / 2),
                };
                horizon
            }
        };
        let look = match self.steering {
            Steering::Off => left <= horizon,
            Steering::Lost(again) => left <= again,
            Steering::On(_) => false,
        };
        if look && !self.parser.is_stopped() {
            self.steering = match self.ending(&self.parser, &[], left) {
                Some(ending) => Steering::On(ending),
                None => Steering::Lost(left / 2),
            };
        }
    }

    /// Whether the text could end here.
    pub fn is_accepting(&mut self) -> bool {
        self.watch.run(&mut self.parser, Parser::is_accepting).unwrap_or(false)
    }

    /// Whether the end is in reach, as far as it has been looked for.
    pub fn is_steered(&self) -> bool {
        !matches!(self.steering, Steering::Lost(_))
    }

    /// The tokens that must come next, whatever the model says; to be given to [`Matcher::accept`]
    /// one by one.
    pub fn forced(&mut self) -> Vec<u32> {
        if self.parser.is_stopped() {
            return Vec::new();
        }
        self.watch.run(&mut self.parser, Parser::compute_ff_tokens)
    }
}

#[allow(clippy::needless_pass_by_value, reason = "for map_err")]
fn failed(error: anyhow::Error) -> ConstraintError {
    let message = error.to_string();
    let exhausted = ["too many states", "Too many items", "fuel"].iter().any(|part| message.contains(part));
    ConstraintError::Failed(if error.is::<Cancelled>() || exhausted {
        TOO_MUCH.to_owned()
    } else if message.starts_with("NoExtensionBias") {
        "no text of the model's tokens can keep to it from here on".to_owned()
    } else {
        one_line(&message)
    })
}

#[cfg(test)]
mod tests;
