use super::*;
use proptest::prelude::*;

fn run(values: &[f32], dims: usize, params: &HdbscanParams) -> Clustering {
    hdbscan(Matrix::new(values, dims).unwrap(), params).unwrap()
}

fn own(min_cluster_size: usize, min_samples: usize) -> HdbscanParams {
    HdbscanParams { min_cluster_size, min_samples, engine: Engine::Own, ..HdbscanParams::default() }
}

/// The definition, by repeated search over all pairs: a set of points is split at the largest
/// distance that still keeps it together, into all the parts that shorter distances connect.
struct Oracle {
    squared: Vec<Vec<f64>>,
    min_cluster_size: usize,
}

impl Oracle {
    fn new(values: &[f32], dims: usize, params: &HdbscanParams) -> Self {
        let rows: Vec<&[f32]> = values.chunks_exact(dims).collect();
        let plain = |a: &[f32], b: &[f32]| -> f64 {
            a.iter().zip(b).map(|(x, y)| (f64::from(*x) - f64::from(*y)).powi(2)).sum()
        };
        let core: Vec<f64> = rows
            .iter()
            .map(|a| {
                let mut all: Vec<f64> = rows.iter().map(|b| plain(a, b)).collect();
                all.sort_by(f64::total_cmp);
                all[params.core_rank(rows.len()) - 1]
            })
            .collect();
        let squared = (0..rows.len())
            .map(|i| (0..rows.len()).map(|j| plain(rows[i], rows[j]).max(core[i]).max(core[j])).collect())
            .collect();
        Self { squared, min_cluster_size: params.min_cluster_size }
    }

    /// The parts of `set` connected by distances that pass `keep`.
    fn parts(&self, set: &[usize], keep: impl Fn(f64) -> bool) -> Vec<Vec<usize>> {
        let mut left: Vec<usize> = set.to_vec();
        let mut parts = Vec::new();
        while let Some(first) = left.pop() {
            let mut part = vec![first];
            let mut at = 0;
            while at < part.len() {
                let (near, far) = left.iter().partition(|other| keep(self.squared[part[at]][**other]));
                left = far;
                part.extend::<Vec<usize>>(near);
                at += 1;
            }
            parts.push(part);
        }
        parts
    }

    /// The smallest distance that keeps `set` in one part.
    fn holding(&self, set: &[usize]) -> f64 {
        let mut all: Vec<f64> = set.iter().flat_map(|i| set.iter().map(|j| self.squared[*i][*j])).collect();
        all.sort_by(f64::total_cmp);
        all.dedup();
        let at = all.partition_point(|d| self.parts(set, |s| s <= *d).len() > 1);
        all[at]
    }

    /// The chosen clusters inside a cluster born at `birth`, and their summed stability.
    fn choose(&self, cluster: &[usize], birth: f64, is_root: bool) -> (Vec<Vec<usize>>, f64) {
        let (mut stability, mut set) = (0.0, cluster.to_vec());
        loop {
            let distance = self.holding(&set);
            let density = 1.0 / distance.sqrt();
            let parts = self.parts(&set, |s| s < distance);
            let (large, small): (Vec<_>, Vec<_>) =
                parts.into_iter().partition(|p| p.len() >= self.min_cluster_size);
            stability += small.iter().map(Vec::len).sum::<usize>() as f64 * (density - birth);
            match large.len() {
                0 => break,
                1 => set.clone_from(&large[0]),
                _ => {
                    stability += large.iter().map(Vec::len).sum::<usize>() as f64 * (density - birth);
                    let inside: Vec<_> = large.iter().map(|part| self.choose(part, density, false)).collect();
                    let below: f64 = inside.iter().map(|i| i.1).sum();
                    if is_root || stability < below {
                        return (inside.into_iter().flat_map(|i| i.0).collect(), below);
                    }
                    break;
                }
            }
        }
        if is_root { (Vec::new(), 0.0) } else { (vec![cluster.to_vec()], stability) }
    }

    fn labels(&self) -> Vec<Label> {
        let all: Vec<usize> = (0..self.squared.len()).collect();
        let mut labels = vec![None; all.len()];
        for (number, rows) in self.choose(&all, 0.0, true).0.iter().enumerate() {
            rows.iter().for_each(|row| labels[*row] = Some(number as u32));
        }
        canonical(&labels).0
    }
}

