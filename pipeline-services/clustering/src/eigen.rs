//! Leading eigenvectors by Chebyshev-filtered subspace iteration (Zhou, Saad, Tiago &
//! Chelikowsky 2006): sparse products and small dense algebra only, no LAPACK.
//!
//! `W` is the width of the iterated block: the wanted vectors and some more, which is what
//! makes the wanted ones converge.

use crate::graph::FuzzyGraph;
use crate::rng::Stream;

/// Degree of the polynomial filter per round. Not tuned: a higher one separates more in a round and
/// takes as many more products.
const DEGREE: usize = 10;
/// Random stream of the block's first values: any that no other part of the crate draws from.
const STREAM: u32 = u32::MAX - 3;

/// How long [`leading`] iterates.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Effort {
    /// Vectors that have to converge, below `W`.
    pub(crate) wanted: usize,
    /// The residual at which a vector has.
    pub(crate) tolerance: f64,
    /// Rounds before the best so far is taken.
    pub(crate) rounds: usize,
}

/// The leading part of a spectrum.
pub(crate) struct Spectrum<const W: usize> {
    /// One vector per column, of unit length, by falling eigenvalue; columns from `rank` on are 0.
    pub(crate) vectors: Vec<[f64; W]>,
    /// Eigenvalues of the columns.
    pub(crate) values: [f64; W],
    /// Columns found; fewer than `W` where the graph has no more.
    pub(crate) rank: usize,
    /// The unit eigenvector of eigenvalue 1 that the columns are orthogonal to: the roots of
    /// the degrees.
    pub(crate) trivial: Vec<f64>,
}

/// The eigenvectors of D^-1/2 W D^-1/2 that follow the trivial first one.
pub(crate) fn leading<const W: usize>(graph: &FuzzyGraph, effort: Effort, seed: u64) -> Spectrum<W> {
    let operator = Normalised::new(graph);
    let mut block: Vec<[f64; W]> = (0..graph.rows())
        .map(|row| {
            let mut stream = Stream::new(seed, STREAM, row as u32);
            std::array::from_fn(|_| stream.symmetric())
        })
        .collect();
    let (mut values, mut rank) = ([0.0; W], 0);
    for round in 0..effort.rounds {
        rank = orthonormalise(&mut block, &operator.trivial);
        if rank == 0 {
            break;
        }
        let (ritz, residual) = rayleigh_ritz(&operator, &mut block, rank, effort.wanted);
        // Ends before the filter, so that the returned values belong to the returned vectors.
        values = ritz;
        if residual < effort.tolerance || round + 1 == effort.rounds {
            break;
        }
        // Whatever lies below the block's smallest value is unwanted, so the filter may damp all of
        // it.
        block = filter(&operator, block, values[rank - 1]);
    }
    Spectrum { vectors: block, values, rank, trivial: operator.trivial }
}

/// D^-1/2 W D^-1/2 as an operator on blocks; its eigenvalues lie in [-1, 1].
struct Normalised<'a> {
    graph: &'a FuzzyGraph,
    inverse_root_degree: Vec<f64>,
    trivial: Vec<f64>,
}

impl<'a> Normalised<'a> {
    fn new(graph: &'a FuzzyGraph) -> Self {
        let degrees: Vec<f64> =
            (0..graph.rows()).map(|row| graph.row(row).map(|(_, w)| f64::from(w)).sum()).collect();
        let total: f64 = degrees.iter().sum();
        // A point without edges has degree 0: its row of the operator is 0 instead of NaN.
        let inverse_root_degree =
            degrees.iter().map(|d: &f64| if *d > 0.0 { 1.0 / d.sqrt() } else { 0.0 }).collect();
        let trivial = degrees.iter().map(|d| if total > 0.0 { (d / total).sqrt() } else { 0.0 }).collect();
        Self { graph, inverse_root_degree, trivial }
    }

    fn apply<const W: usize>(&self, block: &[[f64; W]]) -> Vec<[f64; W]> {
        (0..block.len())
            .map(|row| {
                let mut sum = [0.0; W];
                for (column, weight) in self.graph.row(row) {
                    let scale = f64::from(weight) * self.inverse_root_degree[column as usize];
                    let other = &block[column as usize];
                    (0..W).for_each(|c| sum[c] += scale * other[c]);
                }
                sum.map(|v| v * self.inverse_root_degree[row])
            })
            .collect()
    }
}

