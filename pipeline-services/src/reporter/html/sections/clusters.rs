//! The map of skills and the table of clusters.
//!
//! The table is complete without JavaScript; the map is an empty place for the script. A document
//! without an analysis gets a sentence that says so.

use crate::reporter::document::{ClusterSection, ReportDocument};
use crate::reporter::html::markup::{Column, escape, figures, paragraph, table};
use crate::reporter::statements::cluster_note;
use crate::reporter::words::Words;

pub(in crate::reporter::html) fn clusters(document: &ReportDocument, words: Words) -> String {
    let Some(section) = &document.clusters else {
        return paragraph("lead", words.get("clusters.empty"));
    };
    let mut out = paragraph("lead", words.get("clusters.lead"));
    if let Some(note) = cluster_note(document, words) {
        out.push_str(&paragraph("fine", &note));
    }
    if !section.points.is_empty() {
        out.push_str(&view(words));
    }
    out.push_str(&quality(section, words));
    out.push_str(&paragraph("fine", words.get("clusters.convention")));
    if section.clusters.is_empty() {
        out.push_str(&paragraph("lead", words.get("clusters.none_found")));
        return out;
    }
    out.push_str(&list(section, words));
    out
}

/// Empty places that the script fills; without it they stay hidden.
fn view(words: Words) -> String {
    let hint = escape(words.get("html.map_hint"));
    format!(
        "<div id=\"map-view\" hidden>\n<p class=\"fine\" id=\"map-hint\">{hint}</p>\n<div class=\"map\">\n\
         <div class=\"plot\">\n\
         <canvas id=\"canvas\" role=\"img\" tabindex=\"0\" aria-label=\"{}\" aria-describedby=\"map-hint\"></canvas>\n\
         <div class=\"zoom\"><button type=\"button\" id=\"zoom-in\" aria-label=\"+\">+</button>\
         <button type=\"button\" id=\"zoom-out\" aria-label=\"−\">−</button>\
         <button type=\"button\" id=\"zoom-reset\">{}</button></div>\n\
         <div class=\"tip\" id=\"tip\" role=\"status\" hidden></div>\n</div>\n\
         <ul class=\"legend\" id=\"legend\"></ul>\n</div>\n</div>\n",
        escape(words.get("html.map_canvas")),
        escape(words.get("html.reset")),
    )
}

fn quality(section: &ClusterSection, words: Words) -> String {
    let metrics = &section.metrics;
    figures(&[
        (words.get("clusters.points"), words.count(metrics.points)),
        (words.get("clusters.noise_share"), words.share(metrics.noise, metrics.points)),
        (words.get("clusters.silhouette"), decimal(metrics.silhouette, 3, words)),
        (words.get("clusters.davies_bouldin"), decimal(metrics.davies_bouldin, 3, words)),
    ])
}

fn decimal(value: Option<f64>, places: usize, words: Words) -> String {
    value.map_or_else(|| words.none(), |value| words.decimal(value, places))
}

fn list(section: &ClusterSection, words: Words) -> String {
    let columns = [
        (words.get("clusters.number"), Column::Number),
        (words.get("clusters.label"), Column::Label),
        (words.get("clusters.size"), Column::Number),
        (words.get("job_count"), Column::Number),
        (words.get("clusters.top_skills"), Column::Text),
        (words.get("clusters.cohesion"), Column::Number),
    ];
    let rows = section.clusters.iter().enumerate().map(|(i, c)| {
        vec![
            (i + 1).to_string(),
            escape(&c.label),
            words.count(c.size),
            words.count(c.job_count),
            escape(&c.top_skills.join(", ")),
            decimal(c.cohesion, 2, words),
        ]
    });
    table(words.get("clusters"), &columns, &rows.collect::<Vec<_>>())
}