/// Coordinates on a coarse grid, so that equal distances and repeated points are common.
fn grid_points(dims: usize) -> impl Strategy<Value = Vec<f32>> {
    proptest::collection::vec((0_i32..14).prop_map(|v| v as f32 / 2.0), dims * 6..dims * 50).prop_map(
        move |mut values| {
            values.truncate(values.len() / dims * dims);
            values
        },
    )
}

/// Three loose groups without equal distances.
fn smooth_points() -> impl Strategy<Value = Vec<f32>> {
    proptest::collection::vec((0..3_i32, -1.0..1.0_f32, -1.0..1.0_f32), 10..70).prop_map(|points| {
        points.iter().flat_map(|(c, x, y)| [*c as f32 * 3.0 + x, y * (1.0 + *c as f32)]).collect()
    })
}

/// The same grouping, whatever the numbers of the clusters.
fn same_grouping(a: &[Label], b: &[Label]) -> bool {
    let mut pairs: Vec<(Label, Label)> = a.iter().copied().zip(b.iter().copied()).collect();
    pairs.sort_unstable();
    pairs.dedup();
    let once = |side: fn(&(Label, Label)) -> Label| {
        let mut all: Vec<Label> = pairs.iter().map(side).collect();
        all.sort_unstable();
        all.windows(2).all(|w| w[0] != w[1])
    };
    once(|p| p.0) && once(|p| p.1) && pairs.iter().all(|p| p.0.is_none() == p.1.is_none())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn own_engine_equals_the_definition(values in grid_points(2), size in 2_usize..7, samples in 1_usize..6) {
        let params = own(size, samples);
        let found = run(&values, 2, &params);
        if values.len() / 2 >= size {
            prop_assert_eq!(found.labels, Oracle::new(&values, 2, &params).labels());
        } else {
            prop_assert!(found.labels.iter().all(Option::is_none));
        }
    }

    #[test]
    fn own_engine_equals_the_definition_in_three_columns(values in grid_points(3)) {
        let params = own(4, 2);
        prop_assert_eq!(run(&values, 3, &params).labels, Oracle::new(&values, 3, &params).labels());
    }

    #[test]
    fn own_engine_equals_the_definition_in_many_columns(values in grid_points(10)) {
        // Beyond eight columns another search builds the tree.
        let params = own(4, 3);
        prop_assert_eq!(run(&values, 10, &params).labels, Oracle::new(&values, 10, &params).labels());
    }

    #[test]
    fn both_searches_build_the_same_tree(values in smooth_points(), samples in 1_usize..5) {
        // Columns of zeros change no distance.
        let wide: Vec<f32> =
            values.chunks_exact(2).flat_map(|row| [row[0], row[1], 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]).collect();
        prop_assert_eq!(run(&values, 2, &own(5, samples)), run(&wide, 9, &own(5, samples)));
    }

    #[test]
    fn leaves_lie_inside_of_the_most_stable_clusters(values in grid_points(2)) {
        let stable = run(&values, 2, &own(3, 2));
        let leaves = run(&values, 2, &HdbscanParams { selection: Selection::Leaf, ..own(3, 2) });
        prop_assert!(leaves.clusters >= stable.clusters);
        let mut inside = vec![None; leaves.clusters];
        for (leaf, outer) in leaves.labels.iter().zip(&stable.labels) {
            let Some(leaf) = leaf else { continue };
            prop_assert!(outer.is_some());
            prop_assert_eq!(*inside[*leaf as usize].get_or_insert(*outer), *outer);
        }
    }

    #[test]
    fn own_engine_does_not_depend_on_row_order(values in grid_points(2), turn in 1_usize..40) {
        let rows: Vec<&[f32]> = values.chunks_exact(2).collect();
        // A rotation and a reversal of the rows.
        let order: Vec<usize> = (0..rows.len()).rev().map(|i| (i + turn) % rows.len()).collect();
        let moved: Vec<f32> = order.iter().flat_map(|i| rows[*i]).copied().collect();
        let (before, after) = (run(&values, 2, &own(5, 3)), run(&moved, 2, &own(5, 3)));
        let expected: Vec<Label> = order.iter().map(|i| before.labels[*i]).collect();
        prop_assert!(same_grouping(&after.labels, &expected), "{:?} {:?}", after.labels, expected);
        let probabilities = before.probabilities.unwrap();
        let expected: Vec<f64> = order.iter().map(|i| probabilities[*i]).collect();
        prop_assert_eq!(after.probabilities.unwrap(), expected);
    }

    #[test]
    fn engines_agree_without_ties(values in smooth_points()) {
        // With min_samples 1 the distances are plain, and random reals do not repeat.
        let params = own(5, 1);
        let published = HdbscanParams { engine: Engine::Crate, ..params };
        prop_assert_eq!(run(&values, 2, &params).labels, run(&values, 2, &published).labels);
    }

    #[test]
    fn results_are_well_formed(values in grid_points(2), engine in prop_oneof![Just(Engine::Own), Just(Engine::Crate)]) {
        let params = HdbscanParams { engine, ..HdbscanParams::default() };
        let found = run(&values, 2, &params);
        let mut sizes = vec![0_usize; found.clusters];
        found.labels.iter().flatten().for_each(|l| sizes[*l as usize] += 1);
        prop_assert!(sizes.iter().all(|s| *s >= 5));
        prop_assert!(sizes.windows(2).all(|w| w[0] >= w[1]));
        // The crate's comparisons of infinite densities can leave one cluster on repeated points.
        prop_assert!(found.clusters != 1 || engine == Engine::Crate, "{:?}", found.labels);
        for (label, p) in found.labels.iter().zip(found.probabilities.iter().flatten()) {
            prop_assert!((0.0..=1.0).contains(p) && label.is_none() <= (*p == 0.0));
        }
    }
}

