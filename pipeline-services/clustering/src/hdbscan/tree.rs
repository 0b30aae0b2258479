//! A kd-tree over points that are arrays (Bentley 1975), stored in the order of its leaves.
//!
//! Exact: a search gives the distance that comparing all pairs would give. The nodes lie in one
//! vector and refer to ranges of the points, so that a leaf is read in one go.

/// Points per leaf at most. Not tuned: a dozen points are compared about as fast as the boxes that
/// would part them.
const LEAF: usize = 12;

/// One box of the tree and the points in it.
#[derive(Debug, Clone)]
pub(super) struct Node<const D: usize> {
    pub(super) start: u32,
    pub(super) end: u32,
    /// The first child, the other one following it; 0 for a leaf.
    pub(super) child: u32,
    low: [f64; D],
    high: [f64; D],
}

impl<const D: usize> Node<D> {
    pub(super) fn points(&self) -> std::ops::Range<usize> {
        self.start as usize..self.end as usize
    }

    /// Squared distance from `point` to the box, 0 inside.
    pub(super) fn squared_distance(&self, point: &[f64; D]) -> f64 {
        let mut sum = 0.0;
        for ((low, high), at) in self.low.iter().zip(&self.high).zip(point) {
            let outside = (low - at).max(at - high).max(0.0);
            sum += outside * outside;
        }
        sum
    }
}

/// The tree. Node 0 is the root; children come after their parent.
#[derive(Debug)]
pub(super) struct Tree<const D: usize> {
    pub(super) nodes: Vec<Node<D>>,
    /// The points in leaf order.
    pub(super) points: Vec<[f64; D]>,
    /// The caller's row number of each point in leaf order.
    pub(super) rows: Vec<u32>,
}

impl<const D: usize> Tree<D> {
    pub(super) fn build(points: &[[f64; D]]) -> Self {
        let mut rows: Vec<u32> = (0..points.len() as u32).collect();
        let mut nodes = vec![node_over(points, &rows, 0)];
        let mut at = 0;
        while at < nodes.len() {
            let range = nodes[at].points();
            if range.len() > LEAF {
                let widest = (0..D)
                    .max_by(|&x, &y| extent(&nodes[at], x).total_cmp(&extent(&nodes[at], y)))
                    .unwrap_or_default();
                // Half of the points and not of the box: the depth stays logarithmic at any
                // density.
                let half = range.len() / 2;
                let own = &mut rows[range.clone()];
                own.select_nth_unstable_by(half, |&x, &y| {
                    // By row where the values are equal, so that the tree is the same for the same
                    // points.
                    points[x as usize][widest].total_cmp(&points[y as usize][widest]).then(x.cmp(&y))
                });
                let middle = range.start + half;
                nodes[at].child = nodes.len() as u32;
                nodes.push(node_over(points, &rows[range.start..middle], range.start));
                nodes.push(node_over(points, &rows[middle..range.end], middle));
            }
            at += 1;
        }
        let points = rows.iter().map(|row| points[*row as usize]).collect();
        Self { nodes, points, rows }
    }

    /// The children of a node that is not a leaf, the one nearer to `point` first, with their
    /// squared distances.
    pub(super) fn children(&self, node: &Node<D>, point: &[f64; D]) -> [(u32, f64); 2] {
        let (one, other) = (node.child, node.child + 1);
        let near = (one, self.nodes[one as usize].squared_distance(point));
        let far = (other, self.nodes[other as usize].squared_distance(point));
        if far.1 < near.1 { [far, near] } else { [near, far] }
    }

    /// Squared distance from point `at` to its `rank`-th nearest, itself being the first.
    /// `best` and `open` are scratch space.
    pub(super) fn squared_core_distance(
        &self,
        at: usize,
        rank: usize,
        best: &mut Vec<f64>,
        open: &mut Vec<(u32, f64)>,
    ) -> f64 {
        let point = &self.points[at];
        best.clear();
        best.resize(rank, f64::INFINITY);
        open.clear();
        open.push((0, 0.0));
        while let Some((index, distance)) = open.pop() {
            if distance >= best[rank - 1] {
                continue;
            }
            let node = &self.nodes[index as usize];
            if node.child != 0 {
                let [near, far] = self.children(node, point);
                open.extend([far, near]);
                continue;
            }
            for other in &self.points[node.points()] {
                let distance = squared_distance(point, other);
                if distance < best[rank - 1] {
                    // The farthest falls out at the end, and `best` stays as long as `rank`.
                    let place = best.partition_point(|b| *b <= distance);
                    best[place..].rotate_right(1);
                    best[place] = distance;
                }
            }
        }
        best[rank - 1]
    }
}

/// Squared Euclidean distance; the same number in both directions.
pub(super) fn squared_distance<const D: usize>(a: &[f64; D], b: &[f64; D]) -> f64 {
    let mut sum = 0.0;
    for d in 0..D {
        sum += (a[d] - b[d]) * (a[d] - b[d]);
    }
    sum
}

fn extent<const D: usize>(node: &Node<D>, d: usize) -> f64 {
    node.high[d] - node.low[d]
}

fn node_over<const D: usize>(points: &[[f64; D]], rows: &[u32], start: usize) -> Node<D> {
    let (mut low, mut high) = ([f64::INFINITY; D], [f64::NEG_INFINITY; D]);
    for row in rows {
        for d in 0..D {
            low[d] = low[d].min(points[*row as usize][d]);
            high[d] = high[d].max(points[*row as usize][d]);
        }
    }
    Node { start: start as u32, end: (start + rows.len()) as u32, child: 0, low, high }
}
