//! Puts an advertisement together from templates.
//!
//! Skills and contact data are planted on purpose and noted, so that `truth` can name them.

use super::{
    advertisement::{Employer, Layout, Line, LineKind, PersonalData, PlantedSkill},
    coinage::{self, Coined},
    config::Config,
    occupations::{self, Area, SOFT},
    places::{self, City},
    rng::Rng,
    site::{Country, Portal, Site},
    text::slug,
    written::{Marks, Written},
};

/// The text of an advertisement, without its identity and its dates.
pub(crate) struct Content {
    /// Field of work, a word for searches.
    pub(crate) area: &'static str,
    pub(crate) english: bool,
    pub(crate) title: String,
    pub(crate) employer: Employer,
    pub(crate) city: City,
    pub(crate) lines: Vec<Line>,
    pub(crate) layout: Layout,
    pub(crate) requirements: Vec<String>,
    pub(crate) keywords: Vec<String>,
    pub(crate) skills: Vec<PlantedSkill>,
    pub(crate) personal_data: Vec<PersonalData>,
    /// Of a written text.
    pub(crate) marks: Option<Marks>,
}

/// Puts a written advertisement into the shape of any other: employer, city and terms are invented
/// around its words.
pub(crate) fn written(config: &Config, site: Site, ad: &Written, rng: &mut Rng) -> Content {
    let cities = places::cities(site.country);
    // A city that the text names must not differ from the one that the portal prints.
    let named = cities.iter().find(|(name, _)| ad.description.contains(name.trim_end_matches(", D.C.")));
    let tools = ad.spans.iter().filter(|mark| mark.kind == "tool").map(|mark| mark.norm.clone());
    Content {
        area: "general",
        english: false,
        title: ad.title.clone(),
        employer: employer(config, site.country, rng),
        city: *named.unwrap_or(&cities[0]),
        lines: ad.description.split('\n').map(plain_line).collect(),
        // Line breaks alone keep the code points that the marks count.
        layout: Layout::Breaks,
        requirements: Vec::new(),
        keywords: tools.collect(),
        skills: Vec::new(),
        personal_data: Vec::new(),
        marks: Some(ad.marks()),
    }
}

fn plain_line(text: &str) -> Line {
    let kind = if text.is_empty() { LineKind::Blank } else { LineKind::Plain };
    Line { text: text.to_owned(), kind }
}

/// Writes one advertisement. The order of the draws is part of what a seed means: another one gives
/// other texts.
pub(crate) fn content(config: &Config, site: Site, rng: &mut Rng) -> Content {
    let areas = occupations::areas();
    let area_index = rng.below(areas.len());
    let area = areas[area_index];
    let english = rng.chance(config.shares.english);
    let city = *rng.pick(places::cities(site.country));
    let employer = employer(config, site.country, rng);
    let position = *rng.pick(if english { area.titles_en } else { area.titles });
    let title = title(position, area, english, city, rng);
    let (skills, soft) = skills(area, &coinage::terms(config.seed, area_index), english, rng);
    // Only Computrabajo prints a list of requirements next to the text.
    let listed = if site.portal == Portal::Computrabajo && rng.chance(0.8) { rng.between(2, 3) } else { 0 };
    let (in_list, in_body) = skills.split_at(listed.min(skills.len()));
    let layout = layout(site.portal, rng);
    // Drawn even for a layout without bullets, so that the draws after it stay the same.
    let bullet = BULLETS[rng.below(BULLETS.len())];
    let mut writer = Writer { country: site.country, english, layout, bullet, lines: vec![] };
    let place =
        Place { title: position, city: city.0, sector: if english { area.sector_en } else { area.sector } };
    writer.body(area, &place, (in_body, &soft), rng);
    let personal_data = if rng.chance(config.shares.personal_data) {
        writer.contact(employer.name().unwrap_or("Talento"), rng)
    } else {
        Vec::new()
    };
    let requirements = if listed == 0 { vec![] } else { requirements(area, english, in_list, rng) };
    let keywords = skills.iter().filter(|skill| !skill.invented).map(|skill| skill.surface.clone()).collect();
    let mut planted = skills;
    planted.push(soft);
    Content {
        area: area.slug,
        english,
        employer,
        city,
        lines: writer.finish(),
        layout,
        requirements,
        keywords,
        skills: planted,
        personal_data,
        title,
        marks: None,
    }
}

/// Marks in front of list items; a list in HTML brings its own.
const BULLETS: [&str; 5] = ["- ", "• ", "● ", "* ", "-"];

fn layout(portal: Portal, rng: &mut Rng) -> Layout {
    let paragraphs = portal == Portal::Bumeran;
    match rng.below(10) {
        0..4 => Layout::Breaks,
        4..7 => Layout::RunTogether,
        _ if paragraphs => Layout::Paragraphs,
        _ => Layout::Breaks,
    }
}

