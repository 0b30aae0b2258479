//! HTML to lines of text. Only tags that HTML knows are markup: `List<String>` stays.

/// Elements whose content is no text.
const DROPPED: [&str; 8] = ["script", "style", "head", "template", "noscript", "svg", "iframe", "object"];
/// Elements that begin and end a line.
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
/// Elements within a line.
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
    /// Bytes from `<` to after `>`.
    length: usize,
}

/// Replaces markup: blocks by line ends, list items by "- " lines, cells by blanks; comments, scripts and
/// styles vanish with their content.
pub(super) fn to_text(html: &str) -> String {
    if !html.contains('<') {
        return html.to_owned();
    }
    let mut out = String::with_capacity(html.len());
    let mut rest = html;
    while let Some(at) = rest.find('<') {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        if let Some(length) = comment(rest) {
            rest = &rest[length..];
            continue;
        }
        let Some(tag) = tag(rest) else {
            out.push('<');
            rest = &rest[1..];
            continue;
        };
        rest = &rest[tag.length..];
        let name = tag.name.to_ascii_lowercase();
        if DROPPED.contains(&name.as_str()) {
            out.push(' ');
            if !tag.closing {
                rest = after_closing(rest, &name);
            }
        } else {
            push_replacement(&mut out, &name, tag.closing);
        }
    }
    out.push_str(rest);
    out
}

/// Blocks next to each other share one line end; only `<br>` can leave an empty line.
fn push_replacement(out: &mut String, name: &str, closing: bool) {
    let block = name == "li" || BLOCKS.contains(&name);
    if name == "br" || (block && !out.trim_end_matches(' ').ends_with('\n')) {
        out.push('\n');
    }
    match name {
        "li" if !closing => out.push_str("- "),
        "td" | "th" => out.push(' '),
        _ => {}
    }
}

fn comment(rest: &str) -> Option<usize> {
    if rest.starts_with("<!--") {
        return rest.find("-->").map(|end| end + 3);
    }
    let declaration = rest.get(..9).is_some_and(|start| start.eq_ignore_ascii_case("<!doctype"));
    declaration.then(|| rest.find('>').map(|end| end + 1)).flatten()
}

fn tag(rest: &str) -> Option<Tag<'_>> {
    let inner = &rest[1..];
    let closing = inner.starts_with('/');
    let start = 1 + usize::from(closing);
    let name_length =
        rest[start..].find(|character: char| !(character.is_ascii_alphanumeric() || character == ':'))?;
    let name = &rest[start..start + name_length];
    let known = [DROPPED.as_slice(), &BLOCKS, &INLINE, &["li", "td", "th"]]
        .iter()
        .any(|names| names.iter().any(|other| other.eq_ignore_ascii_case(name)));
    let after = start + name_length;
    let ends_name = rest[after..].starts_with(['>', '/']) || rest[after..].starts_with(char::is_whitespace);
    if !known || !ends_name {
        return None;
    }
    let length = after + tag_end(&rest[after..])?;
    Some(Tag { name, closing, length })
}

/// Bytes to after the `>` that is not inside quotes, or the first one where a quote never closes.
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

/// What follows the closing tag of a dropped element; nothing if it never closes.
fn after_closing<'text>(rest: &'text str, name: &str) -> &'text str {
    let mut from = 0;
    while let Some(at) = rest[from..].find("</") {
        let start = from + at + 2;
        let closes =
            rest.get(start..start + name.len()).is_some_and(|found| found.eq_ignore_ascii_case(name));
        if closes {
            return rest[start..].find('>').map_or("", |end| &rest[start + end + 1..]);
        }
        from = start;
    }
    ""
}
