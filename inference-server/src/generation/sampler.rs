//! Sampling of the next token from the logits of one step.
//!
//! The order is that of transformers' logits processors: repetition penalty, presence and frequency
//! penalties, bias, mask, temperature, top-k, top-p, min-p. The n-th token of a sequence depends on
//! the seed, on n and on the logits alone, so the other sequences of a step never change it.
//!
//! Under a constraint the first draw is among all tokens. Only if that token is not allowed, a
//! second draw is made among the allowed ones. Together they sample the allowed tokens by their
//! probabilities: the second draw divides what the first gave to forbidden tokens in proportion.
//! Only the cuts of top-k, top-p and min-p differ, since each draw applies them to its own tokens.

use std::collections::HashMap;
use std::fmt;

pub(crate) mod draw;

/// Maximum number of alternatives with log probabilities, as OpenAI's API documents `top_logprobs`.
pub(crate) const MAX_LOGPROBS: u32 = 20;
/// Maximum number of tokens with a bias, as in the OpenAI API.
pub(crate) const MAX_BIASES: usize = 300;

/// Sampling parameters of a request.
#[derive(Debug, Clone, PartialEq)]
pub struct SamplingParams {
    /// Divides the logits. 0 is greedy: the likeliest token, of equals the one with the lowest id.
    pub temperature: f32,
    /// Keeps this many of the likeliest tokens, and any equal to the last of them; 0 keeps all.
    pub top_k: u32,
    /// Nucleus sampling: keeps the fewest likeliest tokens whose probabilities sum to this
    /// (Holtzman et al. 2020); 1 keeps all.
    pub top_p: f32,
    /// Keeps tokens at least this fraction as likely as the likeliest (Nguyen et al. 2024); 0 keeps
    /// all.
    pub min_p: f32,
    /// Divides positive logits of tokens in prompt and output, multiplies negative ones (Keskar et
    /// al. 2019); 1 is off.
    pub repetition_penalty: f32,
    /// Subtracted once from the logits of tokens in the output.
    pub presence_penalty: f32,
    /// Subtracted from the logits of tokens in the output for each occurrence.
    pub frequency_penalty: f32,
    /// Seed of the random numbers.
    pub seed: u64,
    /// Added to the logits of these tokens.
    pub logit_bias: Vec<(u32, f32)>,
    /// Number of the likeliest tokens to report with each sampled one.
    pub logprobs: u32,
}

impl Default for SamplingParams {
    fn default() -> Self {
        Self {
            temperature: 1.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            repetition_penalty: 1.0,
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            seed: 0,
            logit_bias: Vec::new(),
            logprobs: 0,
        }
    }
}

/// A sampling parameter out of its range.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field} is {value}; allowed: {allowed}")]
pub struct SamplingError {
    /// Path of the field in the request.
    pub field: String,
    /// Value of the field.
    pub value: String,
    /// Values that are allowed.
    pub allowed: String,
}

/// Error of sampling from a row of logits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SampleError {
    /// The model gave NaN or +∞.
    #[error("the model gave {value} for token {id}", value = if *.nan { "NaN" } else { "infinity" })]
    NotFinite {
        /// The first such token.
        id: u32,
        /// NaN rather than +∞.
        nan: bool,
    },
    /// Every token is masked or has a logit of −∞.
    #[error("no token is allowed")]
    NothingAllowed,
    /// The length of the mask does not fit the logits.
    #[error("a mask of {words} words for {logits} logits")]
    Mask {
        /// Number of 32-bit words of the mask.
        words: usize,
        /// Number of logits.
        logits: usize,
    },
}

/// A sampled token.
#[derive(Debug, Clone, PartialEq)]
pub struct Sampled {
    /// Its id.
    pub id: u32,
    /// Log probability in the model's own distribution: before penalties, bias, mask and
    /// temperature.
    pub logprob: f32,
    /// The likeliest tokens of that distribution, best first, of equals the lowest id first.
    pub top: Vec<(u32, f32)>,
}

/// Check of a value: from `low`, itself excluded if `exclusive`, to `high`.
struct Range<'a> {
    name: &'a str,
    value: f32,
    low: f32,
    high: f32,
    exclusive: bool,
}

