//! Exact nearest neighbours by blocked dot products.
//!
//! A pass in 32 bits proposes candidates and distances are computed again in 64 bits; equal
//! distances go by row number. The number of threads changes the time, not the result.

use crate::simd::{LANES, TILE_COLUMNS, TILE_ROWS, tile, wide};
use crate::umap::Metric;
use crate::{ClusteringError, Matrix, parallel};

/// Candidates kept beyond `k` by the 32-bit pass, so that its rounding cannot lose one of the true
/// neighbours before distances are recomputed in 64 bits. Not tuned: rounding swaps neighbours of
/// almost the same distance, of which there are few.
const SPARE: usize = 8;
/// Candidate rows scanned for all queries of a worker before moving on (they stay in cache). Not
/// tuned: of 768 columns each they take 192 KiB, which a second-level cache holds.
const BLOCK: usize = 64;

/// The `k` nearest rows of every row, itself first.
#[derive(Debug, Clone, PartialEq)]
pub struct Neighbours {
    /// Neighbours per row.
    pub k: usize,
    /// `rows * k` row numbers, nearest first; equal distances by row number.
    pub indices: Vec<u32>,
    /// `rows * k` distances in the metric, ascending; the first of each row is 0.
    pub distances: Vec<f64>,
}

impl Neighbours {
    /// Number of rows.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.indices.len() / self.k.max(1)
    }
}

/// Exact nearest neighbours by blocked dot products: O(rows^2 * dims) time, O(rows * dims)
/// memory. `k` counts the row itself and is capped at the number of rows.
///
/// # Errors
/// [`ClusteringError::NotFinite`], and [`ClusteringError::ZeroVector`] for the cosine metric,
/// name the first bad row; [`ClusteringError::Parameter`] for more than 1024 threads.
pub fn nearest_neighbours(
    points: Matrix<'_>,
    k: usize,
    metric: Metric,
    threads: usize,
) -> Result<Neighbours, ClusteringError> {
    let workers = parallel::workers(threads)?;
    points.check_finite()?;
    if metric == Metric::Cosine {
        points.check_directions()?;
    }
    let rows = points.rows();
    let k = k.min(rows);
    if k == 0 {
        return Ok(Neighbours { k, indices: Vec::new(), distances: Vec::new() });
    }
    let table = Table::new(points, metric);
    let mut found = vec![(0_u32, 0.0_f64); rows * k];
    let parts = parallel::split_rows(&mut found, k, TILE_ROWS, workers);
    parallel::for_each(parts, |(first, part)| {
        let queries = part.len() / k;
        let mut best = Best::new(queries, (k - 1 + SPARE).min(rows - 1));
        scan(&table, first, &mut best);
        for (query, out) in part.chunks_exact_mut(k).enumerate() {
            refine(points, metric, first + query, best.of(query), out);
        }
    });
    let (indices, distances) = found.into_iter().unzip();
    Ok(Neighbours { k, indices, distances })
}

/// The rows prepared for dot products: scaled or centred, padded with zeros.
struct Table {
    rows: usize,
    width: usize,
    values: Vec<f32>,
    /// Added to the negated dot product to give a key that orders candidates like the metric.
    offsets: Vec<f32>,
}

impl Table {
    fn new(points: Matrix<'_>, metric: Metric) -> Self {
        let (rows, dims) = (points.rows(), points.dims());
        let width = dims.next_multiple_of(LANES);
        let mut values = vec![0.0; rows.next_multiple_of(TILE_ROWS) * width];
        let mut offsets = vec![0.0; rows.next_multiple_of(TILE_ROWS)];
        let (centre, shrink) = match metric {
            Metric::Cosine => (vec![0.0; dims], 1.0),
            Metric::Euclidean => centre_and_scale(points),
        };
        for ((row, out), offset) in points.iter_rows().zip(values.chunks_exact_mut(width)).zip(&mut offsets) {
            let moved = row.iter().zip(&centre).map(|(v, c)| (f64::from(*v) - c) * shrink);
            let square: f64 = moved.clone().map(|v| v * v).sum();
            let scale = if metric == Metric::Cosine { 1.0 / square.sqrt() } else { 1.0 };
            out.iter_mut().zip(moved).for_each(|(o, v)| *o = (v * scale) as f32);
            *offset = if metric == Metric::Cosine { 0.0 } else { (0.5 * square) as f32 };
        }
        Self { rows, width, values, offsets }
    }

    fn rows_from(&self, first: usize, count: usize) -> &[f32] {
        &self.values[first * self.width..(first + count) * self.width]
    }
}

