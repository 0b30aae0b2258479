//! The phrases that ship: how Latin American advertisements name the skills of ESCO.
//!
//! Written for this project concept by concept from labels and descriptions (Colombia, Mexico,
//! Argentina, Peru, Chile): two to five for each of 14,023 concepts.

use std::io::Read;

use flate2::read::GzDecoder;

/// The file, compressed.
pub const SHIPPED: &[u8] = include_bytes!("../phrases/es.tsv.gz");

/// The URIs of ESCO's skills with the phrases that name them.
///
/// # Panics
/// If the file that is part of the program is damaged; a test reads it whole.
pub fn shipped() -> Vec<(String, Vec<String>)> {
    let mut text = String::new();
    GzDecoder::new(SHIPPED).read_to_string(&mut text).expect("the shipped phrases are text");
    // The first line names the columns.
    text.lines()
        .skip(1)
        .filter_map(|line| line.split_once('\t'))
        .map(|(uri, phrases)| (uri.to_owned(), phrases.split('|').map(str::to_owned).collect()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shipped_phrases_are_whole() {
        let phrases = shipped();
        assert_eq!(phrases.len(), 14_023);
        assert_eq!(phrases.iter().map(|(_, phrases)| phrases.len()).sum::<usize>(), 46_867);
        assert!(phrases.iter().all(|(uri, _)| uri.starts_with("http://data.europa.eu/esco/skill/")));
    }
}