impl Range<'_> {
    fn check(&self, field: &str) -> Result<(), SamplingError> {
        let above_low = if self.exclusive { self.value > self.low } else { self.value >= self.low };
        if above_low && self.value <= self.high {
            return Ok(());
        }
        let allowed = if self.exclusive {
            format!("above {} and at most {}", self.low, self.high)
        } else {
            format!("{} to {}", self.low, self.high)
        };
        Err(invalid(field, self.name, self.value, allowed))
    }
}

fn invalid(field: &str, name: &str, value: impl fmt::Display, allowed: String) -> SamplingError {
    let field = if field.is_empty() { name.to_owned() } else { format!("{field}.{name}") };
    SamplingError { field, value: value.to_string(), allowed }
}

impl SamplingParams {
    /// Checks every value for a model with `vocabulary` logits. `field` is the path of the
    /// parameters in the request.
    ///
    /// # Errors
    /// For the first field whose value is out of range.
    pub fn check(&self, field: &str, vocabulary: usize) -> Result<(), SamplingError> {
        // `presence_penalty` and `frequency_penalty` have the bounds of OpenAI's API. The others
        // are not tuned: beyond them a sampler does nothing useful, and products may overflow.
        for (name, value, low, high, exclusive) in [
            ("temperature", self.temperature, 0.0, 100.0, false),
            ("top_p", self.top_p, 0.0, 1.0, true),
            ("min_p", self.min_p, 0.0, 1.0, false),
            ("repetition_penalty", self.repetition_penalty, 0.01, 100.0, false),
            ("presence_penalty", self.presence_penalty, -2.0, 2.0, false),
            ("frequency_penalty", self.frequency_penalty, -2.0, 2.0, false),
        ] {
            Range { name, value, low, high, exclusive }.check(field)?;
        }
        if self.logprobs > MAX_LOGPROBS {
            return Err(invalid(field, "logprobs", self.logprobs, format!("0 to {MAX_LOGPROBS}")));
        }
        self.check_bias(field, vocabulary)
    }

    /// The parameters of a draw.
    fn cuts(&self) -> draw::Cuts {
        let Self { temperature, top_p, min_p, .. } = *self;
        draw::Cuts { temperature, top_k: self.top_k as usize, top_p, min_p }
    }

    fn check_bias(&self, field: &str, vocabulary: usize) -> Result<(), SamplingError> {
        if self.logit_bias.len() > MAX_BIASES {
            let value = format!("{} tokens", self.logit_bias.len());
            return Err(invalid(field, "logit_bias", value, format!("at most {MAX_BIASES} tokens")));
        }
        for &(id, bias) in &self.logit_bias {
            if id as usize >= vocabulary {
                let allowed = format!("token ids below {vocabulary}");
                return Err(invalid(field, "logit_bias", format!("token {id}"), allowed));
            }
            let name = &format!("logit_bias[{id}]");
            Range { name, value: bias, low: -100.0, high: 100.0, exclusive: false }.check(field)?;
        }
        Ok(())
    }
}

/// Samples the tokens of one sequence.
///
/// Sampling itself changes nothing: only [`Sampler::push`] moves on, so that a token that is not
/// allowed can be sampled again under a mask.
#[derive(Debug, Clone)]
pub struct Sampler {
    params: SamplingParams,
    /// Occurrences of each token in the output. Tokens of the prompt are there with 0, since only
    /// the repetition penalty counts them.
    counts: HashMap<u32, u32>,
    /// Number of tokens in the output.
    position: u64,
    /// Logits after penalties, bias and mask, then weights; kept to reuse its memory.
    scratch: Vec<f32>,
}

impl Sampler {
    /// Creates the sampler of one sequence. The parameters must have passed
    /// [`SamplingParams::check`].
    pub fn new(params: &SamplingParams, prompt_ids: &[u32]) -> Self {
        // A long prompt would fill the map for nothing if its tokens are not penalised.
        let repetition = params.repetition_penalty != 1.0;
        let prompt = prompt_ids.iter().filter(|_| repetition).map(|id| (*id, 0));
        Self { params: params.clone(), counts: prompt.collect(), position: 0, scratch: Vec::new() }
    }

    /// Records a token, sampled or forced, as part of the output.
    pub fn push(&mut self, id: u32) {
        *self.counts.entry(id).or_default() += 1;
        self.position += 1;
    }

