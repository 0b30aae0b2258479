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
    let delay =
        |text: &str| Robots::parse(format!("User-agent: *\nCrawl-delay: {text}").as_bytes(), "x").crawl_delay;
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
