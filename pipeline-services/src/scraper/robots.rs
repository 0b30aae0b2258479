//! robots.txt after RFC 9309, with `Crawl-delay`.

use std::time::Duration;

/// Bytes of a file that are read; RFC 9309 §2.5 asks for at least 500 KiB.
const LIMIT: usize = 512 * 1024;
/// Longest delay taken from a file.
const LONGEST_DELAY: f64 = 3_600.0;

#[derive(Debug, Clone, PartialEq, Eq)]
struct Rule {
    allow: bool,
    pattern: String,
}

/// What a robots.txt says to one agent.
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
            let names = |name: &str| group.agents.iter().any(|agent| agent.eq_ignore_ascii_case(name));
            if names(agent) {
                own.get_or_insert_with(Self::default).extend(&group);
            }
            if names("*") {
                any.get_or_insert_with(Self::default).extend(&group);
            }
        }
        own.or(any).unwrap_or_default()
    }

    fn extend(&mut self, group: &Group) {
        self.rules.extend(group.rules.iter().cloned());
        self.crawl_delay = self.crawl_delay.max(group.crawl_delay);
    }

    /// Whether a path with its query may be fetched: the longest pattern that matches decides, and
    /// of two equally long ones the one that allows.
    pub fn allows(&self, path: &str) -> bool {
        let path = normalized(path);
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

fn groups(text: &str) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    for line in text.split(['\n', '\r']) {
        let line = line.split('#').next().unwrap_or_default();
        let Some((key, value)) = line.split_once(':') else { continue };
        let (key, value) = (key.trim().trim_start_matches('\u{feff}').to_lowercase(), value.trim());
        if key == "user-agent" {
            if groups.last().is_none_or(|group| group.closed) {
                groups.push(Group::default());
            }
            let token: String = value.chars().take_while(|c| is_token(*c)).collect();
            groups.last_mut().expect("one was pushed").agents.push(token);
            continue;
        }
        // A rule before the first agent belongs to nobody.
        let Some(group) = groups.last_mut() else { continue };
        match key.as_str() {
            "allow" | "disallow" => {
                group.closed = true;
                if !value.is_empty() {
                    group.rules.push(Rule { allow: key == "allow", pattern: normalized(value) });
                }
            }
            "crawl-delay" => {
                group.closed = true;
                group.crawl_delay = group.crawl_delay.max(delay(value));
            }
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
mod tests {
    use proptest::prelude::{any, prop_assert, prop_assert_eq, proptest};

    use super::*;

    fn allowed(file: &str, path: &str) -> bool {
        Robots::parse(file.as_bytes(), "LaborMarketObservatory").allows(path)
    }

    #[test]
    fn patterns_match() {
        let check = |pattern: &str, path: &str, expected: bool| {
            assert_eq!(matches(&normalized(pattern), &normalized(path)), expected, "{pattern} on {path}");
        };
        check("/", "/anything", true);
        check("/fish", "/fish.html", true);
        check("/fish", "/Fish", false);
        check("/fish/", "/fish", false);
        check("/*.php", "/index.php?x=1", true);
        check("/*.php$", "/index.php", true);
        check("/*.php$", "/index.php?x", false);
        check("/fish*.php", "/fishheads/catfish.php", true);
        check("/a*b*c$", "/a-b-c-c", true);
        check("/a*b*c$", "/a-c-b", false);
        check("/*recientes=true", "/empleos.html?recientes=true", true);
        check("/x$", "/x", true);
        check("/x$", "/xy", false);
        check("/a%3Cd", "/a<d", false);
        check("/año", "/a%C3%B1o", true);
        check("/%7Ejoe", "/~joe", true);
        check("/*", "/", true);
        check("*", "/x", true);
    }

    #[test]
    fn the_longest_rule_wins() {
        let check = |rules: &str, path: &str, expected: bool| {
            assert_eq!(allowed(&format!("User-agent: *\n{rules}"), path), expected, "{rules} on {path}");
        };
        check("Allow: /p\nDisallow: /", "/page", true);
        check("Allow: /folder\nDisallow: /folder", "/folder/page", true);
        check("Allow: /page\nDisallow: /*.htm", "/page.htm", false);
        check("Allow: /$\nDisallow: /", "/", true);
        check("Allow: /$\nDisallow: /", "/page.htm", false);
        check("Disallow:", "/x", true);
        check("Disallow: /Ajax/*\nDisallow: /_services/*", "/Ajax/x", false);
        check("Disallow: /", "/robots.txt", true);
        check("Disallow: /*?\nAllow: /*?p=", "/trabajo-de-x?p=2", true);
    }

    #[test]
    fn groups_are_chosen_by_agent() {
        let check = |file: &str, expected: bool| assert_eq!(allowed(file, "/x"), expected, "{file:?}");
        check("", true);
        check("<html>not found</html>", true);
        check("Disallow: /", true);
        check("User-agent: *\nDisallow: /\nUser-agent: labormarketobservatory\nAllow: /", true);
        check("User-agent: LaborMarketObservatory/1.0\nDisallow: /", false);
        check("User-agent: LaborMarket\nDisallow: /", true);
        check("User-agent: A\nUser-agent: LaborMarketObservatory\nDisallow: /x", false);
        check("User-agent: *\nAllow: /\n\nUser-agent: *\nDisallow: /x", false);
        check("\u{feff}User-Agent : *\rDISALLOW: /x # no", false);
        check("User-agent: *\r\nSitemap: /s.xml\r\nDisallow: /x\r\n", false);
    }

    #[test]
    fn delays_and_odd_encodings() {
        let delay = |text: &str| {
            Robots::parse(format!("User-agent: *\nCrawl-delay: {text}").as_bytes(), "x").crawl_delay
        };
        assert_eq!(delay("10"), Some(Duration::from_secs(10)));
        assert_eq!(delay("0.5"), Some(Duration::from_millis(500)));
        assert_eq!(delay("1e9"), Some(Duration::from_secs(3_600)));
        assert_eq!((delay("soon"), delay("-3"), delay("NaN")), (None, None, None));
        let wide: Vec<u8> =
            "\u{feff}User-agent: *\nDisallow: /x".encode_utf16().flat_map(u16::to_le_bytes).collect();
        assert!(!Robots::parse(&wide, "x").allows("/x"));
        let long = format!("{}User-agent: *\nDisallow: /", "#\n".repeat(LIMIT));
        assert!(Robots::parse(long.as_bytes(), "x").allows("/x"));
        assert!(Robots::allow_all().allows("/x"));
    }

    /// The slow and plain meaning of a pattern.
    fn reference(pattern: &[u8], path: &[u8]) -> bool {
        match pattern.split_first() {
            None => true,
            Some((b'$', [])) => path.is_empty(),
            Some((b'*', rest)) => (0..=path.len()).any(|at| reference(rest, &path[at..])),
            Some((byte, rest)) => path.first() == Some(byte) && reference(rest, &path[1..]),
        }
    }

    proptest! {
        #[test]
        fn matching_means_what_it_says(pattern in "/[ab*]{0,7}\\$?", path in "/[ab]{0,9}") {
            prop_assert_eq!(matches(&pattern, &path), reference(pattern.as_bytes(), path.as_bytes()));
        }

        #[test]
        fn any_bytes_are_read(bytes in proptest::collection::vec(any::<u8>(), 0..300), path in "/.{0,20}") {
            let robots = Robots::parse(&bytes, "x");
            prop_assert!(robots.allows(&path) || !robots.rules.is_empty());
        }
    }
}
