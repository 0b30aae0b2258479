//! Rotation of heads by position, and how its waves are stretched for longer texts.

use std::f64::consts::TAU;

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;

/// Rotation of one kind of layer.
#[derive(Debug, Clone, PartialEq)]
pub struct Rotation {
    /// One frequency for each pair of columns of a head.
    pub frequencies: Vec<f32>,
    /// Factor of sines and cosines.
    pub scale: f32,
}

/// `rope_scaling` or `rope_parameters`, old and new names.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Rope {
    #[serde(alias = "type")]
    rope_type: Option<String>,
    pub(super) rope_theta: Option<f64>,
    partial_rotary_factor: Option<f64>,
    factor: Option<f64>,
    low_freq_factor: Option<f64>,
    high_freq_factor: Option<f64>,
    original_max_position_embeddings: Option<usize>,
    attention_factor: Option<f64>,
    beta_fast: Option<f64>,
    beta_slow: Option<f64>,
    mscale: Option<f64>,
    mscale_all_dim: Option<f64>,
    truncate: Option<bool>,
}

/// What a rotation is worked out for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Head {
    /// Base of the frequencies, where the settings have none.
    pub(super) base: f64,
    /// Columns of a head.
    pub(super) size: usize,
    /// Part of them that is rotated, where the settings do not say.
    pub(super) partial: Option<f64>,
    /// Tokens of a text, `max_position_embeddings`.
    pub(super) context: usize,
}

impl Rope {
    /// Tokens of a text: YaRN reaches as far as its factor says, even where
    /// `max_position_embeddings` is still that of the training.
    pub(super) fn context(&self, trained: usize) -> usize {
        if self.kind() != "yarn" {
            return trained;
        }
        let original = self.original_max_position_embeddings.unwrap_or(trained);
        trained.max((original as f64 * self.factor.unwrap_or(1.0)) as usize)
    }

    fn kind(&self) -> &str {
        self.rope_type.as_deref().unwrap_or("default")
    }

    pub(super) fn rotation(&self, head: Head) -> Result<Rotation> {
        let part = self.partial_rotary_factor.or(head.partial).unwrap_or(1.0);
        ensure!(part > 0.0 && part <= 1.0, "partial_rotary_factor is {part}, allowed are 0 to 1");
        let rotated = (head.size as f64 * part) as usize / 2 * 2;
        let base = self.rope_theta.unwrap_or(head.base);
        let plain: Vec<f64> =
            (0..rotated).step_by(2).map(|column| base.powf(-(column as f64) / rotated as f64)).collect();
        let factor = self.factor.unwrap_or(1.0);
        ensure!(factor > 0.0 && factor.is_finite(), "rope_scaling has factor {factor}, it must be positive");
        let mut scale = 1.0;
        let frequencies: Vec<f64> = match self.kind() {
            "default" => plain,
            "linear" => plain.into_iter().map(|frequency| frequency / factor).collect(),
            "llama3" => {
                let original = self.original_max_position_embeddings;
                let original = original.context("rope_scaling has no original_max_position_embeddings")?;
                let low = self.low_freq_factor.unwrap_or(1.0);
                let high = self.high_freq_factor.unwrap_or(4.0);
                let stretch = |frequency| stretched(frequency, factor, original as f64, low, high);
                plain.into_iter().map(stretch).collect()
            }
            "yarn" => {
                scale = self.attention(factor);
                let kept = self.kept(base, rotated, head.context);
                let stretch = |(frequency, kept): (f64, f64)| frequency * (kept + (1.0 - kept) / factor);
                plain.into_iter().zip(kept).map(stretch).collect()
            }
            other => {
                bail!("rope type \"{other}\" is not served, allowed are default, linear, llama3 and yarn")
            }
        };
        let frequencies = frequencies.into_iter().map(|frequency| frequency as f32).collect();
        Ok(Rotation { frequencies, scale: scale as f32 })
    }

    /// What YaRN (Peng et al. 2023, arXiv:2309.00071) multiplies sines and cosines by.
    fn attention(&self, factor: f64) -> f64 {
        let sharper = |by: f64| if factor <= 1.0 { 1.0 } else { 0.1 * by * factor.ln() + 1.0 };
        let set = |value: Option<f64>| value.filter(|value| *value != 0.0);
        self.attention_factor.unwrap_or(match (set(self.mscale), set(self.mscale_all_dim)) {
            (Some(scale), Some(all)) => sharper(scale) / sharper(all),
            _ => sharper(1.0),
        })
    }

