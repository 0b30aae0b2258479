//! The coder: a title in, occupations out.
//!
//! Hides features and scores; equal titles give equal answers on every machine with the same
//! arithmetic.

use crate::{
    features,
    model::{Model, ModelError, Occupation, softmax},
};

/// The model that ships, see `model/README.md`.
pub static BUILT_IN: &[u8] = include_bytes!("../model/cuoc.occupations");

/// Share of the description's score in the sum. Chosen among 0 to 0.5 on 120 real advertisements.
const DESCRIPTION: f32 = 0.2;

/// An occupation of a title.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Coded<'a> {
    /// CUOC's code, five digits.
    pub code: &'a str,
    /// CUOC's name in Spanish.
    pub name: &'a str,
    /// Nearest unit group of ISCO-08, four digits.
    pub isco: &'a str,
    /// 0..1: share of classified titles right at this score.
    pub score: f32,
}

/// Codes titles; shared between threads.
#[derive(Debug, Clone)]
pub struct Coder {
    model: Model,
}

impl Coder {
    /// A coder from a model file.
    ///
    /// # Errors
    /// If the bytes are no model.
    pub fn new(model: &[u8]) -> Result<Self, ModelError> {
        Ok(Self { model: Model::read(model)? })
    }

    /// The coder that ships.
    ///
    /// # Errors
    /// If the file in the crate is damaged.
    pub fn built_in() -> Result<Self, ModelError> {
        Self::new(BUILT_IN)
    }

    /// The `top` best occupations of a title, best first. A description of the job helps where the
    /// title says little. Empty if no word, nor piece of a word, is known.
    pub fn rank(&self, title: &str, description: Option<&str>, top: usize) -> Vec<Coded<'_>> {
        self.ranked(title, description, top, |_| true)
    }

    /// As [`rank`](Self::rank), among the occupations with one of these unit groups of ISCO-08
    /// (four digits); their scores add up to 1. Empty if there are none.
    pub fn rank_within(
        &self,
        title: &str,
        description: Option<&str>,
        isco: &[&str],
        top: usize,
    ) -> Vec<Coded<'_>> {
        self.ranked(title, description, top, |occupation| {
            occupation.isco.iter().any(|group| isco.contains(&group.as_str()))
        })
    }

    /// The occupation of a code of five digits.
    pub fn occupation(&self, code: &str) -> Option<&Occupation> {
        let all = &self.model.occupations;
        all.binary_search_by(|occupation| occupation.code.as_str().cmp(code)).ok().map(|at| &all[at])
    }

    /// All occupations by code.
    pub fn occupations(&self) -> impl Iterator<Item = &Occupation> {
        self.model.occupations.iter()
    }

    fn ranked(
        &self,
        title: &str,
        description: Option<&str>,
        top: usize,
        allowed: impl Fn(&Occupation) -> bool,
    ) -> Vec<Coded<'_>> {
        let Some(scores) = self.scores(title, description) else { return Vec::new() };
        let (labels, mut scores): (Vec<&Occupation>, Vec<f32>) = self
            .model
            .occupations
            .iter()
            .zip(scores)
            .filter(|(occupation, _)| allowed(occupation))
            .map(|(occupation, score)| (occupation, score * self.model.sharpness))
            .unzip();
        softmax(&mut scores);
        let mut out: Vec<Coded<'_>> =
            labels.iter().zip(scores).map(|pair| Coded::new(pair.0, pair.1)).collect();
        out.sort_by(|left, right| right.score.total_cmp(&left.score));
        out.truncate(top);
        out
    }

    fn scores(&self, title: &str, description: Option<&str>) -> Option<Vec<f32>> {
        let title = self.model.scores(&features::of_title(title));
        let description = description.and_then(|text| self.model.scores(&features::of_text(text)));
        match (title, description) {
            (Some(title), Some(description)) => {
                let pairs = title.iter().zip(&description);
                Some(pairs.map(|(title, text)| title + DESCRIPTION * text).collect())
            }
            (title, description) => title.or(description),
        }
    }
}

impl<'a> Coded<'a> {
    fn new(occupation: &'a Occupation, score: f32) -> Self {
        Self { code: &occupation.code, name: &occupation.name, isco: &occupation.isco[0], score }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn coder() -> Coder {
        Coder::built_in().unwrap()
    }

    #[test]
    fn titles_get_their_occupations() {
        let coder = coder();
        for (title, unit_group) in [
            ("Contador público", "2411"),
            ("Conductor de camión", "8332"),
            ("Enfermera jefe de urgencias", "2221"),
            ("Cocinero", "5120"),
            ("Albañil", "7112"),
        ] {
            let ranked = coder.rank(title, None, 3);
            assert_eq!(ranked[0].isco, unit_group, "{title}: {ranked:?}");
            assert!(ranked.is_sorted_by(|left, right| left.score >= right.score));
            let known = coder.occupation(ranked[0].code).unwrap();
            assert_eq!(known.name, ranked[0].name);
        }
    }

    #[test]
    fn an_answer_keeps_to_the_unit_groups_asked_for() {
        let coder = coder();
        let within = coder.rank_within("Jefe de cocina", None, &["5120"], 5);
        assert!(!within.is_empty());
        for coded in &within {
            assert!(coder.occupation(coded.code).unwrap().isco.contains(&"5120".to_owned()));
        }
        assert!(coder.rank_within("Cocinero", None, &["9999"], 5).is_empty());
    }

    #[test]
    fn nothing_known_gets_nothing() {
        let coder = coder();
        assert!(coder.rank("", None, 5).is_empty());
        assert!(coder.rank("…", None, 5).is_empty());
        assert!(coder.occupation("00000").is_none());
        assert!(coder.occupations().count() >= 600);
        assert!(Coder::new(b"no model").is_err());
    }
}