/// The mean of the rows and the factor that brings all differences from it within [-1, 1]:
/// squared in 32 bits, very large or small numbers would lose the order of distances.
fn centre_and_scale(points: Matrix<'_>) -> (Vec<f64>, f64) {
    let mut centre = vec![0.0; points.dims()];
    for row in points.iter_rows() {
        centre.iter_mut().zip(row).for_each(|(s, v)| *s += f64::from(*v));
    }
    centre.iter_mut().for_each(|s| *s /= points.rows() as f64);
    let differences =
        points.iter_rows().flat_map(|row| row.iter().zip(&centre).map(|(v, c)| f64::from(*v) - c));
    let largest = differences.fold(0.0, |m: f64, v| m.max(v.abs()));
    (centre, if largest > 0.0 { 1.0 / largest } else { 1.0 })
}

/// The best candidates of each query so far, nearest first.
struct Best {
    size: usize,
    filled: Vec<usize>,
    keys: Vec<f32>,
    rows: Vec<u32>,
}

impl Best {
    fn new(queries: usize, size: usize) -> Self {
        Self {
            size,
            filled: vec![0; queries],
            keys: vec![f32::INFINITY; queries * size],
            rows: vec![u32::MAX; queries * size],
        }
    }

    fn of(&self, query: usize) -> &[u32] {
        &self.rows[query * self.size..][..self.filled[query]]
    }

    /// Takes the candidate if it is nearer than the last kept one. Candidates arrive by row
    /// number, so the strict comparison keeps the lower number among equals.
    #[inline(always)]
    fn offer(&mut self, query: usize, row: u32, key: f32) {
        let (start, filled) = (query * self.size, self.filled[query]);
        if filled == self.size && (self.size == 0 || key >= self.keys[start + self.size - 1]) {
            return;
        }
        let kept = filled.min(self.size - 1);
        let keys = &mut self.keys[start..=start + kept];
        let rows = &mut self.rows[start..=start + kept];
        let mut at = kept;
        while at > 0 && key < keys[at - 1] {
            keys[at] = keys[at - 1];
            rows[at] = rows[at - 1];
            at -= 1;
        }
        keys[at] = key;
        rows[at] = row;
        self.filled[query] = kept + 1;
    }
}

wide! {
    /// Offers every row of the table to the queries `first..`, block by block.
    fn scan(table: &Table, first: usize, best: &mut Best) = scan_blocks
}

#[inline(always)]
fn scan_blocks(table: &Table, first: usize, best: &mut Best) {
    let queries = best.filled.len();
    for block in (0..table.rows).step_by(BLOCK) {
        let end = (block + BLOCK).min(table.rows);
        for query in (0..queries).step_by(TILE_ROWS) {
            let rows = table.rows_from(first + query, TILE_ROWS);
            let live = TILE_ROWS.min(queries - query);
            for candidate in (block..end).step_by(TILE_COLUMNS) {
                let products = tile(rows, table.rows_from(candidate, TILE_COLUMNS), table.width);
                for (r, products) in products.iter().enumerate().take(live) {
                    for (c, product) in products.iter().enumerate().take(end - candidate) {
                        let row = candidate + c;
                        if row != first + query + r {
                            best.offer(query + r, row as u32, table.offsets[row] - product);
                        }
                    }
                }
            }
        }
    }
}

/// Recomputes the candidates' distances in 64 bits and writes the row itself and its nearest.
fn refine(points: Matrix<'_>, metric: Metric, row: usize, candidates: &[u32], out: &mut [(u32, f64)]) {
    let own = points.row(row);
    let mut exact: Vec<(u32, f64)> =
        candidates.iter().map(|&other| (other, metric.distance(own, points.row(other as usize)))).collect();
    exact.sort_unstable_by(|a, b| a.1.total_cmp(&b.1).then(a.0.cmp(&b.0)));
    out[0] = (row as u32, 0.0);
    out[1..].iter_mut().zip(exact).for_each(|(out, found)| *out = found);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The promise that a map does not depend on the processor's vector width.
    #[test]
    fn wide_and_base_instructions_give_the_same_bits() {
        let values: Vec<f32> = (0..61 * 37).map(|i| ((i * 7919 % 1009) as f32 - 500.0) / 313.0).collect();
        for metric in [Metric::Cosine, Metric::Euclidean] {
            let table = Table::new(Matrix::new(&values, 37).unwrap(), metric);
            let (mut wide, mut base) = (Best::new(61, 22), Best::new(61, 22));
            scan(&table, 0, &mut wide);
            scan_blocks(&table, 0, &mut base);
            assert_eq!(wide.rows, base.rows);
            let bits = |best: &Best| best.keys.iter().map(|k| k.to_bits()).collect::<Vec<_>>();
            assert_eq!(bits(&wide), bits(&base));
        }
    }
}