    /// How much of each frequency YaRN keeps: all of those that turn `beta_fast` times and more in
    /// the original context, nothing of those that turn `beta_slow` times at most.
    fn kept(&self, base: f64, rotated: usize, context: usize) -> impl Iterator<Item = f64> + use<> {
        let original = self.original_max_position_embeddings.unwrap_or(context) as f64;
        let column = |turns: f64| rotated as f64 * (original / (turns * TAU)).ln() / (2.0 * base.ln());
        let set = |value: Option<f64>, or: f64| value.filter(|value| *value != 0.0).unwrap_or(or);
        let (mut low, mut high) = (column(set(self.beta_fast, 32.0)), column(set(self.beta_slow, 1.0)));
        if self.truncate.unwrap_or(true) {
            (low, high) = (low.floor(), high.ceil());
        }
        let (low, high) = (low.max(0.0), high.min(rotated as f64 - 1.0));
        let width = if low == high { 0.001 } else { high - low };
        (0..rotated / 2).map(move |index| 1.0 - ((index as f64 - low) / width).clamp(0.0, 1.0))
    }
}

/// Llama 3.1's frequencies: long waves are stretched by the factor, short ones not, those between
/// in part.
fn stretched(frequency: f64, factor: f64, original: f64, low: f64, high: f64) -> f64 {
    let waves = original * frequency / TAU;
    let smooth = ((waves - low) / (high - low)).clamp(0.0, 1.0);
    (1.0 - smooth) * frequency / factor + smooth * frequency
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn rotation(settings: Value, head: Head) -> Rotation {
        serde_json::from_value::<Rope>(settings).unwrap().rotation(head).unwrap()
    }

    #[test]
    fn long_waves_are_stretched() {
        // Wave lengths of 2π·1, and of 2π·10⁶ tokens, in a context of 8192.
        assert_eq!(stretched(1.0, 8.0, 8_192.0, 1.0, 4.0), 1.0);
        assert_eq!(stretched(1e-6, 8.0, 8_192.0, 1.0, 4.0), 1e-6 / 8.0);
        let between = stretched(TAU * 2.0 / 8_192.0, 8.0, 8_192.0, 1.0, 4.0) / (TAU * 2.0 / 8_192.0);
        assert!((between - (1.0 / 3.0 + 2.0 / 3.0 / 8.0)).abs() < 1e-12);
    }

    /// Against `_compute_yarn_parameters` of transformers 5.23.
    #[test]
    fn yarn_is_that_of_transformers() {
        fn check(settings: Value, context: usize, frequencies: [f32; 8], scale: f32) {
            let found = rotation(settings, Head { base: 1.0, size: 16, partial: None, context });
            assert!((found.scale - scale).abs() < 1e-6, "{}", found.scale);
            for (x, expected) in found.frequencies.iter().zip(frequencies) {
                assert!((x - expected).abs() <= 2e-6 * expected, "{x} {expected}");
            }
        }
        check(
            json!({"type": "yarn", "rope_theta": 1e6, "factor": 4.0}),
            32_768,
            [1.0, 0.177_827_9, 0.031_622_78, 0.004_217_56, 0.000_5, 4.445_699e-5, 7.905_694e-6, 1.405_853e-6],
            1.138_629_4,
        );
        check(
            json!({
                "rope_type": "yarn", "rope_theta": 1e4, "factor": 8.0, "original_max_position_embeddings": 64,
                "beta_fast": 16, "beta_slow": 2, "mscale": 0.707, "mscale_all_dim": 0.5, "truncate": false
            }),
            256,
            [1.0, 0.120_534, 0.012_5, 0.003_952_847, 0.001_25, 0.000_395_284_7, 0.000_125, 3.952_847e-5],
            1.038_990_5,
        );
    }

    #[test]
    fn yarn_reaches_as_far_as_its_factor_says() {
        let context = |settings: Value, trained: usize| {
            serde_json::from_value::<Rope>(settings).unwrap().context(trained)
        };
        let yarn = json!({"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32_768});
        assert_eq!(context(yarn.clone(), 32_768), 131_072);
        assert_eq!(context(yarn, 131_072), 131_072);
        assert_eq!(context(json!({"type": "linear", "factor": 4.0}), 4_096), 4_096);
    }
}
