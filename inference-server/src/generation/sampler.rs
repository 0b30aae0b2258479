//! The next token from the logits of one step.
//!
//! The order is that of transformers' logits processors: repetition penalty, presence and frequency
//! penalties, bias, mask, temperature, top-k, top-p, min-p. The n-th token of a text depends on the
//! seed, on n and on the logits alone, so the other texts of a batch never change it.
//!
//! A text under a constraint draws among all tokens first, and only where that one is not allowed
//! again, among those that are. Both together draw from the allowed tokens by their probabilities,
//! since the second draw shares what the first gave to the others in their proportion; only what
//! top-k, top-p and min-p cut off is cut off the draw at hand.

use std::collections::HashMap;
use std::fmt;

pub(crate) mod draw;

/// Most alternatives whose log probabilities are given.
pub(crate) const MAX_LOGPROBS: u32 = 20;
/// Most tokens with a bias, as OpenAI has it.
pub(crate) const MAX_BIASES: usize = 300;

/// How to choose the next token.
#[derive(Debug, Clone, PartialEq)]
pub struct Sampling {
    /// Divides the logits; 0 takes the likeliest token, and of equals the one with the lowest id.
    pub temperature: f32,
    /// Keep the so many likeliest tokens and their equals; 0 keeps all.
    pub top_k: u32,
    /// Keep the fewest likeliest tokens that together have this probability; 1 keeps all.
    pub top_p: f32,
    /// Keep tokens at least this fraction as likely as the likeliest; 0 keeps all.
    pub min_p: f32,
    /// Divides positive logits of tokens in prompt and text, multiplies negative ones (Keskar
    /// 2019); 1 is off.
    pub repetition_penalty: f32,
    /// Taken once from the logits of tokens in the text.
    pub presence_penalty: f32,
    /// Taken from the logits of tokens in the text as often as they occur.
    pub frequency_penalty: f32,
    /// Starts the random numbers.
    pub seed: u64,
    /// Added to the logits of these tokens.
    pub logit_bias: Vec<(u32, f32)>,
    /// How many of the likeliest tokens to report beside the one taken.
    pub logprobs: u32,
}

impl Default for Sampling {
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

/// A value that cannot be sampled with.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field} is {value}; allowed: {allowed}")]
pub struct SamplingError {
    /// Path of the field in the request.
    pub field: String,
    /// What it holds.
    pub value: String,
    /// What it may hold.
    pub allowed: String,
}

/// Logits that no token can be taken from.
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
    /// The mask has another length than the logits need.
    #[error("a mask of {words} words for {logits} logits")]
    Mask {
        /// 32-bit words of the mask.
        words: usize,
        /// Logits.
        logits: usize,
    },
}

/// One token.
#[derive(Debug, Clone, PartialEq)]
pub struct Sampled {
    /// Its id.
    pub id: u32,
    /// Its log probability in the model's own distribution: before penalties, bias, mask and
    /// temperature.
    pub logprob: f32,
    /// The likeliest tokens of that distribution, best first, of equals the lowest id first.
    pub top: Vec<(u32, f32)>,
}

/// Values from `low` to `high`, without `low` where `above`.
struct Range<'a> {
    name: &'a str,
    value: f32,
    low: f32,
    high: f32,
    above: bool,
}

