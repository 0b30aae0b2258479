//! GPU kernels by themselves, run by the emulator; see `emulated`.
//!
//! Whole decoders on the emulator are in `gpu`.

use observatory_inference::testing::kernels::{Element, Entry, Gpu, Source};
use observatory_inference::testing::kernels::{Tiles, queries};

use crate::emulated::Emulated;
use crate::gpu::Numbers;

/// Attention of packed texts as encoders launch it, against sums in f64.
#[test]
fn attention_of_encoders_is_near_that_of_f64() {
    for (heads, head, element) in
        [(2, 64usize, Element::F16), (1, 128, Element::Bf16), (2, 40, Element::F16), (2, 32, Element::F32)]
    {
        let mut gpu = Emulated::new(element);
        let row = head.next_multiple_of(16) + 8;
        let shared = |tiles: usize| if element == Element::F32 { 0 } else { tiles * 64 * row * 2 };
        let entries = [("attend_short", 3), ("attend_long", 4)].map(|(name, tiles)| Entry {
            name,
            threads: 128,
            shared: shared(tiles),
        });
        let defines = [("HEADS", heads.to_string()), ("HEAD", head.to_string())];
        let kernels = gpu.compile(Source::Attention, &defines, &entries).unwrap();
        let (width, lengths) = (heads * head, [3, 17, 64, 1, 65, 130]);
        let count: usize = lengths.iter().sum();
        let mut numbers = Numbers(7);
        let values: Vec<f32> =
            (0..count * 3 * width).map(|_| numbers.below(2_001) as f32 / 1_000.0 - 1.0).collect();
        let tiles = Tiles::cut((0..count as u32).map(|row| (row, row)), &lengths, queries(head));
        let mut put = |bytes: &[u8]| {
            let address = gpu.allocate(bytes.len()).unwrap();
            gpu.upload(address, bytes).unwrap();
            address
        };
        let words: Vec<u8> = tiles.words().iter().flat_map(|word| word.to_le_bytes()).collect();
        let (qkv, list) = (put(&element.encode(&values)), put(&words));
        let to = put(&vec![0; count * width * element.bytes()]);
        for (kernel, part, blocks) in [
            (kernels[0], tiles.parts().slots, tiles.short()),
            (kernels[1], tiles.parts().tiles, tiles.long()),
        ] {
            let at = list + 4 * part as u64;
            gpu.launch(kernel, [heads, blocks, 1], &[qkv.into(), at.into(), to.into()]).unwrap();
        }
        let got = gpu.floats(element, to, count * width);
        let mut start = 0;
        for length in lengths {
            let rows = &values[start * 3 * width..][..length * 3 * width];
            let expected = attention(rows, heads, head);
            let got = &got[start * width..][..length * width];
            let most = if element == Element::F32 { 1e-5 } else { 1e-2 };
            let far = got.iter().zip(&expected).map(|(x, y)| (f64::from(*x) - y).abs()).fold(0.0, f64::max);
            assert!(far < most, "{element:?}, {length} tokens: {far}");
            start += length;
        }
    }
}

/// Attention of one text in f64. A row is the queries, keys and values of a token, `heads` of size
/// `head`.
fn attention(rows: &[f32], heads: usize, head: usize) -> Vec<f64> {
    let (width, length) = (heads * head, rows.len() / (3 * heads * head));
    let part = |row: usize, part: usize, which: usize| {
        rows[row * 3 * width + part * width + which * head..][..head].iter().map(|x| f64::from(*x))
    };
    let mut all = Vec::new();
    for (row, which) in (0..length).flat_map(|row| (0..heads).map(move |which| (row, which))) {
        let score = |other: usize| {
            let dot: f64 = part(row, 0, which).zip(part(other, 1, which)).map(|(x, y)| x * y).sum();
            (dot / (head as f64).sqrt()).exp()
        };
        let weights: Vec<f64> = (0..length).map(score).collect();
        let total: f64 = weights.iter().sum();
        let mut sums = vec![0.0; head];
        for (other, weight) in weights.iter().enumerate() {
            sums.iter_mut()
                .zip(part(other, 2, which))
                .for_each(|(sum, value)| *sum += weight * value / total);
        }
        all.extend(sums);
    }
    all
}