/// Gram-Schmidt, twice for accuracy, against `trivial` and the columns before; dependent
/// columns are dropped, the kept ones moved to the front. Returns how many were kept.
fn orthonormalise<const W: usize>(block: &mut [[f64; W]], trivial: &[f64]) -> usize {
    let mut rank = 0;
    for column in 0..W {
        let before = norm(block, column);
        // "Twice is enough" (Kahan, in Parlett, *The Symmetric Eigenvalue Problem*): where columns
        // are nearly dependent, one pass leaves errors that a second removes.
        for _ in 0..2 {
            // Products with all kept columns at once: a row is contiguous, a column is not.
            let (mut along, mut along_trivial) = ([0.0; W], 0.0);
            for (row, t) in block.iter().zip(trivial) {
                let value = row[column];
                along_trivial += value * t;
                (0..rank).for_each(|kept| along[kept] += value * row[kept]);
            }
            for (row, t) in block.iter_mut().zip(trivial) {
                let inside: f64 = (0..rank).map(|kept| along[kept] * row[kept]).sum();
                row[column] -= along_trivial * t + inside;
            }
        }
        let after = norm(block, column);
        // Measured by the length before: what is left of a dependent column is rounding.
        let keep = after > 1e-9 * before && after > 0.0;
        for row in block.iter_mut() {
            let value = if keep { row[column] / after } else { 0.0 };
            row[column] = 0.0;
            if keep {
                row[rank] = value;
            }
        }
        rank += usize::from(keep);
    }
    rank
}

fn norm<const W: usize>(block: &[[f64; W]], column: usize) -> f64 {
    block.iter().map(|row| row[column] * row[column]).sum::<f64>().sqrt()
}

/// Turns the block into Ritz vectors, largest value first. Returns the Ritz values and the
/// largest residual among the first `wanted` vectors.
fn rayleigh_ritz<const W: usize>(
    operator: &Normalised<'_>,
    block: &mut [[f64; W]],
    rank: usize,
    wanted: usize,
) -> ([f64; W], f64) {
    let mut image = operator.apply(block);
    let mut small = [[0.0; W]; W];
    for (v, w) in block.iter().zip(&image) {
        for i in 0..rank {
            for j in 0..rank {
                small[i][j] += v[i] * w[j];
            }
        }
    }
    let (values, vectors) = symmetric_eigen(small, rank);
    rotate(block, &vectors, rank);
    rotate(&mut image, &vectors, rank);
    let residual =
        (0..wanted.min(rank)).map(|c| residual_of(block, &image, values[c], c)).fold(0.0, f64::max);
    (values, residual)
}

/// The length of what `image`, the operator's result, differs by from `value` times the column.
fn residual_of<const W: usize>(block: &[[f64; W]], image: &[[f64; W]], value: f64, column: usize) -> f64 {
    let off = block.iter().zip(image).map(|(v, w)| w[column] - value * v[column]);
    off.map(|off| off * off).sum::<f64>().sqrt()
}

fn rotate<const W: usize>(block: &mut [[f64; W]], vectors: &[[f64; W]; W], rank: usize) {
    for row in block {
        let old = *row;
        *row = [0.0; W];
        for i in 0..rank {
            for j in 0..rank {
                row[j] += old[i] * vectors[i][j];
            }
        }
    }
}

/// Chebyshev polynomial of the operator, small on [-1, `cut`] and growing above it.
fn filter<const W: usize>(operator: &Normalised<'_>, block: Vec<[f64; W]>, cut: f64) -> Vec<[f64; W]> {
    // A cut at the very top would leave nothing to amplify.
    let cut = cut.clamp(-0.9, 0.999_999);
    let (centre, half) = ((cut - 1.0) / 2.0, (cut + 1.0) / 2.0);
    // The recurrence T_k+1(x) = 2 x T_k(x) - T_k-1(x), with [-1, cut] moved to [-1, 1], where the
    // polynomials stay small.
    let mut current = shifted(&operator.apply(&block), &block, centre, 1.0 / half);
    let mut previous = block;
    for _ in 1..DEGREE {
        let mut next = shifted(&operator.apply(&current), &current, centre, 2.0 / half);
        for (n, p) in next.iter_mut().zip(&previous) {
            (0..W).for_each(|c| n[c] -= p[c]);
        }
        previous = std::mem::replace(&mut current, next);
    }
    current
}

/// `scale` times (`image` - `centre` `from`), `image` being what the operator makes of `from`.
fn shifted<const W: usize>(image: &[[f64; W]], from: &[[f64; W]], centre: f64, scale: f64) -> Vec<[f64; W]> {
    image.iter().zip(from).map(|(w, v)| std::array::from_fn(|c| (w[c] - centre * v[c]) * scale)).collect()
}

