//! Every advertisement of every site in every wave.
//!
//! Generated once, before anything is served: equal configurations give equal catalogues, wave by
//! wave.

use std::collections::{HashMap, HashSet};

use super::{
    advertisement::{Ad, Employer, Layout, Line, LineKind},
    clock,
    compose::{self, Content},
    config::{Config, Texts},
    places,
    rng::Rng,
    site::{Country, Portal, Site},
    text::comparable,
    written::{self, Written},
};

/// Oldest advertisement of the first wave, days. Not tuned: below the 30 after which portals stop
/// counting, so that each age leads back to a day.
const OLDEST_DAYS: usize = 25;
/// Last wave of what is never taken down.
const FOR_EVER: u32 = u32::MAX;
/// First number of the advertisements of each later wave, so that they do not depend on how many
/// came before. Not tuned: above the most advertisements of a site.
const WAVE_STRIDE: usize = 1_000_000;

/// The advertisements, with all their versions.
pub(crate) struct Catalog {
    ads: Vec<Ad>,
    by_id: HashMap<(Site, String), Vec<usize>>,
}

impl Catalog {
    /// Generates everything that `config` describes; equal configurations give equal catalogues.
    pub(crate) fn generate(config: &Config) -> Self {
        let mut written = HashMap::new();
        if config.texts == Texts::Written {
            for site in Site::ALL {
                written.insert(site, written::of_site(site, config.seed).into_iter());
            }
        }
        let mut builder = Builder { config, ads: Vec::new(), ids: HashSet::new(), written };
        // Site by site in the order of ALL: a copy needs its source to be there.
        for site in Site::ALL {
            for index in 0..config.ads_of(site) {
                builder.add(site, index, 1);
            }
        }
        for wave in 2..=config.waves {
            builder.age(wave);
            for site in Site::ALL {
                // Rounded up, so that even a small site gets a new advertisement.
                let count = (config.ads_of(site) as f64 * config.shares.added).ceil() as usize;
                for index in 0..count {
                    builder.add(site, wave as usize * WAVE_STRIDE + index, wave);
                }
            }
        }
        // All versions of an id, because an edit keeps it.
        // By the index, because the advertisements themselves move into the catalogue below.
        let mut by_id: HashMap<(Site, String), Vec<usize>> = HashMap::new();
        for (index, ad) in builder.ads.iter().enumerate() {
            by_id.entry((ad.site, ad.id.clone())).or_default().push(index);
        }
        Self { ads: builder.ads, by_id }
    }

    /// The listing of a site in a wave: newest first, the undated last, and once more at the end
    /// what is listed twice.
    pub(crate) fn listing(&self, site: Site, wave: u32) -> Vec<&Ad> {
        let mut ads: Vec<&Ad> = self.ads.iter().filter(|ad| ad.site == site && ad.is_visible(wave)).collect();
        // By id as well, so that advertisements of the same minute keep their order between pages.
        ads.sort_by(|a, b| b.posted_at.cmp(&a.posted_at).then_with(|| a.id.cmp(&b.id)));
        let again: Vec<&Ad> = ads.iter().copied().filter(|ad| ad.listed_twice).collect();
        ads.extend(again);
        ads
    }

    /// Every advertisement that stands on any site in a wave, once.
    pub(crate) fn visible(&self, wave: u32) -> impl Iterator<Item = &Ad> {
        self.ads.iter().filter(move |ad| ad.is_visible(wave))
    }

    /// An advertisement by its id, if it stands on the site in a wave.
    pub(crate) fn find(&self, site: Site, id: &str, wave: u32) -> Found<'_> {
        let Some(versions) = self.by_id.get(&(site, id.to_owned())) else { return Found::Never };
        let mut versions = versions.iter().map(|index| &self.ads[*index]);
        let first = versions.clone().next();
        match versions.find(|ad| ad.is_visible(wave)) {
            Some(ad) => Found::Open(ad),
            // An id of a later wave must look as if it did not exist yet.
            None if first.is_some_and(|ad| ad.waves.0 > wave) => Found::Never,
            None => Found::Closed,
        }
    }
}

/// Knowledge of a site about an id.
pub(crate) enum Found<'a> {
    /// It stands there now.
    Open(&'a Ad),
    /// It stood there in an earlier wave.
    Closed,
    /// It never did.
    Never,
}

/// The fields that decide whether two advertisements are the same text.
pub(crate) fn content_key(ad: &Ad) -> String {
    let parts = [
        ad.title.as_str(),
        ad.employer.name().unwrap_or_default(),
        &ad.location,
        &ad.description(),
        &ad.requirements_text().unwrap_or_default(),
    ];
    parts.map(|part| comparable(part).to_lowercase()).join("\u{1f}")
}

struct Builder<'a> {
    config: &'a Config,
    ads: Vec<Ad>,
    ids: HashSet<String>,
    /// Written advertisements that no site prints yet.
    written: HashMap<Site, std::vec::IntoIter<&'static Written>>,
}

