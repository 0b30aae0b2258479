//! Escaped pieces of HTML.
//!
//! Functions that take `text` escape it, those that take `html` expect finished markup. Links are
//! only made to ordinary web addresses.

/// `text` as HTML text or attribute value. Control characters, which HTML forbids, become spaces;
/// marks that would turn the direction of what follows go away.
pub(super) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + text.len() / 8);
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c if c.is_control() && c != '\n' => out.push(' '),
            c if is_direction_mark(c) => {}
            c => out.push(c),
        }
    }
    out
}

fn is_direction_mark(c: char) -> bool {
    matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// `text` with a link to `url`, if that is an ordinary web address.
pub(super) fn link(url: Option<&str>, html: &str) -> String {
    // An address such as `javascript:…` would run when it is clicked.
    let web = url.filter(|u| u.starts_with("https://") || u.starts_with("http://"));
    match web {
        Some(url) => format!("<a href=\"{}\" rel=\"noopener noreferrer\">{html}</a>", escape(url)),
        None => html.to_owned(),
    }
}

/// Look of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Column {
    /// Text, and the name of its row.
    Label,
    /// Text.
    Text,
    /// A number.
    Number,
}

impl Column {
    fn class(self) -> &'static str {
        match self {
            Self::Label => " class=\"label\"",
            Self::Text => "",
            Self::Number => " class=\"n\"",
        }
    }
}

/// A table of finished HTML cells, with a caption for those who do not see the heading above it.
/// The `Label` column heads its rows.
pub(super) fn table(caption: &str, columns: &[(&str, Column)], rows: &[Vec<String>]) -> String {
    let mut out = format!(
        "<div class=\"scroll\"><table>\n<caption class=\"quiet\">{}</caption>\n<thead><tr>",
        escape(caption)
    );
    for (heading, column) in columns {
        out.push_str(&format!("<th scope=\"col\"{}>{}</th>", column.class(), escape(heading)));
    }
    out.push_str("</tr></thead>\n<tbody>\n");
    for row in rows {
        out.push_str("<tr>");
        for (cell, (_, column)) in row.iter().zip(columns) {
            out.push_str(&self::cell(cell, *column));
        }
        out.push_str("</tr>\n");
    }
    out.push_str("</tbody>\n</table></div>\n");
    out
}

/// One cell of finished HTML.
pub(super) fn cell(html: &str, column: Column) -> String {
    match column {
        Column::Label => format!("<th scope=\"row\" class=\"label\">{html}</th>"),
        _ => format!("<td{}>{html}</td>", column.class()),
    }
}

/// A heading of the third level.
pub(super) fn heading(text: &str) -> String {
    format!("<h3>{}</h3>\n", escape(text))
}

/// A paragraph of one class.
pub(super) fn paragraph(class: &str, text: &str) -> String {
    format!("<p class=\"{class}\">{}</p>\n", escape(text))
}

/// Large figures with what they count.
pub(super) fn figures(pairs: &[(&str, String)]) -> String {
    let mut out = String::from("<dl class=\"figures\">\n");
    for (name, value) in pairs {
        out.push_str(&format!("<div><dt>{}</dt><dd>{}</dd></div>\n", escape(name), escape(value)));
    }
    out.push_str("</dl>\n");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_escaped() {
        let check = |text: &str, expected: &str| assert_eq!(escape(text), expected);
        check("a < b & c > \"d\" 'e'", "a &lt; b &amp; c &gt; &quot;d&quot; &#39;e&#39;");
        check("ñ\u{0}\u{7}\n", "ñ  \n");
        check("\u{202e}abc\u{2066}", "abc");
        check("", "");
    }

    #[test]
    fn only_web_addresses_become_links() {
        let check = |url: Option<&str>, linked: bool| {
            assert_eq!(link(url, "x").contains("<a "), linked, "{url:?}");
        };
        check(None, false);
        check(Some("https://a.example/?q=\"><script>"), true);
        check(Some("javascript:alert(1)"), false);
        check(Some(" https://a.example"), false);
        check(Some("data:text/html,x"), false);
        assert!(!link(Some("https://a.example/\"><script>"), "x").contains("<script>"));
    }
}
