//! Rotary position embeddings and their scaling for longer contexts.
//!
//! Su et al. 2021 (arXiv:2104.09864). A head is rotated in pairs of columns, each pair by its own
//! frequency. Models with a longer context than they were trained on scale the frequencies down:
//! all alike (linear, "position interpolation", Chen et al. 2023, arXiv:2306.15595), by wavelength
//! (llama3), or by wavelength with a sharper softmax (YaRN, Peng et al. 2023, arXiv:2309.00071,
//! whose scaling is "NTK-by-parts"). The reference is transformers' `modeling_rope_utils.py`.

use std::f64::consts::TAU;

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;

/// RoPE of one kind of layer, scaling included.
#[derive(Debug, Clone, PartialEq)]
pub struct Rope {
    /// Angle per position of each pair of columns of a head, in radians.
    pub frequencies: Vec<f32>,
    /// Factor of sines and cosines, so that attention scores grow by its square.
    pub attention_factor: f32,
}

/// `rope_scaling` or `rope_parameters` of `config.json`, by the old and the new names.
#[derive(Debug, Default, Deserialize)]
pub(super) struct RopeParameters {
    #[serde(alias = "type")]
    rope_type: Option<String>,
    rope_theta: Option<f64>,
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

/// Shape of a head, and defaults for what [`RopeParameters`] leave out.
#[derive(Debug, Clone, Copy)]
pub(super) struct RopeHead {
    /// Default base of the frequencies.
    pub(super) theta: f64,
    /// Columns of a head.
    pub(super) size: usize,
    /// Default fraction of the columns that is rotated; `None` for all.
    pub(super) partial_rotary_factor: Option<f64>,
    /// `max_position_embeddings`.
    pub(super) context: usize,
}

impl RopeParameters {
    /// Maximum tokens of a sequence. YaRN extends it by its factor, even if
    /// `max_position_embeddings` is still that of the training, as in Qwen's published files.
    pub(super) fn context(&self, max_position_embeddings: usize) -> usize {
        if self.rope_type() != "yarn" {
            return max_position_embeddings;
        }
        let original = self.original_max_position_embeddings.unwrap_or(max_position_embeddings);
        max_position_embeddings.max((original as f64 * self.factor.unwrap_or(1.0)) as usize)
    }

    fn rope_type(&self) -> &str {
        self.rope_type.as_deref().unwrap_or("default")
    }

    /// The scaled frequencies for a head.
    ///
    /// # Errors
    /// Names the key that is missing, out of range, or of an unknown type.
    pub(super) fn rope(&self, head: RopeHead) -> Result<Rope> {
        let part = self.partial_rotary_factor.or(head.partial_rotary_factor).unwrap_or(1.0);
        ensure!(part > 0.0 && part <= 1.0, "invalid partial_rotary_factor {part}: expected 0 to 1");
        // Truncated like Python's `int()`, then to whole pairs.
        let rotated = (head.size as f64 * part) as usize / 2 * 2;
        let theta = self.rope_theta.unwrap_or(head.theta);
        let factor = self.factor.unwrap_or(1.0);
        ensure!(
            factor > 0.0 && factor.is_finite(),
            "invalid factor {factor} in rope_scaling: expected a positive number"
        );
        // In f64 until the end: a power of a large base, rounded to f32 first, would be scaled with
        // its error.
        let mut frequencies: Vec<f64> =
            (0..rotated).step_by(2).map(|column| theta.powf(-(column as f64) / rotated as f64)).collect();
        let mut attention_factor = 1.0;
        match self.rope_type() {
            "default" => {}
            "linear" => frequencies.iter_mut().for_each(|frequency| *frequency /= factor),
            "llama3" => self.scale_llama3(&mut frequencies, factor)?,
            "yarn" => {
                attention_factor = self.yarn_attention_factor(factor);
                let extrapolated = self.yarn_extrapolation(theta, rotated, head.context);
                for (frequency, extrapolated) in frequencies.iter_mut().zip(extrapolated) {
                    *frequency *= extrapolated + (1.0 - extrapolated) / factor;
                }
            }
            other => bail!("invalid rope type `{other}`: expected default, linear, llama3 or yarn"),
        }
        let frequencies = frequencies.into_iter().map(|frequency| frequency as f32).collect();
        Ok(Rope { frequencies, attention_factor: attention_factor as f32 })
    }

    fn scale_llama3(&self, frequencies: &mut [f64], factor: f64) -> Result<()> {
        let original = self.original_max_position_embeddings;
        let original = original.context("rope_scaling has no original_max_position_embeddings")?;
        let (low, high) = (self.low_freq_factor.unwrap_or(1.0), self.high_freq_factor.unwrap_or(4.0));
        // The ramp between the two is divided by its width.
        ensure!(
            high > low,
            "invalid high_freq_factor {high} in rope_scaling: expected more than low_freq_factor {low}"
        );
        for frequency in frequencies {
            *frequency = llama3_frequency(*frequency, factor, original as f64, low, high);
        }
        Ok(())
    }

