//! Horizontal bars: stacked ones with one figure a row, or one bar a series.
//!
//! Decides which rows fit, measures labels and places axis, legend and figures; the document is
//! only read. Without rows there is no chart.

use super::drawing::{self, Drawing, FIRST_LIGHT, GRID, SERIES, Style, WIDTH};
use super::{Chart, Heading};
use crate::reporter::comparison::{compared, compares, count_in};
use crate::reporter::document::{CountryScope, ReportDocument, SkillRow};
use crate::reporter::words::{Words, percent};

/// Rows of the chart of top skills. A choice, not tuned.
const TOP_SKILLS: usize = 15;
/// Skills and countries of the chart by country: more bars than this cannot be read. Not tuned.
const COUNTRY_SKILLS: usize = 10;
/// One colour each.
const COUNTRY_SERIES: usize = SERIES.len();
/// Rows of the chart of occupations. A choice, not tuned.
const TOP_OCCUPATIONS: usize = 15;
/// Rows of the chart of categories; the lexicon has nine.
const TOP_CATEGORIES: usize = 12;

/// Room of the labels, thickness of a bar and gap between rows, in units of the drawing. By eye,
/// not tuned.
const LABEL_ROOM: f64 = 220.0;
const THICK: f64 = 15.0;
const GAP: f64 = 8.0;
/// Height of all rows together: with a heading, a legend and the axis less than half a page.
const ROWS_ROOM: f64 = 365.0;

