//! Agreement with the reference implementations, on the fixtures that
//! `goldens/make_goldens.py` makes.

#![allow(clippy::unwrap_used, reason = "a fixture that does not parse fails its test")]

use observatory_clustering::hdbscan::{Clustering, Engine, HdbscanParams, hdbscan};
use observatory_clustering::umap::{Metric, UmapParams, fit_curve, fuzzy_graph, nearest_neighbours, umap};
use observatory_clustering::{Label, Matrix, quality};
use serde::Deserialize;

/// A table stored as integers over a power of two.
#[derive(Deserialize)]
struct Table {
    scale: f64,
    dims: usize,
    integers: Vec<i64>,
}

impl Table {
    fn values(&self) -> Vec<f32> {
        self.integers.iter().map(|i| (*i as f64 / self.scale) as f32).collect()
    }
}

fn metric(name: &str) -> Metric {
    match name {
        "cosine" => Metric::Cosine,
        "euclidean" => Metric::Euclidean,
        other => panic!("metric {other}"),
    }
}

fn labels(integers: &[i32]) -> Vec<Label> {
    integers.iter().map(|l| u32::try_from(*l).ok()).collect()
}

fn assert_close(found: f64, expected: f64, tolerance: f64, what: &str) {
    assert!(
        (found - expected).abs() <= tolerance * expected.abs().max(1.0),
        "{what}: {found}, expected {expected}"
    );
}

#[test]
fn curve_fits_umap_learn() {
    #[derive(Deserialize)]
    struct Case {
        spread: f64,
        min_dist: f64,
        a: f64,
        b: f64,
    }
    let cases: Vec<Case> = serde_json::from_str(include_str!("goldens/curves.json")).unwrap();
    for case in cases {
        let curve = fit_curve(case.spread, case.min_dist).unwrap();
        let what = format!("spread {}, min_dist {}", case.spread, case.min_dist);
        assert_close(curve.a, case.a, 1e-5, &what);
        assert_close(curve.b, case.b, 1e-5, &what);
    }
}

#[derive(Deserialize)]
struct Graphs {
    points: Table,
    cases: Vec<GraphCase>,
}

#[derive(Deserialize)]
struct GraphCase {
    metric: String,
    sigmas: Vec<f64>,
    rhos: Vec<f64>,
    heads: Vec<usize>,
    tails: Vec<u32>,
    weights: Vec<f64>,
}

#[test]
fn fuzzy_graph_equals_umap_learn() {
    let graphs: Graphs = serde_json::from_str(include_str!("goldens/graphs.json")).unwrap();
    let values = graphs.points.values();
    let points = Matrix::new(&values, graphs.points.dims).unwrap();
    for case in graphs.cases {
        let graph = fuzzy_graph(&nearest_neighbours(points, 15, metric(&case.metric), 1).unwrap());
        for row in 0..points.rows() {
            assert_close(graph.scales[row], case.sigmas[row], 1e-4, "sigma");
            assert_close(graph.nearest[row], case.rhos[row], 1e-4, "rho");
        }
        let upper = |row: usize| graph.row(row).filter(move |e| e.0 as usize > row).map(move |e| (row, e));
        let found: Vec<_> = (0..points.rows()).flat_map(upper).collect();
        assert_eq!(found.len(), case.weights.len(), "{} edges", case.metric);
        for (at, (head, (tail, weight))) in found.into_iter().enumerate() {
            assert_eq!((head, tail), (case.heads[at], case.tails[at]));
            assert_close(f64::from(weight), case.weights[at], 1e-4, "weight");
        }
    }
}

#[derive(Deserialize)]
struct Layout {
    name: String,
    metric: String,
    points: Table,
    trustworthiness_seed_42: f64,
    trustworthiness_mean_of_3_seeds: f64,
}

fn check_layout(name: &str) {
    let cases: Vec<Layout> = serde_json::from_str(include_str!("goldens/layouts.json")).unwrap();
    let case = cases.into_iter().find(|case| case.name == name).unwrap();
    let values = case.points.values();
    let points = Matrix::new(&values, case.points.dims).unwrap();
    let metric = metric(&case.metric);
    let trust = |seed: u64| {
        let layout = umap(points, &UmapParams { metric, seed, threads: 0, ..UmapParams::default() }).unwrap();
        let layout = Matrix::new(&layout, 2).unwrap();
        quality::trustworthiness(points, layout, 15, metric).unwrap().unwrap()
    };
    let trusts = [42, 43, 44].map(trust);
    let mean = trusts.iter().sum::<f64>() / 3.0;
    println!("{name}: {trusts:?}, umap-learn {}", case.trustworthiness_mean_of_3_seeds);
    assert!(trusts[0] >= case.trustworthiness_seed_42 - 0.01, "{name}: {trusts:?}");
    assert!(mean >= case.trustworthiness_mean_of_3_seeds - 0.005, "{name}: {trusts:?}");
}

