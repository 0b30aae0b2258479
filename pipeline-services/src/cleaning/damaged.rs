//! Advertisements that are damaged in ways nobody thought of: cleaned or refused, never a panic,
//! and never much longer.

use super::{clean, clean_place};
use crate::privacy;

const TEXTS: [&str; 4] = [
    "<p>Se busca <b>panadero</b> &amp; pastelero&nbsp;— escribir a ana@correo.example o al 315 555 0142</p><!-- x --><ul><li>pan</li></ul>",
    "<script>var a = \"</p>\";</script><style>p{}</style><div title='a>b'>Cédula 1.017.234.567&#8203;&#x1F600;&lt;br&gt;</div>",
    "Contacto: Lic. María Pérez, RFC PEPM800101AB1, CLABE 032180000118359719 (IBAN ES91 2100 0418 4502 0005 1332)",
    "Requisitos:\r\n\r\n\r\n\u{2022} 3 años\u{200b} de experiencia\u{a0}en C++\n\t* wa.me/573155550142",
];

#[test]
fn texts_of_advertisements() {
    observatory_mutator::texts("texts of advertisements", &TEXTS, |text| {
        for cleaned in [clean(text), clean_place(text)] {
            assert!(
                cleaned.text.len() <= 12 * text.len() + 200,
                "{} bytes of {}",
                cleaned.text.len(),
                text.len()
            );
            assert!(!cleaned.text.contains('\0'));
        }
    });
}

#[test]
fn addresses() {
    let corpus = [
        "https://p.example/empleo/panadero-123?tel=3155550142&mail=ana%2540correo.example#x",
        "https://ana:clave@p.example/u/%40ana",
        "whatsapp://send?phone=573155550142",
        "//wa.me/573155550142",
    ];
    observatory_mutator::texts("addresses", &corpus, |text| {
        let once = privacy::scrub_url(text);
        assert!(once.len() <= 3 * text.len() + 20, "{once:?}");
    });
}
