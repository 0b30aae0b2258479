//! Quantised products against f64, against each other on every instruction set, and alone.
//!
//! The largest integers are tested too, since AVX2 adds products in 16 bits.

use proptest::prelude::*;

use super::super::samples::{formats, inputs, values, weights};
use super::*;
use crate::kernels::math::Activation;

fn quantised(isa: Isa, x: &Matrix) -> QuantisedRows {
    let mut rows = QuantisedRows::default();
    quantise(isa, x, &mut rows);
    rows
}

fn bits(matrix: &Matrix) -> Vec<u32> {
    (0..matrix.rows()).flat_map(|row| matrix.row(row)).map(|value| value.to_bits()).collect()
}

fn product(isa: Isa, x: &QuantisedRows, panels: &Panels, epilogue: Epilogue<'_>) -> Matrix {
    let mut out = Matrix::default();
    multiply(isa, x, std::slice::from_ref(panels), epilogue, &mut out);
    out
}

#[test]
fn layers_are_multiplied_side_by_side() {
    let (q4, q8) = (weights(Format::Q4_0, 64, 48, 1).0, weights(Format::Q8_0, 64, 21, 2).0);
    let bias = values(48, 3);
    let layers = [
        Panels::of(Format::Q4_0, 64, 48, &q4, Some(&bias)).unwrap(),
        Panels::of(Format::Q8_0, 64, 21, &q8, None).unwrap(),
    ];
    let residual = Matrix::from_rows(&values(3 * 69, 4), 69);
    for isa in Isa::available() {
        let x = quantised(isa, &Matrix::from_rows(&values(3 * 64, 5), 64));
        for (epilogue, added) in [(Epilogue::Bias, 0.0), (Epilogue::Residual(&residual), 1.0)] {
            let mut both = Matrix::default();
            multiply(isa, &x, &layers, epilogue, &mut both);
            let alone = layers.each_ref().map(|layer| product(isa, &x, layer, Epilogue::Bias));
            for row in 0..3 {
                let one_by_one = alone.iter().flat_map(|out| out.row(row));
                let expected = one_by_one.zip(residual.row(row)).map(|(sum, more)| sum + added * more);
                let found = both.row(row).iter().zip(expected);
                assert!(found.clone().count() == 69 && found.into_iter().all(|(a, b)| *a == b), "{isa:?}");
            }
        }
    }
}

#[test]
fn products_are_near_those_of_f64() {
    for (format, isa) in
        formats().flat_map(|format| Isa::available().into_iter().map(move |isa| (format, isa)))
    {
        for (rows, inputs, outputs) in [(1, inputs(format), 5), (3, 256, 16), (18, 512, 70), (140, 256, 33)] {
            let (bytes, weight) = weights(format, inputs, outputs, 1);
            let bias = values(outputs, 2);
            let panels = Panels::of(format, inputs, outputs, &bytes, Some(&bias)).unwrap();
            let x = quantised(isa, &Matrix::from_rows(&values(rows * inputs, 3), inputs));
            let residual = Matrix::from_rows(&values(rows * outputs, 4), outputs);
            let out = [Epilogue::Bias, Epilogue::Residual(&residual), Epilogue::Activation(Activation::Relu)]
                .map(|epilogue| product(isa, &x, &panels, epilogue));
            for row in 0..rows {
                let numbers = x.row(row);
                // Minima make the terms of a sum larger than the weights are.
                let allowed = 4e-7 * numbers.iter().map(|x| f64::from(x.abs())).sum::<f64>();
                for (column, weight) in weight.iter().enumerate() {
                    let products = numbers.iter().zip(weight).map(|(x, w)| f64::from(*x) * f64::from(*w));
                    let sum = products.sum::<f64>() + f64::from(bias[column]);
                    let expected = [sum, sum + f64::from(residual.row(row)[column]), sum.max(0.0)];
                    for (out, expected) in out.iter().zip(expected) {
                        let error = (f64::from(out.row(row)[column]) - expected).abs();
                        assert!(error < allowed, "{format:?} {isa:?} {rows} {row} {column}: {error}");
                    }
                }
            }
        }
    }
}

#[test]
fn every_instruction_set_gives_the_same_bits() {
    for format in formats() {
        let inputs = inputs(format);
        let (bytes, _) = weights(format, inputs, 40, 1);
        let panels = Panels::of(format, inputs, 40, &bytes, None).unwrap();
        for rows in [1, 2, 3, 4, 7, 33] {
            let x = Matrix::from_rows(&values(rows * inputs, 3), inputs);
            let product = |isa| bits(&product(isa, &quantised(isa, &x), &panels, Epilogue::Bias));
            let expected = product(Isa::available()[0]);
            for isa in Isa::available() {
                assert_eq!(product(isa), expected, "{format:?} {isa:?} {rows}");
            }
        }
    }
}

#[test]
fn the_check_passes_here() {
    Isa::available().into_iter().for_each(|isa| assert!(check(isa), "{isa:?}"));
}

/// The largest integers on both sides, which must not saturate the 16-bit sums of AVX2.
#[test]
fn extremes_do_not_saturate() {
    for (format, fill) in
        formats().flat_map(|format| [(format, 0), (format, 0xFF), (format, 0x80), (format, 0x7F)])
    {
        let mut block = vec![fill; format.block_bytes()];
        // Factors of one.
        let places: &[usize] = match format {
            Format::Q6K => &[208],
            Format::Q4_0 | Format::Q5_0 | Format::Q8_0 => &[0],
            _ => &[0, 2],
        };
        places.iter().for_each(|at| block[*at..at + 2].copy_from_slice(&0x3C00u16.to_le_bytes()));
        let inputs = 256;
        let bytes = block.repeat(inputs / format.block_length() * 16);
        let panels = Panels::of(format, inputs, 16, &bytes, None).unwrap();
        let mut weight = vec![0.0; inputs];
        panels.dequantise_row(3, &mut weight);
        for sign in [1.0, -1.0] {
            let x = Matrix::from_rows(&vec![127.0 * sign; 5 * inputs], inputs);
            let expected = weight.iter().map(|w| f64::from(*w) * 127.0 * f64::from(sign)).sum::<f64>();
            for isa in Isa::available() {
                let out = product(isa, &quantised(isa, &x), &panels, Epilogue::Bias);
                let got = f64::from(out.row(4)[3]);
                assert!(
                    (got - expected).abs() <= 1e-5 * expected.abs().max(1e4),
                    "{format:?} {fill} {isa:?}: {got}, not {expected}"
                );
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn a_row_does_not_depend_on_the_others(
        rows in 1usize..300, at in 0usize..300, threads in 1usize..4, which in 0usize..8,
    ) {
        let format = formats().nth(which).unwrap();
        let (at, inputs, outputs) = (at % rows, inputs(format), 70);
        let (bytes, _) = weights(format, inputs, outputs, 1);
        let panels = Panels::of(format, inputs, outputs, &bytes, Some(&values(outputs, 2))).unwrap();
        let x = Matrix::from_rows(&values(rows * inputs, 5), inputs);
        let alone = Matrix::from_rows(x.row(at), inputs);
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        // The portable kernel is slow and gives the same bits, as tested above.
        let isa = Isa::detect();
        let gelu = Epilogue::Activation(Activation::Gelu);
        let many = pool.install(|| product(isa, &quantised(isa, &x), &panels, gelu));
        let one = product(isa, &quantised(isa, &alone), &panels, gelu);
        prop_assert_eq!(many.row(at), one.row(0));
    }
}
