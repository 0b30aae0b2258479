//! From a model's vector to the bytes of an answer: cut, normalised, encoded.

use half::{bf16, f16};
use observatory_proto::inference::v1 as pb;

use crate::error::Error;
use crate::models::ModelInfo;

/// The form in which a request wants its vectors.
#[derive(Debug, Clone, Copy)]
pub(super) struct Form {
    /// Numbers kept of a vector.
    pub(super) dimensions: usize,
    /// Whether what is kept is divided by its L2 norm.
    pub(super) normalize: bool,
    encoding: pb::VectorEncoding,
}

impl Form {
    /// What the settings ask for.
    ///
    /// # Errors
    /// [`Error::InvalidValue`] for an unknown encoding, and for a length that the model was not
    /// trained to be cut to.
    pub(super) fn asked(settings: &pb::EmbedSettings, info: &ModelInfo) -> Result<Self, Error> {
        let encoding = match pb::VectorEncoding::try_from(settings.encoding) {
            Ok(pb::VectorEncoding::Unspecified) => pb::VectorEncoding::F32,
            Ok(encoding) => encoding,
            Err(_) => {
                let allowed = "0 to 5 (see VectorEncoding)";
                return Err(super::invalid_enum("settings.encoding", settings.encoding, allowed));
            }
        };
        let dimensions = dimensions(settings.dimensions, info)?;
        Ok(Self { dimensions, normalize: settings.normalize.unwrap_or(info.normalize), encoding })
    }

    /// Bytes of one vector.
    pub(super) fn row_bytes(&self) -> usize {
        match self.encoding {
            pb::VectorEncoding::Unspecified | pb::VectorEncoding::F32 => self.dimensions * 4,
            pb::VectorEncoding::F16 | pb::VectorEncoding::Bf16 => self.dimensions * 2,
            pb::VectorEncoding::Int8 => self.dimensions,
            pb::VectorEncoding::Binary => self.dimensions.div_ceil(8),
        }
    }

    /// Whether a row is of no use without its scale.
    pub(super) fn has_scales(&self) -> bool {
        self.encoding == pb::VectorEncoding::Int8
    }

    /// Writes the model's vector into its row and returns its scale, which is 1 where the encoding
    /// has none; `None`, and the row as it was, where the vector is not one of finite numbers.
    pub(super) fn write(&self, vector: &[f32], row: &mut [u8]) -> Option<f32> {
        let vector = finished(vector.get(..self.dimensions)?.to_vec(), self.normalize)?;
        let mut scale = 1.0;
        match self.encoding {
            pb::VectorEncoding::Unspecified | pb::VectorEncoding::F32 => {
                fill(row, &vector, |value| value.to_le_bytes());
            }
            pb::VectorEncoding::F16 => fill(row, &vector, |value| f16::from_f32(value).to_le_bytes()),
            pb::VectorEncoding::Bf16 => fill(row, &vector, |value| bf16::from_f32(value).to_le_bytes()),
            pb::VectorEncoding::Int8 => {
                scale = vector.iter().fold(0.0, |largest: f32, value| largest.max(value.abs())) / 127.0;
                // A scale of 0 stands for a vector of zeros, or of numbers that a float can hardly
                // tell from it.
                let steps = |value: f32| if scale > 0.0 { (value / scale).round_ties_even() } else { 0.0 };
                fill(row, &vector, |value| (steps(value) as i8).to_le_bytes());
            }
            pb::VectorEncoding::Binary => {
                for (byte, values) in row.iter_mut().zip(vector.chunks(8)) {
                    let bits = values.iter().enumerate().map(|(place, x)| u8::from(*x > 0.0) << (7 - place));
                    *byte = bits.sum();
                }
            }
        }
        Some(scale)
    }
}

