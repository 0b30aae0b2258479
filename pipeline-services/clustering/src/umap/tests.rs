use super::*;
use crate::rng::Stream;
use proptest::prelude::*;

fn random(rows: usize, dims: usize, seed: u64) -> Vec<f32> {
    let mut stream = Stream::new(seed, 0, 0);
    (0..rows * dims).map(|_| stream.symmetric() as f32).collect()
}

fn quick(metric: Metric) -> UmapParams {
    UmapParams { metric, n_epochs: Some(60), ..UmapParams::default() }
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|v| v.to_bits()).collect()
}

#[test]
fn any_number_of_points_is_laid_out() {
    for metric in [Metric::Cosine, Metric::Euclidean] {
        for rows in [0, 1, 2, 3, 4, 5, 8, 14, 15, 16, 17, 40] {
            let values = random(rows, 7, rows as u64);
            let layout = umap(Matrix::new(&values, 7).unwrap(), &quick(metric)).unwrap();
            assert_eq!(layout.len(), rows * 2);
            assert!(layout.iter().all(|v| v.is_finite() && v.abs() < 1e3), "{rows} rows: {layout:?}");
            let mut places: Vec<_> = layout.chunks_exact(2).map(bits).collect();
            places.sort_unstable();
            places.dedup();
            assert_eq!(places.len(), rows, "distinct points share a place");
        }
    }
}

#[test]
fn one_point_lies_at_the_origin() {
    let layout = umap(Matrix::new(&[3.0, 4.0], 2).unwrap(), &UmapParams::default()).unwrap();
    assert_eq!(layout, [0.0, 0.0]);
}

#[test]
fn every_number_of_coordinates_works() {
    let values = random(30, 9, 5);
    for n_components in 1..=8 {
        let params = UmapParams { n_components, ..quick(Metric::Cosine) };
        let layout = umap(Matrix::new(&values, 9).unwrap(), &params).unwrap();
        assert_eq!(layout.len(), 30 * n_components);
        assert!(layout.iter().all(|v| v.is_finite()));
    }
}

#[test]
fn equal_points_do_not_break_the_layout() {
    let distinct = random(10, 6, 3);
    let repeated: Vec<f32> = (0..120).flat_map(|i| distinct[i % 10 * 6..][..6].to_vec()).collect();
    let equal: Vec<f32> = (0..60).flat_map(|_| distinct[..6].to_vec()).collect();
    for metric in [Metric::Cosine, Metric::Euclidean] {
        for values in [&repeated, &equal] {
            let layout = umap(Matrix::new(values, 6).unwrap(), &quick(metric)).unwrap();
            assert!(layout.iter().all(|v| v.is_finite()), "{metric:?}");
        }
    }
}

/// Eight narrow cones make eight components: each must stay together.
#[test]
fn separate_components_stay_apart() {
    let rows = 200;
    let values: Vec<f32> = random(rows, 8, 4)
        .chunks_exact(8)
        .enumerate()
        .flat_map(|(i, row)| {
            let mut row: Vec<f32> = row.iter().map(|v| v * 0.01).collect();
            row[i % 8] += 1.0;
            row
        })
        .collect();
    let points = Matrix::new(&values, 8).unwrap();
    let graph = fuzzy_graph(&nearest_neighbours(points, 15, Metric::Cosine, 1).unwrap());
    assert_eq!(graph.components().1, 8);
    let layout = umap(points, &UmapParams::default()).unwrap();
    let labels: Vec<crate::Label> = (0..rows).map(|i| Some((i % 8) as u32)).collect();
    let silhouette = crate::quality::silhouette(Matrix::new(&layout, 2).unwrap(), &labels).unwrap().unwrap();
    assert!(silhouette > 0.7, "{silhouette}");
}

#[test]
fn many_components_are_placed() {
    // 1100 pairs: more components than are placed by similarity.
    let values: Vec<f32> = (0..2200).flat_map(|i| [(i / 2) as f32 * 10.0, (i % 2) as f32]).collect();
    let params = UmapParams { n_neighbors: 2, n_epochs: Some(20), ..quick(Metric::Euclidean) };
    let points = Matrix::new(&values, 2).unwrap();
    assert_eq!(
        fuzzy_graph(&nearest_neighbours(points, 2, Metric::Euclidean, 1).unwrap()).components().1,
        1100
    );
    for n_components in [1, 2] {
        let layout = umap(points, &UmapParams { n_components, ..params }).unwrap();
        assert!(layout.iter().all(|v| v.is_finite()));
    }
}

#[test]
fn threads_do_not_change_a_byte() {
    let values = random(333, 19, 9);
    let points = Matrix::new(&values, 19).unwrap();
    for metric in [Metric::Cosine, Metric::Euclidean] {
        let with = |threads| umap(points, &UmapParams { threads, ..quick(metric) }).unwrap();
        let one = with(1);
        for threads in [2, 3, 8, 0] {
            assert_eq!(bits(&one), bits(&with(threads)), "{threads} threads");
        }
    }
}

#[test]
fn the_seed_and_nothing_else_moves_points() {
    let values = random(120, 12, 2);
    let points = Matrix::new(&values, 12).unwrap();
    let with = |seed| umap(points, &UmapParams { seed, ..quick(Metric::Cosine) }).unwrap();
    assert_eq!(bits(&with(42)), bits(&with(42)));
    assert_ne!(bits(&with(42)), bits(&with(43)));
}