/// Cyclic Jacobi rotations on the leading `size` x `size` part; eigenvalues descending,
/// eigenvectors in columns.
fn symmetric_eigen<const W: usize>(mut a: [[f64; W]; W], size: usize) -> ([f64; W], [[f64; W]; W]) {
    let mut vectors: [[f64; W]; W] =
        std::array::from_fn(|i| std::array::from_fn(|j| if i == j { 1.0 } else { 0.0 }));
    // A bound only: the sweeps converge quadratically, and a few of them end below.
    for _ in 0..60 {
        let off: f64 =
            (0..size).flat_map(|p| (p + 1..size).map(move |q| (p, q))).map(|(p, q)| a[p][q] * a[p][q]).sum();
        if off < 1e-28 {
            break;
        }
        for p in 0..size {
            for q in p + 1..size {
                jacobi_rotation(&mut a, &mut vectors, (p, q), size);
            }
        }
    }
    let mut order: Vec<usize> = (0..size).collect();
    order.sort_by(|x, y| a[*y][*y].total_cmp(&a[*x][*x]));
    let (mut values, mut sorted) = ([0.0; W], [[0.0; W]; W]);
    for (to, from) in order.into_iter().enumerate() {
        values[to] = a[from][from];
        (0..size).for_each(|i| sorted[i][to] = vectors[i][from]);
    }
    (values, sorted)
}

fn jacobi_rotation<const W: usize>(
    a: &mut [[f64; W]; W],
    vectors: &mut [[f64; W]; W],
    (p, q): (usize, usize),
    size: usize,
) {
    // Dividing by such an entry would overflow.
    if a[p][q].abs() < 1e-300 {
        return;
    }
    let theta = (a[q][q] - a[p][p]) / (2.0 * a[p][q]);
    // The smaller of the two angles that zero the entry: it disturbs the others least.
    let t = theta.signum() / (theta.abs() + (theta * theta + 1.0).sqrt());
    let c = 1.0 / (t * t + 1.0).sqrt();
    let s = t * c;
    for row in a.iter_mut().take(size) {
        (row[p], row[q]) = (c * row[p] - s * row[q], s * row[p] + c * row[q]);
    }
    let (upper, lower) = (a[p], a[q]);
    for i in 0..size {
        a[p][i] = c * upper[i] - s * lower[i];
        a[q][i] = s * upper[i] + c * lower[i];
    }
    for row in vectors.iter_mut().take(size) {
        (row[p], row[q]) = (c * row[p] - s * row[q], s * row[p] + c * row[q]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WIDTH: usize = 12;

    fn path(rows: usize) -> FuzzyGraph {
        let mut graph = FuzzyGraph::empty();
        for row in 0..rows {
            for other in [row.wrapping_sub(1), row + 1].into_iter().filter(|o| *o < rows) {
                graph.columns.push(other as u32);
                graph.weights.push(1.0);
            }
            graph.offsets.push(graph.columns.len());
        }
        graph
    }

    fn spectrum(rows: usize) -> Spectrum<WIDTH> {
        leading(&path(rows), Effort { wanted: 2, tolerance: 1e-4, rounds: 25 }, 7)
    }

    /// The normalised path has the eigenvalues cos(pi k / (rows - 1)), so the residual of the
    /// returned vectors can be taken against known values.
    #[test]
    fn path_graphs_give_their_cosine_modes() {
        for rows in [3, 5, 13, 14, 60] {
            let found = spectrum(rows);
            let graph = path(rows);
            let image = Normalised::new(&graph).apply(&found.vectors);
            for c in 0..2 {
                let value = (std::f64::consts::PI * (c + 1) as f64 / (rows - 1) as f64).cos();
                let error = found
                    .vectors
                    .iter()
                    .zip(&image)
                    .map(|(v, w)| (w[c] - value * v[c]).abs())
                    .fold(0.0, f64::max);
                assert!(error < 1e-3, "{rows} rows, vector {c}: {error}");
                assert!((found.values[c] - value).abs() < 1e-3);
                assert!((norm(&found.vectors, c) - 1.0).abs() < 1e-9);
            }
        }
    }

    #[test]
    fn too_few_points_leave_columns_empty() {
        let found = spectrum(2);
        assert_eq!(found.rank, 1);
        assert!(found.vectors[0][0] * found.vectors[1][0] < 0.0);
        assert_eq!((found.vectors[0][1], found.vectors[1][1]), (0.0, 0.0));
    }
}