    /// Samples the next token. `allowed` has a bit for each logit, the lowest of a word first, and
    /// 0 in the bits beyond.
    ///
    /// # Errors
    /// See `SampleError`.
    pub fn sample(&mut self, logits: &[f32], allowed: Option<&[u32]>) -> Result<Sampled, SampleError> {
        self.sample_attempt(0, logits, allowed)
    }

    /// Samples the next token after `refused` others, at least one, that were sampled for its place
    /// and are not allowed. Each attempt has random numbers of its own.
    ///
    /// # Errors
    /// See `SampleError`.
    pub fn sample_again(
        &mut self,
        refused: u32,
        logits: &[f32],
        allowed: &[u32],
    ) -> Result<Sampled, SampleError> {
        self.sample_attempt(refused, logits, Some(allowed))
    }

    fn sample_attempt(
        &mut self,
        attempt: u32,
        logits: &[f32],
        allowed: Option<&[u32]>,
    ) -> Result<Sampled, SampleError> {
        let words = allowed.map_or(logits.len().div_ceil(32), <[u32]>::len);
        if words != logits.len().div_ceil(32) {
            return Err(SampleError::Mask { words, logits: logits.len() });
        }
        // Before any change, since log probabilities are those of the model.
        let log_sum = log_sum_exp(logits)?;
        self.apply_penalties(logits);
        if let Some(allowed) = allowed {
            draw::mask(&mut self.scratch, allowed);
        }
        let best = draw::max(&self.scratch);
        if best == f32::NEG_INFINITY {
            return Err(SampleError::NothingAllowed);
        }
        let id = if self.params.temperature == 0.0 {
            // The first of equals, so that greedy output is reproducible.
            self.scratch.iter().position(|x| *x == best)
        } else {
            let uniform = draw::uniform(self.params.seed, self.position, attempt);
            draw::draw(&mut self.scratch, best, &self.params.cuts(), uniform)
        };
        let id = id.ok_or(SampleError::NothingAllowed)? as u32;
        let top = draw::largest(logits, self.params.logprobs as usize);
        let top = top.into_iter().map(|(id, logit)| (id, logit - log_sum)).collect();
        Ok(Sampled { id, logprob: logits[id as usize] - log_sum, top })
    }

    /// Fills `scratch` with the logits after penalties and bias.
    fn apply_penalties(&mut self, logits: &[f32]) {
        let Self { params, counts, scratch, .. } = self;
        // Kept between tokens: a row of 150,000 logits would be allocated for each.
        scratch.clear();
        scratch.extend_from_slice(logits);
        for (id, count) in counts.iter() {
            let Some(logit) = scratch.get_mut(*id as usize) else { continue };
            if params.repetition_penalty != 1.0 {
                let penalty = params.repetition_penalty;
                // Both move away from likely: dividing a negative logit would raise it.
                *logit = if *logit < 0.0 { *logit * penalty } else { *logit / penalty };
            }
            if *count > 0 {
                *logit -= params.presence_penalty + params.frequency_penalty * *count as f32;
            }
        }
        for (id, bias) in &params.logit_bias {
            if let Some(logit) = scratch.get_mut(*id as usize) {
                *logit += bias;
            }
        }
    }
}

/// Log of the sum of the exponentials: a logit minus this is the log probability of its token.
///
/// # Errors
/// [`SampleError::NotFinite`] and [`SampleError::NothingAllowed`].
pub(crate) fn log_sum_exp(logits: &[f32]) -> Result<f32, SampleError> {
    let best = draw::max(logits);
    let sum = draw::sum_exp(logits, best);
    // One comparison for a good row instead of a pass that looks for bad values.
    if best < f32::INFINITY && sum.is_finite() && sum > 0.0 {
        return Ok(best + sum.ln() as f32);
    }
    // NaN and +∞ show in the sum, so that rows without them are not searched.
    match logits.iter().position(|x| x.is_nan() || *x == f32::INFINITY) {
        Some(id) => Err(SampleError::NotFinite { id: id as u32, nan: logits[id].is_nan() }),
        None => Err(SampleError::NothingAllowed),
    }
}

#[cfg(test)]
mod tests;
