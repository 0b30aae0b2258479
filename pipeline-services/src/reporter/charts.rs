//! The figures of a report, as SVG and PNG.
//!
//! Every chart is a pure function of the document. Shapes and colours are chosen so that series
//! stay apart for colour-blind readers and in grey print.

mod bars;
mod drawing;
mod map;

use kuva::backend::raster::RasterBackend;
use kuva::backend::svg::SvgBackend;
use kuva::render::render::Scene;

use super::document::ReportDocument;
use super::words::Words;

/// Pixels of a PNG per unit of a drawing. Not tuned: a chart is then 1,900 pixels wide, sharp in
/// print.
pub(crate) const PNG_SCALE: f32 = 2.5;

/// Presence of a chart's title: it has one where it stands alone, not below a heading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Heading {
    /// With the title.
    Shown,
    /// Without the title.
    Hidden,
}

/// A finished chart.
#[derive(Debug)]
pub(crate) struct Chart {
    /// File name without extension, also the name templates know it by.
    pub name: &'static str,
    /// Description for readers who cannot see it.
    pub alt: String,
    scene: Scene,
}

/// The renderer could not make an image.
#[derive(Debug, thiserror::Error)]
#[error("cannot draw the chart `{name}`: {reason}")]
pub struct ChartError {
    name: &'static str,
    reason: String,
}

impl Chart {
    /// The chart as SVG. Text stays text and asks for DejaVu Sans.
    pub(crate) fn svg(&self) -> String {
        SvgBackend::new().render_scene(&self.scene)
    }

    /// The chart as PNG, [`PNG_SCALE`] times its size in drawing units.
    pub(crate) fn png(&self) -> Result<Vec<u8>, ChartError> {
        let backend = RasterBackend::new().with_scale(PNG_SCALE);
        backend.render_scene(&self.scene).map_err(|reason| ChartError { name: self.name, reason })
    }

    /// Width and height in drawing units.
    #[cfg(test)]
    pub(crate) fn size(&self) -> (f64, f64) {
        (self.scene.width, self.scene.height)
    }

    /// Number of drawn elements; a map has one a point or so.
    pub(crate) fn elements(&self) -> usize {
        self.scene.elements.len()
    }
}

/// The charts `document` has data for: top skills, skills by country,
/// occupations, categories, cluster map.
pub(crate) fn charts(document: &ReportDocument, heading: Heading) -> Vec<Chart> {
    let words = Words::of(document.language);
    [
        bars::top_skills(document, words, heading),
        bars::country_skills(document, words, heading),
        bars::occupations(document, words, heading),
        bars::categories(document, words, heading),
        map::cluster_map(document, words, heading),
    ]
    .into_iter()
    .flatten()
    .collect()
}
