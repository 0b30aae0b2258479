//! Shapes, text and colours on one canvas.
//!
//! Hides the rendering library, and measures text by a fixed table of widths: layout, and with it
//! every snapshot, is the same on machines with other fonts.

use kuva::render::render::{PathData, Primitive, Scene, TextAnchor};
use unicode_normalization::UnicodeNormalization;

/// Width of every chart, in drawing units: a text column of an A4 page at 9 pt type.
pub(super) const WIDTH: f64 = 760.0;
/// Type size of labels. By eye.
pub(super) const LABEL: u32 = 13;
/// Type size of axis and value labels. By eye.
pub(super) const SMALL: u32 = 12;

/// Greys of text, lines and points without a name. By eye.
pub(super) const INK: &str = "#1f2933";
pub(super) const MUTED: &str = "#52606d";
pub(super) const GRID: &str = "#dde2e7";
pub(super) const NOISE: &str = "#c3cad1";
pub(super) const REST: &str = "#7b8794";

/// Okabe and Ito's colours for all kinds of colour vision, without black and the pale yellow
/// (<https://jfly.uni-koeln.de/color/>).
pub(super) const SERIES: [&str; 6] = ["#0072b2", "#e69f00", "#009e73", "#cc79a7", "#d55e00", "#56b4e9"];
/// A lighter companion of the first series colour.
pub(super) const FIRST_LIGHT: &str = "#9fcbe6";

/// The reports' own font, and what a browser without it has in its width.
const FONTS: &str = "DejaVu Sans, Verdana, sans-serif";

/// Outline of a point. Colour and outline vary together, so that neither has to be told apart
/// alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Marker {
    Circle,
    Square,
    Triangle,
    Diamond,
}

impl Marker {
    pub(super) const ALL: [Self; 4] = [Self::Circle, Self::Square, Self::Triangle, Self::Diamond];
}

/// A canvas with its origin at the top left.
pub(super) struct Drawing {
    scene: Scene,
}

impl Drawing {
    pub(super) fn new(width: f64, height: f64) -> Self {
        let mut scene = Scene::new(width, height);
        scene.font_family = Some(FONTS.to_owned());
        Self { scene }
    }

    /// Makes the canvas at least `height` high.
    pub(super) fn grow(&mut self, height: f64) {
        self.scene.height = self.scene.height.max(height);
    }

    pub(super) fn finish(self) -> Scene {
        self.scene
    }

    pub(super) fn rect(&mut self, (x, y): (f64, f64), (width, height): (f64, f64), fill: &str) {
        self.scene.elements.push(Primitive::Rect {
            x,
            y,
            width,
            height,
            fill: fill.into(),
            stroke: None,
            stroke_width: None,
            opacity: None,
        });
    }

    pub(super) fn line(&mut self, (x1, y1): (f64, f64), (x2, y2): (f64, f64), stroke: &str) {
        self.scene.elements.push(Primitive::Line {
            x1,
            y1,
            x2,
            y2,
            stroke: stroke.into(),
            stroke_width: 1.0,
            stroke_dasharray: None,
        });
    }

    pub(super) fn disc(&mut self, (cx, cy): (f64, f64), r: f64, fill: &str, stroke: Option<&str>) {
        self.scene.elements.push(Primitive::Circle {
            cx,
            cy,
            r,
            fill: fill.into(),
            fill_opacity: None,
            stroke: stroke.map(Into::into),
            stroke_width: stroke.map(|_| 1.5),
        });
    }

