//! Addresses of advertisements, and the portal's id that an address carries.
//!
//! Two advertisements never share an id, at the price that one may have two: where an address holds
//! no number of its own, all that tells the page apart is the id.

use std::sync::LazyLock;

use regex::Regex;
use sha2::{Digest, Sha256};

/// Parameters of a query that name an advertisement and nothing else on any page of their site, in
/// lower case: of Indeed (`jk`, `vjk`), LinkedIn (`currentjobid`), Glassdoor (`joblistingid`) and
/// Greenhouse (`gh_jid`), and the usual ones in English and Spanish.
const IDS: [&str; 17] = [
    "jk",
    "vjk",
    "currentjobid",
    "jobid",
    "job_id",
    "joblistingid",
    "gh_jid",
    "jid",
    "idoferta",
    "id_oferta",
    "ofertaid",
    "idaviso",
    "avisoid",
    "vacancyid",
    "idvacante",
    "vacanteid",
    "idempleo",
];

/// Parameters that say where a visitor came from, in lower case: of advertising networks (`gclid`,
/// `fbclid`, `msclkid`), and the usual ones.
const TRACKING: [&str; 16] = [
    "gclid",
    "fbclid",
    "msclkid",
    "trk",
    "trackingid",
    "refid",
    "ref",
    "referer",
    "referrer",
    "from",
    "src",
    "source",
    "origin",
    "lc",
    "sid",
    "sessionid",
];

/// Longest id that is kept as it is, bytes; the database's index takes no long ones. Not tuned.
const ID_LIMIT: usize = 200;

/// Endings of files that are no top-level domains.
const FILES: [&str; 10] = ["html", "htm", "php", "asp", "aspx", "jsp", "json", "pdf", "xml", "do"];

/// A web address with its scheme, and scheme and host in lower case; the rest stays as it was
/// written.
///
/// # Errors
/// If it is none; the message has `{}` where the text stands.
pub(super) fn normalise(text: &str) -> Result<String, &'static str> {
    // Mail and Markdown put addresses in angle brackets.
    let text = text.trim().trim_start_matches('<').trim_end_matches('>');
    let wrong = "`{}` is not a web address: expected https://…";
    if text.is_empty() || text.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Err(wrong);
    }
    let (scheme, rest) = match text.split_once("://") {
        // Behind one of these the scheme is that of another address (`x.com/?to=https://y`).
        Some((scheme, rest)) if !scheme.contains(['/', '?', '#', '.']) => {
            let scheme = scheme.to_ascii_lowercase();
            if scheme != "http" && scheme != "https" {
                return Err(wrong);
            }
            (scheme, rest)
        }
        _ => {
            let rest = text.strip_prefix("//").unwrap_or(text);
            if rest.starts_with(['/', '.', '?', '#']) {
                return Err("`{}` names no host: expected https://HOST/…");
            }
            if !is_public(host_of(rest)) {
                return Err(wrong);
            }
            ("https".to_owned(), rest)
        }
    };
    let host = host_of(rest);
    if !is_host(host) {
        return Err(wrong);
    }
    // The host alone: in paths and queries case counts.
    Ok(format!("{scheme}://{}{}", host.to_lowercase(), &rest[host.len()..]))
}

/// Host and port.
fn host_of(rest: &str) -> &str {
    &rest[..rest.find(['/', '?', '#']).unwrap_or(rest.len())]
}

fn is_host(host: &str) -> bool {
    let (name, port) = match host.rsplit_once(':') {
        // The colons of `[::1]` are not before a port.
        Some((name, port)) if !host.ends_with(']') => (name, port),
        // Any port that parses: there is none to check.
        _ => (host, "1"),
    };
    let literal = name.starts_with('[') && name.ends_with(']');
    port.parse::<u16>().is_ok() && (literal || name.trim_end_matches('.').split('.').all(is_label))
}

fn is_label(label: &str) -> bool {
    // Underscores stand in hosts that resolve, against the rules for their names.
    !label.is_empty() && label.chars().all(|c| c.is_alphanumeric() || matches!(c, '-' | '_'))
}

/// Returns whether a host without a scheme before it is meant as one: `www.x.com`, not
/// `oferta.html`.
fn is_public(host: &str) -> bool {
    let name = host.split(':').next().unwrap_or(host).to_lowercase();
    name.rsplit_once('.').is_some_and(|(_, top)| {
        top.len() >= 2 && top.chars().all(char::is_alphabetic) && !FILES.contains(&top)
    })
}

/// Parts of an address; a fragment that is a route of a page (`#/oferta/123`) is its path.
struct Parts<'u> {
    host: String,
    path: String,
    query: Vec<(&'u str, &'u str)>,
}

