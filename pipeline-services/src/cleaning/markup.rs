//! HTML to lines of text. Only tags that HTML knows are markup: `List<String>` stays.
//!
//! Never fails, and takes time linear in the text, also for tags and quotes that nothing closes.

/// Elements whose content is not text, by HTML (WHATWG).
const DROPPED: [&str; 8] = ["script", "style", "head", "template", "noscript", "svg", "iframe", "object"];
/// Elements that begin and end a line: `display: block` in HTML's own style sheet (WHATWG, 15.3),
/// and `br`.
const BLOCKS: [&str; 34] = [
    "address",
    "article",
    "aside",
    "blockquote",
    "body",
    "br",
    "center",
    "dd",
    "div",
    "dl",
    "dt",
    "fieldset",
    "figure",
    "footer",
    "form",
    "h1",
    "h2",
    "h3",
    "h4",
    "h5",
    "h6",
    "header",
    "hr",
    "html",
    "main",
    "nav",
    "ol",
    "p",
    "pre",
    "section",
    "table",
    "tbody",
    "tr",
    "ul",
];
/// Elements within a line: the rest of HTML that texts are marked up with, and Word's `o:p`.
const INLINE: [&str; 45] = [
    "a",
    "abbr",
    "acronym",
    "b",
    "bdi",
    "bdo",
    "big",
    "button",
    "caption",
    "cite",
    "code",
    "col",
    "del",
    "details",
    "em",
    "figcaption",
    "font",
    "i",
    "img",
    "input",
    "ins",
    "kbd",
    "label",
    "legend",
    "link",
    "mark",
    "meta",
    "o:p",
    "option",
    "q",
    "s",
    "samp",
    "select",
    "small",
    "span",
    "strike",
    "strong",
    "sub",
    "summary",
    "sup",
    "thead",
    "time",
    "title",
    "u",
    "wbr",
];

/// A tag found at some `<`.
struct Tag<'text> {
    name: &'text str,
    closing: bool,
    /// Behind its `>`.
    end: usize,
}

/// Replaces markup: blocks by line ends, list items by "- " lines, cells by blanks; comments,
/// scripts and styles vanish with their content.
pub(super) fn to_text(html: &str) -> String {
    if !html.contains('<') {
        return html.to_owned();
    }
    let mut markup = Markup { html, ends: Ends::of(html), has_comment_end: true };
    let mut lines = Lines { text: String::with_capacity(html.len()), fresh: false };
    let mut at = 0;
    while let Some(length) = html[at..].find('<') {
        lines.push(&html[at..at + length]);
        at += length;
        if let Some(end) = markup.comment(at) {
            at = end;
            continue;
        }
        let Some(tag) = markup.tag(at) else {
            lines.push("<");
            at += 1;
            continue;
        };
        at = tag.end;
        let name = tag.name.to_ascii_lowercase();
        if DROPPED.contains(&name.as_str()) {
            // What stands before and behind a script are two words.
            lines.push(" ");
            if !tag.closing {
                at = after_closing(html, at, &name);
            }
        } else {
            lines.replace(&name, tag.closing);
        }
    }
    lines.push(&html[at..]);
    lines.text
}

/// The text so far.
struct Lines {
    text: String,
    /// True if nothing but blanks stands behind the last line end.
    fresh: bool,
}

impl Lines {
    fn push(&mut self, text: &str) {
        let last = text.trim_end_matches(' ');
        if !last.is_empty() {
            self.fresh = last.ends_with('\n');
        }
        self.text.push_str(text);
    }

    /// Replaces a tag. Blocks next to each other share one line end; only `<br>` can leave an empty
    /// line.
    fn replace(&mut self, name: &str, closing: bool) {
        let block = name == "li" || BLOCKS.contains(&name);
        if name == "br" || (block && !self.fresh) {
            self.push("\n");
        }
        match name {
            "li" if !closing => self.push("- "),
            "td" | "th" => self.push(" "),
            _ => {}
        }
    }
}

/// A text with markup, and where what opens in it ends.
struct Markup<'text> {
    html: &'text str,
    ends: Ends,
    /// True as long as `-->` may still come.
    has_comment_end: bool,
}

impl<'text> Markup<'text> {
    /// End of a comment or a document type that begins here.
    fn comment(&mut self, at: usize) -> Option<usize> {
        let rest = &self.html[at..];
        if rest.starts_with("<!--") {
            // Found missing once, it is not searched for again: a text of openings alone would take
            // time by the square of its length.
            let length = self.has_comment_end.then(|| rest.find("-->")).flatten();
            self.has_comment_end = length.is_some();
            return length.map(|length| at + length + 3);
        }
        let declaration = rest.get(..9).is_some_and(|start| start.eq_ignore_ascii_case("<!doctype"));
        declaration.then(|| self.ends.bracket(at)).flatten()
    }

