//! Checks of parameters, greedy sampling, and random sampling.
//!
//! Random sampling is compared with probabilities computed by the definitions in double precision.

use std::collections::HashSet;

use proptest::prelude::*;

use super::*;

fn greedy() -> SamplingParams {
    SamplingParams { temperature: 0.0, ..SamplingParams::default() }
}

fn take(params: &SamplingParams, logits: &[f32], allowed: Option<&[u32]>) -> Result<Sampled, SampleError> {
    Sampler::new(params, &[]).sample(logits, allowed)
}

/// Probabilities by the definitions, without any shortcut.
fn exact(params: &SamplingParams, logits: &[f32], allowed: Option<&[u32]>) -> Vec<f64> {
    let open = |id: usize| allowed.is_none_or(|mask| mask[id / 32] >> (id % 32) & 1 == 1);
    let scaled = |x: f32| f64::from(x) / f64::from(params.temperature);
    let mut scores: Vec<f64> =
        (0..logits.len()).map(|id| if open(id) { scaled(logits[id]) } else { f64::NEG_INFINITY }).collect();
    let mut sorted = scores.clone();
    sorted.sort_by(|a, b| b.total_cmp(a));
    if params.top_k > 0 && (params.top_k as usize) <= scores.len() {
        let bar = sorted[params.top_k as usize - 1];
        scores.iter_mut().filter(|x| **x < bar).for_each(|x| *x = f64::NEG_INFINITY);
    }
    let weights = |scores: &[f64]| {
        let best = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let weights: Vec<f64> = scores.iter().map(|x| (x - best).exp()).collect();
        let sum: f64 = weights.iter().sum();
        weights.into_iter().map(|w| w / sum).collect::<Vec<f64>>()
    };
    if params.top_p < 1.0 {
        let shares = weights(&scores);
        let mut order: Vec<usize> = (0..scores.len()).collect();
        order.sort_by(|a, b| shares[*b].total_cmp(&shares[*a]).then(a.cmp(b)));
        let mut before = 0.0;
        for (rank, id) in order.into_iter().enumerate() {
            if rank > 0 && before >= f64::from(params.top_p) {
                scores[id] = f64::NEG_INFINITY;
            }
            before += shares[id];
        }
    }
    let shares = weights(&scores);
    let bar = f64::from(params.min_p) * shares.iter().copied().fold(0.0, f64::max);
    let kept: Vec<f64> = shares.iter().map(|w| if *w >= bar { *w } else { 0.0 }).collect();
    let sum: f64 = kept.iter().sum();
    kept.into_iter().map(|w| w / sum).collect()
}

