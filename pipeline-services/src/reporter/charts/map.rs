//! The map of skills: one point a skill, one colour and outline a cluster.
//!
//! Scales the points into the frame, draws the largest clusters last and finds places for their
//! numbers that cover no other. The same document gives the same drawing.

use std::collections::BTreeMap;

use super::drawing::{self, Drawing, GRID, INK, Marker, NOISE, REST, SERIES, Style, WIDTH};
use super::{Chart, Heading};
use crate::reporter::document::{ClusterSection, MapPoint, ReportDocument};
use crate::reporter::words::Words;

/// Clusters with a colour, a number and a line in the legend. Not tuned: the legend has room for as
/// many.
const NAMED: usize = 12;
/// Sizes of the drawing, in its units. By eye, not tuned.
const MAP_WIDTH: f64 = 500.0;
const MAP_HEIGHT: f64 = 400.0;
const MARGIN: f64 = 18.0;
const LEGEND_LEFT: f64 = MAP_WIDTH + 22.0;
const BADGE: f64 = 9.5;

pub(super) fn cluster_map(document: &ReportDocument, words: Words, heading: Heading) -> Option<Chart> {
    let section = document.clusters.as_ref().filter(|s| !s.points.is_empty())?;
    let map = Map::new(section, if heading == Heading::Shown { 38.0 } else { 4.0 });
    let mut drawing = Drawing::new(WIDTH, map.top + MAP_HEIGHT + 6.0);
    if heading == Heading::Shown {
        drawing.text((8.0, 26.0), words.get("chart.cluster_map"), Style::TITLE);
    }
    map.draw_frame(&mut drawing);
    map.draw_points(&mut drawing);
    map.draw_badges(&mut drawing);
    let legend_end = map.draw_legend(&mut drawing, words);
    // Names on two lines can make the legend higher than the map.
    drawing.grow(legend_end);
    let points = words.count(section.points.len() as u64);
    let n = words.count(section.clusters.len() as u64);
    Some(Chart {
        name: "cluster_map",
        alt: words.fill("chart.cluster_map.alt", &[("points", &points), ("n", &n)]),
        scene: drawing.finish(),
    })
}

/// The look of the `rank`-th largest cluster: colours first, then outlines.
fn look(rank: usize) -> (Marker, &'static str) {
    (Marker::ALL[(rank / SERIES.len() + rank) % Marker::ALL.len()], SERIES[rank % SERIES.len()])
}

struct Map<'a> {
    section: &'a ClusterSection,
    /// Place of each cluster in the list, largest first.
    rank: BTreeMap<i32, usize>,
    low: (f64, f64),
    high: (f64, f64),
    most_jobs: f64,
    top: f64,
}

impl<'a> Map<'a> {
    fn new(section: &'a ClusterSection, top: f64) -> Self {
        let rank = section.clusters.iter().enumerate().map(|(i, c)| (c.cluster_id, i)).collect();
        let xs = section.points.iter().map(|p| p.x);
        let ys = section.points.iter().map(|p| p.y);
        Self {
            section,
            rank,
            low: (xs.clone().fold(f64::INFINITY, f64::min), ys.clone().fold(f64::INFINITY, f64::min)),
            high: (xs.fold(f64::NEG_INFINITY, f64::max), ys.fold(f64::NEG_INFINITY, f64::max)),
            most_jobs: section.points.iter().map(|p| p.job_count).max().unwrap_or(1).max(1) as f64,
            top,
        }
    }

    fn place(&self, x: f64, y: f64) -> (f64, f64) {
        (
            MARGIN + along(x, self.low.0, self.high.0) * (MAP_WIDTH - 2.0 * MARGIN),
            // Upwards on paper is downwards on a canvas.
            self.top + MARGIN + (1.0 - along(y, self.low.1, self.high.1)) * (MAP_HEIGHT - 2.0 * MARGIN),
        )
    }

    fn radius(&self, point: &MapPoint) -> f64 {
        // Many points need small ones; below half the size outlines can no longer be told apart.
        let crowd = (600.0 / self.section.points.len() as f64).sqrt().clamp(0.5, 1.0);
        // By the root: the eye compares areas.
        crowd * (2.4 + 4.2 * (point.job_count as f64 / self.most_jobs).sqrt())
    }

    fn rank_of(&self, point: &MapPoint) -> Option<usize> {
        point.cluster.and_then(|id| self.rank.get(&id).copied())
    }

    fn draw_frame(&self, drawing: &mut Drawing) {
        // Half a unit in, or the edge would cut the line along its middle.
        let (left, right, top, bottom) = (0.5, MAP_WIDTH, self.top, self.top + MAP_HEIGHT);
        drawing.line((left, top), (right, top), GRID);
        drawing.line((left, bottom), (right, bottom), GRID);
        drawing.line((left, top), (left, bottom), GRID);
        drawing.line((right, top), (right, bottom), GRID);
    }

