//! The file of a model.
//!
//! Little-endian: the eight bytes of [`MAGIC`]; the sharpness (`f32`); the occupations, a count
//! (`u16`) and for each code, name and the unit groups of ISCO-08 parted by blanks, each a length
//! (`u8`) and UTF-8; the features, a count (`u32`) and for each its hash (`u32`), its rarity
//! (`u8`), 1 if it has an embedding (`u8`) and the count of its weights (`u16`); the scale of the
//! weights (`f32`); the biases of all labels (`f32`); all weights feature by feature, each the
//! step from the feature's last label (`u8`; 255 adds 255 and goes on) and a value (`i8`); then
//! embeddings, outputs and biases of the net, each a scale (`f32`) and values (`i8`).

use super::{Linear, Model, Net, Occupation, Parts, WIDTH, Weight, groups};

/// First bytes of a model file, the last two its version.
const MAGIC: &[u8; 8] = b"OBSOCC01";

/// A file that is no model.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ModelError {
    /// Other first bytes.
    #[error("not an occupation model of this version: it does not begin with {}", MAGIC.escape_ascii())]
    Magic,
    /// It ends early, or goes on after its end.
    #[error("the occupation model is cut off or damaged at byte {0}")]
    Length(usize),
    /// What it holds makes no model.
    #[error("the occupation model is damaged: {0}")]
    Content(&'static str),
}

impl Model {
    /// Writes a model file. Embeddings are rounded to a byte each.
    pub(crate) fn write(&self) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        out.extend(self.sharpness.to_le_bytes());
        out.extend((self.occupations.len() as u16).to_le_bytes());
        for Occupation { code, name, isco } in &self.occupations {
            for text in [code, name, &isco.join(" ")] {
                out.push(text.len() as u8);
                out.extend(text.bytes());
            }
        }
        out.extend((self.hashes.len() as u32).to_le_bytes());
        let mut start = 0;
        for (index, hash) in self.hashes.iter().enumerate() {
            let end = self.linear.ends[index];
            out.extend(hash.to_le_bytes());
            out.extend([self.rarities[index], u8::from(self.rows[index].is_some())]);
            out.extend(((end - start) as u16).to_le_bytes());
            start = end;
        }
        write_linear(&self.linear, &mut out);
        for values in [&self.net.embeddings, &self.net.outputs, &self.net.biases] {
            write_rounded(values, &mut out);
        }
        out
    }

    /// Reads a model file.
    pub(crate) fn read(bytes: &[u8]) -> Result<Self, ModelError> {
        let mut reader = Reader { bytes, at: 0 };
        if &reader.take::<8>().map_err(|_| ModelError::Magic)? != MAGIC {
            return Err(ModelError::Magic);
        }
        let sharpness = reader.float()?;
        let occupations = reader.occupations()?;
        let labels = groups(&occupations).last().map_or(0, |last| usize::from(*last) + 1);
        let Table { hashes, rarities, rows, counts } = reader.table()?;
        let linear = reader.linear(&counts, labels)?;
        let net = Net {
            embeddings: reader.rounded(rows.iter().flatten().count() * WIDTH)?,
            outputs: reader.rounded(occupations.len() * WIDTH)?,
            biases: reader.rounded(occupations.len())?,
        };
        match reader.at == bytes.len() {
            true => Ok(Self::new(Parts { occupations, hashes, rarities, linear, rows, net, sharpness })),
            false => Err(ModelError::Length(reader.at)),
        }
    }
}

fn write_linear(linear: &Linear, out: &mut Vec<u8>) {
    out.extend(linear.scale.to_le_bytes());
    linear.biases.iter().for_each(|bias| out.extend(bias.to_le_bytes()));
    let mut start = 0;
    for end in &linear.ends {
        let mut last = 0;
        for (label, value) in &linear.weights[start..*end as usize] {
            let mut step = label - last;
            while step >= 255 {
                out.push(255);
                step -= 255;
            }
            out.extend([step as u8, value.cast_unsigned()]);
            last = *label;
        }
        start = *end as usize;
    }
}

