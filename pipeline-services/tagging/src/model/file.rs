//! The file of a model.
//!
//! Little-endian: the eight bytes of [`MAGIC`]; the scale of the weights (`f32`); the transitions
//! (`f32`, row by row); the clusters, a count (`u32`) and for each word its hash (`u32`) and three
//! numbers (`u16`); the features, a count (`u32`) and for each its hash (`u32`) and how many
//! weights it has (`u8`); then all weights, label (`u8`) and value (`i8`).

use crate::{
    clusters::Clusters,
    labels::LABELS,
    lattice::{Row, Transitions},
    model::Weight,
};

/// First bytes of a model file, the last two its version.
const MAGIC: &[u8; 8] = b"OBSTAG01";

/// A file that is no model.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ModelError {
    /// Other first bytes.
    #[error("not a tagger of this version: it does not begin with {}", MAGIC.escape_ascii())]
    Magic,
    /// It ends early, or goes on after its end.
    #[error("the tagger is cut off or damaged at byte {0}")]
    Length(usize),
    /// What it holds makes no model.
    #[error("the tagger is damaged: {0}")]
    Content(&'static str),
    /// A line of a cluster table.
    #[error("line {line} of the clusters is not a word and three numbers below 65535")]
    Clusters {
        /// Counted from 1.
        line: usize,
    },
}

/// Weights by feature.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Table {
    /// Features with weights, ascending, and where the weights of each end.
    pub(crate) hashes: Vec<u32>,
    pub(crate) ends: Vec<u32>,
    pub(crate) weights: Vec<Weight>,
}

/// What training gives.
#[derive(Debug, Clone)]
pub(crate) struct Learned {
    pub(crate) scale: f32,
    pub(crate) transitions: Transitions,
    pub(crate) clusters: Clusters,
    pub(crate) table: Table,
}

impl Learned {
    /// Rounds weights to a byte each; what rounds to nothing is left out. `rows` in ascending order
    /// of the hashes.
    pub(crate) fn rounded(rows: &[(u32, Row)], transitions: Transitions, clusters: Clusters) -> Self {
        let top = rows.iter().flat_map(|(_, row)| row).fold(0.0, |top: f32, weight| top.max(weight.abs()));
        let scale = top.max(f32::MIN_POSITIVE) / f32::from(i8::MAX);
        let mut table = Table::default();
        for (hash, row) in rows {
            let values = row.iter().map(|weight| (weight / scale).round() as i8);
            let labelled = values.enumerate().map(|(label, value)| (label as u8, value));
            let before = table.weights.len();
            table.weights.extend(labelled.filter(|(_, value)| *value != 0));
            if table.weights.len() > before {
                table.hashes.push(*hash);
                table.ends.push(table.weights.len() as u32);
            }
        }
        Self { scale, transitions, clusters, table }
    }

    /// Reads a model file.
    pub(crate) fn read(bytes: &[u8]) -> Result<Self, ModelError> {
        let mut reader = Reader { bytes, at: 0 };
        if &reader.take::<8>().map_err(|_| ModelError::Magic)? != MAGIC {
            return Err(ModelError::Magic);
        }
        let scale = reader.float()?;
        let mut transitions = [[0.0; LABELS]; LABELS];
        for score in transitions.iter_mut().flatten() {
            *score = reader.float()?;
        }
        let clusters = reader.clusters()?;
        let table = reader.table()?;
        match reader.at == bytes.len() {
            true => Ok(Self { scale, transitions, clusters, table }),
            false => Err(ModelError::Length(reader.at)),
        }
    }

