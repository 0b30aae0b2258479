//! robots.txt after RFC 9309, with `Crawl-delay`.
//!
//! Of several groups for one agent the rules are combined; the longest matching rule decides.

use std::time::Duration;

/// Bytes of a file that are read; RFC 9309 §2.5 asks for at least 500 KiB.
const LIMIT: usize = 512 * 1024;
/// Longest delay taken from a file. A choice: beyond an hour it is a typing error or a refusal.
const LONGEST_DELAY: f64 = 3_600.0;

#[derive(Debug, Clone, PartialEq, Eq)]
struct Rule {
    allow: bool,
    pattern: String,
}

/// The rules of a robots.txt for one agent.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Robots {
    rules: Vec<Rule>,
    /// Least time between two requests, where the file names one.
    pub crawl_delay: Option<Duration>,
}

impl Robots {
    /// Everything is allowed: there is no such file.
    pub fn allow_all() -> Self {
        Self::default()
    }

    /// Reads a file for an agent, e.g. `LaborMarketObservatory`; groups of that name are combined,
    /// and only where there is none those of `*` count.
    pub fn parse(bytes: &[u8], agent: &str) -> Self {
        let bytes = &bytes[..bytes.len().min(LIMIT)];
        let text = match encoding_rs::Encoding::for_bom(bytes) {
            Some((encoding, _)) => encoding.decode(bytes).0,
            None => String::from_utf8_lossy(bytes),
        };
        let (mut own, mut any) = (None, None);
        for group in groups(&text) {
            // A group of our own without rules allows everything and still shuts out those of `*`.
            if group.names(agent) {
                own.get_or_insert_with(Self::default).extend(&group);
            }
            if group.names("*") {
                any.get_or_insert_with(Self::default).extend(&group);
            }
        }
        own.or(any).unwrap_or_default()
    }

    fn extend(&mut self, group: &Group) {
        self.rules.extend(group.rules.iter().cloned());
        self.crawl_delay = self.crawl_delay.max(group.crawl_delay);
    }

    /// Returns whether a path with its query may be fetched: the longest pattern that matches
    /// decides, and of two equally long ones the one that allows.
    pub fn allows(&self, path: &str) -> bool {
        let path = normalized(path);
        // Always allowed (RFC 9309 §2.2.2).
        if path == "/robots.txt" {
            return true;
        }
        self.rules
            .iter()
            .filter(|rule| matches(&rule.pattern, &path))
            .max_by_key(|rule| (rule.pattern.len(), rule.allow))
            .is_none_or(|rule| rule.allow)
    }
}

#[derive(Default)]
struct Group {
    agents: Vec<String>,
    rules: Vec<Rule>,
    crawl_delay: Option<Duration>,
    closed: bool,
}

impl Group {
    fn names(&self, agent: &str) -> bool {
        self.agents.iter().any(|named| named.eq_ignore_ascii_case(agent))
    }
}

fn groups(text: &str) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    // A line may end in CR alone (RFC 9309 §2.2).
    for line in text.split(['\n', '\r']) {
        let line = line.split('#').next().unwrap_or_default();
        let Some((key, value)) = line.split_once(':') else { continue };
        let (key, value) = (key.trim().trim_start_matches('\u{feff}').to_lowercase(), value.trim());
        if key == "user-agent" {
            // Agents that follow each other share the rules behind them.
            if groups.last().is_none_or(|group| group.closed) {
                groups.push(Group::default());
            }
            // `Bot/2.0` names `Bot`.
            let token: String = value.chars().take_while(|c| is_token(*c)).collect();
            groups.last_mut().expect("one was pushed").agents.push(token);
            continue;
        }
        // A rule before the first agent belongs to nobody.
        let Some(group) = groups.last_mut() else { continue };
        match key.as_str() {
            "allow" | "disallow" => {
                group.closed = true;
                // An empty `Disallow` closes nothing.
                if !value.is_empty() {
                    group.rules.push(Rule { allow: key == "allow", pattern: normalized(value) });
                }
            }
            "crawl-delay" => {
                group.closed = true;
                group.crawl_delay = group.crawl_delay.max(delay(value));
            }
            // Lines such as Sitemap end no list of agents (RFC 9309, 2.2.1).
            _ => {}
        }
    }
    groups
}

fn is_token(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '*')
}

fn delay(value: &str) -> Option<Duration> {
    let seconds: f64 = value.parse().ok()?;
    (seconds.is_finite() && seconds > 0.0).then(|| Duration::from_secs_f64(seconds.min(LONGEST_DELAY)))
}

/// One spelling for every path: what need not be escaped is not, everything else is, in capitals.
fn normalized(path: &str) -> String {
    let bytes = path.as_bytes();
    let mut text = String::with_capacity(path.len());
    let mut at = 0;
    while at < bytes.len() {
        let escaped = (bytes[at] == b'%')
            .then(|| bytes.get(at + 1..at + 3))
            .flatten()
            .and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok());
        let (byte, width) = escaped.map_or((bytes[at], 1), |byte| (byte, 3));
        let unreserved = byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
        // A reserved sign that is escaped stays so: `%2F` is no `/`.
        if unreserved || (width == 1 && byte.is_ascii_graphic()) {
            text.push(char::from(byte));
        } else {
            text.push_str(&format!("%{byte:02X}"));
        }
        at += width;
    }
    text
}

/// A pattern matches the beginning of a path; `*` stands for any text, `$` at the end for the
/// path's end.
fn matches(pattern: &str, path: &str) -> bool {
    let (pattern, anchored) = pattern.strip_suffix('$').map_or((pattern, false), |pattern| (pattern, true));
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = path.strip_prefix(first) else { return false };
    let mut last = None;
    // The earliest place of each part leaves most for those behind it, so nothing is tried twice.
    for part in parts {
        // The last part is looked for from the end when it must reach it.
        if let Some(part) = last.replace(part) {
            match rest.find(part) {
                Some(at) => rest = &rest[at + part.len()..],
                None => return false,
            }
        }
    }
    match (last, anchored) {
        (None, anchored) => !anchored || rest.is_empty(),
        (Some(part), true) => rest.ends_with(part),
        (Some(part), false) => rest.contains(part),
    }
}

#[cfg(test)]
mod tests;