    /// A point of a map; markers of one radius have about one area.
    pub(super) fn marker(&mut self, marker: Marker, (x, y): (f64, f64), r: f64, fill: &str) {
        let d = match marker {
            Marker::Circle => return self.disc((x, y), r, fill, None),
            Marker::Square => outline((x, y), r, &[(-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)]),
            Marker::Triangle => outline((x, y), r, &[(0.0, -1.25), (1.2, 0.85), (-1.2, 0.85)]),
            Marker::Diamond => outline((x, y), r, &[(0.0, -1.3), (1.3, 0.0), (0.0, 1.3), (-1.3, 0.0)]),
        };
        self.scene.elements.push(Primitive::Path(Box::new(PathData {
            d,
            fill: Some(fill.into()),
            stroke: fill.into(),
            stroke_width: 0.0,
            opacity: None,
            stroke_dasharray: None,
        })));
    }

    /// One line of text on the baseline `y`.
    pub(super) fn text(&mut self, (x, y): (f64, f64), content: &str, style: Style) {
        self.scene.elements.push(Primitive::Text {
            x,
            y,
            content: plain(content),
            size: style.size,
            anchor: style.anchor,
            rotate: None,
            bold: style.bold,
            color: Some(style.color.into()),
        });
    }
}

/// A closed path through corners that are given in radii from the middle.
fn outline((x, y): (f64, f64), r: f64, corners: &[(f64, f64)]) -> String {
    let at: Vec<_> = corners.iter().map(|(dx, dy)| format!("{:.2},{:.2}", x + dx * r, y + dy * r)).collect();
    format!("M{}Z", at.join("L"))
}

/// Look of a line of text.
#[derive(Clone, Copy)]
pub(super) struct Style {
    pub(super) size: u32,
    pub(super) anchor: TextAnchor,
    pub(super) bold: bool,
    pub(super) color: &'static str,
}

impl Style {
    pub(super) const LABEL: Self = Self { size: LABEL, anchor: TextAnchor::Start, bold: false, color: INK };
    pub(super) const SMALL: Self = Self { size: SMALL, anchor: TextAnchor::Start, bold: false, color: MUTED };
    pub(super) const TITLE: Self = Self { size: 17, anchor: TextAnchor::Start, bold: true, color: INK };

    pub(super) const fn end(mut self) -> Self {
        self.anchor = TextAnchor::End;
        self
    }

    pub(super) const fn middle(mut self) -> Self {
        self.anchor = TextAnchor::Middle;
        self
    }

    pub(super) const fn bold(mut self) -> Self {
        self.bold = true;
        self
    }
}

/// The renderer reads `$...$` as mathematics and XML forbids control characters: labels are
/// neither.
fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '$' => out.push_str("\\$"),
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
    }
    out
}

/// Advance widths of DejaVu Sans from U+0020 to U+007E, in 1/2048 em.
#[rustfmt::skip]
const ADVANCES: [u16; 95] = [
    651, 821, 942, 1716, 1303, 1946, 1597, 563, 799, 799, 1024, 1716, 651, 739, 651, 690,
    1303, 1303, 1303, 1303, 1303, 1303, 1303, 1303, 1303, 1303, 690, 690, 1716, 1716, 1716, 1087,
    2048, 1401, 1405, 1430, 1577, 1294, 1178, 1587, 1540, 604, 604, 1343, 1141, 1767, 1532, 1612,
    1235, 1612, 1423, 1300, 1251, 1499, 1401, 2025, 1403, 1251, 1403, 799, 690, 799, 1716, 1024,
    1024, 1255, 1300, 1126, 1300, 1260, 721, 1300, 1298, 569, 569, 1186, 569, 1995, 1298, 1253,
    1300, 1300, 842, 1067, 803, 1298, 1212, 1675, 1212, 1212, 1075, 1303, 690, 1303, 1716,
];
/// Bold glyphs are at most this much wider on average.
const BOLD_FACTOR: f64 = 1.13;

/// Width of a line of text. Letters with accents measure as without; what lies outside Latin counts
/// a whole em, which reserves too much rather than too little.
pub(super) fn width(text: &str, style: Style) -> f64 {
    let units: f64 = text.chars().map(advance).sum();
    units / 2048.0 * f64::from(style.size) * if style.bold { BOLD_FACTOR } else { 1.0 }
}

