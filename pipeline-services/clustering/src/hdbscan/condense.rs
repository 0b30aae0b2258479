//! From a minimum spanning tree to clusters: the hierarchy in which all edges of one length
//! merge at once, its condensed form, and the choice of clusters.

use crate::Label;
use crate::hdbscan::Selection;
use crate::hdbscan::spanning::{Edge, Sets};

/// Labels (unordered numbers) and membership probabilities of `rows` points.
pub(super) fn cluster(
    rows: usize,
    edges: Vec<Edge>,
    min_cluster_size: usize,
    selection: Selection,
) -> (Vec<Label>, Vec<f64>) {
    let hierarchy = Hierarchy::new(rows, edges);
    let condensed = Condensed::new(&hierarchy, min_cluster_size);
    let owner = condensed.choose(selection);
    let highest = condensed.highest_densities();
    let mut labels = vec![None; rows];
    let mut probabilities = vec![0.0; rows];
    for row in 0..rows {
        let (cluster, density) = condensed.leaves[row];
        if let Some(chosen) = owner[cluster as usize] {
            labels[row] = Some(chosen);
            probabilities[row] = membership(density, highest[chosen as usize]);
        }
    }
    (labels, probabilities)
}

/// The share of the cluster's highest density at which a point still belonged to it.
fn membership(density: f64, highest: f64) -> f64 {
    // The comparison comes first: copies make the highest density infinite, and infinity over
    // itself is NaN.
    if highest == 0.0 || density >= highest { 1.0 } else { density / highest }
}

/// Merges from single points (ids below `rows`) upwards; each merge takes all groups that
/// edges of one length connect.
struct Hierarchy {
    rows: usize,
    merges: Vec<Merge>,
    /// Children of all merges, one run each.
    children: Vec<u32>,
}

struct Merge {
    squared: f64,
    size: usize,
    children: std::ops::Range<usize>,
}

impl Hierarchy {
    fn new(rows: usize, mut edges: Vec<Edge>) -> Self {
        edges.sort_unstable_by(|x, y| x.squared.total_cmp(&y.squared));
        let mut hierarchy = Self { rows, merges: Vec::new(), children: Vec::new() };
        let mut sets = Sets::new(rows);
        // The hierarchy's node that stands for each set, by the set's root.
        let mut node: Vec<u32> = (0..rows as u32).collect();
        for equal in edges.chunk_by(|x, y| x.squared == y.squared) {
            // The parts are noted before any edge of this length joins them: afterwards they could
            // not be told apart.
            let mut touched: Vec<u32> =
                equal.iter().flat_map(|edge| [edge.one, edge.other]).map(|row| sets.root(row)).collect();
            touched.sort_unstable();
            touched.dedup();
            equal.iter().for_each(|edge| {
                sets.join(edge.one, edge.other);
            });
            let mut parts: Vec<(u32, u32)> =
                touched.iter().map(|root| (sets.root(*root), node[*root as usize])).collect();
            parts.sort_unstable();
            for group in parts.chunk_by(|x, y| x.0 == y.0) {
                node[group[0].0 as usize] = hierarchy.merge(equal[0].squared, group);
            }
        }
        hierarchy
    }

    fn merge(&mut self, squared: f64, group: &[(u32, u32)]) -> u32 {
        let start = self.children.len();
        self.children.extend(group.iter().map(|(_, child)| child));
        let size = group.iter().map(|(_, child)| self.size(*child)).sum();
        self.merges.push(Merge { squared, size, children: start..self.children.len() });
        (self.rows + self.merges.len() - 1) as u32
    }

    fn merge_of(&self, node: u32) -> Option<&Merge> {
        (node as usize).checked_sub(self.rows).map(|at| &self.merges[at])
    }

    fn size(&self, node: u32) -> usize {
        self.merge_of(node).map_or(1, |merge| merge.size)
    }
}

/// The tree of clusters of at least `min_cluster_size` points. Cluster 0 is everything;
/// parents have smaller numbers than their children. Densities are 1 / distance.
struct Condensed {
    clusters: Vec<Cluster>,
    /// The cluster each point was last in and the density at which it left.
    leaves: Vec<(u32, f64)>,
}

struct Cluster {
    parent: u32,
    size: usize,
    /// The density at which it appears.
    birth: f64,
    /// The density at which it splits, if it does.
    split: Option<f64>,
}