    /// YaRN's factor of sines and cosines: √(1/t) of the paper, as DeepSeek's `mscale`
    /// modifies it.
    fn yarn_attention_factor(&self, factor: f64) -> f64 {
        self.attention_factor.unwrap_or(match (nonzero(self.mscale), nonzero(self.mscale_all_dim)) {
            (Some(scale), Some(all)) => mscale(factor, scale) / mscale(factor, all),
            _ => mscale(factor, 1.0),
        })
    }

    /// Share of extrapolation in each frequency, the rest being interpolation: 1 for those that
    /// turn `beta_fast` times or more within the original context, 0 for those that turn at most
    /// `beta_slow` times, and a linear ramp over the columns between.
    fn yarn_extrapolation(
        &self,
        theta: f64,
        rotated: usize,
        context: usize,
    ) -> impl Iterator<Item = f64> + use<> {
        let original = self.original_max_position_embeddings.unwrap_or(context) as f64;
        let (fast, slow) = (nonzero(self.beta_fast).unwrap_or(32.0), nonzero(self.beta_slow).unwrap_or(1.0));
        let mut low = turning_column(fast, rotated, original, theta);
        let mut high = turning_column(slow, rotated, original, theta);
        if self.truncate.unwrap_or(true) {
            (low, high) = (low.floor(), high.ceil());
        }
        let (low, high) = (low.max(0.0), high.min(rotated as f64 - 1.0));
        // As in transformers: a ramp of no width would divide by zero.
        let width = if low == high { 0.001 } else { high - low };
        (0..rotated / 2).map(move |index| 1.0 - ((index as f64 - low) / width).clamp(0.0, 1.0))
    }
}

/// The column, of those rotated, whose frequency turns so often within the original context.
fn turning_column(turns: f64, rotated: usize, original: f64, theta: f64) -> f64 {
    rotated as f64 * (original / (turns * TAU)).ln() / (2.0 * theta.ln())
}

/// Growth of the attention factor with the context; `get_mscale` of transformers.
fn mscale(factor: f64, by: f64) -> f64 {
    if factor <= 1.0 { 1.0 } else { 0.1 * by * factor.ln() + 1.0 }
}

/// Python's truth: transformers treats 0 like a key that is left out.
fn nonzero(value: Option<f64>) -> Option<f64> {
    value.filter(|value| *value != 0.0)
}

/// A frequency of Llama 3.1: divided by the factor if it turns at most `low` times within the
/// original context, unchanged from `high` times on, and interpolated between.
fn llama3_frequency(frequency: f64, factor: f64, original: f64, low: f64, high: f64) -> f64 {
    let turns = original * frequency / TAU;
    let smooth = ((turns - low) / (high - low)).clamp(0.0, 1.0);
    (1.0 - smooth) * frequency / factor + smooth * frequency
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn rope(settings: Value, head: RopeHead) -> Rope {
        serde_json::from_value::<RopeParameters>(settings).unwrap().rope(head).unwrap()
    }

    #[test]
    fn long_waves_are_llama3_frequency() {
        // Wave lengths of 2π·1, and of 2π·10⁶ tokens, in a context of 8192.
        assert_eq!(llama3_frequency(1.0, 8.0, 8_192.0, 1.0, 4.0), 1.0);
        assert_eq!(llama3_frequency(1e-6, 8.0, 8_192.0, 1.0, 4.0), 1e-6 / 8.0);
        let between = llama3_frequency(TAU * 2.0 / 8_192.0, 8.0, 8_192.0, 1.0, 4.0) / (TAU * 2.0 / 8_192.0);
        assert!((between - (1.0 / 3.0 + 2.0 / 3.0 / 8.0)).abs() < 1e-12);
    }

    /// Against `_compute_yarn_parameters` of transformers 5.23.
    #[test]
    fn yarn_is_that_of_transformers() {
        fn check(settings: Value, context: usize, frequencies: [f32; 8], scale: f32) {
            let found =
                rope(settings, RopeHead { theta: 1.0, size: 16, partial_rotary_factor: None, context });
            assert!((found.attention_factor - scale).abs() < 1e-6, "{}", found.attention_factor);
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
            serde_json::from_value::<RopeParameters>(settings).unwrap().context(trained)
        };
        let yarn = json!({"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32_768});
        assert_eq!(context(yarn.clone(), 32_768), 131_072);
        assert_eq!(context(yarn, 131_072), 131_072);
        assert_eq!(context(json!({"type": "linear", "factor": 4.0}), 4_096), 4_096);
    }
}
