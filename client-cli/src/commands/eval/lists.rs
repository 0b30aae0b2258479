//! `eval skills` on advertisements with lists of skills: names compared after folding.
//!
//! The unit is the pair of an advertisement and a name. `leak` is the share of found names that are
//! neither in the gold of any advertisement nor in the text of their own.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::figures::{Counts, interval, ratio};
use super::gold::List;
use super::labels::{Aliases, folded, occurs};
use super::predictions::Skills;
use super::report::{Difference, Fault, Report, cells, rounded};

/// Columns of the table; the interval has no title.
const HEADER: [&str; 11] =
    ["kind", "match", "group", "ads", "macro f1", "gold", "pred", "correct", "p", "r", "f1"];

/// Which skills are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Hard,
    Soft,
    /// Both, whatever the kind.
    All,
}

impl Kind {
    const EACH: [Self; 3] = [Self::Hard, Self::Soft, Self::All];

    fn name(self) -> &'static str {
        match self {
            Self::Hard => "hard",
            Self::Soft => "soft",
            Self::All => "all",
        }
    }
}

/// Folded names of an advertisement's skills.
#[derive(Debug, Clone, Default)]
struct Names {
    hard: BTreeSet<String>,
    soft: BTreeSet<String>,
}

impl Names {
    fn marked(list: &List) -> Self {
        Self { hard: names(&list.hard), soft: names(&list.soft) }
    }

    /// The names of an answer, and how many of its labels have no letter or digit.
    fn found(answer: &Skills) -> (Self, usize) {
        let (mut names, mut empty) = (Self::default(), 0);
        for skill in &answer.skills {
            let name = folded(&skill.label);
            // A label of signs alone folds to nothing, which would equal every other such label.
            if name.is_empty() {
                empty += 1;
            } else if skill.kind == "soft" {
                names.soft.insert(name);
            } else {
                names.hard.insert(name);
            }
        }
        (names, empty)
    }

    fn of(&self, kind: Kind) -> BTreeSet<String> {
        match kind {
            Kind::Hard => self.hard.clone(),
            Kind::Soft => self.soft.clone(),
            Kind::All => self.hard.union(&self.soft).cloned().collect(),
        }
    }
}

/// The folded names of labels that have any letter or digit.
fn names(labels: &[String]) -> BTreeSet<String> {
    labels.iter().map(|label| folded(label)).filter(|name| !name.is_empty()).collect()
}

/// An advertisement and what was found in it.
struct Compared<'a> {
    list: &'a List,
    gold: Names,
    found: Names,
}

/// Rows for people and members for programs, in one pass.
#[derive(Debug, Default)]
struct Tables {
    rows: Vec<Vec<String>>,
    kinds: Map<String, Value>,
}

/// Compares the skills of advertisements with the listed ones, by `aliases` too if there are some;
/// `None` counts as no skills.
pub(super) fn report(
    lists: &[List],
    answers: &[Option<Skills>],
    aliases: Option<&Aliases>,
    rounds: u32,
) -> Report {
    let (compared, empty) = compare(lists, answers);
    let mut report = Report::on("ads", answers);
    report.count("empty_labels", empty);
    let vocabulary: BTreeSet<String> = compared.iter().flat_map(|ad| ad.gold.of(Kind::All)).collect();
    let groups = groups(lists);
    let mut tables = Tables::default();
    for kind in Kind::EACH {
        let (leaked, names) = leaks(&compared, kind, &vocabulary);
        report.figure(&format!("leak.{}", kind.name()), ratio(leaked, names));
        let mut section = Map::new();
        section.insert("leak".to_owned(), json!(ratio(leaked, names)));
        section.insert("leaked".to_owned(), json!(leaked));
        let matches = [("exact", Some(&Aliases::default())), ("aliased", aliases)];
        for (name, aliases) in matches.iter().filter_map(|(name, aliases)| Some((*name, (*aliases)?))) {
            let units = units(&compared, kind, aliases);
            let blocks = tables.blocks([kind.name(), name], &units, &groups, rounds);
            section.insert(name.to_owned(), Value::Object(blocks));
        }
        tables.kinds.insert(kind.name().to_owned(), Value::Object(section));
    }
    report.differences = compared.iter().flat_map(differences).collect();
    report.groups(&HEADER, tables.rows, Map::from_iter([("kinds".to_owned(), Value::Object(tables.kinds))]));
    report
}

