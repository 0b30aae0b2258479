//! Leading eigenvectors by Chebyshev-filtered subspace iteration (Zhou, Saad, Tiago &
//! Chelikowsky 2006): sparse products and small dense algebra only, no LAPACK.

use crate::rng::Stream;
use crate::umap::FuzzyGraph;

/// Width of the iterated block: the wanted vectors and some more, which is what makes the
/// wanted ones converge.
const WIDTH: usize = 12;
/// Degree of the polynomial filter per round.
const DEGREE: usize = 10;
/// Rounds before the best so far is taken; it is a starting point, not a result.
const MAX_ROUNDS: usize = 25;
/// Residual at which a vector counts as converged (umap-learn asks 1e-4 of ARPACK).
const TOLERANCE: f64 = 1e-4;

type Row = [f64; WIDTH];

/// The eigenvectors of D^-1/2 W D^-1/2 that follow the trivial first one, row-major,
/// `dims` <= 8 per row. Each has unit length and its largest entry positive. A graph with
/// too few points for `dims` vectors leaves the missing columns 0. The graph must be connected.
pub(super) fn leading(graph: &FuzzyGraph, dims: usize, seed: u64) -> Vec<f64> {
    let rows = graph.rows();
    let operator = Normalised::new(graph);
    let mut block: Vec<Row> = (0..rows)
        .map(|row| {
            let mut stream = Stream::new(seed, super::START_STREAM - 3, row as u32);
            std::array::from_fn(|_| stream.symmetric())
        })
        .collect();
    for round in 0..MAX_ROUNDS {
        let rank = orthonormalise(&mut block, &operator.trivial);
        if rank == 0 {
            break;
        }
        let (cut, residual) = rayleigh_ritz(&operator, &mut block, rank, dims);
        if residual < TOLERANCE || round + 1 == MAX_ROUNDS {
            break;
        }
        block = filter(&operator, block, cut);
    }
    orient(&block, dims)
}

/// D^-1/2 W D^-1/2 as an operator on blocks; its eigenvalues lie in [-1, 1].
struct Normalised<'a> {
    graph: &'a FuzzyGraph,
    inverse_root_degree: Vec<f64>,
    /// The unit eigenvector of eigenvalue 1, known beforehand: the roots of the degrees.
    trivial: Vec<f64>,
}

impl<'a> Normalised<'a> {
    fn new(graph: &'a FuzzyGraph) -> Self {
        let degrees: Vec<f64> =
            (0..graph.rows()).map(|row| graph.row(row).map(|(_, w)| f64::from(w)).sum()).collect();
        let total: f64 = degrees.iter().sum();
        let inverse_root_degree =
            degrees.iter().map(|d: &f64| if *d > 0.0 { 1.0 / d.sqrt() } else { 0.0 }).collect();
        let trivial = degrees.iter().map(|d| if total > 0.0 { (d / total).sqrt() } else { 0.0 }).collect();
        Self { graph, inverse_root_degree, trivial }
    }

    fn apply(&self, block: &[Row]) -> Vec<Row> {
        (0..block.len())
            .map(|row| {
                let mut sum = [0.0; WIDTH];
                for (column, weight) in self.graph.row(row) {
                    let scale = f64::from(weight) * self.inverse_root_degree[column as usize];
                    let other = &block[column as usize];
                    (0..WIDTH).for_each(|c| sum[c] += scale * other[c]);
                }
                sum.map(|v| v * self.inverse_root_degree[row])
            })
            .collect()
    }
}

