//! Pages as trees, as long as reading one takes time in proportion to its length.
//!
//! A parser of HTML looks through all open elements at every tag, opens again what a paragraph
//! closed, and compares each attribute of a tag with all before it. Pages that are made for that
//! are refused before they cost more than others.

use std::ops::Range;

use html5ever::{
    LocalName, ParseOpts, QualName,
    driver::{self, Parser},
    ns,
    tendril::{StrTendril, TendrilSink},
};
use scraper::{Html, HtmlTreeSink};

/// Deepest nesting of elements: browsers stop at 512, pages of portals stay below 60. What is
/// deeper is closed before the page goes on, so that its content stands higher than it is written,
/// as in a browser.
const DEPTH: usize = 128;
/// Deepest nesting where nothing closes it: more than one piece can add. Not tuned.
const HOPELESS: usize = 2_000;
/// Nodes that a page may have besides two for each byte of it. Not tuned: what small pages have.
const NODES: usize = 10_000;
/// Most attributes of a tag. Not tuned: far more than any page has, and compared in no time.
const ATTRIBUTES: usize = 2_000;
/// The same inside of scripts, where what looks like a tag mostly is none. Not tuned.
const ATTRIBUTES_IN_SCRIPTS: usize = 20_000;
/// Bytes between two looks at the tree, at least: without a tag it grows no deeper. Not tuned.
const PIECE: usize = 1_024;

/// Reason for not reading a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Tangled {
    /// Elements in elements in elements.
    #[error("its elements nest more than {HOPELESS} deep")]
    Deep,
    /// Elements that open again in every paragraph.
    #[error("it has more elements than tags")]
    Many,
    /// Attributes without end.
    #[error("one of its tags has more than {ATTRIBUTES} attributes")]
    Wide,
}

/// The tree of a page.
///
/// # Errors
/// If the page is too tangled to be read in time.
pub(super) fn document(text: &str) -> Result<Html, Tangled> {
    grown(driver::parse_document(HtmlTreeSink::new(Html::new_document()), ParseOpts::default()), text)
}

/// The tree of a piece of a page, in the root element of a fragment.
///
/// # Errors
/// As [`document`].
pub(super) fn fragment(text: &str) -> Result<Html, Tangled> {
    let body = QualName::new(None, ns!(html), LocalName::from("body"));
    let sink = HtmlTreeSink::new(Html::new_fragment());
    grown(driver::parse_fragment(sink, ParseOpts::default(), body, Vec::new(), false), text)
}

fn grown(mut parser: Parser<HtmlTreeSink>, text: &str) -> Result<Html, Tangled> {
    if is_wide(text) {
        return Err(Tangled::Wide);
    }
    let whole = StrTendril::from(text);
    let mut at = 0;
    while at < text.len() {
        // Behind a tag, so that a text that follows is in one buffer, which the tree takes without
        // a copy.
        let rest = text.as_bytes().get(at + PIECE..).unwrap_or_default();
        let end = rest.iter().position(|byte| *byte == b'>').map_or(text.len(), |more| at + PIECE + more + 1);
        parser.process(whole.subtendril(at as u32, (end - at) as u32));
        at = end;
        let closing = closing(&parser.tokenizer.sink.sink.0.borrow(), at)?;
        if !closing.is_empty() {
            parser.process(closing.as_str().into());
        }
    }
    let html = parser.finish();
    if is_deep(&html) { Err(Tangled::Deep) } else { Ok(html) }
}

/// The end tags of the elements that are open too deep after this many bytes of a page.
fn closing(html: &Html, read: usize) -> Result<String, Tangled> {
    let mut nodes = html.tree.nodes();
    if nodes.len() > NODES + 2 * read {
        return Err(Tangled::Many);
    }
    let Some(last) = nodes.next_back() else { return Ok(String::new()) };
    let open: Vec<_> = std::iter::once(last).chain(last.ancestors()).collect();
    let names =
        open.iter().take(open.len().saturating_sub(DEPTH)).filter_map(|node| node.value().as_element());
    Ok(names.map(|element| format!("</{}>", element.name())).collect())
}

/// Returns whether a node stands deeper than can be, wherever the parser moved it.
fn is_deep(html: &Html) -> bool {
    let mut level: Vec<_> = vec![html.tree.root()];
    for _ in 0..=HOPELESS {
        level = level.into_iter().flat_map(|node| node.children()).collect();
    }
    !level.is_empty()
}

