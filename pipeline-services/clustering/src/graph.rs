//! The fuzzy graph of a data set, in compressed rows: what both UMAP and the eigenmap start from.
//!
//! A row's columns are ascending and every entry has its transpose, whatever the order in which the
//! entries came.

/// The fuzzy simplicial set of a data set: a symmetric weighted graph in compressed rows.
#[derive(Debug, Clone, PartialEq)]
pub struct FuzzyGraph {
    /// Start of each row's entries; one more than there are rows.
    pub offsets: Vec<usize>,
    /// Column numbers, ascending within a row; never the row itself.
    pub columns: Vec<u32>,
    /// Membership strengths in (0, 1].
    pub weights: Vec<f32>,
    /// Distance to the nearest neighbour that is not a copy, per row (rho).
    pub nearest: Vec<f64>,
    /// Scale of the exponential decay, per row (sigma).
    pub scales: Vec<f64>,
}

impl FuzzyGraph {
    /// No points yet; rows are added by extending `columns` and `weights` and closing `offsets`.
    pub(crate) fn empty() -> Self {
        Self {
            offsets: vec![0],
            columns: Vec::new(),
            weights: Vec::new(),
            nearest: Vec::new(),
            scales: Vec::new(),
        }
    }

    /// Number of points.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.offsets.len() - 1
    }

    /// Columns and weights of one row.
    pub fn row(&self, row: usize) -> impl ExactSizeIterator<Item = (u32, f32)> + Clone + '_ {
        let range = self.offsets[row]..self.offsets[row + 1];
        self.columns[range.clone()].iter().copied().zip(self.weights[range].iter().copied())
    }

    /// Drops the entries too weak to be sampled once in `epochs` rounds (below max / epochs).
    pub(crate) fn prune(&mut self, epochs: u32) {
        let strongest = self.weights.iter().copied().fold(0.0, f32::max);
        // As umap-learn does, since by fewer rounds nearly all would be pruned.
        let epochs = if epochs > 10 { epochs } else { 200 };
        let least = strongest / epochs as f32;
        let mut kept = 0;
        let mut start = 0;
        for row in 0..self.rows() {
            let end = self.offsets[row + 1];
            // In place: `kept` never passes `at`, so nothing is overwritten before it is read.
            for at in start..end {
                if self.weights[at] >= least {
                    self.columns[kept] = self.columns[at];
                    self.weights[kept] = self.weights[at];
                    kept += 1;
                }
            }
            self.offsets[row + 1] = kept;
            start = end;
        }
        self.columns.truncate(kept);
        self.weights.truncate(kept);
    }

    /// The component of every row, numbered by first appearance, and how many there are.
    pub(crate) fn components(&self) -> (Vec<u32>, usize) {
        let mut component = vec![u32::MAX; self.rows()];
        let mut count = 0;
        let mut open = Vec::new();
        for row in 0..self.rows() {
            if component[row] != u32::MAX {
                continue;
            }
            component[row] = count;
            open.push(row);
            // A list instead of recursion: a component may be a chain of all points.
            while let Some(at) = open.pop() {
                for (column, _) in self.row(at) {
                    if component[column as usize] == u32::MAX {
                        component[column as usize] = count;
                        open.push(column as usize);
                    }
                }
            }
            count += 1;
        }
        (component, count as usize)
    }
}

/// Offsets, columns and weights of a matrix in compressed sparse rows.
pub(crate) type CompressedRows = (Vec<usize>, Vec<u32>, Vec<f32>);

/// Joins the directed entries with their transposes: p + q - pq.
pub(crate) fn union(rows: usize, directed: &[(u32, u32, f32)]) -> CompressedRows {
    let mut both: Vec<(u32, u32, f32)> = Vec::with_capacity(directed.len() * 2);
    for &(row, column, weight) in directed {
        both.push((row, column, weight));
        both.push((column, row, weight));
    }
    both.sort_unstable_by_key(|&(row, column, _)| (row, column));
    let (mut columns, mut weights) = (Vec::new(), Vec::new());
    let mut offsets = vec![0; rows + 1];
    for same in both.chunk_by(|x, y| (x.0, x.1) == (y.0, y.1)) {
        // An entry and its transpose meet here at most once each; the sum is symmetric.
        let weight = match same {
            [only] => only.2,
            [one, other, ..] => (one.2 + other.2 - one.2 * other.2).min(1.0),
            [] => continue,
        };
        columns.push(same[0].1);
        weights.push(weight);
        offsets[same[0].0 as usize + 1] = columns.len();
    }
    // A row without entries was passed over above; it ends where the one before it does.
    for row in 1..=rows {
        offsets[row] = offsets[row].max(offsets[row - 1]);
    }
    (offsets, columns, weights)
}