fn employer(config: &Config, country: Country, rng: &mut Rng) -> Employer {
    if rng.chance(config.shares.anonymous) {
        return Employer::Confidential;
    }
    let (first, second) = (rng.pick(&places::COMPANY_TRADES), rng.pick(&places::COMPANY_WORDS));
    let name = format!("{first} {second} {}", rng.pick(places::legal_forms(country)));
    let name = if rng.chance(0.2) { name.to_uppercase() } else { name };
    if rng.chance(0.08) { Employer::Unlinked(name) } else { Employer::Named(name) }
}

/// The position as the headline, sometimes with what employers add to it.
fn title(title: &str, area: &Area, english: bool, city: City, rng: &mut Rng) -> String {
    match rng.below(12) {
        0 | 1 => format!("{title} - {}", city.0),
        2 => format!("{title} / Sector {}", area.sector),
        3 => format!("{title} (Ref. {})", rng.between(1_000, 9_999)),
        4 => title.to_uppercase(),
        5 if english => format!("{title} (remote)"),
        5 => format!("{title} - turno noche"),
        _ => title.to_owned(),
    }
}

/// Hard skills in mixed order, at least a quarter of them coined, so that with the one soft skill
/// more than a fifth of all planted terms is unknown to any lexicon.
fn skills(area: &Area, coined: &[Coined], english: bool, rng: &mut Rng) -> (Vec<PlantedSkill>, PlantedSkill) {
    let wanted = rng.between(3, 6);
    let known = rng.sample(area.skills, wanted).into_iter().map(|surface| PlantedSkill {
        surface: surface.to_owned(),
        kind: "hard",
        invented: false,
    });
    let known: Vec<PlantedSkill> = known.collect();
    let wanted = (known.len() + 1).div_ceil(3);
    let coined = rng.sample(coined, wanted).into_iter().map(|term| PlantedSkill {
        surface: if english { term.english } else { term.spanish },
        kind: "hard",
        invented: true,
    });
    let all: Vec<PlantedSkill> = known.into_iter().chain(coined).collect();
    let mixed = rng.sample(&all, all.len());
    let (spanish, in_english) = *rng.pick(&SOFT);
    let surface = if english { in_english } else { spanish }.to_owned();
    (mixed, PlantedSkill { surface, kind: "soft", invented: false })
}

fn requirements(area: &Area, english: bool, skills: &[PlantedSkill], rng: &mut Rng) -> Vec<String> {
    let surfaces: Vec<&str> = skills.iter().map(|skill| skill.surface.as_str()).collect();
    let years = rng.between(1, 6);
    let plural = if years == 1 { "año" } else { "años" };
    let mut items = vec![
        format!(
            "Educación mínima: {}",
            if english { "Universidad / Carrera Profesional" } else { area.degree }
        ),
        format!("{years} {plural} de experiencia"),
    ];
    if rng.chance(0.3) {
        items.push(format!("Edad: entre {} y {} años", rng.between(18, 24), rng.between(35, 55)));
    }
    items.push(format!("Conocimientos: {}", surfaces.join(", ")));
    items
}

struct Place<'a> {
    title: &'a str,
    city: &'a str,
    sector: &'a str,
}

struct Writer {
    country: Country,
    english: bool,
    layout: Layout,
    bullet: &'static str,
    lines: Vec<Line>,
}

impl Writer {
    fn push(&mut self, kind: LineKind, text: String) {
        self.lines.push(Line { text, kind });
    }

    fn item(&mut self, text: &str) {
        let bullet = if self.layout == Layout::Paragraphs { "" } else { self.bullet };
        self.push(LineKind::Item, format!("{bullet}{text}"));
    }

    fn heading(&mut self, text: &str) {
        if self.layout == Layout::Breaks {
            self.push(LineKind::Blank, String::new());
        }
        self.push(LineKind::Heading, text.to_owned());
    }

    fn body(
        &mut self,
        area: &Area,
        place: &Place<'_>,
        skills: (&[PlantedSkill], &PlantedSkill),
        rng: &mut Rng,
    ) {
        let (hard, soft) = skills;
        self.opening(place, rng);
        let headings = *rng.pick(if self.english { &HEADINGS_EN } else { places::headings(self.country) });
        self.heading(headings[0]);
        let tasks = rng.between(2, 5);
        for task in rng.sample(if self.english { area.tasks_en } else { area.tasks }, tasks) {
            self.item(task);
        }
        self.heading(headings[1]);
        self.item(if self.english { "Degree in a related field" } else { area.degree });
        self.skill_items(hard, rng);
        let lead =
            if self.english { "We value" } else { *rng.pick(&["Valoramos", "Se requiere", "Indispensable"]) };
        self.item(&format!("{lead} {}", soft.surface));
        self.heading(headings[2]);
        let offers = rng.between(2, 3);
        for offer in rng.sample(if self.english { &OFFERS_EN } else { places::offers(self.country) }, offers)
        {
            self.item(offer);
        }
        if self.layout == Layout::Breaks {
            self.push(LineKind::Blank, String::new());
        }
        let closings = if self.english { &CLOSINGS_EN } else { places::closings(self.country) };
        self.push(LineKind::Plain, (*rng.pick(closings)).to_owned());
    }