#[test]
fn few_points_are_noise() {
    for engine in [Engine::Crate, Engine::Own] {
        for rows in 0..5 {
            let values: Vec<f32> = (0..rows * 2).map(|i| i as f32).collect();
            let found = run(&values, 2, &HdbscanParams { engine, ..HdbscanParams::default() });
            assert_eq!((found.labels, found.clusters), (vec![None; rows], 0));
        }
    }
}

#[test]
fn repeated_points_form_clusters() {
    // Two heaps of identical points and one point far from both.
    let values: Vec<f32> =
        (0..21).flat_map(|i| if i == 20 { [2.5, 90.0] } else { [(i % 2) as f32 * 5.0, 1.0] }).collect();
    let found = run(&values, 2, &own(5, 3));
    assert_eq!(found.clusters, 2);
    assert_eq!(found.labels[20], None);
    assert!(found.labels[..20].iter().enumerate().all(|(i, l)| *l == Some(i as u32 % 2)));
    let all_equal = run(&[3.0; 40], 2, &own(5, 3));
    assert_eq!(all_equal.clusters, 0);
}

#[test]
fn settings_out_of_range_are_named() {
    let check = |params: HdbscanParams, dims: usize, name: &str| {
        let values = vec![0.5; dims * 10];
        let error = hdbscan(Matrix::new(&values, dims).unwrap(), &params).unwrap_err();
        assert!(matches!(error, ClusteringError::Parameter { name: found, .. } if found == name), "{error}");
    };
    check(own(1, 3), 2, "min_cluster_size");
    check(own(5, 0), 2, "min_samples");
    check(HdbscanParams { engine: Engine::Crate, selection: Selection::Leaf, ..own(5, 3) }, 2, "selection");
    let values = [0.0, 1.0, f32::INFINITY, 1.0];
    let error = hdbscan(Matrix::new(&values, 2).unwrap(), &HdbscanParams::default()).unwrap_err();
    assert_eq!(error, ClusteringError::NotFinite { row: 1, column: 0 });
}

#[test]
fn min_samples_may_leave_the_point_out() {
    let counts = HdbscanParams::default();
    let not = HdbscanParams { min_samples_counts_itself: false, ..counts };
    assert_eq!((counts.core_rank(100), not.core_rank(100), not.core_rank(2)), (3, 4, 2));
}

#[test]
fn clusters_are_numbered_by_size_then_first_row() {
    let check = |labels: &[i32], expected: &[i32], clusters: usize| {
        let label = |l: &i32| u32::try_from(*l).ok();
        let found = canonical(&labels.iter().map(label).collect::<Vec<_>>());
        assert_eq!(found, (expected.iter().map(label).collect(), clusters), "{labels:?}");
    };
    check(&[], &[], 0);
    check(&[-1, -1], &[-1, -1], 0);
    check(&[4, 4, -1, 2, 2, 2], &[1, 1, -1, 0, 0, 0], 2);
    check(&[7, 3, 7, 3], &[0, 1, 0, 1], 2);
}
