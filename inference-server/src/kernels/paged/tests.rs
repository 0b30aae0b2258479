//! Paged attention against a softmax in f64, and the same bits in any company.
//!
//! The test of invariance cuts a text at random and places its blocks anywhere in the cache.

use proptest::prelude::*;

use super::*;
use crate::kernels::samples::values;

/// A text's queries, keys and values side by side.
fn text(shape: AttentionShape, length: usize, seed: u64) -> Matrix {
    let width = shape.queries() + 2 * shape.keys();
    Matrix::from_rows(&values(length * width, seed), width)
}

/// Stores the keys and values of a text in blocks that are taken from the end of the cache.
fn store(shape: AttentionShape, text: &Matrix, cache: &mut LayerKvCache, next: &mut u32) -> Vec<u32> {
    let mut blocks = Vec::new();
    for token in 0..text.rows() {
        if token % BLOCK_TOKENS == 0 {
            *next -= 1;
            blocks.push(*next);
        }
        let row = &text.row(token)[shape.queries()..];
        cache.write(
            blocks[token / BLOCK_TOKENS],
            token % BLOCK_TOKENS,
            &row[..shape.keys()],
            &row[shape.keys()..],
        );
    }
    blocks
}

fn exact(
    shape: AttentionShape,
    text: &Matrix,
    token: usize,
    head: usize,
    params: AttentionParams,
) -> Vec<f64> {
    let size = shape.size;
    let key = shape.queries() + head / shape.group * size;
    let query = &text.row(token)[head * size..][..size];
    let first = params.window.map_or(0, |window| (token + 1).saturating_sub(window));
    let score = |other: usize| {
        let keys = &text.row(other)[key..][..size];
        let dot: f64 = query.iter().zip(keys).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum();
        (dot * f64::from(params.scale)).exp()
    };
    let weights: Vec<f64> = (first..=token).map(score).collect();
    let sum: f64 = weights.iter().sum();
    let column = |column: usize| {
        let value = |other: usize| f64::from(text.row(other)[key + shape.keys() + column]);
        (first..=token).zip(&weights).map(|(other, weight)| value(other) * weight).sum::<f64>() / sum
    };
    (0..size).map(column).collect()
}

#[test]
fn contexts_are_near_those_of_f64() {
    for (shape, window) in [
        (AttentionShape { kv_heads: 1, group: 1, size: 16 }, None),
        (AttentionShape { kv_heads: 2, group: 7, size: 64 }, None),
        (AttentionShape { kv_heads: 2, group: 2, size: 20 }, Some(8)),
        (AttentionShape { kv_heads: 1, group: 3, size: 32 }, Some(33)),
    ] {
        let params = AttentionParams { scale: 0.3, window };
        for length in [1, 5, 32, 33, 100] {
            let text = text(shape, length, 7);
            let mut cache = LayerKvCache::new(shape, params);
            cache.reserve(8);
            let blocks = store(shape, &text, &mut cache, &mut 8);
            let piece = Piece { rows: 0..length, start: 0, blocks: &blocks };
            for isa in Isa::available() {
                let mut out = Matrix::default();
                attend(isa, &text, std::slice::from_ref(&piece), &cache, &mut out);
                for (token, head) in
                    (0..length).flat_map(|t| (0..shape.kv_heads * shape.group).map(move |h| (t, h)))
                {
                    let got = &out.row(token)[head * shape.size..][..shape.size];
                    for (got, expected) in got.iter().zip(exact(shape, &text, token, head, params)) {
                        let error = (f64::from(*got) - expected).abs();
                        assert!(error < 3e-6, "{isa:?} {shape:?} {length} {token} {head}: {error}");
                    }
                }
            }
        }
    }
}

/// An earlier sequence left infinities and NaN in the blocks, and the last token of this one has
/// some too.
#[test]
fn values_out_of_sight_do_not_matter() {
    let shape = AttentionShape { kv_heads: 2, group: 3, size: 20 };
    for (length, window) in [(5, None), (40, None), (70, Some(9)), (70, Some(40))] {
        let clean = text(shape, length, 3);
        let (queries, width) = (shape.queries(), clean.width());
        let mut marred: Vec<f32> = (0..length).flat_map(|row| clean.row(row)).copied().collect();
        marred[(length - 1) * width + queries + shape.keys()..].fill(f32::NAN);
        let marred = Matrix::from_rows(&marred, width);
        let mut caches = [(), ()].map(|()| LayerKvCache::new(shape, AttentionParams { scale: 0.3, window }));
        caches.iter_mut().for_each(|cache| cache.reserve(4));
        for token in 0..4 * BLOCK_TOKENS {
            let stale = vec![if token % 2 == 0 { f32::INFINITY } else { f32::NAN }; shape.keys()];
            caches[1].write((token / BLOCK_TOKENS) as u32, token % BLOCK_TOKENS, &stale, &stale);
        }
        let blocks = store(shape, &clean, &mut caches[0], &mut 4);
        store(shape, &marred, &mut caches[1], &mut 4);
        let piece = Piece { rows: 0..length, start: 0, blocks: &blocks };
        for isa in Isa::available() {
            let mut outs = [Matrix::default(), Matrix::default()];
            for (cache, out) in caches.iter().zip(&mut outs) {
                attend(isa, &clean, std::slice::from_ref(&piece), cache, out);
            }
            for token in 0..length - 1 {
                assert_eq!(outs[1].row(token), outs[0].row(token), "{isa:?} {length} {token}");
            }
            assert!(outs[1].row(length - 1).iter().all(|x| x.is_nan()), "its own value is seen");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// For any cut of a text into pieces, any place of its blocks, and whatever else is in the
    /// batch.
    #[test]
    fn contexts_are_the_same_bits_in_any_company(
        length in 1usize..120, cuts in prop::collection::vec(1usize..40, 1..8),
        company in 1usize..50, window in prop::option::of(1usize..60), threads in 1usize..4
    ) {
        let shape = AttentionShape { kv_heads: 2, group: 3, size: 32 };
        let params = AttentionParams { scale: 0.2, window };
        let (text, other) = (text(shape, length, 1), text(shape, company, 2));
        let mut cache = LayerKvCache::new(shape, params);
        cache.reserve(16);
        let (first, mut next) = (store(shape, &text, &mut cache, &mut 4), 16);
        let other_blocks = store(shape, &other, &mut cache, &mut next);
        let again = store(shape, &text, &mut cache, &mut next);
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        for isa in Isa::available() {
            let mut whole = Matrix::default();
            let piece = Piece { rows: 0..length, start: 0, blocks: &first };
            attend(isa, &text, &[piece], &cache, &mut whole);
            let (mut start, mut cuts) = (0, cuts.iter().cycle());
            while start < length {
                let count = (*cuts.next().unwrap()).min(length - start);
                let width = text.width();
                let rows: Vec<f32> = (0..company).flat_map(|row| other.row(row))
                    .chain((start..start + count).flat_map(|row| text.row(row))).copied().collect();
                let batch = Matrix::from_rows(&rows, width);
                let pieces = [
                    Piece { rows: 0..company, start: 0, blocks: &other_blocks },
                    Piece { rows: company..company + count, start, blocks: &again },
                ];
                let mut out = Matrix::default();
                pool.install(|| attend(isa, &batch, &pieces, &cache, &mut out));
                for row in 0..count {
                    prop_assert_eq!(out.row(company + row), whole.row(start + row));
                }
                start += count;
            }
        }
    }
}
