//! Addresses of a portal: one spelling for each, and a base that can be replaced.
//!
//! A link that leads off the portal's hosts is dropped, so the crawl cannot be led elsewhere by a
//! page. A replaced base lets a saved copy stand in for a portal without a change to its file.

use url::Url;

/// Query parameters that only say where a visitor came from: Facebook's, Google's, LinkedIn's, and
/// those of Google Analytics.
const TRACKING: [&str; 4] = ["fbclid", "gclid", "trk", "utm_"];

/// One spelling: no fragment, no tracking parameters, the others sorted.
pub(crate) fn canonical(url: &Url) -> Url {
    let mut canonical = url.clone();
    canonical.set_fragment(None);
    let mut pairs: Vec<(String, String)> = url.query_pairs().into_owned().collect();
    // By prefix, for the family of `utm_` parameters.
    pairs.retain(|(name, _)| !TRACKING.iter().any(|tracking| name.starts_with(tracking)));
    pairs.sort();
    if pairs.is_empty() {
        canonical.set_query(None);
    } else {
        canonical.query_pairs_mut().clear().extend_pairs(pairs);
    }
    canonical
}

/// A base that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not a base address: expected http://HOST:PORT/PATH, where {{portal}} and {{country}} may stand"
)]
pub(crate) struct BadBase(String);

/// Address of a portal of a country: the real one, or another one that stands for it.
#[derive(Debug, Clone)]
pub(crate) struct Base {
    real: Url,
    served: Url,
    hosts: Vec<String>,
    replaced: bool,
}

impl Base {
    /// The base of a portal; `replacement` is a template such as
    /// `http://127.0.0.1:8080/{portal}/{country}`, in which the country is written in lower case.
    ///
    /// # Errors
    /// If an address is not one of a web server.
    pub(crate) fn new(
        portal: &str,
        country: &str,
        real: &str,
        replacement: Option<&str>,
    ) -> Result<Self, BadBase> {
        // Needed under a replacement too: links to it are moved below the base.
        let real = parse(real)?;
        let served = match replacement {
            Some(template) => {
                let country = country.to_lowercase();
                parse(
                    template.replace("{portal}", portal).replace("{country}", &country).trim_end_matches('/'),
                )?
            }
            None => real.clone(),
        };
        let hosts = vec![authority(&served)];
        Ok(Self { real, served, hosts, replaced: replacement.is_some() })
    }

    /// Further hosts that links may lead to; they only count where the base is the real one.
    pub(super) fn with_hosts(mut self, hosts: &[String]) -> Self {
        if !self.replaced {
            self.hosts.extend(hosts.iter().cloned());
        }
        self
    }

    /// Returns whether another address stands for the real one.
    pub(crate) fn is_replaced(&self) -> bool {
        self.replaced
    }

    /// The address that `{base}` stands for, without a slash at its end.
    pub(crate) fn text(&self) -> &str {
        self.served.as_str().trim_end_matches('/')
    }

    /// Hosts, with their ports where unusual, that requests may go to.
    pub(crate) fn hosts(&self) -> &[String] {
        &self.hosts
    }

    /// The address of a link on a page, canonical; none when it leads off the portal.
    ///
    /// Under a replaced base, links to the real host and links from the root of the host are taken
    /// as links below the base, so that a site may be served below a path without rewriting its
    /// pages.
    pub(crate) fn link(&self, page: &Url, href: &str) -> Option<Url> {
        let mut target = page.join(href.trim()).ok()?;
        if !matches!(target.scheme(), "http" | "https") {
            return None;
        }
        if self.replaced {
            let root = self.served.path().trim_end_matches('/');
            // With the slash, or a base below `/co` would hold `/company` as well.
            let outside = target.path() != root && !target.path().starts_with(&format!("{root}/"));
            let to_real = authority(&target) == authority(&self.real);
            if to_real || (outside && authority(&target) == authority(&self.served)) {
                let inner = target.path().trim_start_matches('/').to_owned();
                let (query, mut moved) = (target.query().map(str::to_owned), self.served.clone());
                moved.set_path(&format!("{root}/{inner}"));
                moved.set_query(query.as_deref());
                target = moved;
            }
        }
        self.hosts.contains(&authority(&target)).then(|| canonical(&target))
    }
}

/// An address of a web server, without a query: paths are appended to it.
fn parse(text: &str) -> Result<Url, BadBase> {
    let url = Url::parse(text).ok().filter(|url| url.has_host() && url.query().is_none());
    url.filter(|url| matches!(url.scheme(), "http" | "https")).ok_or_else(|| BadBase(text.to_owned()))
}

/// Host and, where it is not the usual one, port.
pub(super) fn authority(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{prop_assert_eq, proptest};

    use super::*;

    proptest! {
        #[test]
        fn one_spelling_stays(path in "[a-z%/ñ.]{0,12}", query in "[a-z0-9=&+%ñ]{0,20}", fragment in "[a-z]{0,3}") {
            if let Ok(url) = Url::parse(&format!("https://x.example/{path}?{query}#{fragment}")) {
                let once = canonical(&url);
                prop_assert_eq!(canonical(&once), once);
            }
        }
    }

    #[test]
    fn one_spelling() {
        let check = |url: &str, expected: &str| {
            assert_eq!(canonical(&Url::parse(url).unwrap()).as_str(), expected);
        };
        check("HTTPS://X.example:443/a/../b?z=1&a=2#lc=3", "https://x.example/b?a=2&z=1");
        check("https://x.example/b?utm_source=q&trk=3", "https://x.example/b");
        check("https://x.example/ñ?q=a%20b", "https://x.example/%C3%B1?q=a+b");
    }

    #[test]
    fn links() {
        let real = Base::new("p", "CO", "https://co.x.example", None).unwrap();
        let served =
            Base::new("p", "CO", "https://co.x.example", Some("http://127.0.0.1:81/{portal}/{country}/"))
                .unwrap();
        assert_eq!(served.text(), "http://127.0.0.1:81/p/co");
        let check = |base: &Base, href: &str, expected: Option<&str>| {
            let page = Url::parse(&format!("{}/trabajo?p=1", base.text())).unwrap();
            assert_eq!(base.link(&page, href).as_ref().map(Url::as_str), expected, "{href}");
        };
        check(&real, "/o/1#lc=2", Some("https://co.x.example/o/1"));
        check(&real, "?p=2", Some("https://co.x.example/trabajo?p=2"));
        check(&real, "https://other.example/o/1", None);
        check(&real, "javascript:void(0)", None);
        check(&real, "http://[", None);
        check(&served, "/o/1", Some("http://127.0.0.1:81/p/co/o/1"));
        check(&served, "/p/co/o/1", Some("http://127.0.0.1:81/p/co/o/1"));
        check(&served, "https://co.x.example/o/1?b=1", Some("http://127.0.0.1:81/p/co/o/1?b=1"));
        check(&served, "?p=2", Some("http://127.0.0.1:81/p/co/trabajo?p=2"));
        check(&served, "http://127.0.0.1:82/o/1", None);
    }

    #[test]
    fn bad_bases() {
        let check =
            |base: &str| assert!(Base::new("p", "CO", "https://x.example", Some(base)).is_err(), "{base}");
        check("x.example");
        check("ftp://x.example");
        check("http://x.example/?q={portal}");
    }
}
