//! The matcher of one text: masks, forced tokens, and a completion in reach of the token limit.
//!
//! Masks come from the grammar library. It does not know about the limit, so a matcher rejects
//! tokens after which the text could not be completed in time, and it measures the work of every
//! operation.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use llguidance::Matcher as Parser;

use super::super::sampler::{Sampled, Sampler};
use super::completion::{ClosingTokens, Context};
use super::error::{ConstraintError, TOO_MUCH_WORK, failed};
use super::work_meter::WorkMeter;

/// Number of tokens before the limit from which on a completion is kept in reach, or twice the
/// shortest text if that is more. A choice: many times the usual completion; a search further ahead
/// would be wasted on a text that ends by itself.
const COMPLETION_HORIZON: usize = 256;
/// Number of tokens rejected at one position before only the known completion is allowed. A choice:
/// each rejection costs a search.
const MAX_REJECTIONS: usize = 4;

/// Result of adding a token to a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// The token was added.
    Accepted,
    /// The token was added, and the text is complete: nothing can follow.
    Complete,
    /// The token was not added, since no completion in time was found after it: sample again under
    /// the new mask.
    Rejected,
}

/// Knowledge about the completion of a text.
#[derive(Debug)]
enum Completion {
    /// Not searched: the limit is far away.
    Unknown,
    /// These tokens complete the text.
    Known(Vec<u32>),
    /// None was found; searched again once this many tokens remain.
    NotFound(usize),
}

/// Matcher of one text against its constraint.
///
/// `remaining` is always the number of tokens that may still be generated, the next one included.
/// From [`COMPLETION_HORIZON`] tokens before the limit on, a token is rejected if no completion
/// within the limit is found after it. So the text is complete when the limit is reached, unless
/// [`Matcher::can_complete`] says that no completion was found.
pub struct Matcher {
    parser: Parser,
    closing: Arc<ClosingTokens>,
    /// Mask of the next token, without the ones rejected; `None` if not computed.
    mask: Option<Vec<u32>>,
    /// Number of tokens rejected at this position.
    rejections: usize,
    completion: Completion,
    /// Number of remaining tokens from which on a completion is kept; set by the first search.
    horizon: Option<usize>,
    meter: Arc<WorkMeter>,
    /// Forced tokens at the beginning, and whether the text is complete with each.
    forced_prefix: Vec<(u32, bool)>,
}

impl fmt::Debug for Matcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Matcher").field("completion", &self.completion).finish_non_exhaustive()
    }
}

impl Matcher {
    pub(super) fn new(parser: Parser, closing: Arc<ClosingTokens>) -> Self {
        Self {
            parser,
            closing,
            mask: None,
            rejections: 0,
            completion: Completion::Unknown,
            horizon: None,
            meter: WorkMeter::start(),
            forced_prefix: Vec::new(),
        }
    }

    /// Searches for a completion, accepts the forced tokens at the beginning if `append_forced`,
    /// and computes the first mask. A constraint that no text satisfies, or that takes too much
    /// work from the start, is thus known before anything is computed by the model.
    ///
    /// # Errors
    /// [`ConstraintError::Failed`].
    pub fn prepare(&mut self, remaining: usize, append_forced: bool) -> Result<(), ConstraintError> {
        // The search for a completion is the first work, so that an unsatisfiable constraint is
        // found before tokens are spent.
        self.update_completion(remaining);
        let mut left = remaining;
        if append_forced {
            self.forced_prefix = self.accept_forced(&mut left)?;
            let accepting = left == 0 && self.is_accepting();
            if let Some((_, complete)) = self.forced_prefix.last_mut() {
                *complete |= accepting;
            }
        }
        if left > 0 && !self.parser.is_stopped() {
            self.mask(left)?;
        }
        self.check_work()
    }

    /// Returns the tokens that [`Matcher::prepare`] accepted, once.
    pub fn take_forced_prefix(&mut self) -> Vec<(u32, bool)> {
        std::mem::take(&mut self.forced_prefix)
    }

    /// Accepts the tokens that are forced next, at most `remaining`, which it counts down. Returns
    /// each with whether the text is complete with it.
    ///
    /// # Errors
    /// [`ConstraintError::Failed`].
    pub fn accept_forced(&mut self, remaining: &mut usize) -> Result<Vec<(u32, bool)>, ConstraintError> {
        let mut accepted = Vec::new();
        while *remaining > 0 && !self.parser.is_stopped() {
            let forced = self.forced();
            self.check_work()?;
            if forced.is_empty() {
                break;
            }
            for id in forced.into_iter().take(*remaining) {
                match self.accept(id, *remaining)? {
                    // No completion after it: other tokens for the same text may have one.
                    Progress::Rejected => return Ok(accepted),
                    progress => accepted.push((id, progress == Progress::Complete)),
                }
                *remaining -= 1;
            }
        }
        Ok(accepted)
    }

