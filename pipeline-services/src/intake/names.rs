//! Countries and portals as people name them.
//!
//! Codes and names in three languages lead to one code, spellings of a portal to one name; an
//! unknown country is none rather than a guess.

use crate::text::fold::fold;

/// ISO 3166-1 alpha-2 and alpha-3 codes and names: in Spanish, English and Portuguese, long and
/// short.
const COUNTRIES: &str = include_str!("countries.tsv");

/// The code of a country that is named by a code or a name; none where it is unknown.
pub(crate) fn country(text: &str) -> Option<&'static str> {
    let wanted = essence(text);
    COUNTRIES.lines().filter(|line| !line.starts_with('#')).find_map(|line| {
        let mut names = line.split('\t');
        let code = names.next()?;
        (essence(code) == wanted || names.any(|name| essence(name) == wanted)).then_some(code)
    })
}

/// Letters in lower case without accents, words by single blanks.
fn essence(text: &str) -> String {
    let folded = fold(text);
    folded.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ")
}

/// A portal's name as it is stored: lower case, words joined by `-`; the host where an address was
/// given.
pub(crate) fn portal(text: &str) -> String {
    let text = text.trim();
    let text = text.split_once("://").map_or(text, |(_, rest)| rest);
    let plain = fold(text.split(['/', '?', '#']).next().unwrap_or(text));
    let plain = plain.strip_prefix("www.").unwrap_or(&plain);
    let words = plain.split(|c: char| !matches!(c, 'a'..='z' | '0'..='9' | '_' | '-'));
    let words: Vec<&str> = words.filter(|word| !word.is_empty()).collect();
    // Both are kept inside, but a name must begin with a letter or digit.
    words.join("-").trim_matches(['-', '_']).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn countries_have_codes() {
        let check = |text: &str, expected: Option<&str>| assert_eq!(country(text), expected, "{text}");
        check("CO", Some("CO"));
        check("co", Some("CO"));
        check("COL", Some("CO"));
        check("Colombia", Some("CO"));
        check("República de Colombia", Some("CO"));
        check("México", Some("MX"));
        check("MEXICO", Some("MX"));
        check("Me\u{301}xico", Some("MX"));
        check("Estados Unidos Mexicanos", Some("MX"));
        check("Brazil", Some("BR"));
        check("Brasil", Some("BR"));
        check("Perú", Some("PE"));
        check("Rep. Dominicana", Some("DO"));
        check("Dominican Republic", Some("DO"));
        check("Bolivia (Estado Plurinacional de)", Some("BO"));
        check("Venezuela, República Bolivariana de", Some("VE"));
        check("España", Some("ES"));
        check("Panama", Some("PA"));
        check("EE. UU.", Some("US"));
        check("Bogotá", None);
        check("XX", None);
        check("", None);
    }

    #[test]
    fn every_line_has_codes_and_no_name_is_twice() {
        let mut seen = std::collections::HashSet::new();
        for line in COUNTRIES.lines().filter(|line| !line.starts_with('#')) {
            let names: Vec<&str> = line.split('\t').collect();
            assert!(names.len() > 2 && names[0].len() == 2 && names[1].len() == 3, "{line}");
            for name in names {
                assert!(seen.insert(essence(name)), "{name}");
            }
        }
    }

    #[test]
    fn portals_have_plain_names() {
        let check = |text: &str, expected: &str| assert_eq!(portal(text), expected, "{text}");
        check("computrabajo", "computrabajo");
        check(" Computrabajo Colombia ", "computrabajo-colombia");
        check("Computrabajo México", "computrabajo-mexico");
        check("zip_recruiter", "zip_recruiter");
        check("www.elempleo.com", "elempleo-com");
        check("https://co.computrabajo.com/ofertas", "co-computrabajo-com");
        check("Bolsa (SENA)", "bolsa-sena");
        check("¿?", "");
        check("_x", "x");
    }
}
