//! Our kernels on a GPU, where OBSERVATORY_TEST_DEVICE names one: how close half precision stays to
//! transformers in f32, and that company changes no bit.

use std::collections::HashMap;

use observatory_inference::testing::device::{OpenDevice, Precision};

use crate::goldens::{cases, encode, model_on, run, unit};
use crate::support::device;

fn gpu(precision: Precision) -> Option<OpenDevice> {
    let device = device();
    if device.device.is_cpu() {
        println!("skipped: OBSERVATORY_TEST_DEVICE names no GPU");
        return None;
    }
    Some(device.with_precision(precision).unwrap())
}

#[test]
fn half_precision_stays_close() {
    for (precision, least) in [(Precision::F16, 0.999_99), (Precision::Bf16, 0.999_5)] {
        let Some(device) = gpu(precision) else { return };
        let mut models = HashMap::new();
        for case in cases() {
            let key = (case.model.clone(), case.pooling.clone());
            let model = models.entry(key).or_insert_with(|| model_on(&device, &case.model, &case.pooling));
            let ids = encode(model, &case);
            let vectors = run(model, &ids.iter().map(Vec::as_slice).collect::<Vec<_>>());
            for (vector, expected) in vectors.iter().zip(&case.unit) {
                let cosine: f32 = unit(vector).iter().zip(expected).map(|(x, y)| x * y).sum();
                assert!(cosine >= least, "{} {} {precision:?}: {cosine}", case.model, case.pooling);
            }
        }
    }
}

#[test]
fn company_changes_no_bit() {
    for precision in [Precision::F32, Precision::F16, Precision::Bf16] {
        let Some(device) = gpu(precision) else { return };
        for name in ["golden/bert", "golden/tiny-e5"] {
            let model = model_on(&device, name, "mean");
            let rows: Vec<Vec<u32>> = (0..300)
                .map(|row| (0..1 + row * 7 % 33).map(|place| 5 + (row * 31 + place * 17) % 140).collect())
                .collect();
            let rows: Vec<&[u32]> = rows.iter().map(Vec::as_slice).collect();
            let together = run(&model, &rows);
            for (row, vector) in rows.iter().zip(&together) {
                assert_eq!(run(&model, &[row])[0], *vector, "{name} {precision:?}, {} tokens", row.len());
            }
        }
    }
}
