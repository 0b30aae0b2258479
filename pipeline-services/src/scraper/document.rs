//! Reads values from pages by the rules of a portal file.
//!
//! One reading for HTML, JSON and JSON-LD alike: source, condition, cuts and replacements are
//! applied in the order of the rule, and the first rule with a value wins. No I/O, and no knowledge
//! of any portal.

use std::collections::BTreeMap;

use chrono::{DateTime, FixedOffset};
use scraper::{ElementRef, Html, Node, Selector};
use serde_json::Value;

use super::{
    date,
    json_ld::{self, JsonLd},
    portal::rules::{Reading, Rule, Rules, Source},
    tree,
};

/// Values of fields as text.
pub(super) type Fields = BTreeMap<&'static str, String>;

/// The piece of a page that rules are applied to: a card, or a whole page.
#[derive(Clone, Copy)]
pub(super) enum Root<'a> {
    Element(ElementRef<'a>),
    Json(&'a Value),
}

/// A piece and what surrounds it.
#[derive(Clone, Copy)]
pub(super) struct Scope<'a> {
    pub(super) root: Root<'a>,
    pub(super) json_ld: &'a JsonLd,
    /// Address of the page.
    pub(super) page_url: &'a str,
    /// Moment of the answer in the portal's zone.
    pub(super) answered: DateTime<FixedOffset>,
}

impl<'a> Scope<'a> {
    /// The same page seen from another piece of it.
    pub(super) fn at(self, root: Root<'a>) -> Self {
        Self { root, ..self }
    }

    /// Values of all fields. `known` answers for placeholders that are no fields; templates are
    /// filled in last, from the fields found and from `card`.
    pub(super) fn fields<'v>(
        &self,
        rules: &Rules,
        card: &'v Fields,
        known: &impl Fn(&str) -> Option<&'v str>,
    ) -> Fields {
        let mut fields = Fields::new();
        // Twice: a template may need the result of another one, as an address needs an identity.
        for _ in 0..2 {
            for (name, list) in rules {
                if fields.contains_key(name) {
                    continue;
                }
                let found = list.iter().find_map(|rule| self.value_with(rule, &fields, card, known));
                if let Some(value) = found {
                    fields.insert(name, value);
                }
            }
        }
        fields
    }

    fn value_with<'v>(
        &self,
        rule: &Rule,
        fields: &Fields,
        card: &'v Fields,
        known: &impl Fn(&str) -> Option<&'v str>,
    ) -> Option<String> {
        let Source::Template(template) = &rule.source else { return self.value(rule) };
        let text = template
            .render(|name| {
                let own = fields.get(name).or_else(|| card.get(name)).map(String::as_str);
                own.or_else(|| known(name))
            })
            .ok()?;
        self.refine(rule, text)
    }

    /// The value of a rule that needs no other field.
    pub(super) fn value(&self, rule: &Rule) -> Option<String> {
        let raw = match &rule.source {
            Source::Element { selector, reading, pointer } => {
                return self.element_value(rule, selector.as_ref(), reading, pointer.as_deref());
            }
            Source::Json(pointer) => match self.root {
                Root::Json(item) => text_of(item.pointer(pointer)?)?,
                Root::Element(_) => return None,
            },
            Source::JsonLd { kind, path } => text_of(self.json_ld.find(kind, path)?)?,
            Source::Constant(text) => text.clone(),
            Source::PageUrl => self.page_url.to_owned(),
            Source::Template(_) => return None,
        };
        self.refine(rule, raw)
    }

    fn element_value(
        &self,
        rule: &Rule,
        selector: Option<&Selector>,
        reading: &Reading,
        pointer: Option<&str>,
    ) -> Option<String> {
        let Root::Element(root) = self.root else { return None };
        let Some(selector) = selector else { return self.read_one(root, rule, reading, pointer) };
        let mut values =
            root.select(selector).filter_map(|element| self.read_one(element, rule, reading, pointer));
        let first = values.next()?;
        match &rule.join {
            Some(join) => Some(values.fold(first, |joined, value| joined + join + &value)),
            None => Some(first),
        }
    }

    /// The value of one element that a rule's selector finds.
    fn read_one(
        &self,
        element: ElementRef<'_>,
        rule: &Rule,
        reading: &Reading,
        pointer: Option<&str>,
    ) -> Option<String> {
        if rule.has.as_ref().is_some_and(|inner| element.select(inner).next().is_none()) {
            return None;
        }
        let text = read_element(element, reading, &rule.without)?;
        let text = match pointer {
            Some(pointer) => text_of(json_ld::parse(&text)?.pointer(pointer)?)?,
            None => text,
        };
        self.refine(rule, text)
    }

    /// Applies what a rule says about the value itself.
    fn refine(&self, rule: &Rule, text: String) -> Option<String> {
        let mut text = if rule.entities { decode_entities(&text) } else { text };
        if rule.matching.as_ref().is_some_and(|pattern| !pattern.is_match(&text)) {
            return None;
        }
        if let Some(pattern) = &rule.regex {
            let found = pattern.captures(&text)?;
            text = found.get(1).or_else(|| found.get(0))?.as_str().to_owned();
        }
        let mut text = text.trim().to_owned();
        if rule.lower {
            text = text.to_lowercase();
        }
        // After the lowering, so that a map needs one spelling of each value.
        if let Some(meaning) = rule.map.get(&text) {
            text = meaning.clone();
        }
        if text.is_empty() || rule.null_if.contains(&text.to_lowercase()) {
            return None;
        }
        if rule.dates.is_empty() {
            return Some(text);
        }
        date::read(&text, &rule.dates, self.answered).map(|day| day.to_string())
    }
}

