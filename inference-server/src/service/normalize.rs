//! Vectors as they are answered: cut to a length, divided by their norm, and checked.
//!
//! A number that is not finite makes no vector: it would poison every similarity it meets.

/// Floor of an L2 norm, as in torch's `normalize`.
const SMALLEST_NORM: f64 = 1e-12;

/// The first `dimensions` numbers as they are answered; `None` if there are fewer or one is not
/// finite.
pub(super) fn cut(vector: &[f32], dimensions: usize, normalize: bool) -> Option<Vec<f32>> {
    finished(vector.get(..dimensions)?.to_vec(), normalize)
}

/// The vector as it is answered; `None` if a number is not finite.
pub(super) fn finished(mut vector: Vec<f32>, normalize: bool) -> Option<Vec<f32>> {
    if normalize {
        // In f64: the squares of a thousand f32 lose digits that the unit length would show.
        let norm = vector.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt().max(SMALLEST_NORM);
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
    #[test]
    fn what_is_cut_is_normalised_again() {
        assert_eq!(cut(&[3.0, 4.0, 12.0], 2, true), Some(vec![0.6, 0.8]));
        assert_eq!(cut(&[f32::NAN, 1.0], 2, true), None);
        assert_eq!(cut(&[1.0], 2, true), None);
    }
}
