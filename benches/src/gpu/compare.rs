//! How far the vectors are from those of a reference, and whether company changes them.
//!
//! Three runs: all texts in one call, each text alone, and the texts in two calls of another order.

use std::path::PathBuf;

use observatory_inference::testing::models::{Extras, Model};
use observatory_inference::testing::registry::LoadedModel;

use crate::{ModelArgs, rows, texts};

/// Flags of the comparison with the reference.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The texts.
    #[arg(long)]
    texts: PathBuf,
    /// Their vectors by the reference, f32, row-major, little-endian.
    #[arg(long)]
    vectors: PathBuf,
}

fn vectors(model: &LoadedModel, rows: &[&[u32]]) -> Vec<Vec<f32>> {
    let outputs = model.network.run(rows, Extras::default()).unwrap();
    outputs.into_iter().map(|output| output.values).collect()
}

fn unit(vector: &[f32]) -> Vec<f64> {
    let norm = vector.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
    vector.iter().map(|x| f64::from(*x) / norm).collect()
}

fn cosine(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(x, y)| x * y).sum()
}

/// Runs the comparison and prints its table.
pub(crate) fn run(of: &ModelArgs, args: &Args) {
    let model = of.load();
    let rows = rows(&model, &texts(&args.texts));
    let rows: Vec<&[u32]> = rows.iter().map(Vec::as_slice).collect();
    let bytes = std::fs::read(&args.vectors).unwrap();
    let expected: Vec<f32> =
        bytes.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
    let expected: Vec<Vec<f64>> = expected.chunks_exact(model.info.dimensions).map(unit).collect();
    assert_eq!(expected.len(), rows.len());

    let together = vectors(&model, &rows);
    let units: Vec<Vec<f64>> = together.iter().map(|vector| unit(vector)).collect();
    let cosines: Vec<f64> = units.iter().zip(&expected).map(|(a, b)| cosine(a, b)).collect();
    let least = cosines.iter().copied().fold(1.0, f64::min);
    let differences = units.iter().flatten().zip(expected.iter().flatten()).map(|(x, y)| (x - y).abs());
    let most = differences.fold(0.0, f64::max);
    let neighbours = expected.windows(2).map(|pair| cosine(&pair[0], &pair[1])).sum::<f64>();
    let alone =
        rows.iter().zip(&together).filter(|(row, vector)| vectors(&model, &[row])[0] == **vector).count();
    let (first, second) = rows.split_at(rows.len() / 3);
    let parted = [vectors(&model, second), vectors(&model, first)];
    let moved = parted[1].iter().chain(&parted[0]).zip(&together).filter(|(a, b)| a == b).count();
    println!(
        "| {} {:?} | {} texts | least cosine {least:.7} | largest difference {most:.2e} | mean cosine of neighbours {:.3} | same bits alone {alone}, in other company {moved} |",
        of.device,
        of.precision,
        rows.len(),
        neighbours / (expected.len() - 1) as f64,
    );
}