/// Gram-Schmidt, twice for accuracy, against `trivial` and the columns before; dependent
/// columns are dropped, the kept ones moved to the front. Returns how many were kept.
fn orthonormalise(block: &mut [Row], trivial: &[f64]) -> usize {
    let mut rank = 0;
    for column in 0..WIDTH {
        let before = norm(block, column);
        for _ in 0..2 {
            let along: f64 = block.iter().zip(trivial).map(|(row, t)| row[column] * t).sum();
            block.iter_mut().zip(trivial).for_each(|(row, t)| row[column] -= along * t);
            for kept in 0..rank {
                let along: f64 = block.iter().map(|row| row[column] * row[kept]).sum();
                block.iter_mut().for_each(|row| row[column] -= along * row[kept]);
            }
        }
        let after = norm(block, column);
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

fn norm(block: &[Row], column: usize) -> f64 {
    block.iter().map(|row| row[column] * row[column]).sum::<f64>().sqrt()
}

/// Turns the block into Ritz vectors, largest value first. Returns the smallest Ritz value,
/// which bounds the part of the spectrum to be damped, and the largest residual among the
/// first `dims` vectors.
fn rayleigh_ritz(operator: &Normalised<'_>, block: &mut [Row], rank: usize, dims: usize) -> (f64, f64) {
    let mut image = operator.apply(block);
    let mut small = [[0.0; WIDTH]; WIDTH];
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
    let residual = (0..dims.min(rank))
        .map(|c| block.iter().zip(&image).map(|(v, w)| (w[c] - values[c] * v[c]).powi(2)).sum::<f64>().sqrt())
        .fold(0.0, f64::max);
    (values[rank - 1], residual)
}

fn rotate(block: &mut [Row], vectors: &[Row; WIDTH], rank: usize) {
    for row in block {
        let old = *row;
        *row = [0.0; WIDTH];
        for i in 0..rank {
            for j in 0..rank {
                row[j] += old[i] * vectors[i][j];
            }
        }
    }
}

/// Chebyshev polynomial of the operator, small on [-1, `cut`] and growing above it.
fn filter(operator: &Normalised<'_>, block: Vec<Row>, cut: f64) -> Vec<Row> {
    // A cut at the very top would leave nothing to amplify.
    let cut = cut.clamp(-0.9, 0.999_999);
    let (centre, half) = ((cut - 1.0) / 2.0, (cut + 1.0) / 2.0);
    let shifted = |image: Vec<Row>, from: &[Row], factor: f64| -> Vec<Row> {
        let scale = factor / half;
        image.iter().zip(from).map(|(w, v)| std::array::from_fn(|c| (w[c] - centre * v[c]) * scale)).collect()
    };
    let mut current = shifted(operator.apply(&block), &block, 1.0);
    let mut previous = block;
    for _ in 1..DEGREE {
        let mut next = shifted(operator.apply(&current), &current, 2.0);
        for (n, p) in next.iter_mut().zip(&previous) {
            (0..WIDTH).for_each(|c| n[c] -= p[c]);
        }
        previous = std::mem::replace(&mut current, next);
    }
    current
}

/// Cyclic Jacobi rotations on the leading `size` x `size` part; eigenvalues descending,
/// eigenvectors in columns.
fn symmetric_eigen(mut a: [Row; WIDTH], size: usize) -> (Row, [Row; WIDTH]) {
    let mut vectors: [Row; WIDTH] =
        std::array::from_fn(|i| std::array::from_fn(|j| if i == j { 1.0 } else { 0.0 }));
    for _ in 0..60 {
        let off: f64 =
            (0..size).flat_map(|p| (p + 1..size).map(move |q| (p, q))).map(|(p, q)| a[p][q].powi(2)).sum();
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
    let (mut values, mut sorted) = ([0.0; WIDTH], [[0.0; WIDTH]; WIDTH]);
    for (to, from) in order.into_iter().enumerate() {
        values[to] = a[from][from];
        (0..size).for_each(|i| sorted[i][to] = vectors[i][from]);
    }
    (values, sorted)
}

fn jacobi_rotation(a: &mut [Row; WIDTH], vectors: &mut [Row; WIDTH], (p, q): (usize, usize), size: usize) {
    if a[p][q].abs() < 1e-300 {
        return;
    }
    let theta = (a[q][q] - a[p][p]) / (2.0 * a[p][q]);
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

/// The first `dims` columns with the sign that makes the largest entry positive.
fn orient(block: &[Row], dims: usize) -> Vec<f64> {
    let signs: Vec<f64> = (0..dims)
        .map(|c| {
            let largest =
                block.iter().map(|row| row[c]).fold(0.0, |m: f64, v| if v.abs() > m.abs() { v } else { m });
            if largest < 0.0 { -1.0 } else { 1.0 }
        })
        .collect();
    block.iter().flat_map(|row| row.iter().zip(&signs).map(|(v, s)| v * s).collect::<Vec<_>>()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(rows: usize) -> FuzzyGraph {
        let mut graph = FuzzyGraph {
            offsets: vec![0],
            columns: Vec::new(),
            weights: Vec::new(),
            nearest: Vec::new(),
            scales: Vec::new(),
        };
        for row in 0..rows {
            for other in [row.wrapping_sub(1), row + 1].into_iter().filter(|o| *o < rows) {
                graph.columns.push(other as u32);
                graph.weights.push(1.0);
            }
            graph.offsets.push(graph.columns.len());
        }
        graph
    }

    /// The normalised path has the eigenvalues cos(pi k / (rows - 1)), so the residual of the
    /// returned vectors can be taken against known values.
    #[test]
    fn path_graphs_give_their_cosine_modes() {
        for rows in [3, 5, 13, 14, 60] {
            let graph = path(rows);
            let operator = Normalised::new(&graph);
            let vectors = leading(&graph, 2, 7);
            let block: Vec<Row> = vectors
                .chunks_exact(2)
                .map(|v| std::array::from_fn(|c| if c < 2 { v[c] } else { 0.0 }))
                .collect();
            let image = operator.apply(&block);
            for c in 0..2 {
                let value = (std::f64::consts::PI * (c + 1) as f64 / (rows - 1) as f64).cos();
                let error =
                    block.iter().zip(&image).map(|(v, w)| (w[c] - value * v[c]).abs()).fold(0.0, f64::max);
                assert!(error < 1e-3, "{rows} rows, vector {c}: {error}");
                assert!((norm(&block, c) - 1.0).abs() < 1e-9);
            }
        }
    }

    #[test]
    fn too_few_points_leave_columns_empty() {
        let vectors = leading(&path(2), 2, 7);
        assert!(vectors[0] * vectors[2] < 0.0);
        assert_eq!((vectors[1], vectors[3]), (0.0, 0.0));
    }
}
