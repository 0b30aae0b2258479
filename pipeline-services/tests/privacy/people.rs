//! Invented persons: names, mailboxes, handles.

use fastrand::Rng;

/// Women's given names. Like all names here they are no words of the sentences, or a whole word of
/// a name could not be told from those.
const WOMEN: &str =
    "Marcela Lucía Daniela Valentina Sofía Paola Gabriela Verónica Natalia Ximena Carolina Mónica Yuliana";

/// Men's given names.
const MEN: &str =
    "Andrés Óscar Camilo Héctor Ramiro Emiliano Tomás Fabián Julián Íñigo Esteban Rodrigo Wilmer Matías";

/// Family names.
const FAMILY: &str = "Quintero Muñoz Ramírez Zúñiga Cárdenas Ibáñez Gutiérrez Valdés Ortega Benítez Salcedo \
    Arboleda Tapia Echeverri Núñez Galarza Peñaloza Villaseñor Cifuentes Barrientos Lozano Mosquera Tejada \
    Urrutia";

/// Whole names that are usual in Brazil.
const BRAZILIAN: [&str; 12] = [
    "Larissa Gonçalves",
    "Thiago Nogueira",
    "Beatriz Falcão",
    "Rafael Siqueira",
    "Juliana Azevedo",
    "Caio Monteiro",
    "Letícia Brandão",
    "Vinícius Peixoto",
    "Priscila Antunes",
    "Otávio Guimarães",
    "Renata Vasconcelos",
    "Murilo Sampaio",
];

/// One of the words.
pub(crate) fn pick<'a>(rng: &mut Rng, words: &[&'a str]) -> &'a str {
    words[rng.usize(..words.len())]
}

fn word(rng: &mut Rng, words: &'static str) -> &'static str {
    pick(rng, &words.split_whitespace().collect::<Vec<_>>())
}

/// A woman's given name.
pub(crate) fn woman(rng: &mut Rng) -> &'static str {
    word(rng, WOMEN)
}

/// A man's given name.
pub(crate) fn man(rng: &mut Rng) -> &'static str {
    word(rng, MEN)
}

/// Any given name.
pub(crate) fn given(rng: &mut Rng) -> &'static str {
    if rng.bool() { woman(rng) } else { man(rng) }
}

/// A family name.
pub(crate) fn family(rng: &mut Rng) -> &'static str {
    word(rng, FAMILY)
}

/// One family name or two.
pub(crate) fn families(rng: &mut Rng) -> String {
    let (first, second) = (family(rng), family(rng));
    if first == second || rng.bool() { first.to_owned() } else { format!("{first} {second}") }
}

/// A name as in Brazil.
pub(crate) fn brazilian(rng: &mut Rng) -> &'static str {
    pick(rng, &BRAZILIAN)
}

/// Without accents, in lower case.
fn plain(word: &str) -> String {
    let plain = |char| match char {
        'á' => 'a',
        'é' => 'e',
        'í' => 'i',
        'ó' => 'o',
        'ú' => 'u',
        'ñ' => 'n',
        other => other,
    };
    word.to_lowercase().chars().map(plain).collect()
}

/// A mailbox: what stands before the sign. Half of them hold digits, a few are an office's.
pub(crate) fn mailbox(rng: &mut Rng) -> String {
    let (given, family, number) = (plain(given(rng)), plain(family(rng)), rng.u8(10..100));
    match rng.u8(..8) {
        0 => format!("rrhh.{family}"),
        1 => format!("{given}{family}"),
        2 => format!("{given}_{family}"),
        3 => format!("{}{family}{number}", &given[..1]),
        4 => format!("{family}-{number}"),
        5 => format!("{given}.{family}{number}"),
        6 => format!("{given}{number}"),
        _ => format!("{given}.{family}"),
    }
}

/// A handle of a network, without its `@`.
pub(crate) fn handle(rng: &mut Rng) -> String {
    let (given, family, number) = (plain(given(rng)), plain(family(rng)), rng.u16(10..1000));
    match rng.u8(..4) {
        0 => format!("{given}.{family}"),
        1 => format!("{given}_{family}{number}"),
        2 => format!("{family}{number}"),
        _ => format!("{given}{family}"),
    }
}

/// A profile's name in an address: words and a number joined by hyphens.
pub(crate) fn slug(rng: &mut Rng) -> String {
    format!("{}-{}-{}", plain(given(rng)), plain(family(rng)), rng.u32(10_000..1_000_000))
}

/// A domain that nobody can own (RFC 2606).
pub(crate) fn reserved_host(rng: &mut Rng) -> &'static str {
    pick(rng, &["example.com", "example.org", "example.net", "andina.example", "norte.example"])
}

/// A host that people write to: one of the reserved ones that end in a common way, or a well-known
/// mail host.
pub(crate) fn common_host(rng: &mut Rng) -> &'static str {
    if rng.bool() { pick(rng, &["example.com", "example.org", "example.net"]) } else { mail_host(rng) }
}

/// A well-known mail host of the region.
pub(crate) fn mail_host(rng: &mut Rng) -> &'static str {
    pick(
        rng,
        &[
            "gmail.com",
            "gmail.com",
            "hotmail.com",
            "outlook.com",
            "outlook.es",
            "yahoo.com",
            "yahoo.es",
            "yahoo.com.mx",
            "yahoo.com.ar",
            "yahoo.com.br",
            "hotmail.es",
            "live.com",
            "live.com.mx",
            "icloud.com",
            "prodigy.net.mx",
            "uol.com.br",
            "bol.com.br",
        ],
    )
}