/// Contents of a bar chart.
struct Bars {
    title: String,
    axis: String,
    legend: Vec<(String, &'static str)>,
    rows: Vec<Row>,
    thickness: f64,
    percent: bool,
}

struct Row {
    label: String,
    bars: Vec<Bar>,
}

/// One bar of a row: its parts from the axis outwards and the figure behind them.
struct Bar {
    parts: Vec<(f64, &'static str)>,
    figure: String,
}

impl Bar {
    fn length(&self) -> f64 {
        self.parts.iter().map(|(value, _)| value).sum()
    }
}

pub(super) fn top_skills(document: &ReportDocument, words: Words, heading: Heading) -> Option<Chart> {
    let shown = &document.skills[..document.skills.len().min(TOP_SKILLS)];
    let first = shown.first()?;
    let mut legend = vec![(words.get("chart.explicit").to_owned(), SERIES[0])];
    if shown.iter().any(|s| s.implicit_count > 0) {
        legend.push((words.get("chart.implicit").to_owned(), FIRST_LIGHT));
    }
    let rows = fitting(shown.iter().map(|skill| skill_row(skill, document, words)), THICK);
    // Of the rows that fit: the description is of what is shown.
    let n = rows.len().to_string();
    Some(Chart {
        name: "top_skills",
        alt: words.fill("chart.top_skills.alt", &[("n", &n), ("first", &first.label)]),
        scene: Bars {
            title: words.get("chart.top_skills").to_owned(),
            axis: words.fill("chart.top_skills.axis", &[("n", &words.n(document.scope.postings))]),
            legend,
            rows,
            thickness: THICK,
            percent: false,
        }
        .draw(words, heading),
    })
}

fn skill_row(skill: &SkillRow, document: &ReportDocument, words: Words) -> Row {
    let bar = Bar {
        parts: vec![(skill.job_count as f64, SERIES[0]), (skill.implicit_count as f64, FIRST_LIGHT)],
        figure: counted(skill.job_count, document, words),
    };
    Row { label: skill.label.clone(), bars: vec![bar] }
}

/// One bar a country.
fn country_row(skill: &SkillRow, countries: &[&CountryScope], words: Words) -> Row {
    let mut bars = Vec::new();
    for (country, color) in countries.iter().zip(SERIES) {
        let count = count_in(skill, &country.code);
        let share = percent(count, country.postings).unwrap_or(0.0);
        bars.push(Bar { parts: vec![(share, color)], figure: words.share(count, country.postings) });
    }
    Row { label: skill.label.clone(), bars }
}

pub(super) fn country_skills(document: &ReportDocument, words: Words, heading: Heading) -> Option<Chart> {
    let countries: Vec<&CountryScope> = compared(&document.scope).into_iter().take(COUNTRY_SERIES).collect();
    if !compares(&document.scope) || document.skills.is_empty() {
        return None;
    }
    let shown = &document.skills[..document.skills.len().min(COUNTRY_SKILLS)];
    let thickness = if countries.len() < 3 { 14.0 } else { 12.5 };
    let mut legend = Vec::new();
    for (country, color) in countries.iter().zip(SERIES) {
        // More than three names do not fit next to each other.
        let name = match countries.len() {
            ..=3 => words.country(&country.code, &document.scope.countries),
            _ => country.code.clone(),
        };
        legend.push((format!("{name} ({})", words.n(country.postings)), color));
    }
    Some(Chart {
        name: "country_skills",
        alt: words.get("chart.country_skills.alt").to_owned(),
        scene: Bars {
            title: words.get("chart.country_skills").to_owned(),
            axis: words.get("chart.country_skills.axis").to_owned(),
            legend,
            rows: fitting(shown.iter().map(|skill| country_row(skill, &countries, words)), thickness),
            thickness,
            percent: true,
        }
        .draw(words, heading),
    })
}

pub(super) fn occupations(document: &ReportDocument, words: Words, heading: Heading) -> Option<Chart> {
    let shown = document.occupations.rows.iter().take(TOP_OCCUPATIONS).map(|row| Row {
        label: row.label.clone(),
        bars: vec![Bar {
            parts: vec![(row.job_count as f64, SERIES[1])],
            figure: counted(row.job_count, document, words),
        }],
    });
    let rows = fitting(shown, THICK);
    let first = rows.first()?.label.clone();
    let n = rows.len().to_string();
    Some(Chart {
        name: "occupations",
        alt: words.fill("chart.occupations.alt", &[("n", &n), ("first", &first)]),
        scene: Bars {
            title: words.get("chart.occupations").to_owned(),
            axis: words.fill("chart.occupations.axis", &[("n", &words.n(document.scope.postings))]),
            legend: Vec::new(),
            rows,
            thickness: THICK,
            percent: false,
        }
        .draw(words, heading),
    })
}

pub(super) fn categories(document: &ReportDocument, words: Words, heading: Heading) -> Option<Chart> {
    let shown = &document.categories[..document.categories.len().min(TOP_CATEGORIES)];
    if shown.is_empty() {
        return None;
    }
    let rows = shown.iter().map(|row| Row {
        label: words.value("category", &row.category),
        bars: vec![Bar {
            parts: vec![(row.job_count as f64, SERIES[2])],
            figure: counted(row.job_count, document, words),
        }],
    });
    Some(Chart {
        name: "categories",
        alt: words.get("chart.categories.alt").to_owned(),
        scene: Bars {
            title: words.get("chart.categories").to_owned(),
            axis: words.fill("chart.categories.axis", &[("n", &words.n(document.scope.postings))]),
            legend: Vec::new(),
            rows: fitting(rows, THICK),
            thickness: THICK,
            percent: false,
        }
        .draw(words, heading),
    })
}

fn counted(count: u64, document: &ReportDocument, words: Words) -> String {
    format!("{} ({})", words.count(count), words.share(count, document.scope.postings))
}

fn row_height(row: &Row, thickness: f64) -> f64 {
    let bars = row.bars.len() as f64 * thickness;
    let text = label_lines(&row.label).len() as f64 * 15.0;
    bars.max(text) + GAP
}

/// The first rows that [`ROWS_ROOM`] holds.
fn fitting(rows: impl Iterator<Item = Row>, thickness: f64) -> Vec<Row> {
    let (mut used, mut fitting) = (0.0, Vec::new());
    for row in rows {
        used += row_height(&row, thickness);
        if used > ROWS_ROOM {
            break;
        }
        fitting.push(row);
    }
    fitting
}

/// Places in the drawing, in its units.
struct Frame {
    left: f64,
    right: f64,
    top: f64,
    bottom: f64,
    max: f64,
}

impl Frame {
    fn x(&self, value: f64) -> f64 {
        self.left + value / self.max * (self.right - self.left)
    }
}

impl Bars {
    fn draw(&self, words: Words, heading: Heading) -> kuva::render::render::Scene {
        let title = if heading == Heading::Shown { 34.0 } else { 0.0 };
        let legend = if self.has_legend() { 26.0 } else { 0.0 };
        let frame = self.frame(8.0 + title + legend);
        let mut drawing = Drawing::new(WIDTH, frame.bottom + 46.0);
        if heading == Heading::Shown {
            drawing.text((frame.left.min(16.0), 26.0), &self.title, Style::TITLE);
        }
        if self.has_legend() {
            self.draw_legend(&mut drawing, &frame, title + 16.0);
        }
        self.draw_axis(&mut drawing, &frame, words);
        let mut y = frame.top;
        for row in &self.rows {
            self.draw_row(&mut drawing, &frame, row, y);
            y += self.row_height(row);
        }
        // Last, so that no bar covers the axis.
        drawing.line((frame.left, frame.top), (frame.left, frame.bottom), drawing::REST);
        drawing.finish()
    }

