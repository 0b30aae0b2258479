//! Texts made to be slow to read.
//!
//! Each repeats a beginning that nothing ends, mixes two of them, or piles up pieces that all
//! differ: the input on which a reader that looks ahead, or back, takes quadratic time. A new
//! reader adds the openings it waits for here.

/// What repeats: openings that nothing closes, beginnings of what is looked for, and words that
/// rules wait for.
const REPEATED: &[&str] = &[
    // Markup.
    "<p ",
    "<p",
    "<",
    "</",
    "<a href=\"",
    "<a href='x",
    "<p =\"><p =\"",
    "<p =' >",
    "<!--",
    "<!-->",
    "<!doctype ",
    "<script>",
    "<script></script ",
    "</script",
    "<style><",
    "<td><p>",
    "<td>",
    "<li>",
    "<br>",
    "<p> ",
    "<div>",
    "</div>",
    "<b><i>",
    "<<b>b>",
    "&",
    "&amp;",
    "&#",
    "&#38;",
    "&amp",
    "&lt;p&gt;",
    "&nbsp;",
    "&#x",
    "=\"",
    "\"",
    "'",
    ">",
    "]]>",
    "<![CDATA[",
    // Persons and their numbers.
    "a@",
    "@",
    "a@b",
    "a@b.co ",
    "@ ",
    "at ",
    "at punto ",
    "(at) ",
    "a punto ",
    "arroba ",
    "arrrr",
    "a n ",
    "gmail ",
    "gmail.com",
    "correo ",
    "+57 ",
    "3",
    "3 ",
    "31 ",
    "315-",
    "(",
    "(+57) ",
    "1.",
    "1,",
    "2.500.000 ",
    "tel ",
    "tel: 315",
    "uno dos ",
    "cc ",
    "dni 1",
    "rut ",
    "cuenta ",
    "cbu 1",
    "iban ",
    "es12 ",
    "12345678-9 ",
    "rfc ",
    "abcd010101",
    "pix ",
    "Contacto: ",
    "Contacto: Ana ",
    "Lic. ",
    "Lic. Ana ",
    "Ana Pérez, ",
    "preguntar por ",
    "don ",
    "analista a a a a ",
    "instagram ",
    "linkedin.com/in/",
    "ig: a",
    "síguenos @",
    "http://",
    "https://a",
    "www.",
    "www.a.com ",
    "aa.com+",
    "aa.com",
    "a.co-",
    "x.com/",
    "ftp : //",
    "[email]",
    "\u{1}",
    // Words and sentences.
    "a",
    "A",
    "aB",
    "abcDef",
    "-",
    "- ",
    "* ",
    "•",
    "1. ",
    ".",
    ". ",
    "...",
    ",",
    ", ",
    ";",
    ": ",
    ":",
    "/",
    "_",
    "\\",
    "#",
    "+",
    "c++ ",
    "c\\+\\+",
    ".net",
    "a.js",
    "\n",
    "\r\n",
    " ",
    "\t",
    "\u{a0}",
    "no ",
    "y ",
    "de ",
    "en ",
    "Y ",
    "sin ",
    "experiencia en ",
    "3 años de experiencia en ",
    "conocimientos en ",
    "conocimientos SAS ",
    "Excel SAS ",
    "Requisitos ",
    "Requisitos: ",
    "Horario: ",
    "Horario ",
    "Ofrecemos: ",
    "Beneficios: ",
    "Buscamos ",
    "no se requiere ",
    "Excel ",
    "excel, ",
    "Excel y ",
    "EXCEL ",
    "go ",
    "R ",
    "lenguaje R ",
    "react ",
    "ISO ",
    "ISO 9001 ",
    "ISO-",
    "exel ",
    "exxcel",
    "trabajo en equipo ",
    "vendedor/a ",
    "contador(a) ",
    "analista ",
    "zona norte ",
    "s/",
    "c/",
    // Characters.
    "á",
    "a\u{301}",
    "\u{301}",
    "\u{316}\u{301}",
    "\u{345}",
    "ñ",
    "ǅ",
    "İ",
    "ß",
    "ﬃ",
    "한",
    "\u{1100}\u{1161}",
    "\u{200b}",
    "\u{200d}",
    "\u{ad}",
    "😀",
    "👩\u{200d}💻",
    "\u{fe0f}",
    "＠",
    "１",
    "➀ ",
    "\u{feff}",
    // Structured data, robots.txt and dates.
    "{",
    "[",
    "{\"a\":",
    "[1,",
    ",}",
    "\\\"",
    "\\u0040",
    "%40",
    "%25",
    "%",
    "?a=",
    "&a=",
    "//",
    "User-agent: *\n",
    "Disallow: /*a\n",
    "*",
    "*a",
    "$",
    "hace 3 ",
    "hace ",
    "3 de ",
    "12 ene ",
];