fn advance(c: char) -> f64 {
    let base = c.nfd().next().unwrap_or(c);
    let printable = u32::from(base).checked_sub(0x20).and_then(|i| ADVANCES.get(i as usize));
    match printable {
        Some(units) => f64::from(*units),
        None if base == '\u{a0}' || base == '·' => 651.0,
        None => 2048.0,
    }
}

/// `text`, cut with an ellipsis where it is wider than `room`.
pub(super) fn shorten(text: &str, room: f64, style: Style) -> String {
    if width(text, style) <= room {
        return text.to_owned();
    }
    let room = room - width("…", style);
    let mut out = String::new();
    let mut used = 0.0;
    for c in text.chars() {
        used += width(c.encode_utf8(&mut [0; 4]), style);
        if used > room {
            break;
        }
        out.push(c);
    }
    format!("{}…", out.trim_end())
}

/// `text` on at most two lines of `room`, broken between words where that is possible.
pub(super) fn two_lines(text: &str, room: f64, style: Style) -> Vec<String> {
    if width(text, style) <= room {
        return vec![text.to_owned()];
    }
    let mut breaks = text.char_indices().filter(|(_, c)| *c == ' ').map(|(i, _)| i);
    // The last break that fits leaves least to be cut from the second line.
    let fitting = breaks.rfind(|&i| i > 0 && width(&text[..i], style) <= room);
    match fitting {
        Some(i) => vec![text[..i].to_owned(), shorten(text[i..].trim_start(), room, style)],
        None => vec![shorten(text, room, style)],
    }
}

/// At most about `wanted` round steps from zero to `max`: 1, 2 or 5 times a power of ten.
pub(super) fn ticks(max: f64, wanted: f64) -> Vec<f64> {
    // These have no logarithm to derive a step from.
    if max <= 0.0 || !max.is_finite() {
        return vec![0.0];
    }
    let rough = max / wanted;
    let power = 10f64.powf(rough.log10().floor());
    // Ten is always enough, but for the rounding of the logarithm.
    let step = [1.0, 2.0, 5.0, 10.0].iter().map(|m| m * power).find(|s| *s >= rough).unwrap_or(rough);
    (0..=(max / step).floor() as u32).map(|i| f64::from(i) * step).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn widths_are_those_of_the_font() {
        let check = |text: &str, expected: f64| {
            let style = Style { size: 2048, ..Style::LABEL };
            assert_eq!(width(text, style), expected, "{text}");
        };
        check("", 0.0);
        check("A", 1401.0);
        check("ñá", 1298.0 + 1255.0);
        check("漢", 2048.0);
    }

    #[test]
    fn long_text_is_cut_and_broken_between_words() {
        let style = Style::LABEL;
        assert_eq!(shorten("Excel", 200.0, style), "Excel");
        let short = shorten("Administración de proyectos", 100.0, style);
        assert!(short.ends_with('…') && width(&short, style) <= 100.0, "{short}");
        assert_eq!(
            two_lines("Administración de proyectos", 130.0, style),
            ["Administración de", "proyectos"]
        );
        let lines = two_lines(&"x".repeat(300), 130.0, style);
        assert_eq!(lines.len(), 1);
        assert!(width(&lines[0], style) <= 130.0);
    }

    #[test]
    fn ticks_are_round() {
        let check = |max: f64, expected: &[f64]| assert_eq!(ticks(max, 5.0), expected, "{max}");
        check(0.0, &[0.0]);
        check(1.0, &[0.0, 0.2, 0.4, 0.6000000000000001, 0.8, 1.0]);
        check(7.0, &[0.0, 2.0, 4.0, 6.0]);
        check(1234.0, &[0.0, 500.0, 1000.0]);
    }

    #[test]
    fn labels_are_never_mathematics() {
        assert_eq!(plain("US$ $x$\u{7}"), "US\\$ \\$x\\$ ");
    }
}
