//! Gold: texts that people have marked, recognised by what is in the file and never by its name.
//!
//! A file is read and checked as a whole before anything is asked. Errors name file and line.

mod ads;
mod lists;
mod row;
mod sentences;
mod texts;
mod titles;

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use anyhow::bail;
use serde_json::{Map, Value};

pub(super) use ads::{Ad, Mark};
pub(super) use lists::List;
pub(super) use sentences::{Label, Sentence, TokenSpan};
pub(super) use texts::Text;
pub(super) use titles::{Query, Titles, clean_uri, name_key};

use super::predictions::Question;
use crate::commands::lines::{self, Line};
use row::Row;

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Measure {
    /// The skills of an advertisement.
    Skills,
    /// Where skills stand in a text.
    Spans,
    /// The concept of a skill.
    Linking,
    /// The occupation of an advertisement.
    Occupations,
}

impl Measure {
    /// The forms of gold it can be taken from.
    fn forms(self) -> &'static [Form] {
        match self {
            Self::Skills => &[Form::Ads, Form::Lists],
            Self::Spans => &[Form::Ads, Form::Sentences],
            Self::Linking => &[Form::Ads, Form::Texts],
            Self::Occupations => &[Form::Ads, Form::Titles],
        }
    }

    /// Fails for gold of a form that the measure cannot use.
    fn takes(self, name: &str, form: Form) -> anyhow::Result<()> {
        if !self.forms().contains(&form) {
            let wanted: Vec<String> = self.forms().iter().map(Form::to_string).collect();
            bail!("{name}: `{self}` expects {}; found {form}", wanted.join(" or "));
        }
        Ok(())
    }
}

impl fmt::Display for Measure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Skills => "eval skills",
            Self::Spans => "eval spans",
            Self::Linking => "eval linking",
            Self::Occupations => "eval occupations",
        })
    }
}

/// A form of gold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Ads,
    Lists,
    Sentences,
    Texts,
    Titles,
}

impl fmt::Display for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ads => "advertisements with marked spans (`spans`)",
            Self::Lists => "advertisements with lists of skills (`hard_skills`, `soft_skills`)",
            Self::Sentences => "sentences with tagged tokens (`tokens`, `tags_skill`, `tags_knowledge`)",
            Self::Texts => "a table of sentences and their skills (`sentence`, `label`)",
            Self::Titles => "a folder of job titles (queries.tsv, annotations.tsv)",
        })
    }
}

/// Gold that was read.
#[derive(Debug)]
pub(super) struct Gold {
    /// Name of the file, for messages.
    pub(super) name: String,
    /// Lines of the cases, for messages.
    numbers: Vec<u64>,
    /// The cases.
    pub(super) cases: Cases,
}

/// Cases of one form.
#[derive(Debug)]
pub(super) enum Cases {
    /// Advertisements with marked spans.
    Ads(Vec<Ad>),
    /// Advertisements with lists of skills.
    Lists(Vec<List>),
    /// Sentences with tagged tokens.
    Sentences(Vec<Sentence>),
    /// Sentences that are linked as they are.
    Texts(Vec<Text>),
    /// Job titles that are linked as they are.
    Titles(Titles),
}

/// One case of a form.
trait Case: Sized {
    /// Reads and checks the object of a line.
    ///
    /// # Errors
    /// The field at fault, and what was expected.
    fn read(row: &Row) -> Result<Self, String>;

    /// What tells it from the others, if the form has ids.
    fn id(&self) -> Option<&str>;

    /// What may be sent: its text without its marks. `index` counts the cases from 0.
    fn document(&self, index: usize) -> Value;
}

impl Gold {
    /// Reads a file or folder, or standard input for `-`.
    ///
    /// # Errors
    /// If it cannot be read, has no cases or a bad one, or its form is not one for the measure.
    pub(super) fn read(path: &Path, measure: Measure) -> anyhow::Result<Self> {
        let name = lines::name(path);
        if path.is_dir() {
            if !titles::is_titles(path) {
                bail!("{name} is a folder without queries.tsv and annotations.tsv; --gold expects a file");
            }
            measure.takes(&name, Form::Titles)?;
            return Ok(Self { name, numbers: Vec::new(), cases: Cases::Titles(Titles::read(path)?) });
        }
        let lines = lines::read(path)?;
        // The first line decides for the file; a line of another form lacks a field and is named.
        let Some(first) = lines.first() else { bail!("{name} is empty: it contains no gold") };
        let form = form(&name, first)?;
        measure.takes(&name, form)?;
        let cases = match form {
            Form::Ads => Cases::Ads(with_codes(&name, read_all(&name, &lines)?, measure)?),
            Form::Lists => Cases::Lists(read_all(&name, &lines)?),
            Form::Sentences => Cases::Sentences(read_all(&name, &lines)?),
            // No line is of the form Titles: the folder was read above.
            Form::Texts | Form::Titles => Cases::Texts(texts::read(&name, &lines)?),
        };
        let numbers = lines.iter().map(|line| line.number).collect();
        Ok(Self { name, numbers, cases })
    }

