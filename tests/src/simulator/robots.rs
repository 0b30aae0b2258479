//! The robots.txt of each site, and the judgement of every request by it.
//!
//! Forbidden paths follow those of the real portals; patterns match as in RFC 9309.

use super::site::{Portal, Site};

/// The paths that a portal forbids inside its site, as patterns of RFC 9309: listings and details
/// are open.
const fn forbidden(portal: Portal) -> &'static [&'static str] {
    match portal {
        Portal::Computrabajo => &[
            "/Ajax/",
            "/_services/",
            "/acceso/",
            "/candidate/",
            "/match/",
            "/*?by=",
            "/*&by=",
            "/*?pubdate=",
            "/*&pubdate=",
        ],
        Portal::Elempleo => &["/co/administracion/", "/co/mi-cuenta/", "/co/api/", "/*.ashx$"],
        Portal::Bumeran => &[
            "/*recientes=true",
            "/*relevantes=true",
            "/*localidades=",
            "/empleos-busquedaext-",
            "/postulantes/",
        ],
    }
}

/// Text of robots.txt for some sites on one origin.
pub(crate) fn text(sites: &[Site], crawl_delay: Option<u32>, origin: &str) -> String {
    let mut text = "User-agent: *\n".to_owned();
    if let Some(seconds) = crawl_delay {
        text.push_str(&format!("Crawl-delay: {seconds}\n"));
    }
    for site in sites {
        for pattern in forbidden(site.portal) {
            text.push_str(&format!("Disallow: {}{pattern}\n", site.root()));
        }
    }
    // Only this portal publishes a sitemap.
    for site in sites.iter().filter(|site| site.portal == Portal::Bumeran) {
        text.push_str(&format!("Sitemap: {origin}{}/sitemap_avisos_bum.xml\n", site.root()));
    }
    text
}

/// Returns true if a polite reader may ask for this path (with its query) inside a site.
pub(crate) fn allows(portal: Portal, inside: &str) -> bool {
    !forbidden(portal).iter().any(|pattern| matches(pattern, inside))
}

fn matches(pattern: &str, path: &str) -> bool {
    let (pattern, anchored) = pattern.strip_suffix('$').map_or((pattern, false), |pattern| (pattern, true));
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = path.strip_prefix(first) else { return false };
    for part in parts {
        // The last place for a pattern that ends with `$`: an earlier one would leave a rest.
        let Some(at) = (if anchored { rest.rfind(part) } else { rest.find(part) }) else { return false };
        rest = &rest[at + part.len()..];
    }
    !anchored || rest.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn judges_requests() {
        let check = |portal, path: &str, expected| assert_eq!(allows(portal, path), expected, "{path}");
        check(Portal::Computrabajo, "/trabajo-de-python?p=2", true);
        check(Portal::Computrabajo, "/empleos-en-cali?pubdate=7", false);
        check(Portal::Computrabajo, "/trabajo-de-python?p=2&by=salary", false);
        check(Portal::Computrabajo, "/ofertas-de-trabajo/oferta-de-trabajo-de-x-1", true);
        check(Portal::Computrabajo, "/Ajax/offers", false);
        check(Portal::Computrabajo, "/ajax/offers", true);
        check(Portal::Elempleo, "/co/ofertas-empleo/", true);
        check(Portal::Elempleo, "/co/api/joboffers/findbyfilter", false);
        check(Portal::Elempleo, "/co/x.ashx", false);
        check(Portal::Elempleo, "/co/x.ashx?y=1", true);
        check(Portal::Bumeran, "/api/avisos/searchV2?pageSize=20&page=0", true);
        check(Portal::Bumeran, "/empleos.html?recientes=true", false);
        check(Portal::Bumeran, "/empleos-busquedaext-x.html", false);
    }

    #[test]
    fn patterns_follow_the_standard() {
        let check = |pattern: &str, path: &str, expected| {
            assert_eq!(matches(pattern, path), expected, "{pattern} {path}")
        };
        check("/a", "/abc", true);
        check("/a$", "/abc", false);
        check("/a*c$", "/abcc", true);
        check("/*b", "/ab", true);
        check("/*?x=", "/y?x=1", true);
        check("/a*b*c", "/a1b2", false);
    }

    #[test]
    fn the_text_names_each_site_by_its_prefix() {
        let text = text(&Site::ALL, Some(2), "http://127.0.0.1:1");
        assert!(text.starts_with("User-agent: *\nCrawl-delay: 2\n"));
        assert!(text.contains("\nDisallow: /computrabajo/mx/Ajax/\n"));
        assert!(text.contains("\nSitemap: http://127.0.0.1:1/bumeran/ar/sitemap_avisos_bum.xml\n"));
    }
}
