//! The fill of a page.
//!
//! Measures laid-out frames and leaves the footer out, so that an almost empty page can be told
//! from a full one.

use typst::layout::{Abs, Frame, FrameItem};

/// The part of a page's height, from below, where a footer stands: the lower margin of
/// `reports/report.typ`, 2.1 cm of the 29.7 cm of A4.
pub const FOOT: f64 = 0.07;

/// Returns the lowest point of the content of a page, as a share of its height.
pub(crate) fn depth(page: &Frame) -> f64 {
    let height = page.height();
    let lowest = lowest(page, Abs::zero(), height * (1.0 - FOOT));
    if height > Abs::zero() { lowest / height } else { 0.0 }
}

/// The lowest end of a text, shape or image that lies above `limit`, `top` being where the frame
/// begins.
fn lowest(frame: &Frame, top: Abs, limit: Abs) -> Abs {
    let ends = frame.items().map(|(position, item)| {
        let at = top + position.y;
        match item {
            FrameItem::Group(group) => lowest(&group.frame, at, limit),
            // A text is placed by its baseline; what hangs below it does not matter here.
            FrameItem::Text(_) => at,
            FrameItem::Shape(shape, _) => at + shape.geometry.bbox(None).max.y,
            FrameItem::Image(_, size, _) => at + size.y,
            // Neither of these prints anything.
            FrameItem::Link(..) | FrameItem::Tag(_) => Abs::zero(),
        }
    });
    ends.filter(|end| *end <= limit).fold(Abs::zero(), Abs::max)
}
