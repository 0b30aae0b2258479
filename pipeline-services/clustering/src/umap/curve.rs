//! The curve that turns distances in a layout into closeness, fitted as umap-learn does.
//!
//! A small least-squares fit without a library: it starts at the same place each time and gives the
//! same curve for the same two settings.

use crate::ClusteringError;
use crate::math::{exp, ln, pow};

/// The family 1 / (1 + a d^(2b)) that turns a distance in the result into a closeness.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Curve {
    /// Scale of the squared distance.
    pub a: f64,
    /// Half the exponent of the distance.
    pub b: f64,
}

/// As many as umap-learn's `find_ab_params` takes.
const SAMPLES: usize = 300;

/// Fits the curve to "1 up to `min_dist`, then exponential decay over `spread`", by least
/// squares on 300 points over [0, 3 `spread`], as umap-learn's `find_ab_params` does
/// (Levenberg-Marquardt from a = b = 1).
///
/// # Errors
/// [`ClusteringError::Parameter`] unless `spread` > 0 and 0 <= `min_dist` <= `spread`.
pub fn fit_curve(spread: f64, min_dist: f64) -> Result<Curve, ClusteringError> {
    if !(spread > 0.0 && spread.is_finite()) {
        return Err(ClusteringError::parameter("spread", spread, "above 0"));
    }
    if !(0.0..=spread).contains(&min_dist) {
        return Err(ClusteringError::parameter("min_dist", min_dist, "0 to spread"));
    }
    let points: Vec<(f64, f64)> = (0..SAMPLES)
        .map(|i| 3.0 * spread * i as f64 / (SAMPLES - 1) as f64)
        .map(|x| if x < min_dist { (x, 1.0) } else { (x, exp(-(x - min_dist) / spread)) })
        .collect();

    let mut curve = Curve { a: 1.0, b: 1.0 };
    let mut error = squared_error(curve, &points);
    let mut damping = 1e-3;
    for _ in 0..500 {
        let step = gauss_newton_step(curve, &points, damping);
        let candidate = Curve { a: curve.a + step.0, b: curve.b + step.1 };
        let candidate_error = squared_error(candidate, &points);
        if candidate_error.is_finite() && candidate_error <= error {
            let converged = step.0.abs() <= 1e-12 * curve.a.abs() && step.1.abs() <= 1e-12 * curve.b.abs();
            (curve, error) = (candidate, candidate_error);
            damping = (damping * 0.1).max(1e-15);
            if converged {
                break;
                // No step down is left that a 64-bit number could show.
            }
        } else {
            damping *= 10.0;
        }
        if damping > 1e12 {
            break;
        }
    }
    Ok(curve)
}

fn squared_error(curve: Curve, points: &[(f64, f64)]) -> f64 {
    points
        .iter()
        .map(|&(x, y)| y - 1.0 / (1.0 + curve.a * pow(x, 2.0 * curve.b)))
        .map(|residual| residual * residual)
        .sum()
}

/// Solves the damped 2x2 normal equations for the change of (a, b).
fn gauss_newton_step(curve: Curve, points: &[(f64, f64)], damping: f64) -> (f64, f64) {
    let (mut aa, mut ab, mut bb, mut ra, mut rb) = (0.0, 0.0, 0.0, 0.0, 0.0);
    // Without the point at 0, whose value is 1 for any curve and whose logarithm is infinite.
    for &(x, y) in points.iter().filter(|p| p.0 > 0.0) {
        let power = pow(x, 2.0 * curve.b);
        let value = 1.0 / (1.0 + curve.a * power);
        let by_a = -power * value * value;
        let by_b = by_a * curve.a * 2.0 * ln(x);
        let residual = y - value;
        aa += by_a * by_a;
        ab += by_a * by_b;
        bb += by_b * by_b;
        ra += by_a * residual;
        rb += by_b * residual;
    }
    let (aa, bb) = (aa * (1.0 + damping), bb * (1.0 + damping));
    let determinant = aa * bb - ab * ab;
    ((bb * ra - ab * rb) / determinant, (aa * rb - ab * ra) / determinant)
}