#[test]
fn mixture_is_laid_out_as_well_as_by_umap_learn() {
    check_layout("mixture");
}

#[test]
fn pictures_are_laid_out_as_well_as_by_umap_learn() {
    check_layout("digit-like");
}

#[test]
fn roll_is_laid_out_as_well_as_by_umap_learn() {
    check_layout("roll");
}

#[derive(Deserialize)]
struct Scores {
    points: Table,
    labels: Vec<i32>,
    silhouette: f64,
    davies_bouldin: f64,
    calinski_harabasz: f64,
    layout: Table,
    trustworthiness_5_euclidean: f64,
    trustworthiness_15_cosine: f64,
}

#[test]
fn scores_equal_scikit_learns() {
    let case: Scores = serde_json::from_str(include_str!("goldens/scores.json")).unwrap();
    let (values, layout) = (case.points.values(), case.layout.values());
    let points = Matrix::new(&values, case.points.dims).unwrap();
    let layout = Matrix::new(&layout, case.layout.dims).unwrap();
    let labels = labels(&case.labels);
    let check =
        |name: &str, found: Option<f64>, expected: f64| assert_close(found.unwrap(), expected, 1e-9, name);
    check("silhouette", quality::silhouette(points, &labels).unwrap(), case.silhouette);
    check("davies_bouldin", quality::davies_bouldin(points, &labels).unwrap(), case.davies_bouldin);
    check("calinski_harabasz", quality::calinski_harabasz(points, &labels).unwrap(), case.calinski_harabasz);
    let trust = |k, metric| quality::trustworthiness(points, layout, k, metric).unwrap();
    check("trustworthiness", trust(5, Metric::Euclidean), case.trustworthiness_5_euclidean);
    check("trustworthiness", trust(15, Metric::Cosine), case.trustworthiness_15_cosine);
}

#[derive(Deserialize)]
struct Clusterings {
    points: Table,
    cases: Vec<ClusteringCase>,
}

#[derive(Deserialize)]
struct ClusteringCase {
    library: String,
    min_cluster_size: usize,
    min_samples: usize,
    counts_itself: bool,
    labels: Vec<i32>,
    probabilities: Vec<f64>,
}

/// Adjusted Rand index (Hubert & Arabie 1985), noise counted as one group.
fn adjusted_rand(a: &[Label], b: &[Label]) -> f64 {
    let pairs = |n: usize| (n * n.saturating_sub(1) / 2) as f64;
    let count = |mut keys: Vec<(Label, Label)>| -> f64 {
        keys.sort_unstable();
        keys.chunk_by(|x, y| x == y).map(|c| pairs(c.len())).sum()
    };
    let both = count(a.iter().copied().zip(b.iter().copied()).collect());
    let first = count(a.iter().map(|l| (*l, None)).collect());
    let second = count(b.iter().map(|l| (*l, None)).collect());
    let expected = first * second / pairs(a.len());
    let most = (first + second) / 2.0;
    if most == expected { 1.0 } else { (both - expected) / (most - expected) }
}

#[test]
fn clusters_are_those_of_the_references() {
    let set: Clusterings = serde_json::from_str(include_str!("goldens/clusterings.json")).unwrap();
    let values = set.points.values();
    let points = Matrix::new(&values, set.points.dims).unwrap();
    for case in set.cases {
        let expected = labels(&case.labels);
        let run = |engine: Engine| -> Clustering {
            let params = HdbscanParams {
                min_cluster_size: case.min_cluster_size,
                min_samples: case.min_samples,
                min_samples_counts_itself: case.counts_itself,
                engine,
                ..HdbscanParams::default()
            };
            hdbscan(points, &params).unwrap()
        };
        // Up to rank 2 no two edges are equal and the answer is unique. Beyond, the libraries
        // break ties each in their own way: on this set scikit-learn and ours differ in 2 points.
        let unique = case.min_samples + usize::from(!case.counts_itself) <= 2;
        let least = if unique { 1.0 } else { 0.98 };
        for engine in [Engine::Crate, Engine::Own] {
            let agreement = adjusted_rand(&run(engine).labels, &expected);
            let what = format!("{} {}/{} {engine:?}", case.library, case.min_cluster_size, case.min_samples);
            println!("{what}: {agreement}");
            assert!(agreement >= least, "{what}: {agreement}");
        }
        if unique {
            for (found, expected) in run(Engine::Own).probabilities.unwrap().iter().zip(&case.probabilities) {
                assert_close(*found, *expected, 1e-6, "probability");
            }
        }
    }
}