impl<'u> Parts<'u> {
    fn of(url: &'u str) -> Self {
        let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
        let host = host_of(rest);
        let (before, fragment) = rest[host.len()..].split_once('#').unwrap_or((&rest[host.len()..], ""));
        let (path, query) = before.split_once('?').unwrap_or((before, ""));
        // `#!/` is the older form of such a route.
        let route = fragment.trim_start_matches('!').strip_prefix('/');
        let (route, route_query) =
            route.map(|route| route.split_once('?').unwrap_or((route, ""))).unwrap_or_default();
        let pairs = [query, route_query].into_iter().flat_map(|text| text.split('&'));
        let query =
            pairs.filter(|pair| !pair.is_empty()).map(|pair| pair.split_once('=').unwrap_or((pair, "")));
        let path =
            [path.trim_matches('/'), route.trim_matches('/')].into_iter().filter(|part| !part.is_empty());
        Self {
            // Sites answer with and without `www.`.
            host: host.to_lowercase().trim_start_matches("www.").to_owned(),
            path: path.collect::<Vec<_>>().join("/"),
            query: query.filter(|(name, _)| !is_tracking(name)).collect(),
        }
    }

    /// An id of this host, whose name is left out where it is the portal's own.
    fn at_host(&self, portal: &str, local: &str) -> String {
        // A short word stands in the names of many hosts.
        let own = portal.split(['-', '_']).any(|word| word.len() > 3 && self.host.contains(word));
        let id = match (own, local.is_empty()) {
            (_, true) => self.host.clone(),
            (true, false) => local.to_owned(),
            (false, false) => format!("{}/{local}", self.host),
        };
        if id.len() > ID_LIMIT { format!("sha256:{}", hex::encode(Sha256::digest(id))) } else { id }
    }

    fn named_id(&self) -> Option<&'u str> {
        let mut found = self
            .query
            .iter()
            .filter(|(name, value)| IDS.contains(&name.to_ascii_lowercase().as_str()) && !value.is_empty())
            .map(|(_, value)| *value);
        let first = found.next()?;
        // Of two that differ, one may be of the advertisement that the visitor came from.
        found.all(|other| other == first).then_some(first)
    }

    /// A long number that ends the last part of the path, or is the whole of it.
    fn number(&self) -> Option<&str> {
        static NUMBER: LazyLock<Regex> = LazyLock::new(|| {
            // Shorter numbers at an end are years, or pages of a list.
            Regex::new(r"(?:^|[^0-9A-Za-z])([0-9A-Fa-f]{32}|[0-9]{7,})(?:\.[a-z]{3,5})?$|^([0-9]{5,})(?:\.[a-z]{3,5})?$")
                .expect("a valid pattern")
        });
        let last = self.path.rsplit('/').next().unwrap_or_default();
        let found = NUMBER.captures(last)?;
        let number = found.get(1).or_else(|| found.get(2))?.as_str();
        // A day is no id: /2025/20251103.
        let is_day = number.len() == 8 && chrono::NaiveDate::parse_from_str(number, "%Y%m%d").is_ok();
        (!is_day).then_some(number)
    }

    /// All that tells one page from another.
    fn page(&self) -> String {
        let mut page = self.path.clone();
        let mut query = self.query.clone();
        // Sites write the same parameters in different orders.
        query.sort_unstable();
        for (place, (name, value)) in query.iter().enumerate() {
            page.push_str(&format!("{}{name}={value}", if place == 0 { '?' } else { '&' }));
        }
        page
    }
}

fn is_tracking(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    name.starts_with("utm_") || TRACKING.contains(&name.as_str())
}

/// The portal's id of an advertisement from its address.
///
/// That is a parameter that names advertisements, or a long number at the end of the path; else
/// everything that tells the page from others, so that two advertisements never share an id. The
/// host is part of it unless it is the portal's own: a portal that collects from many sites meets a
/// number twice.
pub(crate) fn external_id_of(portal: &str, url: &str) -> String {
    let parts = Parts::of(url);
    numbered_id(portal, url).unwrap_or_else(|| parts.at_host(portal, &parts.page()))
}

/// The same where the address holds such a parameter or number.
pub(super) fn numbered_id(portal: &str, url: &str) -> Option<String> {
    let parts = Parts::of(url);
    let id = parts.named_id().or_else(|| parts.number())?;
    Some(parts.at_host(portal, id))
}