fn dimensions(asked: Option<u32>, info: &ModelInfo) -> Result<usize, Error> {
    let Some(asked) = asked else { return Ok(info.dimensions) };
    let lengths: Vec<usize> = info.matryoshka.iter().copied().chain([info.dimensions]).collect();
    if lengths.contains(&(asked as usize)) {
        return Ok(asked as usize);
    }
    let lengths: Vec<String> = lengths.iter().map(usize::to_string).collect();
    Err(Error::InvalidValue {
        field: "settings.dimensions".to_owned(),
        value: asked.to_string(),
        allowed: format!("{} (what {} was trained for)", lengths.join(", "), info.name),
    })
}

fn fill<const N: usize>(row: &mut [u8], vector: &[f32], bytes: impl Fn(f32) -> [u8; N]) {
    for (place, value) in row.chunks_exact_mut(N).zip(vector) {
        place.copy_from_slice(&bytes(*value));
    }
}

/// The vector as it is sent, or `None` where it is not a vector of finite numbers.
///
/// The floor on the norm is the one of torch's `normalize`.
pub(super) fn finished(mut vector: Vec<f32>, normalize: bool) -> Option<Vec<f32>> {
    if normalize {
        let norm = vector.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt().max(1e-12);
        vector.iter_mut().for_each(|x| *x = (f64::from(*x) / norm) as f32);
    }
    vector.iter().all(|x| x.is_finite()).then_some(vector)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors_are_normalised_and_checked() {
        fn check(vector: &[f32], normalize: bool, expected: Option<&[f32]>) {
            assert_eq!(finished(vector.to_vec(), normalize).as_deref(), expected);
        }
        check(&[3.0, 4.0], true, Some(&[0.6, 0.8]));
        check(&[3.0, 4.0], false, Some(&[3.0, 4.0]));
        check(&[0.0, 0.0], true, Some(&[0.0, 0.0]));
        check(&[1e30, 0.0], true, Some(&[1.0, 0.0]));
        check(&[f32::NAN, 1.0], true, None);
        check(&[f32::INFINITY, 1.0], false, None);
    }

    /// Bytes and scale of a vector that is sent as it is.
    #[track_caller]
    fn check(encoding: pb::VectorEncoding, vector: &[f32], expected: &[u8], scale: f32) {
        let form = Form { dimensions: vector.len(), normalize: false, encoding };
        let mut row = vec![0; form.row_bytes()];
        assert_eq!(form.write(vector, &mut row), Some(scale));
        assert_eq!(row, expected, "{encoding:?}");
    }

    #[test]
    fn encodings_are_the_published_ones() {
        use pb::VectorEncoding::{Bf16, Binary, F16, F32, Int8};
        check(F32, &[1.0, -2.0], &[0, 0, 0x80, 0x3f, 0, 0, 0, 0xc0], 1.0);
        // 1 + 2^-11 lies half-way between two binary16 numbers, and 1 + 2^-8 between two bf16 ones:
        // to the even one.
        check(F16, &[1.000_488_3, -2.0, 70_000.0], &[0, 0x3c, 0, 0xc0, 0, 0x7c], 1.0);
        check(Bf16, &[1.003_906_3, 1.011_718_8], &[0x80, 0x3f, 0x82, 0x3f], 1.0);
        check(Int8, &[0.5, -1.27, 0.006, 0.0], &[50, 129, 1, 0], 0.01);
        check(Int8, &[0.0, 0.0], &[0, 0], 0.0);
        // numpy.packbits([1, 0, 1, 0, 0, 0, 0, 0, 1]) is [160, 128].
        check(Binary, &[0.1, -0.1, 3.0, 0.0, -1.0, -1.0, -1.0, -1.0, 1e-9], &[160, 128], 1.0);
    }

    #[test]
    fn what_is_cut_is_normalised_again() {
        let form = Form { dimensions: 2, normalize: true, encoding: pb::VectorEncoding::F32 };
        let mut row = [0; 8];
        assert_eq!(form.write(&[3.0, 4.0, 12.0], &mut row), Some(1.0));
        assert_eq!(row, [0.6_f32.to_le_bytes(), 0.8_f32.to_le_bytes()].concat().as_slice());
        assert_eq!(form.write(&[f32::NAN, 1.0], &mut [0; 8]), None);
        assert_eq!(form.write(&[1.0], &mut [0; 8]), None);
    }
}
