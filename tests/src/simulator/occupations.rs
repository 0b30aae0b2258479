//! Titles, duties and skills that employers look for, in our own wording, one entry per field of
//! work.
//!
//! The skills listed here are ordinary ones; what no lexicon holds is coined by [`super::coinage`].

mod office;
mod trades;

/// A field of work with everything an advertisement of it is put together from.
#[derive(Debug)]
pub(crate) struct Area {
    /// Word in addresses and facets, such as `contabilidad`.
    pub(crate) slug: &'static str,
    /// Name of the sector inside a Spanish sentence.
    pub(crate) sector: &'static str,
    /// The same in English.
    pub(crate) sector_en: &'static str,
    /// Titles as portals print them.
    pub(crate) titles: &'static [&'static str],
    /// English titles.
    pub(crate) titles_en: &'static [&'static str],
    /// Duties, infinitive first.
    pub(crate) tasks: &'static [&'static str],
    /// English duties.
    pub(crate) tasks_en: &'static [&'static str],
    /// Ordinary hard skills, spelled as in an advertisement.
    pub(crate) skills: &'static [&'static str],
    /// Education asked for.
    pub(crate) degree: &'static str,
}

/// Soft skills in Spanish and English, the same meaning at the same place.
pub(crate) const SOFT: [(&str, &str); 10] = [
    ("trabajo en equipo", "teamwork"),
    ("comunicación efectiva", "effective communication"),
    ("orientación al cliente", "customer orientation"),
    ("resolución de problemas", "problem solving"),
    ("liderazgo", "leadership"),
    ("atención al detalle", "attention to detail"),
    ("proactividad", "proactivity"),
    ("adaptabilidad", "adaptability"),
    ("gestión del tiempo", "time management"),
    ("tolerancia a la presión", "resilience"),
];

/// Every field of work.
pub(crate) fn areas() -> Vec<&'static Area> {
    office::AREAS.iter().chain(&trades::AREAS).collect()
}
