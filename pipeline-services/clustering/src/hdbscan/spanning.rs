//! The minimum spanning tree of the mutual reachability distances, by Boruvka's rounds over a
//! kd-tree (March, Ram & Gray, *Fast Euclidean Minimum Spanning Tree*, KDD 2010).

use crate::hdbscan::tree::{Tree, squared_distance};

/// An edge between two rows and its squared mutual reachability distance: the largest of the
/// squared distance and both squared core distances.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Edge {
    pub(super) squared: f64,
    pub(super) one: u32,
    pub(super) other: u32,
}

/// Stands for no row: [`Matrix`](crate::Matrix) has fewer than that.
const NONE: u32 = u32::MAX;

/// The `rows - 1` edges of a minimum spanning tree, in no particular order. With equal weights
/// there are several such trees; which one is returned does not matter to a caller that merges
/// equal weights at once.
pub(super) fn minimum_spanning_tree<const D: usize>(tree: &Tree<D>, core_rank: usize) -> Vec<Edge> {
    let mut search = Search::new(tree, core_rank);
    let rows = tree.points.len();
    let mut edges = Vec::with_capacity(rows.saturating_sub(1));
    while edges.len() + 1 < rows {
        search.label_nodes();
        for at in 0..rows {
            search.shortest_way_out(at);
        }
        // Joined only now: while the points search, the components must stand still.
        for component in 0..rows {
            let way = std::mem::replace(&mut search.ways_out[component], NO_WAY);
            // Two components may have chosen the same edge, or of equal edges a ring.
            if way.other != NONE && search.sets.join(way.one, way.other) {
                let (one, other) = (tree.rows[way.one as usize], tree.rows[way.other as usize]);
                edges.push(Edge { squared: way.squared, one, other });
            }
        }
    }
    edges
}

/// The edge of a component that has found none yet: any other is shorter.
const NO_WAY: Edge = Edge { squared: f64::INFINITY, one: NONE, other: NONE };

/// The knowledge about one point's nearest point outside its component.
#[derive(Debug, Clone, Copy)]
struct Outside {
    /// No point outside is nearer than this; components only grow, so it stays true.
    at_least: f64,
    /// The nearest one, if the last search found it; `at_least` is its distance then.
    point: u32,
}

struct Search<'a, const D: usize> {
    tree: &'a Tree<D>,
    /// Squared core distance of each point, in leaf order, and the smallest of each node.
    cores: Vec<f64>,
    node_cores: Vec<f64>,
    sets: Sets,
    /// The component of each point and of each node (`NONE` if it holds several).
    component: Vec<u32>,
    node_component: Vec<u32>,
    /// Shortest edge out of each component found in this round, by component.
    ways_out: Vec<Edge>,
    outside: Vec<Outside>,
    open: Vec<(u32, f64)>,
}

impl<'a, const D: usize> Search<'a, D> {
    fn new(tree: &'a Tree<D>, core_rank: usize) -> Self {
        let rows = tree.points.len();
        let (mut best, mut open) = (Vec::new(), Vec::new());
        let cores: Vec<f64> =
            (0..rows).map(|at| tree.squared_core_distance(at, core_rank, &mut best, &mut open)).collect();
        let node_cores = tree
            .nodes
            .iter()
            .map(|node| cores[node.points()].iter().copied().fold(f64::INFINITY, f64::min))
            .collect();
        Self {
            tree,
            cores,
            node_cores,
            sets: Sets::new(rows),
            component: vec![0; rows],
            node_component: vec![NONE; tree.nodes.len()],
            ways_out: vec![NO_WAY; rows],
            outside: vec![Outside { at_least: 0.0, point: NONE }; rows],
            open,
        }
    }

    /// Refreshes the components of points and, from the leaves up, of nodes.
    fn label_nodes(&mut self) {
        for at in 0..self.component.len() {
            self.component[at] = self.sets.root(at as u32);
        }
        // Backwards, since children come after their parent.
        for (index, node) in self.tree.nodes.iter().enumerate().rev() {
            self.node_component[index] = if node.child == 0 {
                let own = &self.component[node.points()];
                if own.iter().all(|c| *c == own[0]) { own[0] } else { NONE }
            } else {
                let (one, other) = (node.child as usize, node.child as usize + 1);
                let both = self.node_component[one] == self.node_component[other];
                if both { self.node_component[one] } else { NONE }
            };
        }
    }

    /// Improves the shortest edge out of the component of point `at` by that point's own.
    fn shortest_way_out(&mut self, at: usize) {
        let component = self.component[at];
        let bound = self.ways_out[component as usize].squared;
        let known = self.outside[at];
        // Many points are settled here: an edge is never shorter than either core distance.
        if known.at_least >= bound || self.cores[at] >= bound {
            return;
        }
        // Components only grow, so a nearest point that is still outside is still the nearest.
        let still_outside = known.point != NONE && self.component[known.point as usize] != component;
        let (squared, point) =
            if still_outside { (known.at_least, known.point) } else { self.nearest_outside(at, bound) };
        self.outside[at] = Outside { at_least: squared, point };
        if point != NONE {
            self.ways_out[component as usize] = Edge { squared, one: at as u32, other: point };
        }
    }

    /// The nearest point of another component below `bound`; `(bound, NONE)` if there is none.
    fn nearest_outside(&mut self, at: usize, bound: f64) -> (f64, u32) {
        let (point, core, component) = (&self.tree.points[at], self.cores[at], self.component[at]);
        let mut best = (bound, NONE);
        self.open.clear();
        self.open.push((0, 0.0));
        while let Some((index, distance)) = self.open.pop() {
            let least = distance.max(core).max(self.node_cores[index as usize]);
            if least >= best.0 || self.node_component[index as usize] == component {
                continue;
            }
            let node = &self.tree.nodes[index as usize];
            if node.child != 0 {
                let [near, far] = self.tree.children(node, point);
                // The near child is popped first and lowers the bound before the far one is looked
                // at.
                self.open.extend([far, near]);
                continue;
            }
            for other in node.points() {
                if self.component[other] == component {
                    continue;
                }
                let squared =
                    squared_distance(point, &self.tree.points[other]).max(core).max(self.cores[other]);
                if squared < best.0 {
                    best = (squared, other as u32);
                }
            }
        }
        best
    }
}

/// Disjoint sets with path halving and union by size.
#[derive(Debug)]
pub(super) struct Sets {
    parent: Vec<u32>,
    size: Vec<u32>,
}

impl Sets {
    pub(super) fn new(len: usize) -> Self {
        Self { parent: (0..len as u32).collect(), size: vec![1; len] }
    }

    pub(super) fn root(&mut self, mut at: u32) -> u32 {
        while self.parent[at as usize] != at {
            let up = self.parent[self.parent[at as usize] as usize];
            self.parent[at as usize] = up;
            at = up;
        }
        at
    }

    /// Joins the sets of both; false if they were one already.
    pub(super) fn join(&mut self, one: u32, other: u32) -> bool {
        let (one, other) = (self.root(one), self.root(other));
        if one == other {
            return false;
        }
        let (small, large) =
            if self.size[one as usize] < self.size[other as usize] { (one, other) } else { (other, one) };
        self.parent[small as usize] = large;
        self.size[large as usize] += self.size[small as usize];
        true
    }
}
