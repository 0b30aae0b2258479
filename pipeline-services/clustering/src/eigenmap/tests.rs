use super::*;
use crate::rng::Stream;

/// Directions around `groups` centres.
fn grouped(rows: usize, dims: usize, groups: usize, spread: f64) -> Vec<f32> {
    let centre = |group: usize, d: usize| {
        let mut stream = Stream::new(5, group as u32, d as u32);
        stream.symmetric()
    };
    (0..rows)
        .flat_map(|row| {
            let mut stream = Stream::new(6, 0, row as u32);
            (0..dims).map(move |d| (centre(row % groups, d) + spread * stream.symmetric()) as f32)
        })
        .collect()
}

fn map(values: &[f32], dims: usize, threads: usize) -> Eigenmap {
    let params = EigenmapParams { threads, ..EigenmapParams::default() };
    eigenmap(Matrix::new(values, dims).unwrap(), &params).unwrap()
}

fn distances(map: &Eigenmap) -> Vec<f64> {
    let points = Matrix::new(&map.coordinates, map.dims).unwrap();
    let distance = |a: usize, b: usize| crate::matrix::squared_distance(points.row(a), points.row(b)).sqrt();
    (0..points.rows()).flat_map(|a| (0..a).map(move |b| distance(a, b))).collect()
}

#[test]
fn any_number_of_points_has_places() {
    for rows in [0, 1, 2, 3, 4, 5, 11, 12, 15, 16, 17, 24, 40, 130] {
        let found = map(&grouped(rows, 7, 4, 0.5), 7, 1);
        assert_eq!(found.coordinates.len(), rows * found.dims, "{rows} rows");
        assert_eq!(found.dims, 1 + (rows / POINTS_PER_COMPONENT).max(1));
        for row in found.coordinates.chunks_exact(found.dims).filter(|_| rows > 2) {
            let square: f32 = row.iter().map(|v| v * v).sum();
            assert!((square - 1.0).abs() < 1e-5, "{rows} rows: {row:?}");
        }
    }
}

#[test]
fn groups_without_a_bridge_lie_apart() {
    let rows = 120;
    let found = map(&grouped(rows, 20, 6, 0.02), 20, 1);
    let points = Matrix::new(&found.coordinates, found.dims).unwrap();
    let distance = |a: usize, b: usize| crate::matrix::squared_distance(points.row(a), points.row(b));
    for a in 0..rows {
        let same = (0..rows).filter(|b| b % 6 == a % 6 && *b != a).map(|b| distance(a, b));
        let other = (0..rows).filter(|b| b % 6 != a % 6).map(|b| distance(a, b));
        let (nearest, outside) = (same.fold(9.0, f64::min), other.fold(9.0, f64::min));
        assert!(nearest < 0.5 && outside > 1.0, "{a}: {nearest} {outside}");
    }
}

#[test]
fn more_parts_than_coordinates_have_places() {
    // Sixty pairs.
    let values: Vec<f32> = (0..120).flat_map(|i| [(i / 2) as f32 * 10.0, (i % 2) as f32]).collect();
    let params = EigenmapParams { n_neighbors: 2, metric: Metric::Euclidean, ..EigenmapParams::default() };
    let found = eigenmap(Matrix::new(&values, 2).unwrap(), &params).unwrap();
    assert!(found.coordinates.iter().all(|v| v.is_finite()));
}

#[test]
fn copies_have_one_place_and_break_nothing() {
    let one = grouped(1, 9, 1, 0.5);
    let equal: Vec<f32> = (0..50).flat_map(|_| one.clone()).collect();
    assert!(map(&equal, 9, 1).coordinates.iter().all(|v| v.is_finite()));
    let mut values = grouped(60, 9, 5, 0.4);
    values.copy_within(0..9, 9);
    let found = map(&values, 9, 1);
    let points = Matrix::new(&found.coordinates, found.dims).unwrap();
    assert!(crate::matrix::squared_distance(points.row(0), points.row(1)) < 1e-3);
}

/// The promise for which this exists: rounding errors stay rounding errors.
#[test]
fn a_small_change_moves_no_distance_far() {
    for spread in [0.3, 0.8, 2.0] {
        let values = grouped(300, 40, 12, spread);
        let moved: Vec<f32> = values
            .iter()
            .enumerate()
            .map(|(at, v)| v + 1e-5 * Stream::new(9, 0, at as u32).symmetric() as f32)
            .collect();
        let (before, after) = (distances(&map(&values, 40, 1)), distances(&map(&moved, 40, 1)));
        let largest = before.iter().zip(&after).map(|(x, y)| (x - y).abs()).fold(0.0, f64::max);
        assert!(largest < 5e-3, "spread {spread}: {largest}");
    }
}

#[test]
fn settings_out_of_range_are_named() {
    let values = grouped(10, 3, 2, 0.5);
    let check = |params: EigenmapParams, expected: &str| {
        let error = eigenmap(Matrix::new(&values, 3).unwrap(), &params).unwrap_err();
        assert!(matches!(error, ClusteringError::Parameter { name, .. } if name == expected), "{error}");
    };
    let base = EigenmapParams::default;
    check(EigenmapParams { n_neighbors: 1, ..base() }, "n_neighbors");
    check(EigenmapParams { n_components: 0, ..base() }, "n_components");
    check(EigenmapParams { n_components: 61, ..base() }, "n_components");
    check(EigenmapParams { threads: 100_000, ..base() }, "threads");
}