impl Builder<'_> {
    fn rng(&self, site: Site, index: usize, purpose: u64) -> Rng {
        let number = Site::ALL.iter().position(|other| *other == site).unwrap_or_default();
        Rng::new(&[self.config.seed, number as u64, index as u64, purpose])
    }

    fn add(&mut self, site: Site, index: usize, wave: u32) {
        let rng = &mut self.rng(site, index, u64::from(wave));
        let shares = &self.config.shares;
        let ad = if rng.chance(shares.duplicates)
            && let Some(source) = self.twin_source(site, wave, rng)
        {
            self.copy(source, site, wave, rng)
        } else if rng.chance(shares.reposts)
            && let Some(source) = self.own_source(site, wave, rng)
        {
            self.copy(source, site, wave, rng)
        } else {
            let Some(content) = self.content(site, rng) else { return };
            self.original(site, wave, content, rng)
        };
        self.ads.push(ad);
    }

    /// The next text of a site; none when the written ones are used up.
    fn content(&mut self, site: Site, rng: &mut Rng) -> Option<Content> {
        match self.config.texts {
            Texts::Composed => Some(compose::content(self.config, site, rng)),
            Texts::Written => {
                let next = self.written.get_mut(&site)?.next()?;
                Some(compose::written(self.config, site, next, rng))
            }
        }
    }

    fn original(&mut self, site: Site, wave: u32, content: Content, rng: &mut Rng) -> Ad {
        let location = match site.portal {
            Portal::Elempleo => content.city.0.trim_end_matches(", D.C.").to_owned(),
            _ => format!("{}, {}", content.city.0, content.city.1),
        };
        let mut ad = Ad {
            site,
            id: String::new(),
            version: 1,
            waves: (wave, FOR_EVER),
            area: content.area,
            english: content.english,
            title: content.title,
            employer: content.employer,
            city: content.city.0,
            location,
            lines: content.lines,
            layout: content.layout,
            requirements: content.requirements,
            keywords: content.keywords,
            salary: None,
            contract: None,
            schedule: "",
            mode: None,
            posted_at: None,
            skills: content.skills,
            personal_data: content.personal_data,
            marks: content.marks,
            duplicate_of: None,
            repost_of: None,
            listed_twice: false,
        };
        self.identify(&mut ad, rng);
        ad
    }

    /// The same text once more: on another portal, or under a new id on the same one.
    fn copy(&mut self, source: usize, site: Site, wave: u32, rng: &mut Rng) -> Ad {
        let source = self.ads[source].clone();
        let key = Some(source.key());
        let repost = source.site == site;
        let mut ad = Ad {
            site,
            version: 1,
            waves: (wave, FOR_EVER),
            duplicate_of: if repost { None } else { key.clone() },
            repost_of: if repost { key } else { None },
            ..source
        };
        self.identify(&mut ad, rng);
        ad
    }

    /// Everything that a text does not bring along: id, dates, terms of employment.
    fn identify(&mut self, ad: &mut Ad, rng: &mut Rng) {
        ad.id = self.fresh_id(ad.site, rng);
        terms(self.config, ad, rng);
        ad.listed_twice = rng.chance(self.config.shares.listed_twice);
        let oldest = if ad.waves.0 == 1 { OLDEST_DAYS } else { 1 };
        // The smaller of two draws: portals have more young advertisements than old ones.
        let days = rng.below(oldest + 1).min(rng.below(oldest + 1));
        let posted = clock::moment_before(self.config.clock, days, ad.site.country, rng);
        ad.posted_at = (!rng.chance(self.config.shares.undated)).then_some(posted);
    }

    fn fresh_id(&mut self, site: Site, rng: &mut Rng) -> String {
        loop {
            let id = match site.portal {
                // Real ids end in one and the same half.
                Portal::Computrabajo => format!("{:016X}7A3C51D09E86B2F4", rng.next()),
                Portal::Elempleo => format!("18{:08}", rng.below(100_000_000)),
                Portal::Bumeran => format!("111{:07}", rng.below(10_000_000)),
            };
            // By site, because portals number their advertisements independently of each other.
            if self.ids.insert(format!("{site}{id}")) {
                return id;
            }
        }
    }

    /// An advertisement of the country's other portal that Computrabajo can print unchanged.
    fn twin_source(&self, site: Site, wave: u32, rng: &mut Rng) -> Option<usize> {
        let twin = site.twin()?;
        self.source(rng, |ad| ad.site == twin && ad.layout != Layout::Paragraphs && ad.is_visible(wave))
    }

    fn own_source(&self, site: Site, wave: u32, rng: &mut Rng) -> Option<usize> {
        self.source(rng, |ad| ad.site == site && ad.duplicate_of.is_none() && ad.is_visible(wave))
    }

    /// A random original among those that fit.
    fn source(&self, rng: &mut Rng, fits: impl Fn(&Ad) -> bool) -> Option<usize> {
        let mut sources = Vec::new();
        for (index, ad) in self.ads.iter().enumerate() {
            if ad.repost_of.is_none() && fits(ad) {
                sources.push(index);
            }
        }
        (!sources.is_empty()).then(|| *rng.pick(&sources))
    }

    /// Takes some advertisements down and changes the text of others.
    fn age(&mut self, wave: u32) {
        for index in 0..self.ads.len() {
            if !self.ads[index].is_visible(wave) {
                continue;
            }
            // A purpose of its own, so that ageing does not change the draws of new advertisements.
            let rng = &mut self.rng(self.ads[index].site, index, 0xA6E + u64::from(wave));
            if rng.chance(self.config.shares.dropped) {
                self.ads[index].waves.1 = wave - 1;
            } else if rng.chance(self.config.shares.edited) {
                self.ads[index].waves.1 = wave - 1;
                let edited = edited(&self.ads[index], wave, rng);
                self.ads.push(edited);
            }
        }
    }
}