impl Condensed {
    fn new(hierarchy: &Hierarchy, min_cluster_size: usize) -> Self {
        let root = Cluster { parent: 0, size: hierarchy.rows, birth: 0.0, split: None };
        let mut condensed = Self { clusters: vec![root], leaves: vec![(0, 0.0); hierarchy.rows] };
        let top = (hierarchy.rows + hierarchy.merges.len() - 1) as u32;
        // A list instead of recursion: a chain of near points makes a tree as deep as there are
        // points.
        let mut open = vec![(top, 0_u32)];
        while let Some((node, cluster)) = open.pop() {
            let Some(merge) = hierarchy.merge_of(node) else { continue };
            let density = 1.0 / merge.squared.sqrt();
            let children = &hierarchy.children[merge.children.clone()];
            let splits =
                children.iter().filter(|child| hierarchy.size(**child) >= min_cluster_size).count() > 1;
            if splits {
                condensed.clusters[cluster as usize].split = Some(density);
            }
            for child in children {
                let size = hierarchy.size(*child);
                if size < min_cluster_size {
                    // Its points leave here; what they split into below is too small to count.
                    condensed.drop_points(hierarchy, *child, (cluster, density));
                } else if splits {
                    open.push((*child, condensed.clusters.len() as u32));
                    condensed.clusters.push(Cluster { parent: cluster, size, birth: density, split: None });
                } else {
                    open.push((*child, cluster));
                }
            }
        }
        condensed
    }

    fn drop_points(&mut self, hierarchy: &Hierarchy, node: u32, left: (u32, f64)) {
        let mut open = vec![node];
        while let Some(node) = open.pop() {
            match hierarchy.merge_of(node) {
                Some(merge) => open.extend(&hierarchy.children[merge.children.clone()]),
                None => self.leaves[node as usize] = left,
            }
        }
    }

    /// The chosen cluster that each cluster belongs to, never cluster 0: those without a split,
    /// and by excess of mass also those more stable than all that is chosen below them together
    /// (equal counts as more, as in scikit-learn).
    fn choose(&self, selection: Selection) -> Vec<Option<u32>> {
        let mut below: Vec<Vec<f64>> = vec![Vec::new(); self.clusters.len()];
        let stability = self.stabilities();
        let mut chosen = vec![false; self.clusters.len()];
        // Backwards is from the leaves up, since parents have the smaller numbers.
        for cluster in (1..self.clusters.len()).rev() {
            let inside = ordered_sum(std::mem::take(&mut below[cluster]));
            let stable = selection == Selection::ExcessOfMass && stability[cluster] >= inside;
            chosen[cluster] = stable || self.clusters[cluster].split.is_none();
            let best = if chosen[cluster] { stability[cluster] } else { inside };
            below[self.clusters[cluster].parent as usize].push(best);
        }
        let mut owner: Vec<Option<u32>> = vec![None; self.clusters.len()];
        for cluster in 1..self.clusters.len() {
            let above = owner[self.clusters[cluster].parent as usize];
            owner[cluster] = above.or(chosen[cluster].then_some(cluster as u32));
        }
        owner
    }

    /// Excess of mass: what each point adds from the cluster's birth to its own leaving.
    fn stabilities(&self) -> Vec<f64> {
        let mut terms: Vec<Vec<f64>> = vec![Vec::new(); self.clusters.len()];
        for &(cluster, density) in &self.leaves {
            terms[cluster as usize].push(density - self.clusters[cluster as usize].birth);
        }
        for child in &self.clusters[1..] {
            let parent = child.parent as usize;
            terms[parent].push((child.birth - self.clusters[parent].birth) * child.size as f64);
        }
        terms.into_iter().map(ordered_sum).collect()
    }

    /// The density at which the last point or child leaves each cluster.
    fn highest_densities(&self) -> Vec<f64> {
        let mut highest: Vec<f64> = self.clusters.iter().map(|c| c.split.unwrap_or(0.0)).collect();
        for &(cluster, density) in &self.leaves {
            highest[cluster as usize] = highest[cluster as usize].max(density);
        }
        highest
    }
}

/// Sums in ascending order, so that the result does not depend on the order of the rows.
fn ordered_sum(mut terms: Vec<f64>) -> f64 {
    terms.sort_unstable_by(f64::total_cmp);
    terms.iter().sum()
}