    /// The texts to extract from, in order; none where texts are linked as they are.
    pub(super) fn questions(&self) -> Vec<Question> {
        let documents = match &self.cases {
            Cases::Ads(ads) => documents(ads),
            Cases::Lists(lists) => documents(lists),
            Cases::Sentences(sentences) => documents(sentences),
            Cases::Texts(_) | Cases::Titles(_) => Vec::new(),
        };
        let places = self.numbers.iter().map(|number| format!("{}:{number}", self.name));
        places.zip(documents).map(|(place, document)| Question { place, document }).collect()
    }
}

fn documents<C: Case>(cases: &[C]) -> Vec<Value> {
    cases.iter().enumerate().map(|(index, case)| case.document(index)).collect()
}

/// Fails if no advertisement has the codes that a measure compares.
fn with_codes(name: &str, ads: Vec<Ad>, measure: Measure) -> anyhow::Result<Vec<Ad>> {
    let (is_coded, wanted) = match measure {
        Measure::Skills | Measure::Spans => return Ok(ads),
        Measure::Linking => (
            ads.iter().flat_map(|ad| &ad.marks).any(Mark::is_coded),
            "concepts of spans (`uris`, `uris_by_part`)",
        ),
        Measure::Occupations => {
            (ads.iter().any(|ad| !ad.occupation.esco.is_empty()), "occupations (`occupation` with `esco`)")
        }
    };
    if !is_coded {
        bail!("{name}: `{measure}` expects {wanted}; no advertisement has any");
    }
    Ok(ads)
}

/// The form of a file, by its first line.
fn form(name: &str, first: &Line) -> anyhow::Result<Form> {
    // A table first: its header is not JSON, which would be the complaint otherwise.
    let header: Vec<&str> = first.text.split(',').map(str::trim).collect();
    if header.contains(&"sentence") && header.contains(&"label") {
        return Ok(Form::Texts);
    }
    let object = object(name, first)?;
    // In this order: only sentences have tokens, but lists may come with spans one day.
    for (field, form) in [
        ("tokens", Form::Sentences),
        ("hard_skills", Form::Lists),
        ("soft_skills", Form::Lists),
        ("spans", Form::Ads),
    ] {
        if object.contains_key(field) {
            return Ok(form);
        }
    }
    let found: Vec<&str> = object.keys().map(String::as_str).collect();
    let (ads, lists, sentences) = (Form::Ads, Form::Lists, Form::Sentences);
    let found = found.join(", ");
    bail!("{name}:{}: expected {ads}, {lists} or {sentences}; found the fields {found}", first.number)
}

fn object(name: &str, line: &Line) -> anyhow::Result<Map<String, Value>> {
    match serde_json::from_str(&line.text) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => bail!("{name}:{}: not a JSON object", line.number),
        Err(error) => bail!("{name}:{}: not valid JSON (column {})", line.number, error.column()),
    }
}

/// Reads the cases of all lines.
fn read_all<C: Case>(name: &str, lines: &[Line]) -> anyhow::Result<Vec<C>> {
    let mut cases: Vec<C> = Vec::new();
    let mut seen: BTreeMap<String, u64> = BTreeMap::new();
    for line in lines {
        let object = object(name, line)?;
        let case = C::read(&Row::new(&object));
        let case = case.map_err(|problem| anyhow::anyhow!("{name}:{}: {problem}", line.number))?;
        // The same advertisement twice would count twice, and narrow the intervals.
        if let Some(id) = case.id()
            && let Some(earlier) = seen.insert(id.to_owned(), line.number)
        {
            bail!("{name}:{}: id `{id}` already is that of line {earlier}", line.number);
        }
        cases.push(case);
    }
    Ok(cases)
}

#[cfg(test)]
mod tests;