#[test]
fn settings_are_checked() {
    fn check(change: impl FnOnce(&mut SamplingParams), expected: Option<&str>) {
        let mut params = SamplingParams::default();
        change(&mut params);
        let got = params.check("sampling", 10).err().map(|error| error.to_string());
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
    let ids = "sampling.logit_bias is token 10; allowed: token ids below 10";
    check(|s| s.logit_bias = vec![(10, 1.0)], Some(ids));
    let bias = "sampling.logit_bias[3] is 101; allowed: -100 to 100";
    check(|s| s.logit_bias = vec![(3, 101.0)], Some(bias));
    let many = "sampling.logit_bias is 301 tokens; allowed: at most 300 tokens";
    check(|s| s.logit_bias = vec![(1, 1.0); 301], Some(many));
}

#[test]
fn temperature_0_takes_the_first_of_the_likeliest() {
    fn check(change: impl FnOnce(&mut SamplingParams), text: &[u32], allowed: Option<&[u32]>, expected: u32) {
        let mut params = greedy();
        change(&mut params);
        let mut sampler = Sampler::new(&params, &[1]);
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
    let params = SamplingParams { repetition_penalty: 2.0, ..greedy() };
    let mut sampler = Sampler::new(&params, &[0]);
    assert_eq!(sampler.sample(&[-1.0, -1.5], None).unwrap().id, 1);
}

#[test]
fn log_probabilities_are_the_models_own() {
    let params = SamplingParams {
        temperature: 0.7,
        top_k: 1,
        logit_bias: vec![(0, 50.0)],
        logprobs: 3,
        ..SamplingParams::default()
    };
    let logits = [0.0, 3.0_f32.ln(), 0.0, 5.0_f32.ln()];
    let got = take(&params, &logits, None).unwrap();
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
        for params in [greedy(), SamplingParams { top_p: 0.9, top_k: 2, ..SamplingParams::default() }] {
            assert_eq!(take(&params, logits, allowed), Err(expected));
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
    let params = SamplingParams { temperature: f32::MIN_POSITIVE, ..SamplingParams::default() };
    assert_eq!(take(&params, &[1.0, 1.5, 1.25], None).unwrap().id, 1);
}

#[test]
fn a_token_can_be_sampled_again_under_another_mask() {
    let mut sampler = Sampler::new(&SamplingParams::default(), &[]);
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
    fn check(change: impl FnOnce(&mut SamplingParams), allowed: Option<&[u32]>) {
        check_draws(change, allowed, true);
    }
    fn check_draws(change: impl FnOnce(&mut SamplingParams), allowed: Option<&[u32]>, masked: bool) {
        let mut params = SamplingParams { seed: 11, ..SamplingParams::default() };
        change(&mut params);
        let logits: Vec<f32> = (0..40).map(|x| 3.0 * (x as f32 * 1.7).sin()).collect();
        let expected = exact(&params, &logits, allowed);
        let mut sampler = Sampler::new(&params, &[]);
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
        assert!(square <= bar, "{square} > {bar} with {degrees} degrees: {params:?}");
    }
    check(|_| (), None);
    check(|s| s.temperature = 0.3, None);
    check(|s| s.temperature = 2.5, Some(&[0xF0F0_F0F0, 0x3F]));
    check(|s| s.top_k = 7, None);
    check(|s| s.top_p = 0.8, None);
    check(|s| s.min_p = 0.1, None);
    check(|s| (s.top_k, s.top_p, s.min_p) = (20, 0.9, 0.2), Some(&[0x0FFF_FFFF, 0xAA]));
    // As under a constraint: a second draw, masked, only if the first token is not allowed.
    check_draws(|_| (), Some(&[0xF0F0_F0F0, 0x3F]), false);
    check_draws(|s| s.temperature = 0.6, Some(&[0x0000_00FF, 0]), false);
}

fn logits() -> impl Strategy<Value = Vec<f32>> {
    // Coarse values, so that there are ties.
    let value = prop_oneof![9 => (-40..40_i32).prop_map(|x| x as f32 / 4.0), 1 => Just(f32::NEG_INFINITY)];
    proptest::collection::vec(value, 1..400)
}

fn any_params() -> impl Strategy<Value = SamplingParams> {
    (0.05_f32..3.0, 0_u32..50, 0.05_f32..1.2, 0.0_f32..0.5, any::<u64>()).prop_map(
        |(temperature, top_k, top_p, min_p, seed)| SamplingParams {
            temperature,
            top_k,
            top_p: top_p.min(1.0),
            min_p,
            seed,
            ..SamplingParams::default()
        },
    )
}

proptest! {
    #[test]
    fn what_is_masked_or_filtered_is_never_taken(
        logits in logits(),
        words in proptest::collection::vec(any::<u32>(), 13),
        params in any_params(),
    ) {
        let mask = &words[..logits.len().div_ceil(32)];
        let open: HashSet<usize> = (0..logits.len())
            .filter(|id| mask[id / 32] >> (id % 32) & 1 == 1 && logits[*id] > f32::NEG_INFINITY)
            .collect();
        let mut sampler = Sampler::new(&params, &[]);
        for _ in 0..20 {
            match sampler.sample(&logits, Some(mask)) {
                Ok(token) => {
                    let id = token.id as usize;
                    prop_assert!(open.contains(&id));
                    // The edge of a nucleus may lie between equals or within rounding: widen it
                    // a little.
                    let wide = SamplingParams {
                        top_p: (params.top_p + 1e-5).min(1.0),
                        min_p: (params.min_p - 1e-5).max(0.0),
                        ..params.clone()
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
    fn equal_seeds_give_equal_texts(params in any_params(), logits in logits()) {
        prop_assume!(logits.iter().any(|x| *x > f32::NEG_INFINITY));
        let text = |params: &SamplingParams| -> Vec<u32> {
            let mut sampler = Sampler::new(params, &[1, 2]);
            let ids = (0..30).map(|_| {
                let id = sampler.sample(&logits, None).unwrap().id;
                sampler.push(id);
                id
            });
            ids.collect()
        };
        prop_assert_eq!(text(&params), text(&params));
    }
}

#[test]
fn other_seeds_give_other_texts() {
    let logits = [0.0; 100];
    let text = |seed: u64| -> Vec<u32> {
        let mut sampler = Sampler::new(&SamplingParams { seed, ..SamplingParams::default() }, &[]);
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