    /// Noise first, then small clusters, then the named ones: what matters lies on top.
    fn draw_points(&self, drawing: &mut Drawing) {
        for wanted in 0..3 {
            for point in self.section.points.iter().filter(|point| self.layer(point) == wanted) {
                let at = self.place(point.x, point.y);
                match self.rank_of(point) {
                    Some(rank) if rank < NAMED => {
                        let (marker, color) = look(rank);
                        drawing.marker(marker, at, self.radius(point), color);
                    }
                    Some(_) => drawing.disc(at, self.radius(point) * 0.8, REST, None),
                    None => drawing.disc(at, self.radius(point) * 0.7, NOISE, None),
                }
            }
        }
    }

    fn layer(&self, point: &MapPoint) -> usize {
        match self.rank_of(point) {
            None => 0,
            Some(rank) if rank >= NAMED => 1,
            Some(_) => 2,
        }
    }

    fn draw_badges(&self, drawing: &mut Drawing) {
        let mut placed: Vec<(f64, f64)> = Vec::new();
        for (rank, cluster) in self.section.clusters.iter().take(NAMED).enumerate() {
            let Some(center) = self.center(cluster.cluster_id) else { continue };
            let at = self.free_place(center, &placed);
            placed.push(at);
            if distance(center, at) > BADGE {
                drawing.line(center, at, INK);
            }
            drawing.disc(at, BADGE, "#ffffff", Some(look(rank).1));
            let style = Style { color: INK, ..Style::SMALL }.middle().bold();
            drawing.text((at.0, at.1 + 4.0), &(rank + 1).to_string(), style);
        }
    }

    /// Middle of a cluster's points, in drawing units.
    fn center(&self, cluster: i32) -> Option<(f64, f64)> {
        let points = self.section.points.iter().filter(|p| p.cluster == Some(cluster));
        let mut sum = (0.0, 0.0, 0.0);
        for point in points {
            let (x, y) = self.place(point.x, point.y);
            sum = (sum.0 + x, sum.1 + y, sum.2 + 1.0);
        }
        (sum.2 > 0.0).then(|| (sum.0 / sum.2, sum.1 / sum.2))
    }

    /// The nearest place to `center`, on a spiral around it, where a badge covers no other.
    fn free_place(&self, center: (f64, f64), placed: &[(f64, f64)]) -> (f64, f64) {
        let mut spiral = (0..400).map(|i| {
            // About the golden angle, by which the places spread evenly (Vogel 1979).
            let (angle, r) = (f64::from(i) * 2.4, f64::from(i).sqrt() * 5.0);
            (center.0 + angle.cos() * r, center.1 + angle.sin() * r)
        });
        spiral
            .find(|at| self.holds_badge(*at) && placed.iter().all(|p| distance(*p, *at) > 2.0 * BADGE + 2.0))
            // Where no place is free a number on another one is better than none.
            .unwrap_or(center)
    }

    fn holds_badge(&self, (x, y): (f64, f64)) -> bool {
        (BADGE..MAP_WIDTH - BADGE).contains(&x)
            && (self.top + BADGE..self.top + MAP_HEIGHT - BADGE).contains(&y)
    }

    /// Returns the height it needs.
    fn draw_legend(&self, drawing: &mut Drawing, words: Words) -> f64 {
        let room = WIDTH - LEGEND_LEFT - 46.0;
        let mut y = self.top + 14.0;
        for (rank, cluster) in self.section.clusters.iter().take(NAMED).enumerate() {
            let (marker, color) = look(rank);
            drawing.marker(marker, (LEGEND_LEFT + 5.0, y - 4.0), 5.5, color);
            let number = Style { color: INK, ..Style::SMALL }.end().bold();
            drawing.text((LEGEND_LEFT + 31.0, y), &(rank + 1).to_string(), number);
            let style = Style { color: INK, ..Style::SMALL };
            for line in legend_lines(&cluster.label, &words.count(cluster.size), room, style) {
                drawing.text((LEGEND_LEFT + 38.0, y), &line, style);
                y += 13.5;
            }
            y += 4.5;
        }
        let rest = self.section.clusters.len().saturating_sub(NAMED) as u64;
        let noise = self.section.metrics.noise;
        let entries = [("clusters.smaller", rest, REST), ("clusters.noise", noise, NOISE)];
        for (key, n, color) in entries.into_iter().filter(|(_, n, _)| *n > 0) {
            drawing.disc((LEGEND_LEFT + 5.0, y - 4.0), 4.5, color, None);
            let text = format!("{} ({})", words.get(key), words.count(n));
            drawing.text((LEGEND_LEFT + 38.0, y), &text, Style::SMALL);
            y += 18.0;
        }
        y
    }
}

/// The place of a value between two others, 0 to 1; the middle where they are equal.
fn along(value: f64, low: f64, high: f64) -> f64 {
    match high - low {
        span if span > 0.0 => (value - low) / span,
        _ => 0.5,
    }
}

/// Two lines at most, and the size of the cluster is never what gets cut.
fn legend_lines(label: &str, size: &str, room: f64, style: Style) -> Vec<String> {
    let size = format!(" ({size})");
    let mut lines = drawing::two_lines(label, room, style);
    if let Some(last) = lines.last_mut() {
        *last = drawing::shorten(last, room - drawing::width(&size, style), style) + &size;
    }
    lines
}

fn distance(a: (f64, f64), b: (f64, f64)) -> f64 {
    (a.0 - b.0).hypot(a.1 - b.1)
}