/// Pairs of those that take turns.
const MIXED: &[&str] = &["<p ", "\"", "&", "a@", "315 ", "experiencia en ", "\n", "á", "Lic. ", "aa.com+"];

/// Texts of a length, each with a name.
pub(super) fn texts(length: usize) -> Vec<(String, String)> {
    let mut texts: Vec<(String, String)> =
        REPEATED.iter().map(|unit| (format!("{unit:?}"), repeated(unit, length))).collect();
    for (place, left) in MIXED.iter().enumerate() {
        for right in &MIXED[..place] {
            let unit = [*left, *right].concat();
            texts.push((format!("{unit:?}"), repeated(&unit, length)));
            let half = repeated(left, length / 2) + &repeated(right, length / 2);
            texts.push((format!("{left:?} and then {right:?}"), half));
        }
    }
    for (name, form) in NUMBERED {
        let mut text = String::with_capacity(length + 64);
        for number in 0.. {
            if text.len() >= length {
                break;
            }
            text.push_str(&form(number));
        }
        texts.push((format!("numbered {name}"), text));
    }
    for (open, close) in [
        ("<div>", "</div>"),
        ("<b>", "</b>"),
        ("<ul><li>", "</ul>"),
        ("(", ")"),
        ("[", "]"),
        ("<td><table>", "</table>"),
    ] {
        let count = length / (open.len() + close.len());
        texts.push((format!("nested {open}"), open.repeat(count) + &close.repeat(count)));
    }
    for (head, tail) in [
        ("Requisitos: ", " "),
        ("Horario: ", "\u{a0}"),
        ("<p", "'"),
        ("<td>\n", "<p>"),
        ("a = \"", "b "),
        ("cuenta ", "1"),
        ("tel ", "1"),
    ] {
        let count = length / 2 / head.len();
        texts.push((
            format!("many {head:?} before {tail:?}"),
            head.repeat(count) + &repeated(tail, length / 2),
        ));
    }
    texts
}

type Numbered = (&'static str, fn(usize) -> String);

/// Pieces that are all different.
const NUMBERED: [Numbered; 9] = [
    ("words", |number| format!("palabra{number} ")),
    ("letters", |number| format!("{} ", letters(number))),
    ("introductions", |number| format!("conocimientos en {}, ", letters(number))),
    ("attributes", |number| format!("a{number}=1 ")),
    ("tags", |number| format!("<b id={number}>")),
    ("paragraphs", |number| format!("<p><b id={number}>x</p>")),
    ("references", |number| format!("&a{number};")),
    ("addresses", |number| format!("a{number}@b{number}.co ")),
    ("parameters", |number| format!("p{number}=a{number}&")),
];

fn letters(mut number: usize) -> String {
    let mut word = String::from("a");
    while number > 0 {
        word.push(char::from(b'a' + (number % 26) as u8));
        number /= 26;
    }
    word
}

fn repeated(unit: &str, length: usize) -> String {
    unit.repeat((length / unit.len()).max(1))
}
