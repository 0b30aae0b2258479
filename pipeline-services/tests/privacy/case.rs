//! What a generated string is made of, and when a piece of it still shows.

use fastrand::Rng;

/// A kind of personal data that the issue names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// E-mail addresses, written plainly or in disguise.
    Email,
    /// Telephone numbers.
    Phone,
    /// Numbers of identity papers, social security and licences.
    NationalId,
    /// Numbers of taxpayers.
    TaxId,
    /// Bank accounts and payment keys.
    Account,
    /// Links to profiles, and handles.
    Profile,
    /// Names of persons behind a cue word.
    Name,
    /// Any of these inside an advertisement's own address or identifier.
    Url,
}

impl Kind {
    /// Every kind, in the order of the table.
    pub(crate) const ALL: [Self; 8] = [
        Self::Email,
        Self::Phone,
        Self::NationalId,
        Self::TaxId,
        Self::Account,
        Self::Profile,
        Self::Name,
        Self::Url,
    ];

    /// The name in tables and lists.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Email => "email",
            Self::Phone => "phone",
            Self::NationalId => "national_id",
            Self::TaxId => "tax_id",
            Self::Account => "account",
            Self::Profile => "profile",
            Self::Name => "name",
            Self::Url => "url",
        }
    }

    /// Whether every country has forms of its own.
    pub(crate) fn is_national(self) -> bool {
        matches!(self, Self::Phone | Self::NationalId | Self::TaxId | Self::Account)
    }
}

/// Whose way of writing a form is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Country {
    /// Colombia.
    Co,
    /// Mexico.
    Mx,
    /// Argentina.
    Ar,
    /// Chile.
    Cl,
    /// Peru.
    Pe,
    /// Brazil.
    Br,
    /// No country in particular; for accounts, the other countries that have an IBAN.
    Any,
}

impl Country {
    /// The six countries, then the rest.
    pub(crate) const ALL: [Self; 7] = [Self::Co, Self::Mx, Self::Ar, Self::Cl, Self::Pe, Self::Br, Self::Any];

    /// The name in tables and lists: ISO 3166-1 alpha-2.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Co => "CO",
            Self::Mx => "MX",
            Self::Ar => "AR",
            Self::Cl => "CL",
            Self::Pe => "PE",
            Self::Br => "BR",
            Self::Any => "any",
        }
    }
}

/// Before a secret in what a form writes; no advertisement holds these two characters.
pub(crate) const OPEN: char = '‹';
/// Behind a secret.
pub(crate) const CLOSE: char = '›';

/// One written form of one kind of personal data.
pub(crate) struct Form {
    /// The kind of data.
    pub(crate) kind: Kind,
    /// The country that writes it so.
    pub(crate) country: Country,
    /// What distinguishes it from the other forms of its kind and country.
    pub(crate) name: &'static str,
    /// Sentences that it may stand in, in place of `{}`.
    pub(crate) frames: &'static [&'static str],
    /// Writes an invented piece, its secrets between [`OPEN`] and [`CLOSE`].
    pub(crate) write: Box<dyn Fn(&mut Rng) -> String>,
}

/// A piece of text that must be gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Secret {
    /// As it stands in the text.
    pub(crate) literal: String,
    /// Its significant characters: letters and digits alone, in lower case.
    pub(crate) core: String,
}

/// A sentence with personal data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Case {
    /// The kind of data.
    pub(crate) kind: Kind,
    /// The country that writes it so.
    pub(crate) country: Country,
    /// The name of the form.
    pub(crate) form: &'static str,
    /// The whole sentence.
    pub(crate) text: String,
    /// The personal data with its cue word and all.
    pub(crate) piece: String,
    /// What must be gone.
    pub(crate) secrets: Vec<Secret>,
    /// What stands before the piece, and must go on standing there.
    pub(crate) before: &'static str,
    /// What stands behind it.
    pub(crate) after: &'static str,
}

/// Shorter runs of a number's characters than this may be chance.
const LEAST_RUN: usize = 5;
/// Letters alone share longer runs with other words: `mail` stands in `gmail.com` and in a mark,
/// `mpleo` in `example.org` and in `empleos`.
const LEAST_RUN_OF_LETTERS: usize = 7;

/// Words of a name that say nothing about whose it is.
const PARTICLES: [&str; 6] = ["del", "las", "los", "dos", "das", "von"];