    fn opening(&mut self, place: &Place<'_>, rng: &mut Rng) {
        let template = *rng.pick(if self.english { &OPENINGS_EN } else { places::openings(self.country) });
        let years = match (rng.between(1, 5), self.english) {
            (1, false) => "un año".to_owned(),
            (1, true) => "one year".to_owned(),
            // With a no-break space, which a reader has to treat as a blank.
            (years, false) => format!("{years}\u{a0}años"),
            (years, true) => format!("{years}\u{a0}years"),
        };
        let text = template
            .replace("{title}", place.title)
            .replace("{city}", place.city)
            .replace("{sector}", place.sector)
            .replace("{years}", &years);
        self.push(LineKind::Plain, text);
    }

    /// One to three skills an item, each exactly once.
    fn skill_items(&mut self, skills: &[PlantedSkill], rng: &mut Rng) {
        let mut left = skills;
        while !left.is_empty() {
            let count = rng.between(1, 3).min(left.len());
            let (now, later) = left.split_at(count);
            left = later;
            let names: Vec<&str> = now.iter().map(|skill| skill.surface.as_str()).collect();
            let leads: &[&str] = if self.english {
                &["Experience with", "Working knowledge of", "Proficiency in", "Nice to have:"]
            } else {
                &["Manejo de", "Conocimientos en", "Experiencia con", "Dominio de", "Deseable:"]
            };
            self.item(&format!("{} {}", rng.pick(leads), names.join(", ")));
        }
    }

    /// A line with invented contact data: reserved domains, numbers of the 555-01 block.
    fn contact(&mut self, company: &str, rng: &mut Rng) -> Vec<PersonalData> {
        // 555-01xx is reserved for fiction, as `.example` is for documentation (RFC 2606).
        let number = rng.between(100, 199);
        let phone = match self.country {
            Country::Co | Country::Pe => format!("300 555 0{number}"),
            Country::Mx | Country::Cl => format!("55 5555 0{number}"),
            Country::Ar => format!("+54 11 5555-0{number}"),
        };
        let domain = slug(company);
        let email =
            format!("{}@{domain}.example", rng.pick(&["seleccion", "rrhh", "talento.humano", "empleos"]));
        let (kind, text, line) = match (rng.below(3), self.english) {
            (0, false) => ("phone", phone.clone(), format!("Informes al WhatsApp {phone}.")),
            (0, true) => ("phone", phone.clone(), format!("Questions? Call {phone}.")),
            (_, false) => (
                "email",
                email.clone(),
                format!("Enviar hoja de vida al correo {email} con el asunto del cargo."),
            ),
            (_, true) => {
                ("email", email.clone(), format!("Send your resume to {email} with the title as subject."))
            }
        };
        self.push(LineKind::Plain, line);
        vec![PersonalData { kind, text }]
    }

    /// The lines; where the portal glues them together, each ends like a sentence, so that no word
    /// of one runs into a word of the next.
    fn finish(mut self) -> Vec<Line> {
        if self.layout == Layout::RunTogether {
            let count = self.lines.len();
            // Nothing follows the last line.
            for line in &mut self.lines[..count - 1] {
                // `Excel` and `Manejo` would otherwise become one word, of which no reader finds
                // either.
                if line.text.ends_with(char::is_alphanumeric) {
                    line.text.push(if line.kind == LineKind::Heading { ':' } else { '.' });
                }
            }
        }
        self.lines
    }
}

const HEADINGS_EN: [[&str; 3]; 3] = [
    ["Responsibilities:", "Requirements:", "We offer:"],
    ["What you will do", "What you bring", "What you get"],
    ["Your role:", "Your profile:", "Benefits:"],
];

const OPENINGS_EN: [&str; 3] = [
    "We are a {sector} company hiring a {title} for our office in {city}.",
    "Join a growing team in {sector}! As {title} you will use your {years} of experience every day.",
    "Our client, a leader in {sector}, is looking for a {title} based in {city}.",
];

const OFFERS_EN: [&str; 4] = [
    "Competitive salary & private health plan",
    "Hybrid work and flexible hours",
    "Budget for courses and certifications",
    "Paid leave above the legal minimum",
];

const CLOSINGS_EN: [&str; 2] = [
    "Apply with your resume in English.",
    "We are an equal opportunity employer and value every application.",
];