/// Returns whether a tag has too many attributes. Every `<` before a letter counts as the beginning
/// of one, whatever surrounds it, so the text is read from its end: what a tag that begins here
/// would hold is then known for each place.
fn is_wide(text: &str) -> bool {
    let bytes = text.as_bytes();
    let scripts = scripts(text);
    // Attributes from here to the end of the tag: between values, inside of `"` and inside of `'`.
    let [mut free, mut double, mut single] = [0_usize; 3];
    for at in (0..bytes.len()).rev() {
        match bytes[at] {
            b'>' => free = 0,
            sign @ (b'"' | b'\'') => {
                // Blanks stand before one sign only, so they are read once more and not again.
                let before = bytes[..at].iter().rev().find(|byte| !byte.is_ascii_whitespace());
                let closed = free + 1;
                let inside = if sign == b'"' { double } else { single };
                free = if before == Some(&b'=') { inside } else { free };
                *(if sign == b'"' { &mut double } else { &mut single }) = closed;
            }
            b'<' if bytes.get(at + 1).is_some_and(u8::is_ascii_alphabetic) => {
                let inside = scripts.partition_point(|script| script.end <= at);
                let is_script = scripts.get(inside).is_some_and(|script| script.start <= at);
                if free > if is_script { ATTRIBUTES_IN_SCRIPTS } else { ATTRIBUTES } {
                    return true;
                }
            }
            byte if (byte.is_ascii_whitespace() || byte == b'/') && !is_gap(bytes, at + 1) => free += 1,
            _ => {}
        }
    }
    false
}

fn is_gap(bytes: &[u8], at: usize) -> bool {
    bytes.get(at).is_none_or(|byte| byte.is_ascii_whitespace() || *byte == b'/')
}

/// Places of what seem to be scripts, behind the `<` of their tags.
fn scripts(text: &str) -> Vec<Range<usize>> {
    let lower = text.to_ascii_lowercase();
    let mut found: Vec<Range<usize>> = Vec::new();
    let mut at = 0;
    while let Some(start) = lower[at..].find("<script") {
        let start = at + start + 1;
        at = lower[start..].find("</script").map_or(lower.len(), |length| start + length);
        found.push(start..at);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinary_pages_are_the_trees_they_were() {
        let long = format!("<p title='á'>é{}</p>", "<b>ñ</b>&amp;\r\n<br>".repeat(1_000));
        let nested = format!("{}x{}", "<div>".repeat(100), "</div>".repeat(100));
        let script = format!("<script>if (a <b) x = '{}'</script>", "una frase ".repeat(3_000));
        for page in ["", "x", "<table><p>a<td>b", "<ul><li>a<li>b</ul>", &long, &nested, &script] {
            assert_eq!(document(page).unwrap().html(), Html::parse_document(page).html());
            assert_eq!(fragment(page).unwrap().html(), Html::parse_fragment(page).html());
        }
    }

    #[test]
    fn what_is_too_deep_stands_higher() {
        for page in ["<div>".repeat(20_000), "<b><i>".repeat(20_000), "<ul><li>".repeat(20_000)] {
            let html = document(&format!("{page}<em>x")).unwrap();
            let em =
                html.tree.nodes().find(|node| node.value().as_element().is_some_and(|e| e.name() == "em"));
            assert!(em.unwrap().ancestors().count() < HOPELESS);
        }
    }

    #[test]
    fn tangled_pages_are_refused() {
        let numbered = |count: usize, form: fn(usize) -> String| (0..count).map(form).collect::<String>();
        for (page, expected) in [
            (numbered(300, |number| format!("<p><b id={number}></p>")), Tangled::Many),
            (
                "<p>".to_owned()
                    + &numbered(200, |number| format!("<b id={number}>"))
                    + &"<p>x".repeat(20_000),
                Tangled::Many,
            ),
            (format!("<p {}>", numbered(3_000, |number| format!(" a{number}"))), Tangled::Wide),
            (format!("<p {}>", numbered(3_000, |number| format!("a{number}='>'"))), Tangled::Wide),
            (format!("<p/{}", numbered(3_000, |number| format!("/a{number}=\">\""))), Tangled::Wide),
            (format!("<script>{}", numbered(30_000, |number| format!("<b a{number}"))), Tangled::Wide),
        ] {
            assert_eq!(document(&page).map(|_| ()), Err(expected), "{:.60}", page);
        }
    }
}