fn write_rounded(values: &[f32], out: &mut Vec<u8>) {
    let top = values.iter().fold(0.0, |top: f32, value| top.max(value.abs()));
    let scale = top.max(f32::MIN_POSITIVE) / f32::from(i8::MAX);
    out.extend(scale.to_le_bytes());
    out.extend(values.iter().map(|value| ((value / scale).round() as i8).cast_unsigned()));
}

/// The features of a file, with how many weights each has.
#[derive(Default)]
struct Table {
    hashes: Vec<u32>,
    rarities: Vec<u8>,
    rows: Vec<Option<u32>>,
    counts: Vec<u16>,
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn slice(&mut self, length: usize) -> Result<&[u8], ModelError> {
        let end = self.at.checked_add(length).ok_or(ModelError::Length(self.at))?;
        let found = self.bytes.get(self.at..end).ok_or(ModelError::Length(self.at))?;
        self.at = end;
        Ok(found)
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], ModelError> {
        let mut out = [0; N];
        out.copy_from_slice(self.slice(N)?);
        Ok(out)
    }

    fn float(&mut self) -> Result<f32, ModelError> {
        let value = f32::from_le_bytes(self.take()?);
        if value.is_finite() { Ok(value) } else { Err(ModelError::Content("a number is not finite")) }
    }

    fn text(&mut self) -> Result<String, ModelError> {
        let [length] = self.take()?;
        let bytes = self.slice(usize::from(length))?.to_vec();
        String::from_utf8(bytes).map_err(|_| ModelError::Content("a text is not UTF-8"))
    }

    fn occupations(&mut self) -> Result<Vec<Occupation>, ModelError> {
        let count = u16::from_le_bytes(self.take()?);
        let mut out: Vec<Occupation> = Vec::new();
        for _ in 0..count {
            let (code, name) = (self.text()?, self.text()?);
            let isco: Vec<String> = self.text()?.split_whitespace().map(str::to_owned).collect();
            if isco.is_empty() || !code.is_ascii() || code.len() != 5 {
                return Err(ModelError::Content("an occupation has no code or no unit group"));
            }
            out.push(Occupation { code, name, isco });
        }
        match out.is_sorted_by(|left, right| left.code < right.code) {
            true => Ok(out),
            false => Err(ModelError::Content("its occupations are out of order")),
        }
    }

    fn table(&mut self) -> Result<Table, ModelError> {
        let count = u32::from_le_bytes(self.take()?);
        let mut table = Table::default();
        let mut row = 0;
        for _ in 0..count {
            table.hashes.push(u32::from_le_bytes(self.take()?));
            let [rarity, embedded] = self.take()?;
            table.rarities.push(rarity);
            table.rows.push((embedded == 1).then_some(row));
            row += u32::from(embedded == 1);
            table.counts.push(u16::from_le_bytes(self.take()?));
            if rarity == 0 || embedded > 1 {
                return Err(ModelError::Content("a feature is invalid"));
            }
        }
        match table.hashes.is_sorted_by(|left, right| left < right) {
            true => Ok(table),
            false => Err(ModelError::Content("its features are out of order")),
        }
    }

    fn linear(&mut self, counts: &[u16], labels: usize) -> Result<Linear, ModelError> {
        let scale = self.float()?;
        let biases = (0..labels).map(|_| self.float()).collect::<Result<_, _>>()?;
        let mut linear = Linear { scale, biases, ..Linear::default() };
        for count in counts {
            let mut last = 0;
            for _ in 0..*count {
                let weight = self.weight(last, labels)?;
                last = weight.0;
                linear.weights.push(weight);
            }
            linear.ends.push(linear.weights.len() as u32);
        }
        Ok(linear)
    }

    fn weight(&mut self, last: u16, labels: usize) -> Result<Weight, ModelError> {
        let mut label = usize::from(last);
        loop {
            let [step] = self.take()?;
            label += usize::from(step);
            if label >= labels {
                return Err(ModelError::Content("it has weights of labels that do not exist"));
            }
            if step < u8::MAX {
                let [value] = self.take()?;
                return Ok((label as u16, value.cast_signed()));
            }
        }
    }

    fn rounded(&mut self, count: usize) -> Result<Vec<f32>, ModelError> {
        let scale = self.float()?;
        Ok(self.slice(count)?.iter().map(|value| f32::from(value.cast_signed()) * scale).collect())
    }
}