    /// Processor time that the constraint has taken.
    pub fn processor_time(&self) -> Duration {
        self.meter.processor_time()
    }

    /// Checks that the constraint may cause more work.
    fn check_work(&self) -> Result<(), ConstraintError> {
        if self.meter.is_exhausted() {
            Err(ConstraintError::Failed(TOO_MUCH_WORK.to_owned()))
        } else {
            Ok(())
        }
    }

    /// Searches for a completion of at most `remaining` tokens.
    fn find_completion(&self, remaining: usize) -> Option<Vec<u32>> {
        Context { tokens: &self.closing, meter: &self.meter }.find(&self.parser, &[], remaining)
    }

    /// Computes the mask of the next token: a bit for each logit of the model, the lowest of a word
    /// first.
    ///
    /// # Errors
    /// [`ConstraintError::Failed`] if it takes too much work, or no token of the vocabulary is
    /// allowed.
    pub fn mask(&mut self, remaining: usize) -> Result<&[u32], ConstraintError> {
        self.update_completion(remaining);
        self.check_work()?;
        let words = self.closing.logits.div_ceil(32);
        let mask = match (self.only_token(remaining), self.mask.take()) {
            (Some(id), _) => {
                let mut mask = vec![0; words];
                mask[id as usize / 32] |= 1 << (id % 32);
                mask
            }
            (None, Some(mask)) => mask,
            (None, None) => {
                let mask = self.meter.run(&mut self.parser, Parser::compute_mask_or_eos);
                let mut mask = Vec::from(mask.map_err(failed)?);
                // The library's masks have room for a token more; the sampler insists on one word
                // for each 32 logits.
                mask.truncate(words);
                mask
            }
        };
        Ok(self.mask.insert(mask))
    }

    /// Returns true if the mask has this token. Computes no mask where the answer is known without.
    ///
    /// # Errors
    /// See [`Matcher::mask`].
    pub(super) fn allows(&mut self, id: u32, remaining: usize) -> Result<bool, ConstraintError> {
        self.update_completion(remaining);
        self.check_work()?;
        // Special and end tokens have rules of their own in the library, so those are asked of the
        // mask.
        let is_plain = self.closing.is_plain(id);
        match (self.only_token(remaining), &self.mask) {
            (Some(only), _) => Ok(id == only),
            // The library's mask holds a forced token alone, although others spell the same bytes.
            (None, None) if is_plain => match self.forced().first() {
                Some(forced) => Ok(id == *forced),
                None => {
                    let valid = self.meter.run(&mut self.parser, |parser| parser.validate_tokens(&[id]));
                    Ok(valid.map_err(failed)? == 1)
                }
            },
            _ => {
                let word = self.mask(remaining)?.get(id as usize / 32);
                Ok(word.is_some_and(|word| word >> (id % 32) & 1 == 1))
            }
        }
    }

    /// The only token that is left if the known completion just fits or too many were rejected.
    fn only_token(&self, remaining: usize) -> Option<u32> {
        match &self.completion {
            Completion::Known(ids) if ids.len() >= remaining || self.rejections >= MAX_REJECTIONS => {
                Some(ids.first().copied().unwrap_or(self.closing.eos))
            }
            _ => None,
        }
    }

    /// Samples the next token among those allowed and accepts it; returns whether the text is
    /// complete with it.
    ///
    /// A likely token is mostly allowed, and checking one token is much faster than computing a
    /// mask (5 to 10 µs against 0.06 to 0.7 ms; benches/RESULTS.md). So a mask is computed only if
    /// the first draw is not allowed. The result is the same if there was a mask already.
    ///
    /// # Errors
    /// If no token can be sampled from the logits; see also [`Matcher::mask`].
    pub fn sample(
        &mut self,
        sampler: &mut Sampler,
        logits: &[f32],
        remaining: usize,
    ) -> Result<(Sampled, bool)> {
        let mut sampled = sampler.sample(logits, None)?;
        let mut allowed = self.allows(sampled.id, remaining)?;
        let mut refused = 0;
        loop {
            let progress = if allowed { self.accept(sampled.id, remaining)? } else { Progress::Rejected };
            if progress != Progress::Rejected {
                return Ok((sampled, progress == Progress::Complete));
            }
            refused += 1;
            // Numbered, so that each attempt has its own random number and the text stays
            // reproducible.
            sampled = sampler.sample_again(refused, logits, self.mask(remaining)?)?;
            allowed = true;
        }
    }

