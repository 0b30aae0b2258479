//! The advertisements that a reader of the sites should deliver, as JSON Lines.
//!
//! Tests of the scraper compare every field with it, and quality figures count against it.

use std::{
    collections::HashMap,
    io::{self, Write},
};

use chrono::NaiveDate;
use serde::Serialize;

use super::{
    advertisement::{Ad, Layout, PersonalData, PlantedSkill},
    catalog::{Catalog, content_key},
    clock,
    site::{Country, Portal},
    written::Marks,
};

/// One advertisement as a reader should deliver it.
///
/// Text is to be compared through [`super::comparable`]: how blanks and list marks are written is
/// the reader's choice. It is as published, that is before personal data is removed.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Truth {
    /// Portal.
    pub portal: Portal,
    /// Country.
    pub country: Country,
    /// The portal's own id, in the portal's spelling (Computrabajo: upper-case hexadecimal).
    pub external_id: String,
    /// Path of the advertisement from the origin of the server.
    pub url_path: String,
    /// Title.
    pub title: String,
    /// Employer; none where the portal prints a stand-in for a confidential one.
    pub company: Option<String>,
    /// Place as published.
    pub location: String,
    /// Body.
    pub description: String,
    /// Items of the separate list of requirements, one a line.
    pub requirements: Option<String>,
    /// Salary as published, also where that is `A convenir` or `Salario confidencial`.
    pub salary_raw: Option<String>,
    /// Kind of contract as published.
    pub contract_type: Option<String>,
    /// Working time as published.
    pub schedule: Option<String>,
    /// On site, hybrid or remote, as published.
    pub remote_type: Option<String>,
    /// Day of publication in the country.
    pub posted_date: Option<NaiveDate>,
    /// Skills planted in the text. Templates may name others: this is no gold standard for
    /// extraction.
    pub skills: Vec<PlantedSkill>,
    /// Contact data planted in the text.
    pub personal_data: Vec<PersonalData>,
    /// Every skill that the description asks for, where people marked them: the text is a written
    /// one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub marks: Option<Marks>,
    /// Field of work, a word for searches.
    pub area: &'static str,
    /// `es` or `en`.
    pub language: &'static str,
    /// Layout of the body in the page.
    layout: Layout,
    /// Key (`portal:CC:id`) of the advertisement of another portal that this one copies.
    pub duplicate_of: Option<String>,
    /// Key of the earlier advertisement of this site that this one repeats.
    pub repost_of: Option<String>,
    /// Key of the first advertisement of this wave with the same title, company, location,
    /// description and requirements: as many postings are left after folding as there are different
    /// values.
    pub content_group: String,
    /// Stands twice in the listing.
    pub listed_twice: bool,
    /// 1, and one more after every edit.
    pub version: u32,
    /// First wave with this version.
    pub first_wave: u32,
}

impl Truth {
    /// `portal:CC:id`.
    pub fn key(&self) -> String {
        format!("{}:{}:{}", self.portal.name(), self.country.code(), self.external_id)
    }

    fn new(ad: &Ad, content_group: String) -> Self {
        Self {
            portal: ad.site.portal,
            country: ad.site.country,
            external_id: ad.id.clone(),
            url_path: ad.path(),
            title: ad.title.clone(),
            company: ad.employer.name().map(str::to_owned),
            location: ad.location.clone(),
            description: ad.description(),
            requirements: ad.requirements_text(),
            salary_raw: ad.salary.clone(),
            contract_type: ad.contract.clone(),
            schedule: Some(ad.schedule.to_owned()),
            remote_type: ad.mode.map(str::to_owned),
            posted_date: ad.posted_at.map(|moment| clock::local_day(moment, ad.site.country)),
            skills: ad.skills.clone(),
            personal_data: ad.personal_data.clone(),
            marks: ad.marks.clone(),
            area: ad.area,
            language: if ad.english { "en" } else { "es" },
            layout: ad.layout,
            duplicate_of: ad.duplicate_of.clone(),
            repost_of: ad.repost_of.clone(),
            content_group,
            listed_twice: ad.listed_twice,
            version: ad.version,
            first_wave: ad.waves.0,
        }
    }
}

/// The truth about one wave: one entry for each advertisement, ordered by site and then as
/// generated.
pub(crate) fn of_wave(catalog: &Catalog, wave: u32) -> Vec<Truth> {
    let mut groups: HashMap<String, String> = HashMap::new();
    let mut truth = Vec::new();
    for ad in catalog.visible(wave) {
        // In the order of the catalogue, so that a group is named by its original, not by a copy.
        let group = groups.entry(content_key(ad)).or_insert_with(|| ad.key()).clone();
        truth.push(Truth::new(ad, group));
    }
    truth
}

/// An advertisement with the field names of `raw_jobs`, for the import from a file.
#[derive(Serialize)]
struct Importable<'a> {
    id: &'a str,
    portal: Portal,
    country: Country,
    url: String,
    title: &'a str,
    company: Option<&'a str>,
    location: &'a str,
    description: &'a str,
    requirements: Option<&'a str>,
    salary_raw: Option<&'a str>,
    contract_type: Option<&'a str>,
    remote_type: Option<&'a str>,
    posted_date: Option<NaiveDate>,
}

/// Writes the truth, one JSON object a line.
///
/// # Errors
/// If the output fails.
pub fn write_truth(truth: &[Truth], out: &mut (impl Write + ?Sized)) -> io::Result<()> {
    truth.iter().try_for_each(|entry| line(out, entry))
}

/// Writes advertisements for the import from a file, one JSON object a line; `origin` (no slash at
/// the end) comes before each path.
///
/// # Errors
/// If the output fails.
pub fn write_importable(truth: &[Truth], origin: &str, out: &mut (impl Write + ?Sized)) -> io::Result<()> {
    truth.iter().try_for_each(|entry| {
        let importable = Importable {
            id: &entry.external_id,
            portal: entry.portal,
            country: entry.country,
            url: format!("{origin}{}", entry.url_path),
            title: &entry.title,
            company: entry.company.as_deref(),
            location: &entry.location,
            description: &entry.description,
            requirements: entry.requirements.as_deref(),
            salary_raw: entry.salary_raw.as_deref(),
            contract_type: entry.contract_type.as_deref(),
            remote_type: entry.remote_type.as_deref(),
            posted_date: entry.posted_date,
        };
        line(out, &importable)
    })
}

fn line(out: &mut (impl Write + ?Sized), value: &impl Serialize) -> io::Result<()> {
    serde_json::to_writer(&mut *out, value)?;
    out.write_all(b"\n")
}