    /// One series needs no name, unless the chart compares groups of which the others were left
    /// out.
    fn has_legend(&self) -> bool {
        self.legend.len() > 1 || (self.percent && !self.legend.is_empty())
    }

    fn frame(&self, top: f64) -> Frame {
        let labels = self.rows.iter().flat_map(|r| label_lines(&r.label));
        let label = labels.map(|l| drawing::width(&l, Style::LABEL)).fold(60.0, f64::max);
        let figures = self.rows.iter().flat_map(|r| &r.bars);
        let figure = figures.map(|b| drawing::width(&b.figure, Style::SMALL)).fold(0.0, f64::max);
        let lengths = self.rows.iter().flat_map(|r| &r.bars).map(Bar::length);
        Frame {
            left: label + 16.0,
            right: WIDTH - figure - 22.0,
            top,
            bottom: top + self.rows.iter().map(|r| self.row_height(r)).sum::<f64>(),
            // Never zero: places are divided by it, and every bar may be empty.
            max: lengths.fold(0.0, f64::max).max(f64::MIN_POSITIVE),
        }
    }

    fn row_height(&self, row: &Row) -> f64 {
        row_height(row, self.thickness)
    }

    fn draw_legend(&self, drawing: &mut Drawing, frame: &Frame, y: f64) {
        let room = (WIDTH - frame.left) / self.legend.len() as f64 - 30.0;
        let mut x = frame.left;
        for (name, color) in &self.legend {
            let name = drawing::shorten(name, room, Style::LABEL);
            drawing.rect((x, y - 10.0), (12.0, 12.0), color);
            drawing.text((x + 18.0, y), &name, Style::LABEL);
            x += drawing::width(&name, Style::LABEL) + 42.0;
        }
    }

    fn draw_axis(&self, drawing: &mut Drawing, frame: &Frame, words: Words) {
        let steps = drawing::ticks(frame.max, 6.0);
        let step = steps.get(1).copied().unwrap_or(1.0);
        let places = if step < 1.0 { 1 } else { 0 };
        // Half a posting does not exist.
        for value in steps.into_iter().filter(|v| self.percent || v.fract() == 0.0) {
            let x = frame.x(value);
            drawing.line((x, frame.top), (x, frame.bottom), GRID);
            drawing.text((x, frame.bottom + 16.0), &words.decimal(value, places), Style::SMALL.middle());
        }
        let middle = (frame.left + frame.right) / 2.0;
        drawing.text((middle, frame.bottom + 37.0), &self.axis, Style::SMALL.middle());
    }

    fn draw_row(&self, drawing: &mut Drawing, frame: &Frame, row: &Row, y: f64) {
        let height = self.row_height(row);
        let lines = label_lines(&row.label);
        let mut baseline = y + height / 2.0 + 4.7 - (lines.len() - 1) as f64 * 7.5;
        for line in &lines {
            drawing.text((frame.left - 9.0, baseline), line, Style::LABEL.end());
            baseline += 15.0;
        }
        let mut top = y + (height - row.bars.len() as f64 * self.thickness) / 2.0;
        for bar in &row.bars {
            let mut from = 0.0;
            for (value, color) in &bar.parts {
                let (x, end) = (frame.x(from), frame.x(from + value));
                drawing.rect((x, top), (end - x, self.thickness - 1.0), color);
                from += value;
            }
            let at = (frame.x(from) + 6.0, top + self.thickness / 2.0 + 3.5);
            // Without it the grid would run through the figures.
            let room = drawing::width(&bar.figure, Style::SMALL);
            drawing.rect((at.0 - 2.0, top), (room + 4.0, self.thickness - 1.0), "#ffffff");
            drawing.text(at, &bar.figure, Style::SMALL);
            top += self.thickness;
        }
    }
}

fn label_lines(label: &str) -> Vec<String> {
    drawing::two_lines(label, LABEL_ROOM, Style::LABEL)
}