#[test]
fn bad_rows_are_named() {
    let check = |place: usize, value: f32, metric: Metric, expected: Option<ClusteringError>| {
        let mut values = random(20, 4, 1);
        if value == 0.0 {
            values[place * 4..place * 4 + 4].fill(0.0);
        } else {
            values[place * 4 + 2] = value;
        }
        assert_eq!(umap(Matrix::new(&values, 4).unwrap(), &quick(metric)).err(), expected);
    };
    let not_finite = |row| Some(ClusteringError::NotFinite { row, column: 2 });
    check(3, f32::NAN, Metric::Cosine, not_finite(3));
    check(19, f32::INFINITY, Metric::Euclidean, not_finite(19));
    check(7, 0.0, Metric::Cosine, Some(ClusteringError::ZeroVector { row: 7 }));
    check(7, 0.0, Metric::Euclidean, None);
}

#[test]
fn settings_out_of_range_are_named() {
    let check = |params: UmapParams, expected: &str| {
        let values = random(5, 3, 1);
        let error = umap(Matrix::new(&values, 3).unwrap(), &params).unwrap_err();
        assert!(matches!(error, ClusteringError::Parameter { name, .. } if name == expected), "{error}");
    };
    let base = UmapParams::default;
    check(UmapParams { n_neighbors: 1, ..base() }, "n_neighbors");
    check(UmapParams { n_components: 0, ..base() }, "n_components");
    check(UmapParams { n_components: 9, ..base() }, "n_components");
    check(UmapParams { min_dist: -0.1, ..base() }, "min_dist");
    check(UmapParams { min_dist: f64::NAN, ..base() }, "min_dist");
    check(UmapParams { min_dist: 1.5, ..base() }, "min_dist");
    check(UmapParams { spread: 0.0, ..base() }, "spread");
    check(UmapParams { learning_rate: 0.0, ..base() }, "learning_rate");
    check(UmapParams { negative_sample_rate: 101, ..base() }, "negative_sample_rate");
    check(UmapParams { threads: 100_000, ..base() }, "threads");
}

#[test]
fn extreme_magnitudes_are_laid_out() {
    for scale in [1e-30_f32, 1e-10, 1e10, 1e30] {
        let values: Vec<f32> = random(40, 6, 8).iter().map(|v| v * scale).collect();
        for metric in [Metric::Cosine, Metric::Euclidean] {
            let layout = umap(Matrix::new(&values, 6).unwrap(), &quick(metric)).unwrap();
            assert!(layout.iter().all(|v| v.is_finite()), "{scale} {metric:?}");
        }
    }
}

/// Neighbours by sorting all distances.
fn slow_neighbours(points: Matrix<'_>, k: usize, metric: Metric) -> Vec<u32> {
    let mut all = Vec::new();
    for row in 0..points.rows() {
        let mut others: Vec<(f64, u32)> = (0..points.rows())
            .filter(|o| *o != row)
            .map(|o| {
                let (a, b) = (points.row(row), points.row(o));
                let distance = match metric {
                    Metric::Cosine => crate::matrix::cosine_distance(a, b),
                    Metric::Euclidean => crate::matrix::squared_distance(a, b).sqrt(),
                };
                (distance, o as u32)
            })
            .collect();
        others.sort_by(|x, y| x.0.total_cmp(&y.0).then(x.1.cmp(&y.1)));
        all.push(row as u32);
        all.extend(others[..k - 1].iter().map(|o| o.1));
    }
    all
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn neighbours_are_exact(rows in 2_usize..150, dims in 1_usize..40, k in 2_usize..20, seed: u64, threads in 1_usize..4) {
        // An offset far from the origin is where squared norms would lose the distances, very
        // large and small numbers are where they would leave the range of 32 bits.
        let offset = (seed % 3) as f32 * 100.0;
        let scale = [1.0, 1e-30, 1e30][(seed / 3 % 3) as usize];
        let values: Vec<f32> = random(rows, dims, seed).iter().map(|v| (v + offset) * scale).collect();
        let points = Matrix::new(&values, dims).unwrap();
        // In one column every cosine is 1 or -1, and near the offset all are nearly equal.
        let metric = if dims == 1 || offset > 0.0 { Metric::Euclidean } else { Metric::Cosine };
        let found = nearest_neighbours(points, k, metric, threads).unwrap();
        prop_assert_eq!(found.k, k.min(rows));
        prop_assert_eq!(found.indices, slow_neighbours(points, k.min(rows), metric));
    }

    #[test]
    fn graphs_are_symmetric_and_in_range(rows in 2_usize..80, dims in 2_usize..10, seed: u64) {
        let values = random(rows, dims, seed);
        let neighbours = nearest_neighbours(Matrix::new(&values, dims).unwrap(), 15, Metric::Cosine, 1).unwrap();
        let graph = fuzzy_graph(&neighbours);
        prop_assert_eq!(graph.rows(), rows);
        for row in 0..rows {
            let mut last = None;
            for (column, weight) in graph.row(row) {
                prop_assert!(column as usize != row && weight > 0.0 && weight <= 1.0);
                prop_assert!(Some(column) > last);
                last = Some(column);
                let mirror = graph.row(column as usize).find(|e| e.0 as usize == row).map(|e| e.1);
                prop_assert_eq!(mirror, Some(weight));
            }
        }
    }
}
