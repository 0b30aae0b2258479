//! One advertisement: everything a site says about it, before any page is written.
//!
//! Sites print only parts of it; `truth` writes what a reader can know.

use chrono::{DateTime, Utc};
use serde::Serialize;

use super::{
    site::{Portal, Site},
    text::slug,
    written::Marks,
};

/// Who offers the work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Employer {
    /// A company with a page of its own on the portal.
    Named(String),
    /// A company without one: the portal prints the bare name.
    Unlinked(String),
    /// Not told; the portal prints a stand-in.
    Confidential,
}

impl Employer {
    /// The name, if the advertisement gives one.
    pub(crate) fn name(&self) -> Option<&str> {
        match self {
            Self::Named(name) | Self::Unlinked(name) => Some(name),
            Self::Confidential => None,
        }
    }
}

/// Layout of the body in the page.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Layout {
    /// Lines parted by `<br/>`.
    Breaks,
    /// One run of text: the portal lost the line breaks.
    RunTogether,
    /// Paragraphs and lists.
    Paragraphs,
}

/// A line of the body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Line {
    pub(crate) text: String,
    pub(crate) kind: LineKind,
}

/// Kind of a line in the layout with paragraphs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LineKind {
    Heading,
    Item,
    Plain,
    /// An empty line; only in the layout with breaks.
    Blank,
}

/// A skill that was written into an advertisement on purpose.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PlantedSkill {
    /// The words as they stand in the title, description or requirements.
    pub surface: String,
    /// `hard` or `soft`.
    pub kind: &'static str,
    /// Coined for this simulator: no lexicon or taxonomy holds it.
    pub invented: bool,
}

/// Contact data that was written into an advertisement on purpose, all of it invented.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PersonalData {
    /// `email` or `phone`.
    pub kind: &'static str,
    /// As printed.
    pub text: String,
}

/// One advertisement of one site in one version.
#[derive(Debug, Clone)]
pub(crate) struct Ad {
    pub(crate) site: Site,
    pub(crate) id: String,
    pub(crate) version: u32,
    /// First and last wave in which this version stands on the site.
    pub(crate) waves: (u32, u32),
    pub(crate) area: &'static str,
    pub(crate) english: bool,
    pub(crate) title: String,
    pub(crate) employer: Employer,
    pub(crate) city: &'static str,
    pub(crate) location: String,
    pub(crate) lines: Vec<Line>,
    pub(crate) layout: Layout,
    /// Items of the separate list of requirements; only Computrabajo has one.
    pub(crate) requirements: Vec<String>,
    /// The portal's own names of the skills of the advertisement.
    pub(crate) keywords: Vec<String>,
    pub(crate) salary: Option<String>,
    pub(crate) contract: Option<String>,
    /// Working time.
    pub(crate) schedule: &'static str,
    pub(crate) mode: Option<&'static str>,
    pub(crate) posted_at: Option<DateTime<Utc>>,
    pub(crate) skills: Vec<PlantedSkill>,
    pub(crate) personal_data: Vec<PersonalData>,
    /// The marks in the description of a written advertisement; an edit adds a sentence without any
    /// skill.
    pub(crate) marks: Option<Marks>,
    /// Key of the advertisement of another portal with the same text.
    pub(crate) duplicate_of: Option<String>,
    /// Key of the earlier advertisement of this site with the same text.
    pub(crate) repost_of: Option<String>,
    pub(crate) listed_twice: bool,
}

impl Ad {
    /// `portal:CC:id`, the same for all versions.
    pub(crate) fn key(&self) -> String {
        format!("{}:{}", self.site, self.id)
    }

    /// Returns true if this version stands on the site in a wave.
    pub(crate) fn is_visible(&self, wave: u32) -> bool {
        (self.waves.0..=self.waves.1).contains(&wave)
    }

    /// The body as text: what is left of the page's markup when it is read.
    pub(crate) fn description(&self) -> String {
        let lines: Vec<&str> = self.lines.iter().map(|line| line.text.as_str()).collect();
        match self.layout {
            Layout::Breaks => lines.join("\n"),
            Layout::RunTogether => lines.concat(),
            Layout::Paragraphs => lines.join("\n"),
        }
    }

    /// The requirements as text, one item a line.
    pub(crate) fn requirements_text(&self) -> Option<String> {
        (!self.requirements.is_empty()).then(|| self.requirements.join("\n"))
    }

    /// Path of the advertisement's page from the origin of the server.
    pub(crate) fn path(&self) -> String {
        let root = self.site.root();
        let title = slug(&self.title);
        match self.site.portal {
            Portal::Computrabajo => {
                let city = slug(self.city);
                let id = &self.id;
                format!("{root}/ofertas-de-trabajo/oferta-de-trabajo-de-{title}-en-{city}-{id}")
            }
            Portal::Elempleo => format!("{root}/co/ofertas-trabajo/{title}-{}", self.id),
            Portal::Bumeran => match self.employer.name() {
                Some(name) => format!("{root}/empleos/{title}-{}-{}.html", slug(name), self.id),
                None => format!("{root}/empleos/{title}-{}.html", self.id),
            },
        }
    }
}
