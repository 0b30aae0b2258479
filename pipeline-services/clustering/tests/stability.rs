//! The promise of the report's last page on real vectors of skills: equal vectors give equal
//! bytes, and vectors that differ by rounding give all but the same clusters.
//!
//! `goldens/skills.bin` holds 269 labels of the lexicon; `goldens/make_skills.py` wrote it.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test")]

use observatory_clustering::eigenmap::{EigenmapParams, eigenmap};
use observatory_clustering::hdbscan::{Clustering, HdbscanParams, hdbscan};
use observatory_clustering::umap::{UmapParams, umap};
use observatory_clustering::{Label, Matrix, quality, use_base_instructions};

const DIMS: usize = 384;

fn skills() -> Vec<f32> {
    let file = include_bytes!("goldens/skills.bin");
    let number = |at: usize| u32::from_le_bytes(file[at..at + 4].try_into().unwrap()) as usize;
    assert_eq!((number(4), number(0) * DIMS), (DIMS, file.len() - 8));
    file[8..].iter().map(|value| f32::from(value.cast_signed()) / 512.0).collect()
}

/// Every value moved by up to `size`, the row scaled back to unit length.
fn moved(values: &[f32], size: f64, seed: u64) -> Vec<f32> {
    let mut state = seed;
    let mut random = || {
        // SplitMix64, as a number in [-1, 1).
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 52) as f64 - 1.0
    };
    let mut out = Vec::with_capacity(values.len());
    for row in values.chunks_exact(DIMS) {
        let row: Vec<f64> = row.iter().map(|v| f64::from(*v) + size * random()).collect();
        let length = row.iter().map(|v| v * v).sum::<f64>().sqrt();
        out.extend(row.iter().map(|v| (v / length) as f32));
    }
    out
}

fn clusters(values: &[f32], min_samples: usize) -> Clustering {
    let map = eigenmap(Matrix::new(values, DIMS).unwrap(), &EigenmapParams::default()).unwrap();
    let params = HdbscanParams { min_samples, ..HdbscanParams::default() };
    hdbscan(Matrix::new(&map.coordinates, map.dims).unwrap(), &params).unwrap()
}

/// Adjusted Rand index (Hubert & Arabie 1985) of the rows that `keep` names.
fn adjusted_rand(a: &[Label], b: &[Label], keep: impl Fn(Label, Label) -> bool) -> f64 {
    let rows: Vec<(Label, Label)> =
        a.iter().copied().zip(b.iter().copied()).filter(|(x, y)| keep(*x, *y)).collect();
    let pairs = |n: usize| (n * n.saturating_sub(1) / 2) as f64;
    let count = |mut keys: Vec<(Label, Label)>| -> f64 {
        keys.sort_unstable();
        keys.chunk_by(|x, y| x == y).map(|c| pairs(c.len())).sum()
    };
    let first = count(rows.iter().map(|(x, _)| (*x, None)).collect());
    let second = count(rows.iter().map(|(_, y)| (None, *y)).collect());
    let (all, both) = (pairs(rows.len()), count(rows));
    let (expected, most) = (first * second / all, (first + second) / 2.0);
    if most == expected { 1.0 } else { (both - expected) / (most - expected) }
}

#[test]
fn rounding_errors_leave_the_clusters_as_they_are() {
    let values = moved(&skills(), 0.0, 0);
    for min_samples in [2, 3] {
        let before = clusters(&values, min_samples);
        assert!((15..=60).contains(&before.clusters), "{} clusters", before.clusters);
        assert!(quality::noise_share(&before.labels).unwrap() < 0.35);
        for seed in 0..20 {
            let after = clusters(&moved(&values, 1e-5, seed), min_samples);
            // Noise as one more group, and without what is noise in either: the first also counts
            // points that join or leave a cluster, the second cannot be carried by much noise.
            let whole = adjusted_rand(&before.labels, &after.labels, |_, _| true);
            let inside = adjusted_rand(&before.labels, &after.labels, |x, y| x.is_some() && y.is_some());
            let what = format!("seed {seed}: {} clusters, {whole} and {inside}", after.clusters);
            assert!(before.clusters.abs_diff(after.clusters) <= 1, "{what}");
            assert!(whole >= 0.95 && inside >= 0.95, "{what}");
        }
    }
}

/// Bytes of the map and of the coordinates for clustering.
fn bytes(values: &[f32], threads: usize) -> Vec<u32> {
    let points = Matrix::new(values, DIMS).unwrap();
    let map = umap(points, &UmapParams { threads, n_epochs: Some(40), ..UmapParams::default() }).unwrap();
    let space = eigenmap(points, &EigenmapParams { threads, ..EigenmapParams::default() }).unwrap();
    map.iter().chain(&space.coordinates).map(|v| v.to_bits()).collect()
}

#[test]
fn threads_and_instructions_change_no_byte() {
    let values = skills();
    for rows in [2, 5, 16, 61, 269] {
        let values = &values[..rows * DIMS];
        let (wide, labels) = (bytes(values, 1), clusters(values, 3));
        use_base_instructions(true);
        for threads in [1, 2, 3, 8] {
            assert_eq!(bytes(values, threads), wide, "{rows} rows, base instructions, {threads} threads");
        }
        assert_eq!(clusters(values, 3), labels, "{rows} rows");
        use_base_instructions(false);
        for threads in [2, 3, 8] {
            assert_eq!(bytes(values, threads), wide, "{rows} rows, {threads} threads");
        }
    }
}
