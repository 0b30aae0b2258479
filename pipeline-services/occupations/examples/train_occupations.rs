//! Trains the occupation coder that ships: `train_occupations --out FILE [--esco FILE]... DIR`, see
//! scripts/train-occupations.
//!
//! DIR holds the tables of CUOC (tab-separated, gzip): `occupations`, `equivalences`, `functions`
//! and the titles. A file of `--esco` is a table of ESCO's occupations with `iscoGroup` and labels.
//! Titles whose SHA-256 is a multiple of 10 are left out wherever they stand.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io::Read,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail, ensure};
use flate2::read::MultiGzDecoder;
use observatory_occupations::{Occupation, Trainer};
use observatory_tagging::fold::fold;
use sha2::{Digest, Sha256};

fn main() -> Result<()> {
    let arguments = Arguments::parse()?;
    let directory = &arguments.directory;
    let mut trainer = Trainer::new(occupations(directory)?);
    let (titles, left_out): (Vec<_>, Vec<_>) = rows(&directory.join("titles_dev.tsv.gz"), ["code", "title"])?
        .into_iter()
        .partition(|[_, title]| !is_left_out(title));
    let left_out: BTreeSet<String> =
        left_out.iter().flat_map(|[_, title]| title.split(" / ").map(fold)).collect();
    for [code, title] in &titles {
        trainer.add_title(code, title)?;
    }
    for [code, duty] in rows(&directory.join("functions.tsv.gz"), ["code", "function"])? {
        trainer.add_duty(&code, &duty)?;
    }
    let mut labels = 0;
    for file in &arguments.esco {
        for (isco, label) in esco(file)? {
            if !left_out.contains(&fold(&label)) && trainer.add_label(&isco, &label) {
                labels += 1;
            }
        }
    }
    eprintln!("{} titles, {} left out, {labels} labels of ESCO", titles.len(), left_out.len());
    let (model, held) = trainer.train()?;
    eprintln!(
        "{} titles held out: best right {:.3}, among five {:.3}, sharpness {:.1}; {} bytes",
        held.titles,
        held.first,
        held.five,
        held.sharpness,
        model.len()
    );
    std::fs::write(&arguments.out, model).with_context(|| format!("cannot write {}", arguments.out.display()))
}

struct Arguments {
    out: PathBuf,
    esco: Vec<PathBuf>,
    directory: PathBuf,
}

impl Arguments {
    fn parse() -> Result<Self> {
        let (mut out, mut esco, mut directory) = (None, Vec::new(), None);
        let mut arguments = std::env::args_os().skip(1);
        while let Some(argument) = arguments.next() {
            match argument.to_str() {
                Some("--out") => out = arguments.next().map(PathBuf::from),
                Some("--esco") => esco.extend(arguments.next().map(PathBuf::from)),
                _ => directory = Some(PathBuf::from(argument)),
            }
        }
        let (Some(out), Some(directory)) = (out, directory) else {
            bail!("--out and a directory are needed")
        };
        Ok(Self { out, esco, directory })
    }
}

/// Occupations with their unit groups of ISCO-08; where the table of equivalences has none, the
/// unit group of CUOC, which was made from it.
fn occupations(directory: &Path) -> Result<Vec<Occupation>> {
    let mut groups: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for [code, group] in rows(&directory.join("equivalences.tsv.gz"), ["code", "ciuo08"])? {
        let group: String = group.chars().take_while(char::is_ascii_digit).collect();
        if group.len() == 4 {
            groups.entry(code).or_default().push(group);
        }
    }
    let table = rows(&directory.join("occupations.tsv.gz"), ["code", "name"])?;
    ensure!(!table.is_empty(), "no occupations");
    let with_groups = |[code, name]: [String; 2]| {
        let own = code.chars().take(4).collect::<String>();
        let mut isco = groups.remove(&code).unwrap_or_else(|| vec![own.clone()]);
        isco.sort_by_key(|group| *group != own);
        isco.dedup();
        Occupation { code, name, isco }
    };
    Ok(table.into_iter().map(with_groups).collect())
}

/// Unit groups with each label of an occupation, Spanish and English, every distinct label once.
fn esco(path: &Path) -> Result<Vec<(String, String)>> {
    let file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut reader = csv::Reader::from_reader(MultiGzDecoder::new(file));
    let names = reader.headers()?.clone();
    let group = names.iter().position(|name| name == "iscoGroup").context("no column iscoGroup")?;
    let mut out = BTreeSet::new();
    for record in reader.records() {
        let record = record?;
        for (name, value) in names.iter().zip(&record) {
            if name.starts_with("preferredLabel") || name.starts_with("altLabels") {
                let labels = value.split(['\n', '|', '/']).map(str::trim).filter(|label| !label.is_empty());
                out.extend(labels.map(|label| (format!("{:0>4}", &record[group]), fold(label))));
            }
        }
    }
    Ok(out.into_iter().collect())
}

/// Columns of a tab-separated table by their names.
fn rows<const N: usize>(path: &Path, columns: [&str; N]) -> Result<Vec<[String; N]>> {
    let text = text(path)?;
    let mut lines = text.lines();
    let names: Vec<&str> = lines.next().unwrap_or_default().split('\t').collect();
    let mut places = [0; N];
    for (place, column) in places.iter_mut().zip(columns) {
        let found = names.iter().position(|name| *name == column);
        *place = found.with_context(|| format!("{}: no column {column}", path.display()))?;
    }
    let mut out = Vec::new();
    for (index, line) in lines.enumerate() {
        let cells: Vec<&str> = line.split('\t').collect();
        ensure!(cells.len() == names.len(), "{}:{}: other columns", path.display(), index + 2);
        out.push(places.map(|place| cells[place].to_owned()));
    }
    Ok(out)
}

/// Whether the SHA-256 of a title, as one number with its first byte the greatest, is a multiple of
/// 10.
fn is_left_out(title: &str) -> bool {
    Sha256::digest(title).iter().fold(0_u32, |rest, byte| (rest * 256 + u32::from(*byte)) % 10) == 0
}

fn text(path: &Path) -> Result<String> {
    let file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut text = String::new();
    let read = MultiGzDecoder::new(file).read_to_string(&mut text);
    read.with_context(|| format!("cannot read {}", path.display()))?;
    Ok(text)
}