impl Range<'_> {
    fn check(&self, field: &str) -> Result<(), SamplingError> {
        let low = if self.above { self.value > self.low } else { self.value >= self.low };
        if low && self.value <= self.high {
            return Ok(());
        }
        let allowed = if self.above {
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

impl Sampling {
    /// Checks every value for a model with `vocabulary` logits; `field` is where these settings
    /// stand in the request.
    ///
    /// # Errors
    /// Names the first field whose value cannot be sampled with.
    pub fn check(&self, field: &str, vocabulary: usize) -> Result<(), SamplingError> {
        let range = |name, value, low, high, above| Range { name, value, low, high, above };
        for range in [
            range("temperature", self.temperature, 0.0, 100.0, false),
            range("top_p", self.top_p, 0.0, 1.0, true),
            range("min_p", self.min_p, 0.0, 1.0, false),
            range("repetition_penalty", self.repetition_penalty, 0.01, 100.0, false),
            range("presence_penalty", self.presence_penalty, -2.0, 2.0, false),
            range("frequency_penalty", self.frequency_penalty, -2.0, 2.0, false),
        ] {
            range.check(field)?;
        }
        if self.logprobs > MAX_LOGPROBS {
            return Err(invalid(field, "logprobs", self.logprobs, format!("0 to {MAX_LOGPROBS}")));
        }
        self.check_bias(field, vocabulary)
    }

    fn check_bias(&self, field: &str, vocabulary: usize) -> Result<(), SamplingError> {
        if self.logit_bias.len() > MAX_BIASES {
            let value = format!("{} tokens", self.logit_bias.len());
            return Err(invalid(field, "logit_bias", value, format!("at most {MAX_BIASES} tokens")));
        }
        for &(id, bias) in &self.logit_bias {
            if id as usize >= vocabulary {
                let allowed = format!("ids of the vocabulary, which has {vocabulary}");
                return Err(invalid(field, "logit_bias", format!("token {id}"), allowed));
            }
            let name = &format!("logit_bias[{id}]");
            Range { name, value: bias, low: -100.0, high: 100.0, above: false }.check(field)?;
        }
        Ok(())
    }
}

/// Chooses the tokens of one text.
///
/// Sampling itself changes nothing: only [`Sampler::push`] moves on, so a token that cannot be used
/// can be sampled again under another mask.
#[derive(Debug, Clone)]
pub struct Sampler {
    settings: Sampling,
    /// How often each token of the text occurred; tokens of the prompt are there with 0.
    seen: HashMap<u32, u32>,
    /// Tokens of the text.
    position: u64,
    /// Logits as changed by the settings, then weights.
    scratch: Vec<f32>,
}

impl Sampler {
    /// Settings must have been checked by [`Sampling::check`].
    pub fn new(settings: &Sampling, prompt_ids: &[u32]) -> Self {
        let repetition = settings.repetition_penalty != 1.0;
        let prompt = prompt_ids.iter().filter(|_| repetition).map(|id| (*id, 0));
        Self { settings: settings.clone(), seen: prompt.collect(), position: 0, scratch: Vec::new() }
    }

    /// Takes a token, sampled or forced, into the text.
    pub fn push(&mut self, id: u32) {
        *self.seen.entry(id).or_default() += 1;
        self.position += 1;
    }

    /// The next token. `allowed` has a bit for each logit, the lowest of a word first, and 0 in the
    /// bits beyond.
    ///
    /// # Errors
    /// See [`SampleError`].
    pub fn sample(&mut self, logits: &[f32], allowed: Option<&[u32]>) -> Result<Sampled, SampleError> {
        self.attempt(0, logits, allowed)
    }

    /// The next token where so many that were drawn for its place, at least one, cannot be used.
    ///
    /// # Errors
    /// See [`SampleError`].
    pub fn sample_again(
        &mut self,
        refused: u32,
        logits: &[f32],
        allowed: &[u32],
    ) -> Result<Sampled, SampleError> {
        self.attempt(refused, logits, Some(allowed))
    }

    fn attempt(
        &mut self,
        number: u32,
        logits: &[f32],
        allowed: Option<&[u32]>,
    ) -> Result<Sampled, SampleError> {
        let words = allowed.map_or(logits.len().div_ceil(32), <[u32]>::len);
        if words != logits.len().div_ceil(32) {
            return Err(SampleError::Mask { words, logits: logits.len() });
        }
        let log_sum = log_sum_exp(logits)?;
        self.adjust(logits);
        if let Some(allowed) = allowed {
            draw::mask(&mut self.scratch, allowed);
        }
        let best = draw::max(&self.scratch);
        if best == f32::NEG_INFINITY {
            return Err(SampleError::NothingAllowed);
        }
        let id = if self.settings.temperature == 0.0 {
            self.scratch.iter().position(|x| *x == best)
        } else {
            let uniform = draw::uniform(self.settings.seed, self.position, number);
            draw::draw(&mut self.scratch, best, &self.settings, uniform)
        };
        let id = id.ok_or(SampleError::NothingAllowed)? as u32;
        let top = draw::largest(logits, self.settings.logprobs as usize);
        let top = top.into_iter().map(|(id, logit)| (id, logit - log_sum)).collect();
        Ok(Sampled { id, logprob: logits[id as usize] - log_sum, top })
    }

    /// Penalties and bias.
    fn adjust(&mut self, logits: &[f32]) {
        let Self { settings, seen, scratch, .. } = self;
        scratch.clear();
        scratch.extend_from_slice(logits);
        for (id, count) in seen.iter() {
            let Some(logit) = scratch.get_mut(*id as usize) else { continue };
            if settings.repetition_penalty != 1.0 {
                let penalty = settings.repetition_penalty;
                *logit = if *logit < 0.0 { *logit * penalty } else { *logit / penalty };
            }
            if *count > 0 {
                *logit -= settings.presence_penalty + settings.frequency_penalty * *count as f32;
            }
        }
        for (id, bias) in &settings.logit_bias {
            if let Some(logit) = scratch.get_mut(*id as usize) {
                *logit += bias;
            }
        }
    }
}

/// The log of the sum of the exponentials: a logit less this is the log probability of its token.
///
/// # Errors
/// [`SampleError::NotFinite`] and [`SampleError::NothingAllowed`].
pub(crate) fn log_sum_exp(logits: &[f32]) -> Result<f32, SampleError> {
    let best = draw::max(logits);
    let sum = draw::sum_exp(logits, best);
    if best < f32::INFINITY && sum.is_finite() && sum > 0.0 {
        return Ok(best + sum.ln() as f32);
    }
    match logits.iter().position(|x| x.is_nan() || *x == f32::INFINITY) {
        Some(id) => Err(SampleError::NotFinite { id: id as u32, nan: logits[id].is_nan() }),
        None => Err(SampleError::NothingAllowed),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    fn greedy() -> Sampling {
        Sampling { temperature: 0.0, ..Sampling::default() }
    }

    fn take(settings: &Sampling, logits: &[f32], allowed: Option<&[u32]>) -> Result<Sampled, SampleError> {
        Sampler::new(settings, &[]).sample(logits, allowed)
    }

    /// Probabilities by the definitions, without any shortcut.
    fn exact(settings: &Sampling, logits: &[f32], allowed: Option<&[u32]>) -> Vec<f64> {
        let open = |id: usize| allowed.is_none_or(|mask| mask[id / 32] >> (id % 32) & 1 == 1);
        let scaled = |x: f32| f64::from(x) / f64::from(settings.temperature);
        let mut scores: Vec<f64> = (0..logits.len())
            .map(|id| if open(id) { scaled(logits[id]) } else { f64::NEG_INFINITY })
            .collect();
        let mut sorted = scores.clone();
        sorted.sort_by(|a, b| b.total_cmp(a));
        if settings.top_k > 0 && (settings.top_k as usize) <= scores.len() {
            let bar = sorted[settings.top_k as usize - 1];
            scores.iter_mut().filter(|x| **x < bar).for_each(|x| *x = f64::NEG_INFINITY);
        }
        let weights = |scores: &[f64]| {
            let best = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let weights: Vec<f64> = scores.iter().map(|x| (x - best).exp()).collect();
            let sum: f64 = weights.iter().sum();
            weights.into_iter().map(|w| w / sum).collect::<Vec<f64>>()
        };
        if settings.top_p < 1.0 {
            let shares = weights(&scores);
            let mut order: Vec<usize> = (0..scores.len()).collect();
            order.sort_by(|a, b| shares[*b].total_cmp(&shares[*a]).then(a.cmp(b)));
            let mut before = 0.0;
            for (rank, id) in order.into_iter().enumerate() {
                if rank > 0 && before >= f64::from(settings.top_p) {
                    scores[id] = f64::NEG_INFINITY;
                }
                before += shares[id];
            }
        }
        let shares = weights(&scores);
        let bar = f64::from(settings.min_p) * shares.iter().copied().fold(0.0, f64::max);
        let kept: Vec<f64> = shares.iter().map(|w| if *w >= bar { *w } else { 0.0 }).collect();
        let sum: f64 = kept.iter().sum();
        kept.into_iter().map(|w| w / sum).collect()
    }

    #[test]
    fn settings_are_checked() {
        fn check(change: impl FnOnce(&mut Sampling), expected: Option<&str>) {
            let mut settings = Sampling::default();
            change(&mut settings);
            let got = settings.check("sampling", 10).err().map(|error| error.to_string());
            assert_eq!(got.as_deref(), expected);
        }
        check(|_| (), None);
        check(|s| s.temperature = 0.0, None);
        check(|s| s.temperature = -0.1, Some("sampling.temperature is -0.1; allowed: 0 to 100"));
        check(|s| s.temperature = f32::NAN, Some("sampling.temperature is NaN; allowed: 0 to 100"));
        check(|s| s.top_p = 0.0, Some("sampling.top_p is 0; allowed: above 0 and at most 1"));
        check(|s| s.top_p = 1.5, Some("sampling.top_p is 1.5; allowed: above 0 and at most 1"));
        check(|s| s.min_p = 2.0, Some("sampling.min_p is 2; allowed: 0 to 1"));
        check(|s| s.repetition_penalty = 0.0, Some("sampling.repetition_penalty is 0; allowed: 0.01 to 100"));
        check(|s| s.presence_penalty = 2.5, Some("sampling.presence_penalty is 2.5; allowed: -2 to 2"));
        check(|s| s.frequency_penalty = -3.0, Some("sampling.frequency_penalty is -3; allowed: -2 to 2"));
        check(|s| s.logprobs = 21, Some("sampling.logprobs is 21; allowed: 0 to 20"));
        check(|s| s.logit_bias = vec![(9, -100.0)], None);
        let ids = "sampling.logit_bias is token 10; allowed: ids of the vocabulary, which has 10";
        check(|s| s.logit_bias = vec![(10, 1.0)], Some(ids));
        let bias = "sampling.logit_bias[3] is 101; allowed: -100 to 100";
        check(|s| s.logit_bias = vec![(3, 101.0)], Some(bias));
        let many = "sampling.logit_bias is 301 tokens; allowed: at most 300 tokens";
        check(|s| s.logit_bias = vec![(1, 1.0); 301], Some(many));
    }

    #[test]
    fn temperature_0_takes_the_first_of_the_likeliest() {
        fn check(change: impl FnOnce(&mut Sampling), text: &[u32], allowed: Option<&[u32]>, expected: u32) {
            let mut settings = greedy();
            change(&mut settings);
            let mut sampler = Sampler::new(&settings, &[1]);
            text.iter().for_each(|id| sampler.push(*id));
            let logits = [0.5, 2.0, -1.0, 2.0, 1.9];
            assert_eq!(sampler.sample(&logits, allowed).unwrap().id, expected);
        }
        check(|_| (), &[], None, 1);
        check(|_| (), &[], Some(&[0b11000]), 3);
        check(|_| (), &[], Some(&[0b10001]), 4);
        check(|s| s.repetition_penalty = 1.01, &[], None, 3);
        check(|s| s.repetition_penalty = 1.1, &[3], None, 4);
        check(|s| s.repetition_penalty = 0.5, &[4], None, 1);
        check(|s| s.presence_penalty = 0.05, &[], None, 1);
        check(|s| s.presence_penalty = 0.05, &[1], None, 3);
        check(|s| s.presence_penalty = 0.2, &[1, 1, 3], None, 4);
        check(|s| s.frequency_penalty = 0.3, &[1, 1, 3, 4], None, 3);
        check(|s| s.logit_bias = vec![(2, 3.5)], &[], None, 2);
        check(|s| s.logit_bias = vec![(1, -100.0)], &[], None, 3);
    }

    #[test]
    fn negative_logits_are_multiplied_by_the_repetition_penalty() {
        let settings = Sampling { repetition_penalty: 2.0, ..greedy() };
        let mut sampler = Sampler::new(&settings, &[0]);
        assert_eq!(sampler.sample(&[-1.0, -1.5], None).unwrap().id, 1);
    }

    #[test]
    fn log_probabilities_are_the_models_own() {
        let settings = Sampling {
            temperature: 0.7,
            top_k: 1,
            logit_bias: vec![(0, 50.0)],
            logprobs: 3,
            ..Sampling::default()
        };
        let logits = [0.0, 3.0_f32.ln(), 0.0, 5.0_f32.ln()];
        let got = take(&settings, &logits, None).unwrap();
        assert_eq!(got.id, 0);
        assert!((got.logprob - 0.1_f32.ln()).abs() < 1e-6, "{}", got.logprob);
        let expected = [(3, 0.5_f32.ln()), (1, 0.3_f32.ln()), (0, 0.1_f32.ln())];
        for (got, expected) in got.top.iter().zip(expected) {
            assert!(got.0 == expected.0 && (got.1 - expected.1).abs() < 1e-6, "{got:?} {expected:?}");
        }
        assert_eq!(got.top.len(), 3);
    }

    #[test]
    fn logits_without_a_token_are_errors() {
        fn check(logits: &[f32], allowed: Option<&[u32]>, expected: SampleError) {
            for settings in [greedy(), Sampling { top_p: 0.9, top_k: 2, ..Sampling::default() }] {
                assert_eq!(take(&settings, logits, allowed), Err(expected));
            }
        }
        let (low, high) = (f32::NEG_INFINITY, f32::INFINITY);
        check(&[0.0, f32::NAN, 1.0], None, SampleError::NotFinite { id: 1, nan: true });
        check(&[0.0, 1.0, high], None, SampleError::NotFinite { id: 2, nan: false });
        check(&[low, low], None, SampleError::NothingAllowed);
        check(&[], None, SampleError::NothingAllowed);
        check(&[0.0, 1.0], Some(&[0]), SampleError::NothingAllowed);
        check(&[low, 1.0], Some(&[1]), SampleError::NothingAllowed);
        check(&[0.0, 1.0], Some(&[1, 1]), SampleError::Mask { words: 2, logits: 2 });
        let text = SampleError::NotFinite { id: 7, nan: true }.to_string();
        assert_eq!(text, "the model gave NaN for token 7");
    }

    #[test]
    fn a_tiny_temperature_is_greedy() {
        let settings = Sampling { temperature: f32::MIN_POSITIVE, ..Sampling::default() };
        assert_eq!(take(&settings, &[1.0, 1.5, 1.25], None).unwrap().id, 1);
    }

    #[test]
    fn a_token_can_be_sampled_again_under_another_mask() {
        let mut sampler = Sampler::new(&Sampling::default(), &[]);
        let logits: Vec<f32> = (0..64).map(|x| (x as f32).sin()).collect();
        let first = sampler.sample(&logits, None).unwrap();
        assert_eq!(sampler.sample(&logits, None).unwrap(), first);
        let mut rest = [u32::MAX; 2];
        rest[first.id as usize / 32] &= !(1 << (first.id % 32));
        assert_ne!(sampler.sample(&logits, Some(&rest)).unwrap().id, first.id);
    }

    /// Chi-square against the exact probabilities; the bar is the 99.99th percentile by Wilson and
    /// Hilferty.
    #[test]
    fn tokens_come_as_often_as_they_should() {
        fn check(change: impl FnOnce(&mut Sampling), allowed: Option<&[u32]>) {
            check_draws(change, allowed, true);
        }
        fn check_draws(change: impl FnOnce(&mut Sampling), allowed: Option<&[u32]>, masked: bool) {
            let mut settings = Sampling { seed: 11, ..Sampling::default() };
            change(&mut settings);
            let logits: Vec<f32> = (0..40).map(|x| 3.0 * (x as f32 * 1.7).sin()).collect();
            let expected = exact(&settings, &logits, allowed);
            let mut sampler = Sampler::new(&settings, &[]);
            let draws = 40_000;
            let mut counts = [0.0; 40];
            for _ in 0..draws {
                let mut id = sampler.sample(&logits, allowed.filter(|_| masked)).unwrap().id;
                if let Some(allowed) = allowed
                    && allowed[id as usize / 32] >> (id % 32) & 1 == 0
                {
                    id = sampler.sample_again(1, &logits, allowed).unwrap().id;
                }
                counts[id as usize] += 1.0;
                sampler.position += 1;
            }
            let (mut square, mut degrees) = (0.0, -1.0);
            for (count, share) in counts.iter().zip(&expected) {
                if *share == 0.0 {
                    assert_eq!(*count, 0.0);
                    continue;
                }
                let mean = share * f64::from(draws);
                square += (count - mean) * (count - mean) / mean;
                degrees += 1.0;
            }
            let spread = 2.0 / (9.0 * f64::max(degrees, 1.0));
            let bar = degrees * (1.0 - spread + 3.719 * spread.sqrt()).powi(3);
            assert!(square <= bar, "{square} > {bar} with {degrees} degrees: {settings:?}");
        }
        check(|_| (), None);
        check(|s| s.temperature = 0.3, None);
        check(|s| s.temperature = 2.5, Some(&[0xF0F0_F0F0, 0x3F]));
        check(|s| s.top_k = 7, None);
        check(|s| s.top_p = 0.8, None);
        check(|s| s.min_p = 0.1, None);
        check(|s| (s.top_k, s.top_p, s.min_p) = (20, 0.9, 0.2), Some(&[0x0FFF_FFFF, 0xAA]));
        // Among all tokens first, and only where the one drawn is not allowed among those that are.
        check_draws(|_| (), Some(&[0xF0F0_F0F0, 0x3F]), false);
        check_draws(|s| s.temperature = 0.6, Some(&[0x0000_00FF, 0]), false);
    }

    fn logits() -> impl Strategy<Value = Vec<f32>> {
        // Coarse values, so that there are ties.
        let value =
            prop_oneof![9 => (-40..40_i32).prop_map(|x| x as f32 / 4.0), 1 => Just(f32::NEG_INFINITY)];
        proptest::collection::vec(value, 1..400)
    }

    fn settings() -> impl Strategy<Value = Sampling> {
        (0.05_f32..3.0, 0_u32..50, 0.05_f32..1.2, 0.0_f32..0.5, any::<u64>()).prop_map(
            |(temperature, top_k, top_p, min_p, seed)| Sampling {
                temperature,
                top_k,
                top_p: top_p.min(1.0),
                min_p,
                seed,
                ..Sampling::default()
            },
        )
    }

    proptest! {
        #[test]
        fn what_is_masked_or_filtered_is_never_taken(
            logits in logits(),
            words in proptest::collection::vec(any::<u32>(), 13),
            settings in settings(),
        ) {
            let mask = &words[..logits.len().div_ceil(32)];
            let open: HashSet<usize> = (0..logits.len())
                .filter(|id| mask[id / 32] >> (id % 32) & 1 == 1 && logits[*id] > f32::NEG_INFINITY)
                .collect();
            let mut sampler = Sampler::new(&settings, &[]);
            for _ in 0..20 {
                match sampler.sample(&logits, Some(mask)) {
                    Ok(token) => {
                        let id = token.id as usize;
                        prop_assert!(open.contains(&id));
                        // The edge of a nucleus may lie between equals or within rounding: widen it
                        // a little.
                        let wide = Sampling {
                            top_p: (settings.top_p + 1e-5).min(1.0),
                            min_p: (settings.min_p - 1e-5).max(0.0),
                            ..settings.clone()
                        };
                        prop_assert!(exact(&wide, &logits, Some(mask))[id] > 0.0);
                        sampler.push(token.id);
                    }
                    Err(error) => {
                        prop_assert!(error == SampleError::NothingAllowed);
                        prop_assert!(open.is_empty() || logits.iter().all(|x| *x == f32::NEG_INFINITY));
                    }
                }
            }
        }

        #[test]
        fn equal_seeds_give_equal_texts(settings in settings(), logits in logits()) {
            prop_assume!(logits.iter().any(|x| *x > f32::NEG_INFINITY));
            let text = |settings: &Sampling| -> Vec<u32> {
                let mut sampler = Sampler::new(settings, &[1, 2]);
                let ids = (0..30).map(|_| {
                    let id = sampler.sample(&logits, None).unwrap().id;
                    sampler.push(id);
                    id
                });
                ids.collect()
            };
            prop_assert_eq!(text(&settings), text(&settings));
        }
    }

    #[test]
    fn other_seeds_give_other_texts() {
        let logits = [0.0; 100];
        let text = |seed: u64| -> Vec<u32> {
            let mut sampler = Sampler::new(&Sampling { seed, ..Sampling::default() }, &[]);
            (0..20)
                .map(|_| {
                    let id = sampler.sample(&logits, None).unwrap().id;
                    sampler.push(id);
                    id
                })
                .collect()
        };
        let texts: HashSet<Vec<u32>> = (0..50).chain([u64::MAX, 1 << 32]).map(text).collect();
        assert_eq!(texts.len(), 52);
    }
}