/// A JSON value as text: numbers and truth values too, lists joined; nothing for null and objects.
fn text_of(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(truth) => Some(truth.to_string()),
        Value::Array(list) => {
            let texts: Vec<String> = list.iter().filter_map(text_of).collect();
            (!texts.is_empty()).then(|| texts.join(", "))
        }
        Value::Null | Value::Object(_) => None,
    }
}

fn read_element(element: ElementRef<'_>, reading: &Reading, without: &[Selector]) -> Option<String> {
    match reading {
        Reading::Attribute(name) => element.attr(name).map(str::to_owned),
        Reading::OwnText => {
            let own = element.children().filter_map(|child| match child.value() {
                Node::Text(text) => Some(&**text),
                _ => None,
            });
            Some(collapse(&own.collect::<String>()))
        }
        Reading::Html if without.is_empty() => Some(element.inner_html()),
        Reading::Html => inner(&without_elements(element, without)?).map(|element| element.inner_html()),
        Reading::Text if without.is_empty() => Some(text(element)),
        Reading::Text => inner(&without_elements(element, without)?).map(text),
    }
}

/// A copy of an element without some of those inside.
fn without_elements(element: ElementRef<'_>, without: &[Selector]) -> Option<Html> {
    // By way of its text: the tree of the page is shared by all rules and stays as it is.
    let mut copy = tree::fragment(&element.html()).ok()?;
    let unwanted: Vec<_> =
        without.iter().flat_map(|selector| copy.select(selector).map(|found| found.id())).collect();
    for id in unwanted {
        if let Some(mut node) = copy.tree.get_mut(id) {
            node.detach();
        }
    }
    Some(copy)
}

/// The element that a fragment holds.
fn inner(fragment: &Html) -> Option<ElementRef<'_>> {
    fragment.root_element().child_elements().next()
}

/// Text of an element with single blanks; what a browser does not show as text is left out.
fn text(element: ElementRef<'_>) -> String {
    let mut text = String::new();
    for node in element.descendants() {
        let Node::Text(piece) = node.value() else { continue };
        // Up to the element itself, which a rule may have named although it is a script.
        let shown = node.ancestors().take_while(|above| above.id() != element.id()).all(|above| {
            above
                .value()
                .as_element()
                .is_none_or(|e| !matches!(e.name(), "script" | "style" | "template" | "noscript"))
        });
        if shown {
            text.push_str(piece);
            // Neighbouring elements often have no blank between them, and their words would join.
            text.push(' ');
        }
    }
    collapse(&text)
}

