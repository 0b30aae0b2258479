//! Tables and properties of the whole.

use proptest::prelude::*;

use super::*;

#[test]
fn removes_personal_data() {
    for (text, expected) in [
        ("Enviar CV a rrhh.seleccion@example.com.ar.", "Enviar CV a [email]."),
        ("juan perez@example.co hoy", "juan [email] hoy"),
        ("contacto (arroba) example (punto) com", "[email]"),
        ("maria arroba example punto com", "[email]"),
        ("WhatsApp 315 079 0793", "WhatsApp [phone]"),
        ("al WhatsApp #3150790793 o", "al WhatsApp #[phone] o"),
        ("+57 (601) 745 1234", "[phone]"),
        ("+54 9 11 4555-6789", "[phone]"),
        ("+52 1 55 1234 5678", "[phone]"),
        ("Tel: 4555-6789", "Tel: [phone]"),
        ("15-4555-6789", "[phone]"),
        ("en CABA. 1 1 4 5 5 5 6 7 8 9", "en CABA. [phone]"),
        ("Whatsapp al + 5 4 9 1 1 4 5 5 5- 6 7 8 9", "Whatsapp al [phone]"),
        ("Llamar al 011 4555 6789 int. 12", "Llamar al [phone] int. 12"),
        ("55 1234 5678", "[phone]"),
        ("(55) 1234-5678", "[phone]"),
        ("3001234567 - 3107654321", "[phone] - [phone]"),
        ("https://wa.me/573001234567?text=hola.", "[profile]."),
        ("linkedin.com/in/juan-perez", "[profile]"),
        ("Telegram: @juanp_99", "Telegram: [profile]"),
        ("DNI 12.345.678", "DNI [national_id]"),
        ("C.C. 1.234.567.890", "C.C. [national_id]"),
        ("cédula de ciudadanía No. 79123456", "cédula de ciudadanía No. [national_id]"),
        ("CURP: HEGG560427MVZRRL04", "CURP: [national_id]"),
        ("RFC GODE561231GR8", "RFC [tax_id]"),
        ("CUIT 20-12345678-6", "CUIT [tax_id]"),
        ("NIT 900.123.456-7", "NIT [tax_id]"),
        ("20-12345678-6", "[tax_id]"),
    ] {
        assert_eq!(scrub(text).text, expected, "{text}");
    }
}

#[test]
fn leaves_everything_else() {
    for text in [
        "Salario $2.500.000 a $3.000.000 COP",
        "salario 2500000 pesos, 2.500.000 mensuales",
        "entre 1500000 - 2000000",
        "Sueldo $ 2. 2 0 0. 0 0 0 (neto), de 8. 0 0 - 1 7. 0 0 hs",
        "ISO 27001:2013, ISO 9001-2015, NTC 5801",
        "C++17, 24/7, Office 365, Java 8-21, Windows 10",
        "2019-2024, 12/05/2024, 2024-05-12, 12-05-2024",
        "Ref. 1886557341, aviso 1117890123, ID 3001234567",
        "de 8:00 a 17:30, lunes a viernes 08 a 18 hs",
        "NOM-035-STPS-2018",
        "www.example.com/jobs/3001234567",
        "@empresa en redes; versión 1.2.3.4567",
        "10 a 15 personas, 1000 2000 3000",
        "CC 125 motos",
        "Av. Corrientes 1234, piso 5",
    ] {
        assert_eq!(scrub(text), Scrubbed { text: text.to_owned(), removed: BTreeMap::new() });
    }
}

/// Strings by kind: what stands between ‹ and › must go and all else stay; a line that begins with
/// `=` stays whole.
const STRINGS: &str = include_str!("strings.txt");

/// A text with its marks, whatever their kind, as one sign.
fn with_one_mark(text: &str) -> String {
    Kind::ALL.iter().fold(text.to_owned(), |text, kind| text.replace(kind.mark(), "§"))
}

#[test]
fn strings_are_scrubbed_as_they_are_marked() {
    let mut section = "";
    for line in STRINGS.lines().filter(|line| !line.is_empty()) {
        if let Some(name) = line.strip_prefix("## ") {
            section = name;
            continue;
        }
        let line = line.trim_start_matches('=').replace('⏎', "\n");
        let text = line.replace(['‹', '›'], "");
        if section == "url" {
            let out = scrub_url(&text);
            let mut secrets = line.split('‹').skip(1).filter_map(|rest| rest.split('›').next());
            assert!(secrets.all(|secret| !out.contains(secret)), "{line}: {out}");
            assert!(line.contains('‹') || out == text, "{line}: {out}");
            assert_eq!(scrub_url(&out), out, "{line}");
            continue;
        }
        let mut expected = String::new();
        for (index, part) in line.split(['‹', '›']).enumerate() {
            expected.push_str(if index % 2 == 0 { part } else { "§" });
        }
        assert_eq!(with_one_mark(&scrub(&text).text), expected, "{section}: {line}");
    }
}

#[test]
fn places_keep_the_names_of_persons() {
    let check = |text: &str, expected: &str| assert_eq!(scrub_place(text).text, expected);
    check("Ingeniero Pablo Nogués, Buenos Aires", "Ingeniero Pablo Nogués, Buenos Aires");
    check("Dr. Mora, Guanajuato. Tel. 4555-6789", "Dr. Mora, Guanajuato. Tel. [phone]");
}

#[test]
fn counts_by_kind() {
    let found = scrub("a@b.co, c@d.com y 3150790793");
    assert_eq!(found.removed, BTreeMap::from([(Kind::Email, 2), (Kind::Phone, 1)]));
}

proptest! {
    #[test]
    fn scrubbing_twice_changes_nothing(
        parts in prop::collection::vec(
            prop_oneof![
                "\\PC{0,6}".boxed(),
                "[0-9]{1,12}".boxed(),
                prop::sample::select(vec!["tel ", "DNI ", " - ", ".", " ", "@", "a@b.co", "+57 ", "wa.me/", "CUIT ", "(", "$", " arroba "])
                    .prop_map(str::to_owned).boxed(),
            ],
            0..14,
        ),
    ) {
        let once = scrub(&parts.concat());
        let twice = scrub(&once.text);
        prop_assert_eq!(&twice.text, &once.text);
        prop_assert!(twice.removed.is_empty());
    }
}