fn compare<'a>(lists: &'a [List], answers: &[Option<Skills>]) -> (Vec<Compared<'a>>, usize) {
    let (mut compared, mut empty) = (Vec::new(), 0);
    let nothing = Skills::default();
    for (list, answer) in lists.iter().zip(answers) {
        let (found, without_name) = Names::found(answer.as_ref().unwrap_or(&nothing));
        empty += without_name;
        compared.push(Compared { list, gold: Names::marked(list), found });
    }
    (compared, empty)
}

/// Indices of the advertisements of each group: all, every country, every language.
fn groups(lists: &[List]) -> Vec<(String, Vec<usize>)> {
    let (mut countries, mut languages) = (BTreeMap::new(), BTreeMap::new());
    for (index, list) in lists.iter().enumerate() {
        for (name, value, groups) in
            [("country", &list.country, &mut countries), ("lang", &list.language, &mut languages)]
        {
            if let Some(value) = value {
                groups.entry(format!("{name}={value}")).or_insert_with(Vec::new).push(index);
            }
        }
    }
    let all = ("all".to_owned(), (0..lists.len()).collect());
    [all].into_iter().chain(countries).chain(languages).collect()
}

/// How many found names are neither marked anywhere nor in their own text, and how many there are.
fn leaks(compared: &[Compared], kind: Kind, vocabulary: &BTreeSet<String>) -> (usize, usize) {
    let (mut leaked, mut names) = (0, 0);
    for ad in compared {
        // Folded as the names are, so that signs and accents hide nothing.
        let text = folded(&ad.list.text());
        let found = ad.found.of(kind);
        names += found.len();
        leaked += found.iter().filter(|name| !vocabulary.contains(*name) && !occurs(name, &text)).count();
    }
    (leaked, names)
}

/// Counts for each advertisement.
fn units(compared: &[Compared], kind: Kind, aliases: &Aliases) -> Vec<Counts> {
    let mut units = Vec::new();
    for ad in compared {
        // Both sides: several names of one skill in an advertisement become one.
        let gold = aliases.applied(&ad.gold.of(kind));
        let found = aliases.applied(&ad.found.of(kind));
        units.push(Counts::one_to_one(gold.len(), found.len(), gold.intersection(&found).count()));
    }
    units
}

impl Tables {
    /// Adds a row for each group, and returns the same as members.
    fn blocks(
        &mut self,
        titles: [&str; 2],
        units: &[Counts],
        groups: &[(String, Vec<usize>)],
        rounds: u32,
    ) -> Map<String, Value> {
        let mut blocks = Map::new();
        for (group, members) in groups {
            let units: Vec<Counts> = members.iter().map(|index| units[*index]).collect();
            let (sum, interval) = (units.iter().copied().sum::<Counts>(), interval(&units, rounds));
            let macro_f1 = macro_f1(&units);
            let mut row: Vec<String> = titles.map(str::to_owned).to_vec();
            row.extend([group.clone(), units.len().to_string(), rounded(macro_f1)]);
            row.extend(cells(sum, interval));
            self.rows.push(row);
            let mut block = sum.as_json(interval);
            block.insert("ads".to_owned(), json!(units.len()));
            block.insert("macro_f1".to_owned(), json!(macro_f1));
            blocks.insert(group.clone(), Value::Object(block));
        }
        blocks
    }
}

/// Mean over advertisements of their own F1; 1 where nothing was to be found and nothing was.
fn macro_f1(units: &[Counts]) -> f64 {
    let mut sum = 0.0;
    for counts in units {
        sum += if counts.is_empty() { 1.0 } else { counts.f1() };
    }
    if units.is_empty() { 0.0 } else { sum / units.len() as f64 }
}

/// The names of an advertisement that were missed and that were wrong, of either kind.
fn differences(ad: &Compared) -> Vec<Difference> {
    let mut differences = Vec::new();
    for kind in [Kind::Hard, Kind::Soft] {
        let (gold, found) = (ad.gold.of(kind), ad.found.of(kind));
        let missed = gold.difference(&found).map(|name| (Fault::Missed, name));
        for (fault, name) in missed.chain(found.difference(&gold).map(|name| (Fault::Wrong, name))) {
            let (id, text) = (ad.list.id.clone(), name.clone());
            let (kind, place) = (kind.name().to_owned(), String::new());
            differences.push(Difference { fault, id, kind, place, text });
        }
    }
    differences
}

#[cfg(test)]
mod tests;