/// Single blanks, none at the ends.
pub(super) fn collapse(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Character references as an HTML parser reads them in an attribute.
fn decode_entities(text: &str) -> String {
    if !text.contains('&') {
        return text.to_owned();
    }
    // As the value of an attribute: a parser decodes references there and reads no tags.
    let quoted = text.replace('"', "&quot;");
    let fragment = Html::parse_fragment(&format!("<i title=\"{quoted}\">"));
    let decoded = fragment
        .tree
        .nodes()
        .find_map(|node| node.value().as_element().and_then(|element| element.attr("title")));
    decoded.unwrap_or(text).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scraper::portal::Portal;

    const PAGE: &str = r##"<article id="A1" data-x="{&quot;t&quot;:&quot;Dise&#241;o&quot;,&quot;n&quot;:7}">
        <h2><a href="/x#f"> Uno <b>dos</b></a><span class="hide">Vista</span></h2>
        <p class="c">4,1 <span>nota</span> Acme</p>
        <div class="s"><i class="pay"></i> $ 1</div><div class="s"><i class="mode"></i> Remoto</div>
        <div class="d">a<script>x()</script><br>b</div><em>2-1-2026</em></article>"##;

    /// The value of `title` by a rule, on the page above.
    fn read(rule: &str) -> Option<String> {
        let file = format!(
            "schema = 1\nname = 'p'\n[permission]\nbasis = 'robots'\nnote = 'x'\n[countries.CO]\nbase = 'https://x.example'\n\
             zone = '-05:00'\n[listing]\nkind = 'html'\nurl = '{{base}}/'\ncards = 'article'\n\
             [listing.fields]\nurl = {{ page_url = true }}\ndescription = {{ value = 'd' }}\n{rule}\n"
        );
        let portal = Portal::parse(&file).unwrap();
        let html = Html::parse_document(PAGE);
        let card = html.select(&Selector::parse("article").unwrap()).next().unwrap();
        let json_ld = JsonLd::default();
        let scope = Scope {
            root: Root::Element(card),
            json_ld: &json_ld,
            page_url: "https://x.example/",
            answered: "2026-03-01T10:00:00-05:00".parse().unwrap(),
        };
        let fields = scope.fields(&portal.listing.fields, &Fields::new(), &|_| None);
        fields.get("title").or_else(|| fields.get("posted_date")).cloned()
    }

    #[test]
    fn rules_read_elements() {
        let check = |rule: &str, expected: Option<&str>| {
            assert_eq!(read(&rule.replacen("R", "title = ", 1)).as_deref(), expected, "{rule}")
        };
        check("R{ css = 'h2 a' }", Some("Uno dos"));
        check("R{ css = 'h2' }", Some("Uno dos Vista"));
        check("R{ css = 'h2', without = '.hide' }", Some("Uno dos"));
        check("R{ css = '.c', own_text = true }", Some("4,1 Acme"));
        check("R{ css = '.c', own_text = true, regex = '[A-Z].*' }", Some("Acme"));
        check("R{ css = '.s', has = '.mode' }", Some("Remoto"));
        check("R{ css = '.s', has = '.none' }", None);
        check("R{ css = '.s', matching = '^\\$' }", Some("$ 1"));
        check("R{ css = '.s', join = ' | ' }", Some("$ 1 | Remoto"));
        check("R{ css = '.d' }", Some("a b"));
        check("R{ css = '.d', html = true, without = 'script' }", Some("a<br>b"));
        check("R{ attr = 'id', lower = true }", Some("a1"));
        check("R{ attr = 'data-x', json = '/t' }", Some("Diseño"));
        check("R{ attr = 'data-x', json = '/n' }", Some("7"));
        check("R{ css = '.s', has = '.mode', map = { Remoto = 'remote' } }", Some("remote"));
        check("R{ css = '.s', has = '.mode', null_if = ['remoto'] }", None);
        check("R[{ css = '.none' }, { value = 'x &amp; &#237;', entities = true }]", Some("x & í"));
        check("R{ template = '{base}{url}' }", None);
        check("R{ template = '{url}', regex = 'x\\.[a-z]+' }", Some("x.example"));
        check(
            "posted_date = { css = 'em', date = '%d-%m-%Y' }\ntitle = { css = 'none' }",
            Some("2026-01-02"),
        );
    }
}
