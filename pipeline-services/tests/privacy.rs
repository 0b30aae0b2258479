//! Invented strings with personal data and without, in every written form of the region.
//!
//! Nothing here shares code or patterns with `observatory_pipeline::privacy`, which it is there to
//! judge. `privacy/FORMS.md` lists the forms. A form writes a piece with its secrets marked;
//! [`set::cases`] puts pieces into sentences, [`stay::strings`] are the strings that no scrubber
//! may touch, and [`score`] compares.

#[path = "privacy/account.rs"]
mod account;
#[path = "privacy/case.rs"]
mod case;
#[path = "privacy/check_digits.rs"]
mod check_digits;
#[path = "privacy/email.rs"]
mod email;
#[path = "privacy/judge.rs"]
mod judge;
#[path = "privacy/layout.rs"]
mod layout;
#[path = "privacy/name.rs"]
mod name;
#[path = "privacy/national_id.rs"]
mod national_id;
#[path = "privacy/numbers.rs"]
mod numbers;
#[path = "privacy/people.rs"]
mod people;
#[path = "privacy/phone.rs"]
mod phone;
#[path = "privacy/profile.rs"]
mod profile;
#[path = "privacy/score.rs"]
mod score;
#[path = "privacy/set.rs"]
mod set;
#[path = "privacy/stay.rs"]
mod stay;
#[path = "privacy/tax_id.rs"]
mod tax_id;
#[path = "privacy/url.rs"]
mod url;

use std::collections::{BTreeMap, BTreeSet};

use case::{Case, Country, Kind, significant};
use score::Scores;

const SIX: [Country; 6] = [Country::Co, Country::Mx, Country::Ar, Country::Cl, Country::Pe, Country::Br];

#[test]
fn every_kind_has_its_strings_and_forms() {
    let cases = set::cases();
    let of = |kind: Kind| cases.iter().filter(move |case| case.kind == kind);
    for kind in Kind::ALL {
        let forms: BTreeSet<_> = of(kind).map(|case| (case.country, case.form)).collect();
        println!("{:<12}{:>5} strings{:>5} forms", kind.name(), of(kind).count(), forms.len());
        assert!(of(kind).count() >= 200 && forms.len() >= 12, "{}", kind.name());
        assert_eq!(
            forms.len(),
            set::forms().iter().filter(|form| form.kind == kind).count(),
            "a name comes twice in {}",
            kind.name()
        );
        for country in SIX.into_iter().filter(|_| kind.is_national()) {
            let count = of(kind).filter(|case| case.country == country).count();
            let written = forms.iter().filter(|(other, _)| *other == country).count();
            println!("  {:<10}{count:>5} strings{written:>5} forms", country.name());
            assert!(count >= 60 && written >= 12, "{} {}", kind.name(), country.name());
        }
    }
}

#[test]
fn the_set_is_the_same_each_time_and_has_no_string_twice() {
    let cases = set::cases();
    assert_eq!(cases, set::cases());
    assert_eq!(cases.iter().map(|case| &case.text).collect::<BTreeSet<_>>().len(), cases.len());
    let stays = stay::strings();
    assert_eq!(stays, stay::strings());
    assert_eq!(stays.iter().map(|stay| &stay.text).collect::<BTreeSet<_>>().len(), stays.len());
}

#[test]
fn secrets_show_in_their_sentence_and_nowhere_else() {
    for case in set::cases() {
        assert!(!case.secrets.is_empty() && case.leaks(&case.text), "{case:?}");
        assert!(case.keeps_surroundings(&case.text), "{case:?}");
        for mark in ["", "[EMAIL]", "[TELÉFONO]", "[DOCUMENTO]", "[NOMBRE]", "[PERFIL]", "[CUENTA]"] {
            let without = erased(&case, mark);
            assert!(!case.leaks(&without) && case.keeps_surroundings(&without), "{case:?}: {without}");
        }
        for secret in &case.secrets {
            assert!(case.text.contains(&secret.literal) && secret.core.chars().count() >= 4, "{case:?}");
            assert!(!secret.literal.contains([case::OPEN, case::CLOSE]), "{case:?}");
        }
    }
}

/// What a flawless scrubber makes of a case.
fn erased(case: &Case, mark: &str) -> String {
    format!("{}{mark}{}", case.before, case.after)
}

#[test]
fn strings_that_must_stay_are_many_and_hold_nothing_personal() {
    let stays = stay::strings();
    let mut classes: BTreeMap<&str, usize> = BTreeMap::new();
    stays.iter().for_each(|stay| *classes.entry(stay.class).or_default() += 1);
    println!("{} strings in {} classes", stays.len(), classes.len());
    assert!(stays.len() >= 1_000 && classes.len() >= 20);
    assert!(classes.values().all(|count| *count >= 30), "{classes:?}");
    let cases = set::cases();
    let secrets: BTreeSet<&str> =
        cases.iter().flat_map(|case| &case.secrets).map(|secret| secret.core.as_str()).collect();
    for stay in &stays {
        let text = significant(&stay.text);
        let secret = secrets.iter().find(|secret| text.contains(**secret));
        assert_eq!(secret, None, "in {:?}", stay.text);
    }
}

#[test]
fn scores_tell_scrubbers_apart() {
    let (cases, stays) = (set::cases(), stay::strings());
    let idle = Scores::of(&cases, &stays, |text, _| text.to_owned());
    assert_eq!((idle.recall(Kind::Phone), idle.precision()), (0.0, 1.0));
    let eager = Scores::of(&cases, &stays, |_, _| String::new());
    assert_eq!(eager.recall(Kind::Phone), 1.0);
    assert!(eager.precision() < 0.5, "{}", score::table(&eager));
    let by_text: BTreeMap<&str, &Case> = cases.iter().map(|case| (case.text.as_str(), case)).collect();
    let right = Scores::of(&cases, &stays, |text, _| {
        by_text.get(text).map_or_else(|| text.to_owned(), |case| erased(case, "[x]"))
    });
    assert!(Kind::ALL.iter().all(|kind| right.recall(*kind) == 1.0), "{}", score::table(&right));
    assert_eq!((right.precision(), right.faults.len()), (1.0, 0));
    let table = score::table(&idle);
    let phone = table.lines().find(|line| line.starts_with("phone")).expect("a row for each kind");
    assert_eq!(phone.split_whitespace().skip(1).take(8).collect::<Vec<_>>(), {
        ["0.000", "0.000", "0.000", "0.000", "0.000", "0.000", "-", "0.000"]
    });
    assert!(table.contains("precision 1.0000") && score::faults(&idle).contains("left: phone CO"), "{table}");
}

#[test]
fn forms_are_listed() {
    let listing = set::listing();
    if listing != include_str!("privacy/FORMS.md") {
        let copy = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("FORMS.md");
        std::fs::write(&copy, listing).expect("a file in the build folder");
        panic!("FORMS.md is not what the forms are: take {}", copy.display());
    }
}