    /// Accepts the next token, which must be allowed by the mask.
    ///
    /// # Errors
    /// [`ConstraintError::Failed`] if it is not allowed or takes too much work.
    pub fn accept(&mut self, id: u32, remaining: usize) -> Result<Progress, ConstraintError> {
        self.update_completion(remaining);
        let after = remaining.saturating_sub(1);
        let context = Context { tokens: &self.closing, meter: &self.meter };
        if let Completion::Known(ids) = &mut self.completion
            && !self.closing.eos_ids.contains(&id)
        {
            // Cheapest first: the token is the completion's own; the completion still fits behind
            // it; another one does.
            if ids.first() == Some(&id) {
                ids.remove(0);
            } else if ids.len() > after || !context.completes(&mut self.parser, &[id], ids) {
                // On a copy: a token that is rejected in the end must leave no trace.
                let mut next = self.parser.clone();
                self.meter.run(&mut next, |parser| parser.consume_token(id)).map_err(failed)?;
                match context.find(&next, ids, after) {
                    Some(other) => {
                        *ids = other;
                        self.parser = next;
                        return Ok(self.accepted());
                    }
                    None => return self.reject(id, remaining),
                }
            }
        }
        self.meter.run(&mut self.parser, |parser| parser.consume_token(id)).map_err(failed)?;
        Ok(self.accepted())
    }

    /// Records that the parser has consumed a token.
    fn accepted(&mut self) -> Progress {
        self.meter.add_token();
        self.mask = None;
        self.rejections = 0;
        if self.parser.is_stopped() { Progress::Complete } else { Progress::Accepted }
    }

    /// Removes a token from the mask, which is computed for that.
    fn reject(&mut self, id: u32, remaining: usize) -> Result<Progress, ConstraintError> {
        self.mask(remaining)?;
        // Counted, as each rejection costs a search: after some only the known completion is left.
        self.rejections += 1;
        if let Some(word) = self.mask.as_mut().and_then(|mask| mask.get_mut(id as usize / 32)) {
            *word &= !(1 << (id % 32));
        }
        Ok(Progress::Rejected)
    }

    /// Searches for a completion if the limit comes near and none is known.
    fn update_completion(&mut self, remaining: usize) {
        let horizon = match self.horizon {
            Some(horizon) => horizon,
            None => self.set_horizon(remaining),
        };
        let search = match self.completion {
            Completion::Unknown => remaining <= horizon,
            Completion::NotFound(again) => remaining <= again,
            Completion::Known(_) => false,
        };
        if search && !self.parser.is_stopped() {
            self.completion = match self.find_completion(remaining) {
                Some(ids) => Completion::Known(ids),
                // Halving bounds the number of searches by the logarithm of the limit.
                None => Completion::NotFound(remaining / 2),
            };
        }
    }

    /// Sets the horizon by a search from the beginning of the text.
    fn set_horizon(&mut self, remaining: usize) -> usize {
        let shortest = self.find_completion(remaining);
        let horizon =
            shortest.as_ref().map_or(COMPLETION_HORIZON, |ids| COMPLETION_HORIZON.max(2 * ids.len()));
        self.horizon = Some(horizon);
        self.completion = match shortest {
            Some(ids) if remaining <= horizon => Completion::Known(ids),
            Some(_) => Completion::Unknown,
            None => Completion::NotFound(remaining / 2),
        };
        horizon
    }

    /// Returns true if the text is valid as it is.
    pub fn is_accepting(&mut self) -> bool {
        self.meter.run(&mut self.parser, Parser::is_accepting).unwrap_or(false)
    }

    /// Returns true if the text can be completed in time, as far as searched.
    pub fn can_complete(&self) -> bool {
        !matches!(self.completion, Completion::NotFound(_))
    }

    /// Tokens that are forced next, to be passed to [`Matcher::accept`] one by one.
    pub fn forced(&mut self) -> Vec<u32> {
        if self.parser.is_stopped() {
            return Vec::new();
        }
        self.meter.run(&mut self.parser, Parser::compute_ff_tokens)
    }
}