impl Case {
    /// A sentence with a piece of this form.
    pub(crate) fn new(form: &Form, rng: &mut Rng) -> Self {
        let frame = form.frames[rng.usize(..form.frames.len())];
        let (before, after) = frame.split_once("{}").expect("a frame has a place for the piece");
        let marked = (form.write)(rng);
        let secrets = marked.split(OPEN).skip(1).filter_map(|rest| rest.split_once(CLOSE));
        let secrets: Vec<Secret> = secrets
            .map(|(literal, _)| Secret { literal: literal.to_owned(), core: significant(literal) })
            .collect();
        let piece = marked.replace([OPEN, CLOSE], "");
        let text = format!("{before}{piece}{after}");
        Self { kind: form.kind, country: form.country, form: form.name, text, piece, secrets, before, after }
    }

    /// Whether an output still shows a secret, or half of one. Of a name every word counts, and
    /// counts as a whole word; of all else any run of half the significant characters, whatever
    /// stands between them.
    pub(crate) fn leaks(&self, output: &str) -> bool {
        self.secrets.iter().any(|secret| {
            output.contains(&secret.literal)
                || if self.kind == Kind::Name {
                    shares_a_word(&secret.literal, output)
                } else {
                    shares_a_run(&secret.core, &significant(output))
                }
        })
    }

    /// Whether the words before and behind the piece still stand; blanks and punctuation are free.
    pub(crate) fn keeps_surroundings(&self, output: &str) -> bool {
        let (output, before, after) =
            (significant(output), significant(self.before), significant(self.after));
        output.len() >= before.len() + after.len() && output.starts_with(&before) && output.ends_with(&after)
    }
}

/// The letters and digits of a text in lower case; full-width ones count as the plain ones.
pub(crate) fn significant(text: &str) -> String {
    text.chars().map(narrow).filter(|char| char.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}

/// From the full-width forms of Unicode (U+FF01 to U+FF5E) to ASCII.
fn narrow(character: char) -> char {
    match character {
        '\u{ff01}'..='\u{ff5e}' => char::from_u32(u32::from(character) - 0xfee0).unwrap_or(character),
        other => other,
    }
}

fn shares_a_word(name: &str, output: &str) -> bool {
    let words = |text: &str| -> Vec<String> {
        text.to_lowercase().split(|char: char| !char.is_alphanumeric()).map(str::to_owned).collect()
    };
    let seen = words(output);
    words(name)
        .iter()
        .any(|word| word.chars().count() > 2 && !PARTICLES.contains(&word.as_str()) && seen.contains(word))
}

fn shares_a_run(core: &str, output: &str) -> bool {
    let characters: Vec<char> = core.chars().collect();
    let least = if core.contains(char::is_numeric) { LEAST_RUN } else { LEAST_RUN_OF_LETTERS };
    let run = characters.len().div_ceil(2).max(least).min(characters.len());
    characters.windows(run).any(|run| output.contains(&run.iter().collect::<String>()))
}

#[test]
fn half_a_number_is_a_leak() {
    let form = Form {
        kind: Kind::Phone,
        country: Country::Co,
        name: "test",
        frames: &["Llamar al {} hoy."],
        write: Box::new(|_| "Cel. ‹318 555 01 42›".to_owned()),
    };
    let case = Case::new(&form, &mut Rng::with_seed(1));
    assert_eq!(case.text, "Llamar al Cel. 318 555 01 42 hoy.");
    assert_eq!(case.secrets, [Secret { literal: "318 555 01 42".to_owned(), core: "3185550142".to_owned() }]);
    for leaking in [case.text.as_str(), "Llamar al [x]550142 hoy.", "Llamar al 3-1-8.55[x] hoy."] {
        assert!(case.leaks(leaking), "{leaking}");
    }
    for clean in ["Llamar al [x] hoy.", "Llamar al Cel. [x] hoy.", "Llamar al [x]42 hoy."] {
        assert!(!case.leaks(clean) && case.keeps_surroundings(clean), "{clean}");
    }
    for damaged in ["Llamar [x] hoy.", "Llamar al [x]", "", "Llamar al hoy no."] {
        assert!(!case.keeps_surroundings(damaged), "{damaged}");
    }
}

#[test]
fn every_word_of_a_name_is_a_leak() {
    assert!(shares_a_word("Ana de la Peña", "preguntar por [x] Peña."));
    assert!(!shares_a_word("Ana de la Peña", "preguntar por [x] de la semana"));
}