/// The next version of an advertisement: one more sentence; no longer anybody's copy.
fn edited(ad: &Ad, wave: u32, rng: &mut Rng) -> Ad {
    let mut next = Ad {
        version: ad.version + 1,
        waves: (wave, FOR_EVER),
        duplicate_of: None,
        repost_of: None,
        ..ad.clone()
    };
    let text = format!(" Actualización: se amplía la convocatoria a {} vacantes.", rng.between(2, 19));
    // Where lines run together, only the blank separates the sentence from the one before.
    let text = if ad.layout == Layout::RunTogether { text } else { text.trim_start().to_owned() };
    next.lines.push(Line { text, kind: LineKind::Plain });
    next
}

/// Salary, contract, working time and place of work as the portal prints them.
fn terms(config: &Config, ad: &mut Ad, rng: &mut Rng) {
    let country = ad.site.country;
    let confidential = rng.chance(config.shares.confidential_salaries);
    ad.schedule = *rng.pick(&["Tiempo Completo", "Tiempo Completo", "Tiempo Completo", "Medio Tiempo"]);
    match ad.site.portal {
        Portal::Computrabajo => {
            ad.salary = match (confidential, rng.chance(0.5)) {
                (true, true) => Some("A convenir".to_owned()),
                (true, false) => None,
                (false, extra) => Some(monthly(country, extra, rng)),
            };
            ad.contract = Some((*rng.pick(places::contracts(country))).to_owned());
            ad.mode =
                *rng.pick(&[None, None, Some("Remoto"), Some("Presencial y remoto"), Some("Presencial")]);
        }
        Portal::Elempleo => {
            let low = rng.between(13, 80);
            let range = format!("${} a ${} millones", millions(low), millions(low + rng.between(2, 10)));
            ad.salary = Some(if confidential { "Salario confidencial".to_owned() } else { range });
            let contracts = ["Indefinido", "Definido", "Obra o labor", "Prestacion de Servicios"];
            ad.contract = Some((*rng.pick(&contracts)).to_owned());
            ad.mode = None;
        }
        Portal::Bumeran => {
            ad.salary = None;
            ad.schedule = *rng.pick(&["Full-time", "Full-time", "Full-time", "Part-time"]);
            ad.contract =
                Some((*rng.pick(&["Indeterminado", "Indeterminado", "Temporal", "Autónomo"])).to_owned());
            ad.mode = Some(*rng.pick(&["Presencial", "Presencial", "Híbrido", "Remoto"]));
        }
    }
    // Only Computrabajo tells companies with a page of their own from others.
    if let Employer::Unlinked(name) = &ad.employer
        && ad.site.portal != Portal::Computrabajo
    {
        ad.employer = Employer::Named(name.clone());
    }
}

/// Tenths of a million: 45 gives `4,5`, 50 gives `5`.
fn millions(tenths: usize) -> String {
    if tenths.is_multiple_of(10) {
        (tenths / 10).to_string()
    } else {
        format!("{},{}", tenths / 10, tenths % 10)
    }
}

fn monthly(country: Country, extra: bool, rng: &mut Rng) -> String {
    let (amount, thousands, decimals) = match country {
        Country::Co => (rng.between(13, 90) * 100_000, '.', ",00"),
        Country::Mx => (rng.between(9, 70) * 1_000, ',', ".00"),
        Country::Pe => (rng.between(11, 90) * 100, ',', ".00"),
        Country::Cl => (rng.between(5, 35) * 100_000, '.', ",00"),
        Country::Ar => (rng.between(50, 400) * 10_000, '.', ",00"),
    };
    let digits = amount.to_string();
    let mut grouped = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(thousands);
        }
        grouped.push(digit);
    }
    format!("$ {grouped}{decimals} (Mensual){}", if extra && rng.chance(0.4) { " + Comisiones" } else { "" })
}