    /// Writes a model file.
    pub(crate) fn write(&self) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        out.extend(self.scale.to_le_bytes());
        self.transitions.iter().flatten().for_each(|score| out.extend(score.to_le_bytes()));
        let words = self.clusters.entries();
        out.extend((words.len() as u32).to_le_bytes());
        for (word, clusters) in words {
            out.extend(word.to_le_bytes());
            clusters.iter().for_each(|cluster| out.extend(cluster.to_le_bytes()));
        }
        let Table { hashes, ends, weights } = &self.table;
        out.extend((hashes.len() as u32).to_le_bytes());
        let mut start = 0;
        for (hash, end) in hashes.iter().zip(ends) {
            out.extend(hash.to_le_bytes());
            out.push((end - start) as u8);
            start = *end;
        }
        weights.iter().for_each(|(label, value)| out.extend([*label, value.cast_unsigned()]));
        out
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], ModelError> {
        let found = self.bytes.get(self.at..).and_then(|rest| rest.first_chunk());
        let found = found.ok_or(ModelError::Length(self.at))?;
        self.at += N;
        Ok(*found)
    }

    fn float(&mut self) -> Result<f32, ModelError> {
        let value = f32::from_le_bytes(self.take()?);
        if value.is_finite() { Ok(value) } else { Err(ModelError::Content("a score is not finite")) }
    }

    fn number(&mut self) -> Result<u32, ModelError> {
        Ok(u32::from_le_bytes(self.take()?))
    }

    /// A count of items of at least `least` bytes.
    fn count(&mut self, least: usize) -> Result<usize, ModelError> {
        let count = self.number()? as usize;
        // Before anything is reserved for them: a damaged count must not take the memory.
        if count > (self.bytes.len() - self.at) / least {
            return Err(ModelError::Length(self.at));
        }
        Ok(count)
    }

    fn clusters(&mut self) -> Result<Clusters, ModelError> {
        let mut clusters = Clusters::default();
        for _ in 0..self.count(10)? {
            let word = self.number()?;
            let numbers = [self.take()?, self.take()?, self.take()?];
            clusters.insert(word, numbers.map(u16::from_le_bytes));
        }
        Ok(clusters)
    }

    fn table(&mut self) -> Result<Table, ModelError> {
        let count = self.count(5)?;
        let mut table = Table::default();
        let mut end = 0;
        for _ in 0..count {
            table.hashes.push(self.number()?);
            let [weights] = self.take()?;
            if weights == 0 || usize::from(weights) > LABELS {
                return Err(ModelError::Content("a feature has none or too many weights"));
            }
            end += u32::from(weights);
            table.ends.push(end);
        }
        if !table.hashes.is_sorted_by(|left, right| left < right) {
            return Err(ModelError::Content("its features are out of order"));
        }
        for _ in 0..end {
            let [label, value] = self.take()?;
            table.weights.push((label, value.cast_signed()));
        }
        if table.weights.iter().any(|(label, _)| usize::from(*label) >= LABELS) {
            return Err(ModelError::Content("it has weights of labels that do not exist"));
        }
        Ok(table)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn learned() -> Learned {
        let clusters = Clusters::parse("excel\t254\t7\t9\nventas\t0\t0\t0\n").unwrap();
        let rows: Vec<(u32, Row)> =
            (0..40).map(|hash| (hash * 7, std::array::from_fn(|label| label as f32 * 0.1 - 1.0))).collect();
        Learned::rounded(&rows, [[0.5; LABELS]; LABELS], clusters)
    }

    #[test]
    fn a_file_is_read_as_written() {
        let bytes = learned().write();
        let read = Learned::read(&bytes).unwrap();
        assert_eq!(read.write(), bytes);
        assert_eq!(read.table, learned().table);
        assert_eq!(read.clusters.entries(), learned().clusters.entries());
    }

    #[test]
    fn damaged_files_are_refused() {
        let bytes = learned().write();
        for (damaged, expected) in [
            (b"PK\x03\x04".to_vec(), "does not begin with OBSTAG01"),
            (bytes[..bytes.len() - 1].to_vec(), "cut off or damaged at byte"),
            ([&bytes[..], b"x"].concat(), "cut off or damaged at byte"),
            (bytes[..20].to_vec(), "cut off or damaged at byte 20"),
            ([&bytes[..8], &f32::NAN.to_le_bytes(), &bytes[12..]].concat(), "not finite"),
        ] {
            let error = Learned::read(&damaged).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
        // No damaged byte may panic or take the memory.
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0xff;
            drop(Learned::read(&damaged));
        }
        for table in ["excel\t1\t1", "excel\t1\t1\t65535", "excel\t1\t1\t1\t1", "excel"] {
            let error = Clusters::parse(table).unwrap_err().to_string();
            assert!(error.contains("line 1 of the clusters"), "{error}");
        }
    }
}