/// The last number of five digits and more, such as portals give.
pub(super) fn number_in(id: &str) -> Option<&str> {
    id.split(|character: char| !character.is_ascii_digit()).rfind(|digits| digits.len() >= 5)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_get_their_scheme() {
        let check = |text: &str, expected: Result<&str, &str>| {
            let found = normalise(text);
            match (&found, expected) {
                (Ok(url), Ok(wanted)) => assert_eq!(url, wanted),
                (Err(message), Err(wanted)) => assert!(message.contains(wanted), "{text}: {message}"),
                _ => panic!("{text}: {found:?}"),
            }
        };
        check("https://x.example/A?b=C", Ok("https://x.example/A?b=C"));
        check("HTTPS://X.Example/A", Ok("https://x.example/A"));
        check(" http://x.example ", Ok("http://x.example"));
        check("www.x.com/1", Ok("https://www.x.com/1"));
        check("x.com.co/oferta", Ok("https://x.com.co/oferta"));
        check("//x.com/1", Ok("https://x.com/1"));
        check("x.com:8080/1", Ok("https://x.com:8080/1"));
        check("http://127.0.0.1:4000/1", Ok("http://127.0.0.1:4000/1"));
        check("http://localhost/1", Ok("http://localhost/1"));
        check("https://empleos.españa.es/año", Ok("https://empleos.españa.es/año"));
        check("x.com/ir?a=http://y.com", Ok("https://x.com/ir?a=http://y.com"));
        check("/oferta/1", Err("names no host"));
        check("?id=3", Err("names no host"));
        check("oferta.html", Err("is not a web address"));
        check("oferta 1", Err("is not a web address"));
        check("ftp://x.com", Err("is not a web address"));
        check("mailto:x@x.com", Err("is not a web address"));
        check("javascript:void(0)", Err("is not a web address"));
        check("https://", Err("is not a web address"));
        check("https:///x", Err("is not a web address"));
        check("https://ana@x.com/1", Err("is not a web address"));
        check("", Err("is not a web address"));
    }

    #[test]
    fn ids_are_those_of_the_portal() {
        let check = |portal, url, expected: &str| assert_eq!(external_id_of(portal, url), expected);
        check("bumeran", "https://www.bumeran.com.ar/empleos/x-y-1116979466.html", "1116979466");
        check(
            "elempleo",
            "https://www.elempleo.com/co/ofertas-trabajo/jefe-de-area-1886557309?trk=2",
            "1886557309",
        );
        check(
            "computrabajo",
            "https://co.computrabajo.com/ofertas-de-trabajo/oferta-de-trabajo-de-x-0A1B2C3D4E5F60718293A4B5C6D7E8F9#lc=1",
            "0A1B2C3D4E5F60718293A4B5C6D7E8F9",
        );
        check("indeed", "https://mx.indeed.com/viewjob?jk=5f3a&from=serp", "5f3a");
        check(
            "linkedin",
            "https://www.linkedin.com/jobs/search/?currentJobId=3749234234&geoId=1",
            "3749234234",
        );
        check("linkedin", "https://www.linkedin.com/jobs/view/analista-at-acme-3749234234/", "3749234234");
        check("empleate", "https://www.empleate.gob.es/empleo/#/oferta/12345", "12345");
        check("empleate", "https://www.empleate.gob.es/empleo/#/oferta/panadero", "empleo/oferta/panadero");
        check("jobs", "https://jobs.example/vacante/panadero/", "vacante/panadero");
        check("jobs", "https://jobs.example", "jobs.example");
        check("jobs", "https://jobs.example/ver?id=7&utm_source=x", "ver?id=7");
        check("jobs", "https://jobs.example/ver?id=7&a=1", "ver?a=1&id=7");
        check("google", "https://acme.example/empleos/12345", "acme.example/12345");
    }

    #[test]
    fn unrelated_advertisements_never_share_an_id() {
        let check = |one: &str, other: &str| {
            assert_ne!(external_id_of("portal", one), external_id_of("portal", other), "{one} {other}");
        };
        check("https://mx.indeed.com/viewjob?jk=a1", "https://mx.indeed.com/viewjob?jk=b2");
        check("https://x.com/empleo/#/oferta/1", "https://x.com/empleo/#/oferta/2");
        check("https://x.com/#!/oferta?id=1", "https://x.com/#!/oferta?id=2");
        check("https://x.com/empresa/1234567/panadero", "https://x.com/empresa/1234567/chofer");
        check("https://x.com/20251103/panadero", "https://x.com/20251103/chofer");
        check("https://x.com/a/20251103", "https://x.com/b/20251103");
        check("https://x.com/asesor-sueldo-25000", "https://x.com/cajero-sueldo-25000");
        check("https://x.com/oferta.php?o=1", "https://x.com/oferta.php?o=2");
        check("https://x.com/?p=11", "https://x.com/?p=12");
        check("https://a.com/empleo/12345678", "https://b.com/empleo/12345678");
        check("https://x.com/ver?jobId=1&jk=9", "https://x.com/ver?jobId=2&jk=9");
        let long = |end: &str| format!("https://x.com/{}{end}", "a".repeat(4_000));
        check(&long("1"), &long("2"));
        assert!(external_id_of("x", &long("1")).len() < 100);
    }

    #[test]
    fn one_advertisement_keeps_its_id() {
        let check = |one: &str, other: &str| {
            assert_eq!(external_id_of("portal", one), external_id_of("portal", other), "{one} {other}");
        };
        check("https://x.com/vacante/panadero", "https://www.x.com/vacante/panadero/?utm_source=mail");
        check("https://x.com/vacante?o=1&b=2", "http://x.com/vacante?b=2&o=1#arriba");
    }
}