    fn tag(&self, at: usize) -> Option<Tag<'text>> {
        let rest = &self.html[at..];
        let closing = rest[1..].starts_with('/');
        let start = 1 + usize::from(closing);
        let name_length =
            rest[start..].find(|character: char| !(character.is_ascii_alphanumeric() || character == ':'))?;
        let name = &rest[start..start + name_length];
        let known = [DROPPED.as_slice(), &BLOCKS, &INLINE, &["li", "td", "th"]]
            .iter()
            .any(|names| names.iter().any(|other| other.eq_ignore_ascii_case(name)));
        let after = start + name_length;
        // `<a@b.co>` is a mail address and no link.
        let ends_name =
            rest[after..].starts_with(['>', '/']) || rest[after..].starts_with(char::is_whitespace);
        if !known || !ends_name {
            return None;
        }
        Some(Tag { name, closing, end: self.ends.tag(at + after)? })
    }
}

/// Stands for a place that does not exist.
const NEVER: usize = usize::MAX;

/// `>`, or a quotation mark.
struct Sign {
    at: usize,
    /// Behind the next `>`, this one included.
    bracket: usize,
    /// Behind the next `>` outside of quotes, for a reader who comes here between quotes, inside of
    /// `"` and inside of `'`.
    ends: [usize; 3],
}

/// Ends of tags. One pass over the text finds them for every place: a `<` that nothing closes would
/// be followed to the end of the text, and so would each of thousands.
struct Ends {
    signs: Vec<Sign>,
}

impl Ends {
    fn of(html: &str) -> Self {
        let mut signs = Vec::new();
        // A quotation mark opens a value behind `=`, and anywhere closes the one it opened.
        let mut opens = Vec::new();
        let mut last = ' ';
        for (at, character) in html.char_indices() {
            if matches!(character, '>' | '"' | '\'') {
                signs.push((at, character));
                opens.push(last == '=');
            }
            if !character.is_whitespace() {
                last = character;
            }
        }
        let mut bracket = NEVER;
        let [mut free, mut double, mut single] = [NEVER; 3];
        // From the end: where a place leads depends only on the signs behind it.
        let resolved = signs.iter().zip(opens).rev().map(|((at, character), opens)| {
            // Within a quote its own mark leads out; outside, a mark leads in only where it opens a
            // value.
            [free, double, single] = match character {
                '"' => [if opens { double } else { free }, free, single],
                '\'' => [if opens { single } else { free }, double, free],
                _ => {
                    bracket = at + 1;
                    [at + 1, double, single]
                }
            };
            Sign { at: *at, bracket, ends: [free, double, single] }
        });
        let mut signs: Vec<Sign> = resolved.collect();
        signs.reverse();
        Self { signs }
    }

    fn next(&self, at: usize) -> Option<&Sign> {
        self.signs.get(self.signs.partition_point(|sign| sign.at < at))
    }

    /// Behind the first `>` from a place on.
    fn bracket(&self, at: usize) -> Option<usize> {
        self.next(at).map(|sign| sign.bracket).filter(|end| *end != NEVER)
    }

    /// Behind the `>` that is not inside quotes, or the first one where a quote never closes.
    fn tag(&self, attributes: usize) -> Option<usize> {
        let free = self.next(attributes)?.ends[0];
        if free == NEVER { self.bracket(attributes) } else { Some(free) }
    }
}

/// Start of what follows the closing tag of a dropped element; the end of the text if it never
/// closes.
fn after_closing(html: &str, mut from: usize, name: &str) -> usize {
    while let Some(at) = html[from..].find("</") {
        let start = from + at + 2;
        let closes =
            html.get(start..start + name.len()).is_some_and(|found| found.eq_ignore_ascii_case(name));
        if closes {
            return html[start..].find('>').map_or(html.len(), |end| start + end + 1);
        }
        from = start;
    }
    // Browsers drop the rest of a page behind a script that never closes, too.
    html.len()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The end of a tag by its definition: the reading that starts again at every tag.
    fn tag_end(attributes: &str) -> Option<usize> {
        let mut quote = None;
        for (at, character) in attributes.char_indices() {
            match (quote, character) {
                (None, '>') => return Some(at + 1),
                (None, '"' | '\'') if attributes[..at].trim_end().ends_with('=') => quote = Some(character),
                (Some(open), other) if open == other => quote = None,
                _ => {}
            }
        }
        attributes.find('>').map(|at| at + 1)
    }

    proptest! {
        #[test]
        fn tags_end_where_their_definition_says(
            parts in prop::collection::vec(
                prop::sample::select(vec!["<p", " ", "a", "=", "\"", "'", ">", "<", "ñ", "\n", "\u{a0}"]),
                0..24,
            ),
        ) {
            let html = parts.concat();
            let ends = Ends::of(&html);
            for (at, _) in html.match_indices("<p") {
                let expected = tag_end(&html[at + 2..]).map(|end| at + 2 + end);
                prop_assert_eq!(ends.tag(at + 2), expected, "{} at {}", html, at);
            }
        }
    }
}
